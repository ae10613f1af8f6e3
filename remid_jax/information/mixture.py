"""Log-probabilities under a mixture, and how many of its components carry it.

Reasoning R is a function of the context X, so q(y|x) = E_r q(y|x, r) is a mixture over thoughts.
The mean of log q(y|x, r) lies below its log (Jensen): one wrong thought costs it all the nats that
the thought loses, and costs the mixture log K at most.
"""

import numpy as np


def log_mixture(log_q: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """log Σ_k w_k q_k in nats, in float64; exactly log q of a single component.

    Args:
      log_q: [K, ...] of each component, in nats; NaN makes the result NaN.
      weights: [K], positive, of sum 1.

    Returns:
      [...] float64.

    >>> log_mixture(np.array([-1.0, -800.0]), np.array([0.5, 0.5])).item()  # -1 - log 2
    -1.6931471805599454
    """
    log_q = np.asarray(log_q, np.float64)
    shape = (-1,) + (1,) * (log_q.ndim - 1)
    parts = log_q + np.log(weights).reshape(shape)
    most = parts.max(axis=0)
    return most + np.log(np.exp(parts - most).sum(axis=0))


def effective_components(log_q: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """1 / Σ w_k² with w_k ∝ q_k over all draws: from 1, where one carries the mixture, to K.

    Args:
      log_q: [D, ...] of the distinct draws, in nats.
      counts: [D], how often each was drawn, K in all.

    Returns:
      [...] float64.

    >>> effective_components(np.array([-1.0, -1.0, -800.0]), np.ones(3)).item()
    2.0
    """
    log_q = np.asarray(log_q, np.float64)
    each = np.exp(log_q - log_q.max(axis=0))
    counts = np.asarray(counts, np.float64)
    return np.tensordot(counts, each, 1) ** 2 / np.tensordot(counts, each**2, 1)


def thought_mixture(
    log_q: np.ndarray, plain: np.ndarray | None = None, thought_free: float = 0.0,
    counts: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """log[(1 − w) mean_k q(y|x, r_k) + w q(y|x)] in nats, in float64.

    The prompt without a thought bounds what wrong thoughts can cost: by −log w.

    Args:
      log_q: [K, ...] log q(y|x, r_k) of K thoughts, in nats.
      plain: [...] log q(y|x) without a thought, in nats; needed where w > 0.
      thought_free: w in [0, 1).
      counts: [K], how often each of them was drawn; by default once.

    Returns:
      [...] float64.

    Raises:
      ValueError: w is outside of [0, 1), or above 0 without `plain`.

    >>> thought_mixture(np.array([-1.0, -800.0]), np.array(-800.0), 0.5).item()  # -1 - log 4
    -2.386294361119891
    """
    if not 0 <= thought_free < 1:
        raise ValueError(f"thought_free must lie in [0, 1), got {thought_free}")
    counts = np.ones(len(log_q)) if counts is None else np.asarray(counts)
    weights = (1 - thought_free) * counts / counts.sum()
    if not thought_free:
        return log_mixture(log_q, weights)
    if plain is None:
        raise ValueError(f"thought_free {thought_free} needs plain, log q without a thought")
    return log_mixture(np.concatenate([log_q, plain[None]]), np.append(weights, thought_free))


def leave_one_out(
    log_q: np.ndarray, plain: np.ndarray | None = None, thought_free: float = 0.0
) -> np.ndarray:
    """The mixture without each of its thoughts: arguments as of `thought_mixture`, K >= 2.

    Returns:
      [K, ...] float64; entry k is the mixture of all thoughts but k.

    >>> leave_one_out(np.array([-1.0, -3.0])).tolist()
    [-3.0, -1.0]
    """
    others = (np.delete(log_q, k, axis=0) for k in range(len(log_q)))
    return np.stack([thought_mixture(part, plain, thought_free) for part in others])


def mixture_tokens(log_q: np.ndarray, plain: np.ndarray, thought_free: float) -> np.ndarray:
    """Token log-probabilities of (1 − w) q(y|x, r) + w q(y|x), a mixture of whole responses.

    Args:
      log_q: [..., S] of each token given those before it, in nats; 0 where there is none.
      plain: [..., S] the same without a thought.
      thought_free: w in [0, 1).

    Returns:
      [..., S] float64, which add up to the mixture's log-probability of the response.
    """
    whole = thought_mixture(np.cumsum(log_q, -1)[None], np.cumsum(plain, -1), thought_free)
    return np.diff(whole, axis=-1, prepend=0.0)


def draw_entropy(counts: np.ndarray) -> float:
    """−Σ s log s in nats, with s the shares of distinct draws: from 0, all alike, to log K.

    It lies below the entropy of the distribution that was drawn from, by (distinct − 1) / 2K at
    the least (Miller, 1955): compare it between sets of as many draws.

    Args:
      counts: how often each distinct draw was drawn, K in all.

    >>> draw_entropy(np.array([2, 2])), draw_entropy(np.array([4]))
    (0.6931471805599453, 0.0)
    """
    shares = np.asarray(counts, np.float64) / np.sum(counts)
    return float(-np.sum(shares * np.log(shares)) + 0.0)

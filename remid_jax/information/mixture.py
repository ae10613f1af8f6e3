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

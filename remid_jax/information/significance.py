"""Tests that hold for any law of the data, and what several of them together allow to say.

They run on the host, in float64, with their own seed.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information.checking import check_block, check_finite, check_mask
from remid_jax.information.mutual_information import all_negatives

Array = jax.Array
ENUMERATED = 14  # units up to which all 2^N sign flips are counted
TIES = 1e-12  # relative: sums of the same terms in another order
CHUNK = 2**22  # numbers held at once


def contributions(
    scores: Array,
    lengths: Array | None = None,
    where: Array | None = None,
    negatives: Array | None = None,
) -> Array:
    """h_i = S_ii − mean_{j≠i} S_ji: what response i adds to `club`, of which it is the mean.

    h_i reads column i alone and so depends on one response alone. Where two models answer the same
    contexts, exchanging their answers in context i exchanges their h_i and leaves all others as
    they are: sign flips of the differences are an exact test. With given weights w of the pairs,
    h_i = S_ii − N Σ_j w_ji S_ji / Σ w, whose mean is `club` with these weights.

    Args:
      scores: [N, N], log q(y_j | x_i) in nats.
      lengths: [N] tokens of y_j; given, nats per token.
      where: [N] bool, contexts to keep (with their responses).
      negatives: [N, N] weights of the pairs as in `club`; by default all i ≠ j.

    Returns:
      [N] nats, NaN for contexts that are not kept.

    Raises:
      ValueError: the block is not square, a mask leaves fewer than 2 contexts, or an entry that is
        read is not finite.

    >>> contributions(jnp.array([[-1.0, -3.0], [-5.0, -2.0]])).tolist()
    [4.0, 1.0]
    """
    scores = jnp.asarray(scores)
    check_block(scores, jnp.zeros(scores.shape, bool))  # its shape alone
    n = scores.shape[0]
    mask = jnp.ones(n, bool) if where is None else jnp.asarray(where, bool)
    check_mask(where, n)
    weights = jnp.asarray(all_negatives(n) if negatives is None else negatives, scores.dtype)
    weights = jnp.where(mask[:, None] & mask[None, :], weights, 0)
    read = (weights > 0) | (jnp.eye(n, dtype=bool) & mask[:, None])
    check_block(scores, read)
    scores = jnp.where(read, scores, 0)
    if lengths is not None:
        scores = scores / jnp.where(mask, jnp.asarray(lengths, scores.dtype), 1)
    share = jnp.sum(weights * scores, axis=0) / jnp.sum(weights)
    kept = jnp.sum(mask, dtype=scores.dtype)
    return jnp.where(mask, jnp.diagonal(scores) - kept * share, jnp.nan)


def sign_flip_test(
    differences: Array | np.ndarray,
    *,
    flips: int = 10_000,
    seed: int = 0,
    groups: Array | np.ndarray | None = None,
) -> float:
    """Two-sided p-value of differences that are symmetric around 0 (Fisher, 1935).

    p = P(|Σ s_g d_g| ≥ |Σ d_g|) over signs s_g = ±1: all 2^G of them up to 14 units, else
    (1 + count) / (1 + flips) over random ones (Phipson and Smyth, 2010). Exact for any N where the
    two members of each pair are exchangeable, as two models' answers to one context.

    Args:
      differences: [N] nats, of pairs; see `contributions`.
      flips: random flips for more than 14 units.
      seed: of the random flips.
      groups: [N] integers; the differences of one cluster are flipped together. By default each is
        a unit.

    Raises:
      ValueError: no difference, one that is not finite, fewer than 1 flip, or groups of another
        shape.

    >>> sign_flip_test(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or not len(values) or flips < 1:
        raise ValueError(f"differences must be [N >= 1], got shape {values.shape}; flips {flips}")
    check_finite(values, name="differences")
    if groups is not None:
        if np.shape(groups) != values.shape:
            raise ValueError(f"groups must have shape {values.shape}, got {np.shape(groups)}")
        values = np.bincount(np.unique(np.asarray(groups), return_inverse=True)[1], values)
    least = abs(values.sum()) - TIES * np.abs(values).sum()
    exact = len(values) <= ENUMERATED
    signs = _all_signs(len(values)) if exact else _random_signs(len(values), flips, seed)
    count = sum(int((np.abs(part @ values) >= least).sum()) for part in signs)
    return count / 2 ** len(values) if exact else (1 + count) / (1 + flips)


def _all_signs(n: int) -> Iterator[np.ndarray]:
    yield 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)


def _random_signs(n: int, flips: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // n)
    for start in range(0, flips, rows):
        yield 1.0 - 2.0 * rng.integers(0, 2, (min(rows, flips - start), n))


def independence_test(
    scores: Array | np.ndarray,
    *,
    permutations: int = 2_000,
    seed: int = 0,
    lengths: Array | np.ndarray | None = None,
    where: Array | np.ndarray | None = None,
) -> float:
    """One-sided p-value of responses that do not depend on their contexts.

    The responses are permuted among the contexts. All pairs keep their sum, so that `club` of a
    permuted block orders as its mean diagonal does: p = (1 + #{permuted ≥ observed}) /
    (1 + permutations). Exact for any q and any N where contexts are independent draws.

    Args:
      scores: [N, N], log q(y_j | x_i) in nats, every pair.
      permutations: random ones.
      seed: of the permutations.
      lengths: [N] tokens of y_j; given, nats per token.
      where: [N] bool, contexts to keep (with their responses).

    Raises:
      ValueError: the block is not square, a kept entry is not finite, a mask leaves fewer than 2
        contexts, or fewer than 1 permutation.

    >>> independence_test(5 * np.eye(8), permutations=99)
    0.01
    """
    block = np.asarray(scores, np.float64)
    check_block(block, np.zeros(block.shape, bool))
    check_mask(where, len(block))
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    if lengths is not None:
        block = block / np.asarray(lengths)
    kept = np.arange(len(block)) if where is None else np.flatnonzero(where)
    block = block[np.ix_(kept, kept)]
    check_finite(block, name="scores[where][:, where]")
    n, rng = len(block), np.random.default_rng(seed)
    least = np.trace(block) - TIES * np.abs(np.diagonal(block)).sum()
    count, rows = 0, max(1, CHUNK // n)
    for start in range(0, permutations, rows):
        order = np.tile(np.arange(n), (min(rows, permutations - start), 1))
        order = rng.permuted(order, axis=1)
        count += int((block[np.arange(n), order].sum(axis=1) >= least).sum())
    return (1 + count) / (1 + permutations)


def holm(p_values: Sequence[float | None] | np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values: p̃_(k) = max_{l≤k} min(1, (m − l + 1) p_(l)) (Holm, 1979).

    Rejecting where p̃ ≤ α rejects a true hypothesis with probability at most α, however the tests
    depend on each other.

    Args:
      p_values: [m]; None and NaN are missing tests, which are not counted.

    Returns:
      [m] float64, NaN where missing.

    Raises:
      ValueError: a p-value outside of [0, 1].

    >>> holm([0.01, None, 0.04, 0.03]).tolist()
    [0.03, nan, 0.06, 0.06]
    """
    p = np.array([np.nan if v is None else v for v in p_values], np.float64)
    if (bad := (p < 0) | (p > 1)).any():
        place = int(np.argmax(bad))
        raise ValueError(f"p_values of shape {p.shape} hold {p[place]} at {place}")
    order = np.argsort(p)[: int(np.isfinite(p).sum())]  # NaN sorts last
    steps = np.minimum(1, p[order] * np.arange(len(order), 0, -1))
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def worst_set(
    values: Sequence[float] | np.ndarray,
    errors: np.ndarray,
    freedom: float | np.ndarray,
    level: float = 0.95,
) -> np.ndarray:
    """Confidence set of the largest of K true values: [K] bool, never empty.

    k is left out where some l is significantly larger: (v_l − v_k) / s_kl > t(f_kl) at one-sided
    (1 − level) / (K − 1). A truly largest k, tied or not, is left out only where one of K − 1
    tests of a true hypothesis rejects: by Bonferroni's inequality the set holds it with
    probability ≥ level, however the estimates depend on each other. The largest estimate alone
    has no such property: its value errs upwards, by 1.6 s.d. for 11 equal ones.

    Args:
      values: [K] estimates, larger is worse.
      errors: [K, K] standard errors of the differences v_l − v_k; the diagonal is not read.
      freedom: degrees of freedom of the errors, one or [K, K].
      level: of confidence, in (0, 1).

    Raises:
      ValueError: shapes that do not belong together, an entry that is not finite, or a level
        outside of (0, 1).

    >>> worst_set([5.0, 4.5, 0.0], np.ones((3, 3)), 20.0).tolist()
    [True, True, False]
    """
    from scipy.special import stdtrit

    v, s = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    if v.ndim != 1 or not len(v) or s.shape != (len(v), len(v)) or not 0 < level < 1:
        raise ValueError(
            f"worst_set needs values [K], errors [K, K] and 0 < level < 1, got values of shape "
            f"{v.shape}, errors of shape {s.shape} and level {level}"
        )
    off = ~np.eye(len(v), dtype=bool)
    check_finite(v, name="values")
    check_finite(s, off, "errors")
    f = np.broadcast_to(np.asarray(freedom, np.float64), s.shape)
    limit = stdtrit(np.where(off, f, 1), 1 - (1 - level) / max(1, len(v) - 1))
    larger = (v - v[:, None] > limit * s) & off  # [k, l]: l is larger than k
    return ~larger.any(axis=1)

"""Tests that hold for any distribution of the data, and what several of them together allow to say.

They run on the host, in float64, with their own seed.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import real, refuse, shown
from remid_jax.information.mutual_information import read_pairs

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

    h_i depends on response i alone, so where two models answer the same contexts, sign flips of the
    differences are an exact test. With weights w of the pairs, h_i = S_ii − N Σ_j w_ji S_ji / Σ w.

    Args:
      scores: [N, N], log q(y_j | x_i) in nats.
      lengths: [N] tokens of y_j; given, nats per token.
      where: [N] bool, contexts to keep (with their responses).
      negatives: [N, N] weights of the pairs as in `club`; by default all i ≠ j.

    Returns:
      [N] nats, NaN for contexts that are not kept.

    Raises:
      ValueError: as in `club`.

    >>> contributions(jnp.array([[-1.0, -3.0], [-5.0, -2.0]])).tolist()
    [4.0, 1.0]
    """
    scores, mask, weights = read_pairs(scores, lengths, where, negatives)
    share = jnp.sum(weights * scores, axis=0) / jnp.sum(weights)
    kept = jnp.sum(mask, dtype=scores.dtype)
    found = jnp.where(mask, jnp.diagonal(scores) - kept * share, jnp.nan)
    return checks.result(found, "contributions of scores (and lengths)", mask)


@checks.arguments(flips=checks.DRAWS, seed=checks.SEED)
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
      groups: [N] integers of at least 0; the differences of one cluster are flipped together. By
        default each is a unit.

    Raises:
      ValueError: no differences, one that is not finite, no flips, or no such groups.

    >>> sign_flip_test(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    values = np.asarray(real(differences, "differences", empty=True), np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"differences must be [N >= 1], got shape {values.shape}")
    checks.entries(values, "differences")
    if groups is not None:
        if (shape := real(groups, "groups", empty=True).shape) != values.shape:
            raise ValueError(f"groups must have shape {values.shape}, got {shape}")
        values = np.bincount(
            np.unique(checks.labels_of(groups, least=0), return_inverse=True)[1], values
        )
    n, least = len(values), abs(values.sum()) - TIES * np.abs(values).sum()
    if n <= ENUMERATED:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return int((np.abs(signs @ values) >= least).sum()) / 2**n
    rng, count = np.random.default_rng(seed), 0
    for rows in _chunks(flips, n):
        signs = 1.0 - 2.0 * rng.integers(0, 2, (rows, n))
        count += int((np.abs(signs @ values) >= least).sum())
    return (1 + count) / (1 + flips)


def _chunks(total: int, n: int) -> Iterator[int]:
    """`total` rows of n numbers, as many at a time as are held at once."""
    rows = max(1, CHUNK // n)
    yield from (min(rows, total - start) for start in range(0, total, rows))


@checks.arguments(permutations=checks.DRAWS, seed=checks.SEED)
def independence_test(
    scores: Array | np.ndarray,
    *,
    permutations: int = 2_000,
    seed: int = 0,
    lengths: Array | np.ndarray | None = None,
    where: Array | np.ndarray | None = None,
) -> float:
    """One-sided p-value of responses that do not depend on their contexts.

    Responses are permuted among contexts, which orders `club` as the mean diagonal: p = (1 +
    #{permuted ≥ observed}) / (1 + permutations). Exact for any q and N where contexts are
    independent draws.

    Args:
      scores: [N, N], log q(y_j | x_i) in nats, every pair.
      permutations: random ones.
      seed: of the permutations.
      lengths: [N] tokens of y_j; given, nats per token.
      where: [N] bool, contexts to keep (with their responses).

    Raises:
      ValueError: as in `club`, or no permutation.

    >>> independence_test(5 * np.eye(8), permutations=99)
    0.01
    """
    keep = checks.mask_of(where, (checks.contexts_of(scores),), least=2)
    checks.lengths(lengths, keep)
    checks.entries(np.asarray(real(scores, "scores")), "scores", used=keep[:, None] & keep)
    block = np.asarray(real(scores, "scores"), np.float64)
    if lengths is not None:
        with np.errstate(all="ignore"):  # those that are not kept may be 0
            block = block / np.asarray(real(lengths, "lengths"))
    block = block[np.ix_(keep, keep)]
    checks.entries(block, "scores / lengths of kept contexts")
    n, rng, count = len(block), np.random.default_rng(seed), 0
    least = np.trace(block) - TIES * np.abs(np.diagonal(block)).sum()
    for rows in _chunks(permutations, n):
        order = rng.permuted(np.tile(np.arange(n), (rows, 1)), axis=1)
        count += int((block[np.arange(n), order].sum(axis=1) >= least).sum())
    return (1 + count) / (1 + permutations)


def holm(p_values: Sequence[float | None] | np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values: p̃_(k) = max_{l≤k} min(1, (m − l + 1) p_(l)) (Holm, 1979).

    Rejecting where p̃ ≤ α rejects a true hypothesis with probability at most α, however the tests
    depend on each other.

    Args:
      p_values: [m]; None is a missing test, which is not counted.

    Returns:
      [m] float64, NaN where missing.

    Raises:
      ValueError: not a list, or a p-value that is NaN or outside of [0, 1].

    >>> holm([0.01, None, 0.04, 0.03]).tolist()
    [0.03, nan, 0.06, 0.06]
    """
    p = _p_values(p_values)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]  # NaN sorts last
    steps = np.minimum(1, p[order] * np.arange(len(order), 0, -1))
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def _p_values(p_values: Any) -> np.ndarray:
    """[m] float64, NaN where missing."""
    try:
        if isinstance(p_values, str | Set | Mapping | np.ma.MaskedArray):
            raise TypeError
        listed = list(p_values)
    except TypeError:
        raise ValueError(f"p_values must be a list [m], got {shown(p_values)}") from None
    missing = np.array([v is None for v in listed], bool)
    p = np.asarray(real([0 if v is None else v for v in listed], "p_values", empty=True), float)
    if p.ndim != 1:
        raise ValueError(f"p_values must be a list [m], got shape {p.shape}")
    refuse(p, ~((p >= 0) & (p <= 1)), "p_values", "must lie between 0 and 1", plural=True)
    return np.where(missing, np.nan, p)


@checks.arguments(level=checks.LEVEL)
def worst_set(
    values: Sequence[float] | np.ndarray,
    errors: np.ndarray,
    freedom: float | np.ndarray,
    level: float = 0.95,
) -> np.ndarray:
    """Confidence set of the largest of K true values: [K] bool, never empty.

    k is left out where some l is significantly larger: (v_l − v_k) / s_kl > t(f_kl) at one-sided
    (1 − level) / (K − 1). By Bonferroni's inequality the set holds a truly largest k with
    probability ≥ level, however the estimates depend on each other. The largest estimate alone
    has no such property: its value errs upwards, by 1.6 s.d. for 11 equal ones.

    Args:
      values: [K] estimates, larger is worse.
      errors: [K, K] standard errors of the differences v_l − v_k; the diagonal has no say.
      freedom: degrees of freedom of the errors, one or [K, K].
      level: of confidence, in (0, 1).

    Raises:
      ValueError: shapes that do not belong together, or an argument out of its range.

    >>> worst_set([5.0, 4.5, 0.0], np.ones((3, 3)), 20.0).tolist()
    [True, True, False]
    """
    from scipy.special import stdtrit

    v, s, f = (
        np.asarray(real(x, name, empty=True), np.float64)
        for name, x in (("values", values), ("errors", errors), ("freedom", freedom))
    )
    if v.ndim != 1 or not len(v) or s.shape != (len(v), len(v)) or f.shape not in ((), s.shape):
        raise ValueError(
            f"worst_set needs values [K], errors [K, K] and freedom, one or [K, K], got values of "
            f"shape {v.shape}, errors of shape {s.shape} and freedom of shape {f.shape}"
        )
    off, f = ~np.eye(len(v), dtype=bool), np.broadcast_to(f, s.shape)
    checks.entries(v, "values")
    checks.entries(s, "errors", checks.NOT_NEGATIVE)
    checks.entries(f, "freedom", checks.POSITIVE, used=off)
    limit = stdtrit(np.where(off, f, 1), 1 - (1 - level) / max(1, len(v) - 1))
    with np.errstate(all="ignore"):  # an infinite limit leaves out none
        larger = (v - v[:, None] > limit * s) & off  # [k, l]: l is larger than k
    return ~larger.any(axis=1)

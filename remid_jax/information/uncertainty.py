"""Standard errors and intervals by the delete-one (or delete-one-cluster) jackknife."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import floating, real, shown

Array = jax.Array
MIN_GROUPS = 3  # one that is deleted, and two whose pairs stay


def clusters(*labels: Sequence[Hashable]) -> np.ndarray:
    """Integer groups of contexts that share a label, directly or through others.

    Args:
      *labels: one or more labellings [N], such as the characters' names.

    Returns:
      [N] integers 0..G−1, numbered by first appearance.

    Raises:
      ValueError: no labelling, lengths that differ, or a label that is NaN or unhashable.

    >>> clusters(["Ann", "Bo", "Ann"]).tolist(), clusters("aab", "xyy").tolist()
    ([0, 1, 0], [0, 0, 0])
    """
    columns = [_label_column(column) for column in labels]
    lengths = [len(column) for column in columns]
    if not lengths or len(set(lengths)) > 1:
        raise ValueError(f"labels must be one or more labellings of one length, got {lengths}")
    group = np.arange(lengths[0])
    for column in columns:
        first: dict[Hashable, int] = {}
        for i, label in enumerate(column):
            known = first.setdefault(label, i)
            if group[i] != group[known]:
                group[group == group[i]] = group[known]
    order: dict[int, int] = {}
    return np.array([order.setdefault(g, len(order)) for g in group.tolist()], int)


def _label_column(column: Any) -> list[Hashable]:
    try:
        if isinstance(column, Set | Mapping | np.ma.MaskedArray):  # without an order, or with holes
            raise TypeError
        listed = np.asarray(column).tolist() if isinstance(column, jax.Array) else list(column)
        bad = [i for i, label in enumerate(listed) if hash(label) is None or label != label]
    except (TypeError, ValueError):
        raise ValueError(f"labels must be lists of names or numbers, got {shown(column)}") from None
    if bad or not listed:
        what = f"hold {listed[bad[0]]} at {bad[0]}" if bad else "are empty"
        raise ValueError(f"labels {what}, but each context needs one")
    return listed


def clustered_negatives(groups: Array | np.ndarray) -> np.ndarray:
    """Weights [N, N] that count every pair of contexts of different groups once.

    Pairs within a cluster would pull an estimate of mutual information towards 0.

    Args:
      groups: [N] integers; a negative one takes part in no pair.

    Raises:
      ValueError: a label is no whole number, or there are fewer than 2 groups, hence no pair.

    >>> clustered_negatives(np.array([0, 0, 1])).astype(int).tolist()
    [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    """
    groups = np.asarray(checks.labels_of(groups))
    used = groups >= 0
    weights = (groups[:, None] != groups) & used[:, None] & used
    if not weights.any():
        raise ValueError(f"groups of shape {groups.shape}: no pair of contexts of different groups")
    return weights.astype(float)


def delete_one(
    statistic: Callable[[Array], Array], groups: Array | np.ndarray
) -> tuple[Array, Array]:
    """Value of a statistic that takes a mask, and its values without each group.

    Args:
      statistic: mask [N] bool -> scalar or array of statistics; jit it where N is large.
      groups: [N] integers; contexts with a negative group are never used.

    Returns:
      (value, replicates [G, ...]), groups in ascending order; NaN where the statistic is.

    Raises:
      ValueError: a label is no whole number, fewer than 3 groups, or a statistic that is no number.

    >>> value, without = delete_one(lambda m: jnp.sum(m), np.array([0, 0, 1, 2]))
    >>> int(value), without.tolist()
    (4, [2, 3, 3])
    """
    if not callable(statistic):
        raise ValueError(f"statistic must be a function of a mask, got {shown(statistic)}")
    groups = np.asarray(checks.labels_of(groups))
    labels = np.unique(groups[groups >= 0])
    if len(labels) < MIN_GROUPS:
        raise ValueError(f"a jackknife needs at least {MIN_GROUPS} groups, got {len(labels)}")
    used, members = jnp.asarray(groups >= 0), jnp.asarray(groups)
    # A Python loop: a jitted statistic is compiled once for all masks and all calls.
    without = [real(statistic(used & (members != g)), "statistic") for g in labels]
    return statistic(used), jnp.stack([jnp.asarray(value) for value in without])


def jackknife_error(replicates: Array) -> tuple[Array, int]:
    """sqrt((G−1)/G Σ_g (θ_g − θ̄)²) of the values θ_g without group g (Tukey, 1958).

    Args:
      replicates: [G, ...] of `delete_one`; differences of two give the error of the difference.

    Returns:
      (standard error [...], degrees of freedom G − 1).

    Raises:
      ValueError: fewer than 3 replicates, or one that is not finite (in float32).

    >>> error, freedom = jackknife_error(jnp.array([2.5, 2.0, 1.5]))
    >>> round(float(error), 4), freedom
    (0.5774, 2)
    """
    checks.entries(replicates, "replicates", on_device=True)
    return checks.result(replicate_error(replicates), "jackknife_error of replicates")


def replicate_error(replicates: Array, where: Array | None = None) -> tuple[Array, int | Array]:
    """`jackknife_error` of replicates that may be NaN, as their error then is.

    `where` [G] marks the groups that exist, and may be traced.
    """
    replicates = floating(real(replicates, "replicates", empty=True))
    g = replicates.shape[0] if replicates.ndim else 0
    if g < MIN_GROUPS:
        raise ValueError(
            f"replicates of shape {replicates.shape}: a jackknife needs {MIN_GROUPS} groups"
        )
    if where is not None:
        g = jnp.sum(where, dtype=replicates.dtype)
        where = where.reshape(-1, *(1,) * (replicates.ndim - 1))
    centre = jnp.mean(replicates, axis=0, keepdims=True, where=where)
    spread = jnp.sum(jnp.square(replicates - centre), axis=0, where=where)
    return jnp.sqrt((g - 1) / g * spread), g - 1


def jackknife(
    statistic: Callable[[Array], Array], groups: Array | np.ndarray
) -> tuple[Array, Array, int]:
    """Value and jackknife standard error of a statistic that takes a mask.

    Right for matrix statistics, as a bootstrap is not: its copies become false negatives.

    Args:
      statistic: as in `delete_one`; groups likewise.

    Returns:
      (value, standard error, degrees of freedom G − 1), value and error in the statistic's shape.

    Raises:
      ValueError: as in `delete_one`, or a value that is not finite (in float32).

    >>> mean = lambda m: jnp.mean(jnp.array([1.0, 2.0, 3.0]), where=m)
    >>> [round(float(x), 4) for x in jackknife(mean, np.arange(3))]
    [2.0, 0.5774, 2.0]
    """
    value, without = delete_one(statistic, groups)
    checks.entries(value, "statistic", on_device=True)
    return value, *jackknife_error(without)


@checks.arguments(freedom=checks.POSITIVE, level=checks.LEVEL)
def t_interval(
    value: float, standard_error: float, freedom: float, level: float = 0.95
) -> tuple[float, float]:
    """Two-sided Student interval value ± t(freedom) · standard error.

    Raises:
      ValueError: an argument is not finite, negative where it may not be, or a level not in (0, 1).

    >>> low, high = t_interval(0.0, 1.0, 11)
    >>> round(high, 3)
    2.201
    """
    from scipy.special import stdtrit

    value, standard_error = checks.operands(value=value, standard_error=standard_error)
    checks.entries(standard_error, "standard_error", checks.NOT_NEGATIVE)
    half = float(stdtrit(freedom, 0.5 + level / 2)) * standard_error
    return checks.result((value - half, value + half), "t_interval")


@checks.arguments(standard_error=checks.NOT_NEGATIVE, value=checks.FINITE, freedom=checks.POSITIVE)
def t_test(value: float, standard_error: float, freedom: float) -> float:
    """Two-sided p-value 2·P(T > |value| / standard error), T ~ t(freedom), of a true value of 0.

    A value without any spread has p = 1 where it is 0, and p = 0 elsewhere.

    Raises:
      ValueError: an argument is not finite, a standard error negative, or freedom not positive.

    >>> round(t_test(2.201, 1.0, 11), 4), t_test(0.0, 0.0, 5)
    (0.05, 1.0)
    """
    from scipy.special import stdtr

    if standard_error == 0:
        return float(value == 0)
    with np.errstate(over="ignore"):
        return float(2 * stdtr(freedom, -(abs(value) / standard_error)))


@checks.arguments(
    error_a=checks.NOT_NEGATIVE,
    error_b=checks.NOT_NEGATIVE,
    freedom_a=checks.POSITIVE,
    freedom_b=checks.POSITIVE,
)
def combined_error(
    error_a: float, freedom_a: float, error_b: float, freedom_b: float
) -> tuple[float, float]:
    """Standard error of a difference of independent values, and Welch's degrees of freedom.

    Raises:
      ValueError: an error is negative or not finite, or its freedom not positive.

    >>> error, freedom = combined_error(3.0, 10, 4.0, 10)
    >>> error, round(freedom, 2)
    (5.0, 18.55)
    """
    largest = max(error_a, error_b)
    if largest == 0:
        return 0.0, float(min(freedom_a, freedom_b))
    # A power of 2 changes no digit, and keeps fourth powers of small errors above 0.
    unit = math.ldexp(1.0, math.frexp(float(largest))[1])
    a, b = (error_a / unit) ** 2, (error_b / unit) ** 2
    welch = (a + b) ** 2 / (a**2 / freedom_a + b**2 / freedom_b)
    return float(np.sqrt(a + b)) * unit, welch

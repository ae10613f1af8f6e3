"""Standard errors and intervals by the delete-one (or delete-one-cluster) jackknife."""

from collections.abc import Callable, Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information.checking import check_finite

Array = jax.Array
MIN_GROUPS = 3  # one that is deleted, and two whose pairs stay


def clusters(*labels: Sequence[Hashable]) -> np.ndarray:
    """Integer groups of contexts that share a label, directly or through others.

    Args:
      *labels: one or more labellings [N], such as the characters' names; contexts that share a
        label in any of them fall into one group, so that different groups share none.

    Returns:
      [N] integers 0..G−1, numbered by first appearance.

    Raises:
      ValueError: the labellings differ in length, or there is none.

    >>> clusters(["Ann", "Bo", "Ann"]).tolist(), clusters("aab", "xyy").tolist()
    ([0, 1, 0], [0, 0, 0])
    """
    lengths = [len(column) for column in labels]
    if not lengths or len(set(lengths)) > 1:
        raise ValueError(f"labels must be one or more labellings of one length, got {lengths}")
    group = np.arange(lengths[0])
    for column in labels:
        first: dict[Hashable, int] = {}
        for i, label in enumerate(column):
            known = first.setdefault(label, i)
            if group[i] != group[known]:
                group[group == group[i]] = group[known]
    order = {g: k for k, g in enumerate(dict.fromkeys(group.tolist()))}
    return np.array([order[g] for g in group.tolist()], int)


def clustered_negatives(groups: Array | np.ndarray) -> np.ndarray:
    """Weights [N, N] that count every pair of contexts of different groups once.

    The mean over pairs i ≠ j is unbiased (a U-statistic) only where the two contexts are
    independent. A response fits another context of its own cluster better than a stranger's, so
    pairs within a cluster would pull an estimate of mutual information towards 0.

    Args:
      groups: [N] integers; a negative one takes part in no pair.

    Raises:
      ValueError: there are fewer than 2 groups, hence no pair.

    >>> clustered_negatives(np.array([0, 0, 1])).astype(int).tolist()
    [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    """
    groups = np.asarray(groups)
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
      (value, replicates [G, ...]), groups in ascending order.

    Raises:
      ValueError: fewer than 3 groups: a value that leaves pairs after a deletion needs 3.

    >>> value, without = delete_one(lambda m: jnp.sum(m), np.array([0, 0, 1, 2]))
    >>> int(value), without.tolist()
    (4, [2, 3, 3])
    """
    groups = np.asarray(groups)
    labels = np.unique(groups[groups >= 0])
    if len(labels) < MIN_GROUPS:
        raise ValueError(f"a jackknife needs at least {MIN_GROUPS} groups, got {len(labels)}")
    used = jnp.asarray(groups >= 0)
    members = jnp.asarray(groups)
    # A Python loop: a jitted statistic is compiled once for all masks and all calls.
    without = jnp.stack([jnp.asarray(statistic(used & (members != g))) for g in labels])
    return statistic(used), without


def jackknife_error(replicates: Array) -> tuple[Array, int]:
    """sqrt((G−1)/G Σ_g (θ_g − θ̄)²) of the values θ_g without group g (Tukey, 1958).

    Replicates of several statistics without the same groups may be subtracted before: this gives
    the error of their difference with all that they share taken into account.

    Args:
      replicates: [G, ...] as of `delete_one`.

    Returns:
      (standard error [...], degrees of freedom G − 1).

    Raises:
      ValueError: fewer than 3 replicates.

    >>> error, freedom = jackknife_error(jnp.array([2.5, 2.0, 1.5]))
    >>> round(float(error), 4), freedom
    (0.5774, 2)
    """
    g = jnp.shape(replicates)[0] if jnp.ndim(replicates) else 0
    if g < MIN_GROUPS:
        raise ValueError(
            f"replicates of shape {jnp.shape(replicates)}: a jackknife needs {MIN_GROUPS} groups"
        )
    spread = jnp.sum(jnp.square(replicates - jnp.mean(replicates, axis=0, keepdims=True)), axis=0)
    return jnp.sqrt((g - 1) / g * spread), g - 1


def jackknife(
    statistic: Callable[[Array], Array], groups: Array | np.ndarray
) -> tuple[Array, Array, int]:
    """Value and jackknife standard error of a statistic that takes a mask.

    Deleting a context removes its row and its column of the pair matrix, so this is right for
    matrix statistics; a bootstrap is not, because its copies become false negatives.

    Args:
      statistic: mask [N] bool -> scalar or array of statistics; jit it where N is large.
      groups: [N] integers; contexts of one group are deleted together (its cluster), contexts with
        a negative group are never used.

    Returns:
      (value, standard error, degrees of freedom G − 1), value and error in the statistic's shape.

    Raises:
      ValueError: fewer than 3 groups: a value that leaves pairs after a deletion needs 3.

    >>> value, error, freedom = jackknife(
    ...     lambda m: jnp.mean(jnp.array([1.0, 2.0, 3.0]), where=m), np.arange(3))
    >>> float(value), round(float(error), 4), freedom
    (2.0, 0.5774, 2)
    """
    value, without = delete_one(statistic, groups)
    return value, *jackknife_error(without)


def t_interval(
    value: float, standard_error: float, freedom: float, level: float = 0.95
) -> tuple[float, float]:
    """Two-sided Student interval value ± t(freedom) · standard error.

    >>> low, high = t_interval(0.0, 1.0, 11)
    >>> round(high, 3)
    2.201
    """
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, 0.5 + level / 2)) * standard_error
    return value - half, value + half


def t_test(value: float, standard_error: float, freedom: float) -> float:
    """Two-sided p-value 2·P(T > |value| / standard error), T ~ t(freedom), of a true value of 0.

    Below 1 − level exactly where `t_interval` of that level leaves 0 out. A value without any
    spread has p = 1 where it is 0, and p = 0 elsewhere.

    Raises:
      ValueError: value or standard error is not finite, or the standard error is negative.

    >>> round(t_test(2.201, 1.0, 11), 4), t_test(0.0, 0.0, 5)
    (0.05, 1.0)
    """
    from scipy.special import stdtr

    check_finite((value, standard_error), name="value and standard_error")
    if standard_error < 0:
        raise ValueError(f"standard_error must not be negative, got {standard_error}")
    if standard_error == 0:
        return float(value == 0)
    return float(2 * stdtr(freedom, -abs(value) / standard_error))


def combined_error(
    error_a: float, freedom_a: float, error_b: float, freedom_b: float
) -> tuple[float, float]:
    """Standard error of a difference of independent values, and Welch's degrees of freedom.

    >>> error, freedom = combined_error(3.0, 10, 4.0, 10)
    >>> error, round(freedom, 2)
    (5.0, 18.55)
    """
    a, b = error_a**2, error_b**2
    if a + b == 0:
        return 0.0, float(min(freedom_a, freedom_b))
    return float(np.sqrt(a + b)), (a + b) ** 2 / (a**2 / freedom_a + b**2 / freedom_b)

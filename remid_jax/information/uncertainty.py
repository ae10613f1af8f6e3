"""Standard errors and intervals by the delete-one (or delete-one-cluster) jackknife."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


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
    groups = np.asarray(groups)
    labels = np.unique(groups[groups >= 0])
    if len(labels) < 3:
        raise ValueError(f"a jackknife needs at least 3 groups, got {len(labels)}")
    used = jnp.asarray(groups >= 0)
    members = jnp.asarray(groups)
    value = statistic(used)
    # A Python loop: a jitted statistic is compiled once for all masks and all calls.
    deleted = jnp.stack([jnp.asarray(statistic(used & (members != g))) for g in labels])
    g = len(labels)
    spread = jnp.sum(jnp.square(deleted - deleted.mean(axis=0)), axis=0)
    return value, jnp.sqrt((g - 1) / g * spread), g - 1


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

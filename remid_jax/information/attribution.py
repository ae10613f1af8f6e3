"""Which factor's shift an EMID comes from."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import floating, real, refuse, shown

Array = jax.Array
TOKENS = checks.Rule(
    lambda n: (n >= 1) & (n <= checks.MOST) & (n == np.floor(n)), "must be whole numbers of tokens"
)
MOST_FACTORS = 12  # their 2^12 cells are counted one by one


def _shapley_weights(factors: int) -> np.ndarray:
    """[factors, 2, …, 2]: weights of the cells' EMI in each factor's Shapley value.

    With v(S) = EMI(P) − EMI(cell S), φ_z = Σ_{S∌z} |S|!(n−|S|−1)!/n! [v(S∪z) − v(S)].
    """
    weights = np.zeros((factors,) + (2,) * factors)
    for cell in itertools.product((0, 1), repeat=factors):
        for z in range(factors):
            others = sum(cell) - cell[z]
            size = math.factorial(others) * math.factorial(factors - others - 1)
            weights[(z, *cell)] = (1 - 2 * cell[z]) * size / math.factorial(factors)
    return weights


def shapley(values: Array) -> Array:
    """Shapley values of EMID over factors: they sum to EMID = values[0,…,0] − values[1,…,1].

    Args:
      values: [2, …, 2] EMI (nats) of the cells, one axis a factor; 0 takes the factor's mechanism
        from P, 1 from Q.

    Returns:
      [factors] nats (Shapley, 1953).

    Raises:
      ValueError: an axis has not length 2, or a value is not finite.

    >>> [round(float(v), 4) for v in shapley(jnp.array([[0.0, -1.0], [-2.0, -4.0]]))]
    [2.5, 1.5]
    """
    shape = real(values, "cell values", empty=True).shape
    if set(shape) != {2}:
        raise ValueError(f"cell values must have shape [2, ..., 2], got {shape}")
    if len(shape) > MOST_FACTORS:
        raise ValueError(f"cell values have {len(shape)} factors, more than {MOST_FACTORS}")
    checks.entries(values, "cell values", on_device=True)
    values = floating(values)
    weights = jnp.asarray(_shapley_weights(values.ndim), values.dtype)
    shares = jnp.sum(weights * values, axis=tuple(range(1, values.ndim + 1)))
    return checks.result(shares, "shapley of cell values")


class Attribution(NamedTuple):
    """Shares of an estimated EMID with their uncertainty.

    Attributes:
      values: [factors] nats; errors: their standard errors.
      low, high: [factors] simultaneous intervals (Bonferroni over the factors).
      named: index of the factor to blame, or None where that is within noise.
      method: `shapley` or `one at a time`, which does not add up to EMID.
    """

    values: np.ndarray
    errors: np.ndarray
    low: np.ndarray
    high: np.ndarray
    named: int | None
    method: str


@checks.arguments(level=checks.LEVEL)
def attribute(
    values: Array, errors: Array, freedom: Array | float, *, level: float = 0.95
) -> Attribution:
    """Estimated Shapley values from independently sampled cells, with a verdict or none.

    A factor is named when its interval excludes 0 and no other factor's reaches as far from 0.

    Args:
      values: [2, …, 2] estimated EMI of the cells, nats; NaN where a cell is missing, and then the
        fallback changes one factor at a time.
      errors: [2, …, 2] their standard errors.
      freedom: [2, …, 2] or scalar, their degrees of freedom.
      level: of the simultaneous intervals.

    Raises:
      ValueError: shapes differ, a needed cell is missing, or a needed value is out of range.
    """
    values, errors, freedom = (
        np.asarray(real(x, name, empty=True), np.float64)
        for name, x in (("values", values), ("errors", errors), ("freedom", freedom))
    )
    if set(values.shape) != {2} or errors.shape != values.shape:
        raise ValueError(
            f"cells and errors must have shape [2, ..., 2], got {values.shape}, {errors.shape}"
        )
    if freedom.shape not in ((), values.shape):
        raise ValueError(f"freedom must have shape () or {values.shape}, got {freedom.shape}")
    freedom = np.broadcast_to(freedom, values.shape)
    refuse(values, np.isinf(values), "values", "must be finite, or NaN where a cell is missing")
    complete = bool(np.isfinite(values).all())
    weights = _shapley_weights(values.ndim) if complete else _one_at_a_time(values.ndim)
    needed = np.any(weights != 0, axis=0)
    if not np.isfinite(values[needed]).all():
        place = tuple(int(i) for i in np.argwhere(needed & ~np.isfinite(values))[0])
        raise ValueError(f"cell {place} is missing: attribution needs P and each factor's own cell")
    checks.entries(values, "values", used=needed)
    checks.entries(errors, "errors", checks.NOT_NEGATIVE, needed)
    checks.entries(freedom, "freedom", checks.POSITIVE, needed)
    values, errors, freedom = (
        np.where(needed, x, fill) for x, fill in ((values, 0), (errors, 0), (freedom, 1))
    )
    method = "shapley" if complete else "one at a time"
    return _with_intervals(weights, values, errors, freedom, level, method)


def _one_at_a_time(factors: int) -> np.ndarray:
    """EMI(P) − EMI(P with factor z from Q) as weights [factors, 2, …, 2]."""
    weights = np.zeros((factors,) + (2,) * factors)
    for z in range(factors):
        weights[(z, *(0,) * factors)] = 1
        weights[(z, *(int(k == z) for k in range(factors)))] = -1
    return weights


def _with_intervals(
    weights: np.ndarray, values: np.ndarray, errors: np.ndarray, freedom: np.ndarray, level: float,
    method: str,
) -> Attribution:  # fmt: skip
    from scipy.special import stdtrit

    cells = tuple(range(1, weights.ndim))
    shares = np.sum(weights * values, axis=cells)
    parts = np.square(weights * errors)
    variance = parts.sum(axis=cells)
    spread = np.sum(np.square(parts) / freedom, axis=cells)
    welch = np.where(spread > 0, variance**2 / np.where(spread > 0, spread, 1), np.inf)
    half = stdtrit(np.minimum(welch, 1e9), 1 - (1 - level) / 2 / len(shares)) * np.sqrt(variance)
    low, high = shares - half, shares + half
    return Attribution(shares, np.sqrt(variance), low, high, _verdict(shares, low, high), method)


def _verdict(shares: np.ndarray, low: np.ndarray, high: np.ndarray) -> int | None:
    top = int(np.argmax(np.abs(shares)))
    nearest_to_zero = max(low[top], -high[top])
    farthest = np.maximum(np.abs(low), np.abs(high))
    farthest[top] = -np.inf
    clear = nearest_to_zero > 0 and len(shares) > 1 and np.abs(shares[top]) > farthest.max()
    return top if clear else None


def contribution_table(
    sample_ids: Sequence[str], contributions: Array, lengths: Array | None = None
) -> list[Mapping[str, Any]]:
    """What each sample adds to an estimate, the largest loss first.

    Args:
      sample_ids: [N].
      contributions: [N] nats, whose mean is the estimate, as the differences of model and golden.
      lengths: [N] tokens of each response, to be read beside; optional.

    Returns:
      Rows of sample, contribution, its share of the mean (contribution / N), ascending.

    Raises:
      ValueError: numbers of samples that differ, or an entry that is not finite or no length.
    """
    if not isinstance(sample_ids, Sequence | np.ndarray) or np.ndim(sample_ids) != 1:
        raise ValueError(f"sample_ids must be a list [N], got {shown(sample_ids)}")
    values = np.asarray(real(contributions, "contributions", empty=True), np.float64)
    if values.shape != (len(sample_ids),):
        raise ValueError(f"{len(sample_ids)} samples, contributions of shape {values.shape}")
    if len(values):
        checks.entries(values, "contributions")
    if lengths is not None:
        lengths = np.asarray(real(lengths, "lengths", empty=True)).astype(np.float64)
        if lengths.shape != values.shape:
            raise ValueError(f"{len(sample_ids)} samples, lengths of shape {lengths.shape}")
        refuse(lengths, ~TOKENS.right(lengths), "lengths", TOKENS.why)
    rows = []
    for i in np.argsort(values, kind="stable"):
        nats = float(values[i])
        row = {"sample_ID": sample_ids[i], "nats": nats, "of_mean": nats / len(values)}
        rows.append(row if lengths is None else {**row, "tokens": int(lengths[i])})
    return rows

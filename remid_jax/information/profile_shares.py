"""The model's share of golden's information of a factor, what is lost, and what a shift takes away.

Read with δ of `profile.factor_gaps`, on the same contexts for the model and golden. See `profile`
for what neither a share nor a loss can tell.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import floating, is_concrete, real, shown
from remid_jax.information.uncertainty import MIN_GROUPS, replicate_error

Array = jax.Array
COLLAPSED = 0.3  # golden's own uncertainty shares differ between subsets by up to 46 %
NOT_POSITIVE = checks.Rule(lambda x: x <= 0, "must not be above 0: it is a log-probability")
SHOWN = checks.Rule(lambda x: (x == 0) | (x == 1), "must be True or False")


class Share(NamedTuple):
    """A share, or the difference of two: value, confidence limits, and whether it may be shown.

    The limits are NaN where it may not. A share has no unit.
    """

    value: Array
    low: Array
    high: Array
    shown: Array


class Lost(NamedTuple):
    """Nats a response that the model's answers lack, their standard error, two-sided p-value."""

    value: Array
    se: Array
    p: Array


class FactorUncertainty(NamedTuple):
    """Share of the responses' surprisal that a factor takes away, with limits; has no unit."""

    value: Array
    low: Array
    high: Array


def _paired(
    a: Any, b: Any, names: tuple[str, str], where: Any, least: int = 2
) -> tuple[Array, Array, Array]:
    """Two lists [n] of numbers, 0 where they are not kept, and the mask [n]."""
    a, b = real(a, names[0]), real(b, names[1])
    if a.ndim != 1 or a.shape != b.shape:
        both = " and ".join(names)
        raise ValueError(f"{both} must both have shape [n], got {a.shape} and {b.shape}")
    mask = checks.mask_of(where, a.shape, least=least)
    if a.shape[0] < least:
        raise ValueError(f"{names[0]} of shape {a.shape}: an estimate needs {least} contexts")
    for values, name in zip((a, b), names, strict=True):
        checks.entries(values, name, used=mask, on_device=True)
    a, mask = floating(a), jnp.asarray(mask)
    return jnp.where(mask, a, 0), jnp.where(mask, floating(b, a.dtype), 0), mask


@functools.lru_cache(maxsize=64)
def _t_by_count(n: int, level: float) -> np.ndarray:
    """t(k − 1) of a two-sided interval for k = 0..n contexts; NaN below 2."""
    from scipy.special import stdtrit

    # A table, because JAX has no quantile of t and a traced mask counts only when it runs.
    return np.append([np.nan, np.nan], stdtrit(np.arange(1.0, n), 0.5 + level / 2))[: n + 1]


def limits_of_mean(values: Array, mask: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Two-sided t(n − 1) limits of the mean of values [n] over a mask [n]; NaN below 2 contexts."""
    mean, error = _mean_and_error(values, mask)
    half = _t_limit(mask, level, values.dtype) * error
    return mean - half, mean + half


def _t_limit(mask: Array, level: float, dtype: Any) -> Array:
    return jnp.asarray(_t_by_count(mask.shape[0], float(level)), dtype)[jnp.sum(mask)]


def _mean_and_error(values: Array, mask: Array) -> tuple[Array, Array]:
    n, mean = jnp.sum(mask, dtype=values.dtype), jnp.mean(values, where=mask)
    return mean, _root(jnp.sum(jnp.square(values - mean), where=mask) / (n * (n - 1)))


def _root(x: Array) -> Array:
    """√x, whose gradient at 0 is 0 instead of NaN."""
    return jnp.where(x == 0, 0, jnp.sqrt(jnp.where(x == 0, 1, x)))


@checks.arguments(level=checks.LEVEL)
def share(model: Array, golden: Array, level: float = 0.95, where: Array | None = None) -> Share:
    """mean δ of the model / mean δ of golden with Fieller's limits (Fieller, 1954), t(n − 1).

    Rows are pairs, so the covariance of both means counts. It may be shown where golden's mean is
    above 0 and g = t²·se²/mean² of it below 1. A stricter rule would select: coverage falls to .77.

    Args:
      model: [n] nats of `factor_gaps`; golden: [n] of the same contexts.
      level: of the two-sided interval, in (0, 1), not traced.
      where: [n] bool, contexts to keep.

    Returns:
      Value, also where it may not be shown (NaN if golden's mean is 0), low, high, shown.

    Raises:
      ValueError: shapes differ, fewer than 2 contexts, a kept value is not finite (pass the `where`
        of contexts that have a partner), or no such level.

    >>> found = share(jnp.array([1.0, 2.0, 2.0]), jnp.array([3.0, 4.0, 3.0]))
    >>> [round(float(x), 3) for x in found]
    [0.5, 0.087, 0.913, 1.0]
    """
    model, golden, mask = _paired(model, golden, ("model", "golden"), where)
    found, what = _fieller(model, golden, mask, _t_limit(mask, level, model.dtype)), "share of δ"
    checks.result([jnp.mean(x, where=mask) for x in (model, golden)], what)
    checks.result(found.value, what, ~jnp.isnan(found.value))
    checks.result((found.low, found.high), what, found.shown)
    return found


@jax.jit
def _fieller(model: Array, golden: Array, mask: Array, t: Array) -> Share:
    n = jnp.sum(mask, dtype=model.dtype)
    over, under = jnp.mean(model, where=mask), jnp.mean(golden, where=mask)
    base = jnp.where(under == 0, 1, under)
    ratio = over / base
    # (m − ρ g)² = t² var(m − ρ g) in ρ − m/g: no difference of large squares is left.
    spread = jnp.where(mask, golden - under, 0) / base
    rest = jnp.where(mask, model - over, 0) / base - ratio * spread
    unit = jnp.square(t) / (n * (n - 1))
    g, tilt = unit * jnp.sum(jnp.square(spread)), unit * jnp.sum(rest * spread)
    may = (under > 0) & (g < 1)
    room = jnp.where(may, 1 - g, 1)
    root = _root(jnp.square(tilt) + room * unit * jnp.sum(jnp.square(rest)))
    limits = (jnp.where(may, ratio + (sign * root - tilt) / room, jnp.nan) for sign in (-1, 1))
    return Share(jnp.where(under == 0, jnp.nan, ratio), *limits, may)


def lost(model: Array, golden: Array, where: Array | None = None) -> Lost:
    """mean δ of golden minus that of the model, with the paired t-test of its being 0.

    Correct p over all factors of a subset with `holm`, also those whose share is not shown.
    Arguments and errors as in `share`. Without any spread p is 1 for a value of 0, and else 0.

    >>> [round(float(x), 4) for x in lost(jnp.array([1.0, 2.0, 2.0]), jnp.array([3.0, 4.0, 3.0]))]
    [1.6667, 0.3333, 0.0377]
    """
    model, golden, mask = _paired(model, golden, ("model", "golden"), where)
    return checks.result(_paired_t(golden - model, mask), "lost of model and golden")


@jax.jit
def _paired_t(differences: Array, mask: Array) -> Lost:
    value, error = _mean_and_error(differences, mask)
    freedom = jnp.sum(mask, dtype=value.dtype) - 1
    square = jnp.square(value / jnp.where(error == 0, 1, error))
    betainc, half = jax.scipy.special.betainc, jnp.full_like(freedom, 0.5)
    beyond = betainc(freedom / 2, half, freedom / (freedom + square))
    within = betainc(half, freedom / 2, square / (freedom + square))
    # Near t = 0 the first has lost the digits of t² in float32, far from it the second those of p.
    p = jnp.where(square < 1, 1 - within, beyond)
    return Lost(value, error, jnp.where(error == 0, (value == 0).astype(p.dtype), p))


def share_change(home: Share, shifted: Share) -> Share:
    """share(ID) − share(OOD) with MOVER's limits of two intervals (Zou and Donner, 2008).

    With shares s, limits l and h: L = d − √((s₁ − l₁)² + (h₂ − s₂)²), and
    U = d + √((h₁ − s₁)² + (s₂ − l₂)²). It may be shown where both shares may.

    Args:
      home: of `share`, in distribution; shifted: out of it, of other contexts. Fields of one shape.

    Raises:
      ValueError: no such records, or a number that is shown is not finite.

    >>> change = share_change(Share(0.9, 0.5, 1.2, True), Share(0.2, 0.0, 0.5, True))
    >>> [round(float(x), 3) for x in change]
    [0.7, 0.2, 1.061, 1.0]
    """
    (s1, l1, h1, may1), (s2, l2, h2, may2) = _records(Share, home=home, shifted=shifted)
    may, difference = may1.astype(bool) & may2.astype(bool), s1 - s2
    down, up = jnp.hypot(s1 - l1, h2 - s2), jnp.hypot(h1 - s1, s2 - l2)
    low, high = (jnp.where(may, x, jnp.nan) for x in (difference - down, difference + up))
    checks.result((difference, low, high), "share_change of home and shifted", may)
    return Share(difference, low, high, may)


def _records(kind: type, **records: Any) -> list[list[Array]]:
    """Fields of two records of a kind, all of one shape, and finite where they are shown."""
    found = []
    for name, record in records.items():
        if not isinstance(record, kind):
            raise ValueError(f"{name} must be a {kind.__name__}, got {shown(record)}")
        fields = [real(x, f"{name}.{f}") for f, x in zip(kind._fields, record, strict=True)]
        found.append(fields)
        if any(x.shape != found[0][0].shape for x in fields):
            raise ValueError(
                f"{name} must have fields of one shape, got {[x.shape for x in fields]}"
            )
        used = None
        if kind is Share:
            checks.entries(record.shown, f"{name}.shown", SHOWN)
            used = fields[-1].astype(bool)
        for field, x in zip(kind._fields, fields, strict=True):
            checks.entries(x, f"{name}.{field}", used=used, on_device=True)
    dtype = floating(found[0][0]).dtype
    return [[floating(x, dtype) for x in fields] for fields in found]


@checks.arguments(level=checks.LEVEL)
def factor_uncertainty(
    gaps: Array, all_swapped: Array, level: float = 0.95, where: Array | None = None
) -> FactorUncertainty:
    """u = Σ_i δ_i / Σ_i −log q(y_i | x_i with all factors swapped), which needs no golden answer.

    The limits are the delete-one jackknife's, with t(n − 1).

    Args:
      gaps: [n] nats of `factor_gaps`.
      all_swapped: [n] log q under other contexts, the mean where there are several, nats.
      level: of the interval, in (0, 1), not traced.
      where: [n] bool, contexts to keep.

    Raises:
      ValueError: shapes differ, fewer than 3 contexts, a kept value is not finite, a log q is above
        0 or all but one are 0, or no such level.

    >>> found = factor_uncertainty(jnp.array([1.0, 2.0, 3.0]), jnp.array([-4.0, -4.0, -4.0]))
    >>> [round(float(x), 3) for x in found]
    [0.5, -0.121, 1.121]
    """
    names = ("gaps", "all_swapped")
    gaps, all_swapped, mask = _paired(gaps, all_swapped, names, where, least=MIN_GROUPS)
    checks.entries(all_swapped, "all_swapped", NOT_POSITIVE)
    if is_concrete(all_swapped) and np.sum(all_swapped < 0) < 2:
        raise ValueError("all_swapped must be below 0 in 2 contexts, or nothing is left of it")
    found = _uncertainty_share(gaps, -all_swapped, mask, _t_limit(mask, level, gaps.dtype))
    return checks.result(found, "factor_uncertainty of gaps and all_swapped")


@jax.jit
def _uncertainty_share(gaps: Array, surprisal: Array, mask: Array, t: Array) -> FactorUncertainty:
    total = jnp.sum(surprisal)
    value = jnp.sum(gaps) / total
    # What deleting a context changes, in a form without cancellation.
    changes = (value * surprisal - gaps) / (total - surprisal)
    half = t * replicate_error(changes, mask)[0]
    return FactorUncertainty(value, value - half, value + half)


def has_collapsed(home: FactorUncertainty, shifted: FactorUncertainty) -> Array:
    """Whether u(OOD) is shown to be below .3 u(ID), of records of `factor_uncertainty`.

    That is, u(ID) is above 0 by its lower limit, and the upper limit of u(OOD) − .3 u(ID) below 0
    (MOVER: Zou and Donner, 2008). No ratio is taken. Golden itself drops by up to 46 % between
    subsets, so that smaller drops tell nothing.

    Raises:
      ValueError: no such records, or a number that is not finite.

    >>> bool(has_collapsed(FactorUncertainty(0.5, 0.4, 0.6), FactorUncertainty(0.0, -0.05, 0.05)))
    True
    """
    (u1, l1, _), (u2, _, h2) = _records(FactorUncertainty, home=home, shifted=shifted)
    upper = u2 - COLLAPSED * u1 + jnp.hypot(h2 - u2, COLLAPSED * (u1 - l1))
    return (l1 > 0) & (checks.result(upper, "has_collapsed of home and shifted") < 0)

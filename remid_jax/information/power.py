"""How large a difference a number of samples can show, and how many samples a difference needs.

Two-sided Student tests with normal estimates: with noncentrality δ = |difference| / standard error,
power = P(|T| > t(f; 1 − level/2)), T ~ noncentral t(f, δ).
"""

import bisect
import functools
import math
from typing import Any

import numpy as np

from remid_jax.information import checks

QUANTILES = 4_000  # of the estimated standard error: power to 1e-4
MOST = 10**9  # samples, beyond which none are counted
MOST_FREEDOM = 1e15  # beyond which the quantiles of χ² lose their digits


@functools.lru_cache(maxsize=64)
def _scales(freedom: float) -> np.ndarray:
    """Midpoint quantiles of sqrt(χ²(f) / f), the estimated over the true standard error."""
    from scipy.special import gammaincinv

    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.sqrt(2 * gammaincinv(freedom / 2, middle) / freedom)


def _power(noncentrality: float, freedom: float, level: float) -> float:
    """E_s[Φ(δ − t s) + Φ(−δ − t s)]; SciPy's noncentral t gives NaN for some large δ."""
    from scipy.special import ndtr, stdtrit

    limit = float(stdtrit(freedom, 1 - level / 2)) * _scales(freedom)
    return float(np.mean(ndtr(noncentrality - limit) + ndtr(-noncentrality - limit)))


def _error_and_freedom(
    sd_in: float, sd_out: float, n: float, correlation: float | None
) -> tuple[float, float]:
    # A power of 2 changes no digit, and keeps fourth powers of small deviations above 0.
    unit = math.ldexp(1.0, math.frexp(float(max(sd_in, sd_out)))[1])
    sd_in, sd_out = sd_in / unit, sd_out / unit
    a, b = sd_in**2, sd_out**2
    if a + b == 0:
        raise ValueError("sd_in and sd_out must not both be 0")
    if correlation is None:
        return math.sqrt((a + b) / n) * unit, (n - 1) * (a + b) ** 2 / (a**2 + b**2)
    error = math.sqrt(max(a + b - 2 * correlation * sd_in * sd_out, 0) / n) * unit
    if error == 0:
        raise ValueError(f"correlation {correlation} leaves a paired difference without any spread")
    return error, n - 1


def _level(value: Any, name: str) -> Any:
    checks.LEVEL(value, name)
    if 1 - value / 2 == 1:
        raise ValueError(f"{name} holds {value}, but must be above 1e-15: its limit is infinite")
    return value


def _correlation(value: Any, name: str) -> Any:
    rule = checks.Rule(lambda r: (r > -1) & (r < 1), "must lie between -1 and 1")
    return None if value is None else rule(value, name)


SPREADS = {
    "difference": checks.FINITE, "sd_in": checks.NOT_NEGATIVE, "sd_out": checks.NOT_NEGATIVE,
    "level": _level, "correlation": _correlation,
}  # fmt: skip


@checks.arguments(
    **SPREADS, n=checks.Rule(lambda k: (k >= 2) & (k <= MOST_FREEDOM), "must be from 2 to 1e15")
)
def power(
    difference: float,
    sd_in: float,
    sd_out: float,
    n: int,
    level: float = 0.05,
    correlation: float | None = None,
) -> float:
    """Probability that a true R-EMID is found different from 0.

    Args:
      difference: true R-EMID in nats.
      sd_in: s.d. of one context's share in the R-EMI in-distribution, in nats: the standard error
        times √n; sd_out: out-of-distribution.
      n: contexts per subset, at least 2.
      level: of the two-sided test.
      correlation: of the shares of a sample and of its counterpart, where subsets are paired; None
        for independent subsets (Welch's test).

    Raises:
      ValueError: a value out of range.

    >>> round(power(difference=5.0, sd_in=10.0, sd_out=10.0, n=64), 3)
    0.801
    """
    error, freedom = _error_and_freedom(sd_in, sd_out, n, correlation)
    return _power(abs(difference) / error, freedom, level)


@checks.arguments(**SPREADS, power=checks.LEVEL)
def samples_needed(
    difference: float,
    sd_in: float,
    sd_out: float,
    power: float = 0.8,
    level: float = 0.05,
    correlation: float | None = None,
) -> int:
    """Smallest number of contexts per subset that shows a true R-EMID with a given power.

    Args:
      difference: true R-EMID in nats, not 0.
      power: wanted, in (level, 1); other arguments as in `power`.

    Raises:
      ValueError: a value out of range, or more than 10⁹ contexts.

    >>> samples_needed(difference=5.0, sd_in=10.0, sd_out=10.0)
    64
    """
    _check_power(power, level)
    checks.Rule(lambda d: d != 0, "must not be 0")(difference, "difference")

    def enough(n: int) -> bool:
        error, freedom = _error_and_freedom(sd_in, sd_out, n, correlation)
        return _power(abs(difference) / error, freedom, level) >= power

    high = 2
    while not enough(high):
        high *= 2
        if high > MOST:
            raise ValueError(f"a difference of {difference} nats needs more than {MOST} contexts")
    # The smallest n above half of it that is enough.
    return high // 2 + 1 + bisect.bisect_left(range(high // 2 + 1, high), True, key=enough)


@checks.arguments(
    standard_error=checks.NOT_NEGATIVE, power=checks.LEVEL, level=_level,
    freedom=checks.Rule(lambda f: (f >= 1) & (f <= MOST_FREEDOM), "must be from 1 to 1e15"),
)  # fmt: skip
def detectable(
    standard_error: float, freedom: float, power: float = 0.8, level: float = 0.05
) -> float:
    """Smallest true |difference| that a test with this standard error shows with a given power.

    Half of it needs about 4 times the samples, as the error falls with √n.

    Args:
      standard_error: of the estimated difference, in nats, as the result.
      freedom: its degrees of freedom.
      power: wanted, in (level, 1).
      level: of the two-sided test.

    Raises:
      ValueError: a value out of range.

    >>> round(detectable(standard_error=1.0, freedom=1e6), 3)
    2.802
    """
    _check_power(power, level)
    low, high = 0.0, 1.0
    while _power(high, freedom, level) < power:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, freedom, level) >= power else (middle, high)
    return high * standard_error


def _check_power(power: float, level: float) -> None:
    if not 0 < level < power < 1:
        raise ValueError(f"0 < level < power < 1 must hold, got level {level} and power {power}")

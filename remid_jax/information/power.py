"""How large a difference a number of samples can show, and how many samples a difference needs.

Two-sided Student tests with normal estimates: with noncentrality δ = |difference| / standard error,
power = P(|T| > t(f; 1 − level/2)), T ~ noncentral t(f, δ).
"""

import functools
import math

import numpy as np

from remid_jax.information.checking import check_level, check_number

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
    if correlation is None:
        return math.sqrt((a + b) / n) * unit, (n - 1) * (a + b) ** 2 / (a**2 + b**2)
    return math.sqrt(max(a + b - 2 * correlation * sd_in * sd_out, 0) / n) * unit, n - 1


def _check(
    difference: float, sd_in: float, sd_out: float, level: float, correlation: float | None
) -> None:
    check_number(difference, "difference")
    for name, sd in (("sd_in", sd_in), ("sd_out", sd_out)):
        check_number(sd, name, lambda s: s >= 0, "must not be negative")
    if sd_in + sd_out == 0:
        raise ValueError("sd_in and sd_out must not both be 0")
    _check_test_level(level)
    if correlation is not None:
        right = lambda r: (r > -1) & (r < 1)  # noqa: E731
        check_number(correlation, "correlation", right, "must lie between -1 and 1")


def _check_test_level(level: float) -> None:
    check_level(level)
    if 1 - level / 2 == 1:
        raise ValueError(f"level holds {level}, but must be above 1e-15: its limit is infinite")


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
      correlation: of the shares of a sample and of its anchor, where the subset is paired with its
        anchors; None for independent subsets (Welch's test).

    Returns:
      The power in (0, 1).

    Raises:
      ValueError: a value out of range.

    >>> round(power(difference=5.0, sd_in=10.0, sd_out=10.0, n=64), 3)
    0.801
    """
    _check(difference, sd_in, sd_out, level, correlation)
    check_number(n, "n", lambda k: (k >= 2) & (k <= MOST_FREEDOM), "must be from 2 to 1e15")
    error, freedom = _error_and_freedom(sd_in, sd_out, n, correlation)
    if error == 0:
        raise ValueError(f"correlation {correlation} leaves a paired difference without any spread")
    return _power(abs(difference) / error, freedom, level)


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
    _check(difference, sd_in, sd_out, level, correlation)
    _check_power(power, level)
    check_number(difference, "difference", lambda d: d != 0, "must not be 0")
    if _error_and_freedom(sd_in, sd_out, 2, correlation)[0] == 0:
        raise ValueError(f"correlation {correlation} leaves a paired difference without any spread")

    def enough(n: int) -> bool:
        error, freedom = _error_and_freedom(sd_in, sd_out, n, correlation)
        return _power(abs(difference) / error, freedom, level) >= power

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST:
            raise ValueError(f"a difference of {difference} nats needs more than {MOST} contexts")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def detectable(
    standard_error: float, freedom: float, power: float = 0.8, level: float = 0.05
) -> float:
    """Smallest true |difference| that a test with this standard error shows with a given power.

    Half of it needs about 4 times the samples, as the error falls with √n.

    Args:
      standard_error: of the estimated difference, in nats.
      freedom: its degrees of freedom.
      power: wanted, in (level, 1).
      level: of the two-sided test.

    Returns:
      Nats, in the unit of the standard error.

    Raises:
      ValueError: a value out of range.

    >>> round(detectable(standard_error=1.0, freedom=1e6), 3)
    2.802
    """
    _check_test_level(level)
    _check_power(power, level)
    check_number(standard_error, "standard_error", lambda s: s >= 0, "must not be negative")
    right = lambda f: (f >= 1) & (f <= MOST_FREEDOM)  # noqa: E731
    check_number(freedom, "freedom", right, "must be from 1 to 1e15")
    low, high = 0.0, 1.0
    while _power(high, freedom, level) < power:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, freedom, level) >= power else (middle, high)
    return high * standard_error


def _check_power(power: float, level: float) -> None:
    check_level(power, "power")
    if not 0 < level < power < 1:
        raise ValueError(f"0 < level < power < 1 must hold, got level {level} and power {power}")

"""Power against simulated tests, and its inverses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import nctdtr, stdtrit

from remid_jax.information.power import detectable, power, samples_needed
from remid_jax.information.uncertainty import combined_error, t_test


def rejected(difference, sd_in, sd_out, n, correlation, draws=3000):
    """Share of simulated data sets in which the test of the diagnosis rejects."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(draws, n))
    r = correlation or 0
    y = r * x + np.sqrt(1 - r**2) * rng.normal(size=(draws, n))
    x, y = difference + sd_in * x, sd_out * y
    hits = 0
    for a, b in zip(x, y, strict=True):
        if correlation is None:
            errors = a.std(ddof=1) / np.sqrt(n), b.std(ddof=1) / np.sqrt(n)
            error, freedom = combined_error(errors[0], n - 1, errors[1], n - 1)
        else:
            error, freedom = (a - b).std(ddof=1) / np.sqrt(n), n - 1
        hits += t_test(a.mean() - b.mean(), error, freedom) < 0.05
    return hits / draws


@pytest.mark.parametrize("correlation", [None, 0.7, -0.3])
@pytest.mark.parametrize("n", [6, 16])
def test_power_is_the_share_of_rejections(correlation, n):
    predicted = power(6.0, 5.0, 8.0, n, correlation=correlation)
    assert 0.2 < predicted < 0.99
    assert rejected(6.0, 5.0, 8.0, n, correlation) == pytest.approx(predicted, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 60), st.integers(2, 400), st.floats(0.01, 0.3))
def test_power_is_the_tail_of_the_noncentral_t(noncentrality, n, level):
    value = power(noncentrality, np.sqrt(n), 0.0, n, level=level, correlation=0.0)
    limit = stdtrit(n - 1, 1 - level / 2)
    tails = 1 - nctdtr(n - 1, noncentrality, limit), nctdtr(n - 1, noncentrality, -limit)
    if np.isfinite(tails).all():
        assert value == pytest.approx(sum(tails), abs=1e-4)
    assert 0 <= value <= 1 + 1e-12


def test_no_difference_is_seen_as_often_as_the_level_says():
    assert power(0.0, 1.0, 2.0, 9, level=0.1) == pytest.approx(0.1, abs=1e-4)
    assert power(-3.0, 1.0, 2.0, 9) == pytest.approx(power(3.0, 1.0, 2.0, 9))


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.2, 9), st.floats(0.1, 9), st.floats(0.1, 9), st.floats(0.3, 0.95),
    st.one_of(st.none(), st.floats(-0.9, 0.9)),
)  # fmt: skip
def test_samples_needed_is_the_smallest_that_suffices(difference, a, b, wanted, correlation):
    n = samples_needed(difference, a, b, wanted, correlation=correlation)
    assert power(difference, a, b, n, correlation=correlation) >= wanted
    assert n == 2 or power(difference, a, b, n - 1, correlation=correlation) < wanted


def test_half_the_difference_needs_four_times_the_samples():
    assert samples_needed(1.0, 10.0, 10.0) / samples_needed(2.0, 10.0, 10.0) == pytest.approx(
        4, rel=0.01
    )
    n = samples_needed(2.0, 6.0, 8.0, correlation=0.5)
    assert n < samples_needed(2.0, 6.0, 8.0)


@pytest.mark.parametrize("n", [4, 16, 200])
def test_detectable_has_the_power_it_is_asked_for(n):
    error = np.sqrt(5**2 / n)
    smallest = detectable(error, n - 1, power=0.7, level=0.1)
    reached = power(smallest, 5.0, 0.0, n, level=0.1, correlation=0.0)
    assert reached == pytest.approx(0.7, abs=1e-4)
    assert detectable(0.0, 7) == 0
    assert detectable(3 * error, n - 1) == pytest.approx(3 * detectable(error, n - 1))


def test_bad_input_is_refused():
    for bad in (
        lambda: power(1.0, 0.0, 0.0, 9),
        lambda: power(1.0, -1.0, 1.0, 9),
        lambda: power(1.0, 1.0, 1.0, 1),
        lambda: power(float("nan"), 1.0, 1.0, 9),
        lambda: power(1.0, 1.0, 1.0, 9, level=0.0),
        lambda: power(1.0, 1.0, 1.0, 9, correlation=1.0),
        lambda: samples_needed(0.0, 1.0, 1.0),
        lambda: samples_needed(1.0, 1.0, 1.0, power=0.01),
        lambda: detectable(-1.0, 9),
        lambda: detectable(1.0, 9, power=1.0),
    ):
        with pytest.raises(ValueError):
            bad()

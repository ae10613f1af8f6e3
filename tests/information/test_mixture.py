"""The log of a mean of probabilities."""

import math

import numpy as np
import pytest

from remid_jax.information.mixture import effective_components, log_mixture


def test_a_mixture_is_the_log_of_a_weighted_mean():
    rng = np.random.default_rng(0)
    q, weights = rng.uniform(size=(3, 4, 2)), np.array([0.5, 0.3, 0.2])
    expected = np.log(np.tensordot(weights, q, 1))
    np.testing.assert_allclose(log_mixture(np.log(q), weights), expected, rtol=1e-14)


@pytest.mark.parametrize("offset", [-1e5, -3e3, 0.0, 3e3])
def test_sizes_of_log_q_do_not_matter(offset):
    log_q, weights = np.array([-3.0, -1.0, -2.5]), np.array([0.2, 0.3, 0.5])
    exact = math.log(sum(w * math.exp(x) for w, x in zip(weights, log_q, strict=True)))
    assert log_mixture(log_q + offset, weights) == pytest.approx(exact + offset, rel=1e-13)
    expected = sum(map(math.exp, log_q)) ** 2 / sum(math.exp(2 * x) for x in log_q)
    found = effective_components(log_q + offset, np.ones(3))
    assert found == pytest.approx(expected, rel=1e-10)


def test_one_component_is_itself_bit_by_bit():
    values = np.random.default_rng(1).normal(-100, 30, size=(1, 1000))
    np.testing.assert_array_equal(log_mixture(values, np.ones(1)), values[0])


def test_unknown_values_stay_unknown():
    log_q = np.array([[-1.0, np.nan], [-2.0, np.nan]])
    found = log_mixture(log_q, np.full(2, 0.5))
    np.testing.assert_array_equal(np.isnan(found), [False, True])
    assert np.isnan(effective_components(log_q, np.ones(2))[1])


def test_effective_components_lie_between_one_and_all():
    equal, far = np.full(4, -700.0), np.array([0.0, -900.0, -900.0, -900.0])
    assert effective_components(equal, np.ones(4)) == 4
    assert effective_components(far, np.ones(4)) == 1
    # A thought that was drawn three times is three draws.
    merged = effective_components(np.array([-5.0, -6.0]), np.array([3, 1]))
    apart = effective_components(np.array([-5.0, -5.0, -5.0, -6.0]), np.ones(4))
    assert merged == pytest.approx(apart, rel=1e-14)

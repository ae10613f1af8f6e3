"""The log of a mean of probabilities."""

import math

import numpy as np
import pytest

from remid_jax.information.mixture import (
    draw_entropy,
    effective_components,
    leave_one_out,
    log_mixture,
    mixture_tokens,
    thought_mixture,
)


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


@pytest.mark.parametrize("free", [0.0, 0.3])
def test_thoughts_and_the_prompt_without_one_are_weighed(free):
    rng = np.random.default_rng(2)
    q, plain = rng.uniform(size=(3, 5)), rng.uniform(size=5)
    found = thought_mixture(np.log(q), np.log(plain), free, np.array([2, 1, 1]))
    mean = (2 * q[0] + q[1] + q[2]) / 4
    np.testing.assert_allclose(found, np.log((1 - free) * mean + free * plain), rtol=1e-13)
    assert np.all(found >= np.log(plain) + (np.log(free) if free else -np.inf))


@pytest.mark.parametrize("weight", [-0.1, 1.0, math.nan])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got"):
        thought_mixture(np.zeros((2, 3)), np.zeros(3), weight)
    with pytest.raises(ValueError, match="needs plain"):
        thought_mixture(np.zeros((2, 3)), None, 0.1)


def test_each_thought_is_left_out_of_the_others_mixture():
    q, plain = np.array([[0.5, 0.1], [0.2, 0.1], [0.3, 0.7]]), np.array([0.4, 0.01])
    found = np.exp(leave_one_out(np.log(q), np.log(plain), 0.1))
    for k in range(3):
        rest = [q[j] for j in range(3) if j != k]
        np.testing.assert_allclose(found[k], 0.9 * sum(rest) / 2 + 0.1 * plain, rtol=1e-13)


def test_tokens_of_a_mixture_are_those_of_whole_responses():
    own = np.log(np.array([[[0.5, 0.2, 1.0], [0.1, 0.9, 1.0]]]))  # [1, 2, 3], the last is none
    plain = np.log(np.array([[[0.3, 0.8, 1.0]]]))
    found = mixture_tokens(own, np.broadcast_to(plain, own.shape), 0.25)
    first = 0.75 * np.array([0.5, 0.1]) + 0.25 * 0.3
    both = 0.75 * np.array([0.1, 0.09]) + 0.25 * 0.24
    np.testing.assert_allclose(np.exp(found[0, :, 0]), first, rtol=1e-13)
    np.testing.assert_allclose(np.exp(found[0, :, 1]), both / first, rtol=1e-13)
    np.testing.assert_allclose(found[0, :, 2], 0, atol=1e-15)


def test_the_entropy_of_draws():
    assert draw_entropy(np.array([4])) == 0
    assert draw_entropy(np.ones(8)) == pytest.approx(math.log(8))
    assert draw_entropy([3, 1]) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))

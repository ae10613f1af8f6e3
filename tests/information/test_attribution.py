"""Shapley values against their definition, and verdicts that are withheld within noise."""

import itertools
import math

import jax
import numpy as np
import pytest

from remid_jax.information.attribution import attribute, contribution_table, shapley
from remid_jax.information.precision import double_precision


def by_orders(values):
    """The average over all orders in which the factors move from P to Q."""
    n = values.ndim
    shares = np.zeros(n)
    for order in itertools.permutations(range(n)):
        cell = [0] * n
        for z in order:
            before = values[tuple(cell)]
            cell[z] = 1
            shares[z] += before - values[tuple(cell)]
    return shares / math.factorial(n)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_shapley_is_the_average_over_orders_and_sums_to_emid(n):
    values = np.random.default_rng(n).normal(size=(2,) * n)
    with double_precision():
        found = shapley(values)
        np.testing.assert_allclose(found, by_orders(values), atol=1e-13)
        total = values[(0,) * n] - values[(1,) * n]
        assert found.sum() == pytest.approx(total, abs=1e-12)
        batch = jax.vmap(shapley)(np.stack([values, 2 * values]))
        np.testing.assert_allclose(batch[1], 2 * batch[0], atol=1e-12)


def only_user(size=1.0):
    values = np.zeros((2, 2, 2))
    values[1] = -size
    return values


def test_a_clear_factor_is_named_and_noise_is_not():
    clear = attribute(only_user(), np.full((2, 2, 2), 0.05), 50)
    assert clear.named == 0 and clear.method == "shapley"
    np.testing.assert_allclose(clear.values, [1, 0, 0], atol=1e-12)
    # Weights ±1/3, ±1/6, ±1/6, ±1/3: variance 10/18 of a cell's.
    np.testing.assert_allclose(clear.errors, 0.05 * np.sqrt(10 / 18), rtol=1e-12)
    assert (clear.low < clear.values).all() and (clear.high > clear.values).all()
    assert attribute(only_user(), np.full((2, 2, 2), 0.6), 50).named is None
    both = only_user() + np.swapaxes(only_user(), 0, 1)  # two factors alike
    assert attribute(both, np.full((2, 2, 2), 0.05), 50).named is None


def test_intervals_cover_and_noise_is_rarely_named():
    rng = np.random.default_rng(0)
    covered, named = 0, 0
    for _ in range(600):
        samples = rng.normal(size=(2, 2, 2, 12))
        found = attribute(
            samples.mean(-1), samples.std(-1, ddof=1) / np.sqrt(12), np.full((2, 2, 2), 11)
        )
        covered += bool(((found.low <= 0) & (found.high >= 0)).all())
        named += found.named is not None
    assert covered / 600 > 0.93 and named / 600 < 0.07


def test_missing_cells_fall_back_to_one_at_a_time_and_say_so():
    values = only_user()
    values[1, 1, 0] = np.nan
    found = attribute(values, np.full((2, 2, 2), 0.05), 50)
    assert found.method == "one at a time" and found.named == 0
    np.testing.assert_allclose(found.values, [1, 0, 0])
    uneven = np.full((2, 2, 2), 4.0)
    uneven[1, 1, 1] = np.nan  # of a cell that the fallback does not need
    again = attribute(values, np.full((2, 2, 2), 0.05), uneven)
    assert again.high[1] == pytest.approx(-again.low[1]) and again.high[1] > found.high[1]
    values[0, 1, 0] = np.nan
    with pytest.raises(ValueError, match=r"cell \(0, 1, 0\) is missing"):
        attribute(values, np.full((2, 2, 2), 0.05), 50)


def test_contributions_are_sorted_and_add_up():
    rows = contribution_table(("a", "b", "c"), np.array([1.0, -5.0, 2.5]), np.array([3, 4, 5]))
    assert [r["sample_ID"] for r in rows] == ["b", "a", "c"]
    assert [r["tokens"] for r in rows] == [4, 3, 5]
    assert sum(r["of_mean"] for r in rows) == pytest.approx(-0.5)
    with pytest.raises(ValueError, match="2 samples"):
        contribution_table(("a", "b"), np.zeros(3))


def test_bad_input():
    with pytest.raises(ValueError, match=r"shape \[2, ..., 2\], got \(2, 3\)"):
        shapley(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"cell values of shape \(2, 2\) holds nan at \(0, 1\)"):
        shapley(np.array([[0, np.nan], [1, 2]]))
    with pytest.raises(ValueError, match=r"errors of shape .* holds nan at \(0, 0, 0\)"):
        attribute(only_user(), np.full((2, 2, 2), np.nan), 9)
    with pytest.raises(ValueError, match="2 samples, lengths of shape"):
        contribution_table(("a", "b"), np.zeros(2), np.ones(3))

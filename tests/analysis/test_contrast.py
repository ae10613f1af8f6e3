"""Weighted sums of replicates, against the formulas of their errors."""

import numpy as np
import pytest
from made_up_subsets import jackknife_error

from remid_jax.analysis.contrast import Contrast, Replicates, contrast, largest, replicates
from remid_jax.information.uncertainty import combined_error, t_interval, t_test


def drawn(seed, level=0.0, n=7):
    without = np.random.default_rng(seed).normal(level, 1, n)
    return Replicates(without.mean(), without)


def test_a_family_is_deleted_from_together_and_families_are_independent():
    a, b, c = (drawn(seed, 5.0) for seed in range(3))
    found = contrast([(1.0, a), (-0.5, b)], [(-0.5, c)])
    joint = jackknife_error(a.without - b.without / 2)
    alone = jackknife_error(c.without) / 2
    assert found.value == pytest.approx(a.value - b.value / 2 - c.value / 2)
    assert found[1:] == pytest.approx(combined_error(joint, 6, alone, 6), rel=1e-6)
    assert contrast([(1.0, a), (-1.0, a)])[:2] == (0, 0)


def test_small_differences_of_large_values_keep_their_digits():
    small = drawn(0)
    large = Replicates(1e6 + small.value, 1e6 + small.without)
    error = contrast([(1.0, small)]).se
    assert contrast([(1 / 3, large)]).se == pytest.approx(error / 3, rel=1e-6)


def test_the_record_holds_interval_test_and_power():
    record = Contrast(2.0, 1.0, 9).record(0.95, ("x", "x_se", "x_low", "x_high"))
    assert (record["x_low"], record["x_high"]) == t_interval(2.0, 1.0, 9, 0.95)
    assert record["p_value"] == t_test(2.0, 1.0, 9) and record["within_noise"]
    assert (record["x"], record["x_se"]) == (2.0, 1.0) and record["detectable"] > 2
    assert Contrast(2.0, 1.0, 9).record(0.1)["detectable"] is None
    assert set(Contrast(2.0, np.nan, 0).record(0.95).values()) == {None}


def test_too_few_groups_leave_no_value():
    groups = np.array([0, 0, 1, -1])
    found = replicates(lambda mask: np.zeros(2), groups, (2,))
    assert found.value.shape == (2,) and np.isnan(found.value).all()
    missing = contrast([(1.0, drawn(0))], [(1.0, found.column(0))])
    assert not missing.known and np.isnan(missing.se)


def test_the_largest_and_what_it_is_not_distinguished_from():
    gap = lambda k, m: Contrast(0.0, 1.0, 30)  # noqa: E731
    assert largest([0.0, 9.0, 8.5], gap, 0.95) == (1, [2])
    assert largest([3.0], gap, 0.95) == (0, [])

"""Flips, ties, agreement and intervals of judges, against small cases by hand and loops."""

import itertools

import numpy as np
import pytest

from remid_jax.information.judgments import (
    correlation,
    effective_groups,
    known_mean,
    krippendorff_alpha,
    retest_variance,
    right,
    settle,
    wilson_interval,
)

NAN = np.nan


@pytest.mark.parametrize(
    "orders, outcome, flip",
    [
        ((1, 1), 1, 0),
        ((-1, -1), -1, 0),
        ((0, 0), 0, 0),
        ((1, -1), 0, 1),
        ((-1, 1), 0, 1),
        ((1, 0), 0, 1),
        ((0, -1), 0, 1),
        ((1, NAN), NAN, NAN),
        ((NAN, NAN), NAN, NAN),
    ],
)
def test_a_flip_is_a_tie(orders, outcome, flip):
    outcomes, flips = settle(np.array(orders, float)[None, :, None])
    np.testing.assert_array_equal((outcomes[0, 0], flips[0, 0]), (outcome, flip))


def test_a_tie_is_not_right_and_repeated_calls_share():
    assert right(np.array([[1.0], [0.0], [-1.0], [NAN]]))[:3].tolist() == [1, 0, 0]
    assert right(np.array([[1.0, -1.0, NAN]])).tolist() == [0.5]
    scores = np.array([[7.0], [5.0], [5.0]]), np.array([[6.0], [5.0], [9.0]])
    assert right(*scores).tolist() == [1, 0, 0]
    assert np.isnan(known_mean(np.full((1, 2), NAN))).all()


def test_wilson_interval_holds_the_shares_that_a_score_test_keeps():
    """Its ends are the shares p with |x/n − p| = z sqrt(p (1 − p) / n)."""
    for share, n in ((0.0, 3), (0.5, 8), (0.75, 40), (1.0, 6)):
        low, high = wilson_interval(share, n)
        assert 0 <= low <= share <= high <= 1
        for end in {low, high} - {0.0, 1.0}:
            assert abs(share - end) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / n))
    assert wilson_interval(1.0, 6)[0] < 0.75 < wilson_interval(1.0, 30)[0]
    with pytest.raises(ValueError, match="n"):
        wilson_interval(0.5, 0)


def test_units_of_one_group_count_once():
    assert effective_groups(np.repeat(np.arange(5), 3)) == pytest.approx(5)
    assert effective_groups(np.zeros(9, int)) == 1


def alpha_by_loops(values):
    """1 − D_o / D_e as Krippendorff writes it, pair by pair."""
    units = [[v for v in u if np.isfinite(v)] for u in values.T]
    units = [u for u in units if len(u) > 1]
    every = [v for u in units for v in u]
    observed = sum(
        sum((a - b) ** 2 for a, b in itertools.permutations(u, 2)) / (len(u) - 1) for u in units
    ) / len(every)
    pairs = list(itertools.permutations(every, 2))
    return 1 - observed / (sum((a - b) ** 2 for a, b in pairs) / len(pairs))


def test_alpha_of_small_cases():
    # Two judges, units (1, 1), (0, 0), (1, 0): D_o = 1/3, D_e = 2 · 3 · 3 / (6 · 5) = .6
    assert krippendorff_alpha(np.array([[1.0, 0, 1], [1, 0, 0]])) == pytest.approx(
        1 - (1 / 3) / 0.6
    )
    assert krippendorff_alpha(np.array([[1.0, 0], [0, 1]])) == pytest.approx(-0.5)
    # Krippendorff's (2011) example of four observers, at interval level .849.
    example = np.array([
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ])  # fmt: skip
    assert krippendorff_alpha(example) == pytest.approx(0.849, abs=5e-4)
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, 11, (3, 20)).astype(float)
    drawn[rng.random(drawn.shape) < 0.3] = NAN
    assert krippendorff_alpha(drawn) == pytest.approx(alpha_by_loops(drawn))


def test_alpha_of_what_cannot_be_told():
    assert np.isnan(krippendorff_alpha(np.full((2, 3), 1.0)))
    assert np.isnan(krippendorff_alpha(np.array([[1.0, NAN], [NAN, 2.0]])))
    assert np.isnan(krippendorff_alpha(np.zeros((2, 0))))


def test_retest_variance_is_that_of_the_calls():
    calls = np.array([[[7.0, 9.0, 8.0], [7.0, 7.0, NAN]]])
    np.testing.assert_allclose(retest_variance(calls), [[1.0, 0.0]])
    assert np.isnan(retest_variance(np.array([[5.0, NAN]]))).all()


def test_correlations_with_known_answers():
    a = np.array([1.0, 2, 3, 4])
    assert correlation(a, 3 - 2 * a) == pytest.approx(-1)
    assert correlation(a, np.array([1.0, -1, -1, 1])) == pytest.approx(0)
    assert correlation(a, np.exp(a), ranks=True) == pytest.approx(1)
    assert correlation(a, np.array([1.0, 3, 2, 4]), ranks=True) == pytest.approx(0.8)
    assert np.isnan(correlation(a, np.ones(4)))

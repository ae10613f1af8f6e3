"""u and its collapse, on made-up scores."""

import dataclasses

import numpy as np
import pytest
from made_up_subsets import estimates_of, settings_of

from remid_jax.analysis.profile import profile_records
from remid_jax.information.pairs import Block, Subset, Swapped, negatives_for, with_reference_rows
from remid_jax.information.profile_shares import factor_uncertainty


def subset(tag, n, labels=None):
    block = Block(np.zeros((n, n)), np.zeros((n, n)), np.ones(n, int), np.ones(n, bool))
    none = dataclasses.replace(block, where=np.zeros(n, bool))
    return with_reference_rows(
        Subset(
            tag=tag, sample_ids=tuple(map(str, range(n))), pair_ids=(None,) * n,
            languages=(None,) * n, golden=none, rpms={"m": block}, labels=labels,
            negatives=negatives_for(n, settings_of(), labels),
        )
    )  # fmt: skip


def swaps(gaps, whole):
    """One factor, whose swap takes `gaps` from an own log q of -30."""
    n = len(gaps)
    zero = np.zeros(n)
    own = np.stack([zero - 30, zero], axis=-1)
    under = np.stack([-30 - gaps, zero], axis=-1)[:, None]
    return Swapped(
        {"user": np.roll(np.arange(n), -1)[:, None]}, {"user": np.ones(n)},
        {"m": own, "golden": own * np.nan}, {"m": {"user": under}, "golden": {"user": under}},
        {"m": np.tile([3, 1], (n, 1)), "golden": np.zeros((n, 2), int)},
        {"m": np.stack([whole, zero], axis=-1)},
    )  # fmt: skip


def records(home, away, labels=None):
    """Of `(gaps, whole)` in distribution and out of it."""
    subsets = [subset("home", len(home[0]), labels), subset("away", len(away[0]), labels)]
    found, flags = profile_records(
        estimates_of(subsets), {"home": swaps(*home), "away": swaps(*away)}
    )
    assert not flags
    by_place = {(r["rpm"], r["subset"]): r for r in found}
    assert set(by_place) == {("m", "home"), ("m", "away")}
    return by_place["m", "home"], by_place["m", "away"]


def drawn(rng, mean, n=10, noise=1.0):
    return rng.normal(mean, noise, n), rng.normal(-40, 3, n)


@pytest.mark.parametrize(("mean", "collapsed"), [(0.0, True), (8.0, False), (5.0, False)])
def test_only_a_collapse_is_told(mean, collapsed):
    """The rule of PROFILE.md: u below .3 of that in distribution, shown with its interval."""
    rng = np.random.default_rng(int(mean))
    told = [records(drawn(rng, 8.0), drawn(rng, mean))[1]["collapsed"] for _ in range(20)]
    assert told.count(collapsed) >= 19


def test_records_are_those_of_the_estimator():
    rng = np.random.default_rng(0)
    home, away = drawn(rng, 8.0), drawn(rng, 0.0)
    for record, given in zip(records(home, away), (home, away), strict=True):
        expected = factor_uncertainty(*given)
        assert [record[k] for k in ("u", "u_low", "u_high")] == pytest.approx(
            [float(x) for x in expected], rel=1e-5
        )
        assert record["info"] == pytest.approx(given[0].mean(), rel=1e-5)
        assert record["reason"] == "0 of 10 contexts have a golden response"


def test_nothing_to_lose_is_no_collapse():
    rng = np.random.default_rng(1)
    home, away = records(drawn(rng, 0.0), drawn(rng, 0.0))
    assert home["collapsed"] is None and away["collapsed"] is False


def test_clusters_are_the_units():
    rng = np.random.default_rng(2)
    gaps, whole = drawn(rng, 8.0, n=6)
    one, _ = records((gaps, whole), (gaps, whole))
    twice = np.tile(gaps, 2), np.tile(whole, 2)
    both, _ = records(twice, twice, labels=tuple(str(i % 6) for i in range(12)))
    for key in ("u", "u_low", "u_high"):
        assert both[key] == pytest.approx(one[key], rel=1e-4)


@pytest.mark.parametrize("whole", [np.zeros(5), np.array([-3.0, 0, 0, 0, 0]), np.full(5, np.nan)])
def test_without_surprisal_there_is_no_u(whole):
    """All words copied, or no other context of the language."""
    rng = np.random.default_rng(3)
    home, away = records(drawn(rng, 8.0), (rng.normal(0, 1, 5), whole))
    assert home["u"] is not None
    assert {away[key] for key in ("u", "u_low", "u_high", "collapsed")} == {None}
    assert away["info"] is not None

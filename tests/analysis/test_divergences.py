"""Two divergences between sets of feature vectors."""

import numpy as np
import pytest

from remid_jax.analysis.divergences import divergence_record


def draw(n, seed, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, 3)) + np.array([2, shift, 0])


def record_of(away, groups=None, paired=False, permutations=9):
    groups = groups or (np.arange(60), 60 + np.arange(len(away)))
    how = {"paired": paired, "permutations": permutations, "folds": 5, "seed": 0}
    return divergence_record(draw(60, 1), away, groups, **how)


def test_a_record_tells_a_shift_from_none():
    moved, still = (record_of(draw(n, 2, by), permutations=49) for n, by in ((50, 3.0), (60, 0.0)))
    assert moved["rjsd_p"] == 0.02 and moved["rjsd_corrected"] > 0.1
    assert moved["classifier_js"] > 0.3 > 0.1 > moved["classifier_js_error"]
    assert (moved["n"], moved["n_id"], moved["n_rjsd"]) == (50, 60, 50)
    assert abs(still["rjsd_corrected"]) < 0.03 and still["classifier_js"] < 0.1
    assert still["rjsd_corrected"] == still["rjsd"] - still["rjsd_floor"]


def test_pairs_and_groups_reach_the_divergences():
    away = draw(60, 3)
    free, pairs = (record_of(away, paired=paired) for paired in (False, True))
    assert free["rjsd"] == pairs["rjsd"] and free["rjsd_floor"] != pairs["rjsd_floor"]
    grouped = record_of(away, (np.arange(60) // 6, np.arange(60) // 6))
    assert grouped["classifier_js"] != free["classifier_js"]
    with pytest.raises(ValueError, match=r"b of shape \(5, 3\) holds nan"):
        record_of(np.full((5, 3), np.nan))

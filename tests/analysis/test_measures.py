"""Rows of random scores, against loops."""

import dataclasses
import json

import numpy as np
import pytest
from made_up_subsets import estimates_of, jackknife_error, row_of, rows_of, settings_of
from made_up_subsets import r_emi as r_emi_of
from made_up_subsets import subset as subset_of

from remid_jax.analysis.comparisons import compare_rpms
from remid_jax.analysis.rows import estimate_by_language
from remid_jax.information import pairs
from remid_jax.information.pairs import Block

N = 6


def subset(tag, seed, lift, paired, where=None):
    found = subset_of(tag, seed, lift, paired, where, n=N)
    return dataclasses.replace(found, languages=("de", "en") * (N // 2))


def without(k):
    return [i for i in range(N) if i != k]


@pytest.mark.parametrize("paired", [True, False])
def test_r_emid_and_its_error(paired):
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, paired)
    rows = rows_of([home, away])
    row = row_of(rows, "a", "german")
    everyone = list(range(N))
    difference = r_emi_of(home, "a", everyone) - r_emi_of(away, "a", everyone)
    assert row["r_emid"] == pytest.approx(difference, abs=1e-3)
    homes = [r_emi_of(home, "a", without(k)) for k in range(N)]
    aways = [r_emi_of(away, "a", without(k)) for k in range(N)]
    if paired:
        expected = jackknife_error(np.array(homes) - np.array(aways))
    else:
        expected = np.hypot(jackknife_error(homes), jackknife_error(aways))
    assert row["paired"] is paired
    assert row["r_emid_se"] == pytest.approx(expected, rel=1e-3)
    assert row["r_emi_se"] == pytest.approx(jackknife_error(aways), rel=1e-3)
    assert row["within_noise"] == (row["r_emid_low"] <= 0 <= row["r_emid_high"])
    assert row["r_emid_low"] < row["r_emid"] < row["r_emid_high"]


def test_by_language_uses_those_samples_and_their_counterparts_alone():
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, True)
    rows = estimate_by_language(estimates_of([home, away]))
    assert [(r["rpm"], r["language"], r["n"]) for r in rows] == [
        (p, x, 3) for p in ("a", "b") for x in ("de", "en")
    ]
    german = [0, 2, 4]
    assert rows[0]["r_emi"] == pytest.approx(r_emi_of(away, "a", german), abs=1e-3)
    drop = r_emi_of(home, "a", german) - r_emi_of(away, "a", german)
    assert rows[0]["r_emid"] == pytest.approx(drop, abs=1e-3)
    unpaired = subset("german", 10, 5.0, False)
    assert estimate_by_language(estimates_of([home, unpaired])) == []


def test_excluded_contexts_leave_both_sides():
    where = np.array([True, True, False, True, True, True])
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, True, where)
    rows = rows_of([home, away])
    row = row_of(rows, "a", "german")
    assert row["n"] == 5
    assert row["r_emi"] == pytest.approx(r_emi_of(away, "a", without(2)), abs=1e-3)
    assert row["r_emid"] == pytest.approx(r_emi_of(home, "a", without(2)) - row["r_emi"], abs=1e-3)
    assert row["n_paired"] == 5


def test_shuffled_golden_is_the_golden_matrix_with_moved_columns():
    s = pairs.with_reference_rows(subset("IDTest", 0, 15.0, False))
    moved = s.rpms[pairs.SHUFFLED]
    for i in range(N):
        for j in range(N):
            assert moved.scores[i, j] == s.golden.scores[i, (j + 1) % N]
        assert moved.lengths[i] == s.golden.lengths[(i + 1) % N]


def test_too_few_usable_responses_leave_a_row_without_values():
    where = np.array([True, True, False, False, False, False])
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, True, where)
    rows = rows_of([home, away])
    empty, full = (row_of(rows, rpm, "german") for rpm in "ab")
    assert empty["n"] == 2 and empty["r_emi"] is None and empty["r_emid"] is None
    assert full["r_emid"] is not None
    (missing,) = compare_rpms(estimates_of([away]))
    assert missing["difference"] is None and missing["n"] == 2 and missing["p_holm"] is None


@pytest.mark.parametrize("kind", ["all", "cyclic", "random"])
def test_wanted_pairs_suffice_for_every_row(kind):
    how = {"negatives": kind, "num_negatives": 3, "emi_shifts": 2}
    with_r, without_r = pairs.negatives_for(N, settings_of(**how))
    whole = subset("IDTest", 0, 15.0, False)

    def cut(b: Block, golden: bool) -> Block:
        return Block(
            np.where(with_r.wanted(golden), b.scores, np.nan),
            np.where(without_r.wanted(golden), b.plain, np.nan),
            b.lengths, b.where,
        )  # fmt: skip

    s = pairs.Subset(
        "IDTest", whole.sample_ids, whole.pair_ids, whole.languages, cut(whole.golden, True),
        {k: cut(b, False) for k, b in whole.rpms.items()}, (with_r, without_r),
    )  # fmt: skip
    rows = rows_of([pairs.with_reference_rows(s)], **how)
    assert all(np.isfinite(r[c]) for r in rows for c in ("r_emi", "emi", "retained"))


def test_estimators_that_read_every_pair_get_every_pair():
    settings = settings_of(emi_shifts=2, name="infonce")
    with_r, without_r = pairs.negatives_for(N, settings)
    assert without_r.wanted(golden=False).all() and with_r.wanted(golden=False).all()


@pytest.mark.parametrize("shifts", [N - 1, N, 10 * N])
def test_more_shifts_than_there_are_other_contexts_are_all_of_them(shifts):
    how = {"negatives": "cyclic", "num_negatives": 2, "emi_shifts": shifts}
    with_r, without_r = pairs.negatives_for(N, settings_of(**how))
    np.testing.assert_array_equal(without_r.model, 1 - np.eye(N))
    assert with_r.model.sum() == 2 * N


def test_few_random_negatives_by_language_never_break_the_report():
    how = {"negatives": "random", "num_negatives": 1}
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, True)
    drawn = pairs.negatives_for(N, settings_of(**how))
    subsets = [dataclasses.replace(s, negatives=drawn) for s in (home, away)]
    results = rows_of(subsets, **how), estimate_by_language(estimates_of(subsets, **how))
    json.dumps(results, allow_nan=False)

"""Rows and comparisons from made-up matrices, against loops."""

import dataclasses
import json

import numpy as np
import pytest

from remid_jax.analysis import measures
from remid_jax.analysis.comparisons import compare_policies
from remid_jax.analysis.rows import estimate_by_language, estimate_rows
from remid_jax.errors import UserError
from remid_jax.evaluation.config import default_config
from remid_jax.evaluation.scoring import Block

N = 6


def block(seed: int, lift: float, where=None) -> Block:
    rng = np.random.default_rng(seed)
    scores = rng.normal(-80, 6, (N, N)) + lift * np.eye(N)
    lengths = rng.integers(10, 30, N)
    return Block(scores, scores + 1, lengths, np.ones(N, bool) if where is None else where)


def subset(tag: str, seed: int, lift: float, paired: bool, where=None) -> measures.Subset:
    ids = tuple(f"{tag}_{i}" for i in range(N))
    anchors = tuple(f"IDTest_{i}" for i in range(N)) if paired else (None,) * N
    policies = {"a": block(seed + 1, lift, where), "b": block(seed + 2, 2.0)}
    negatives = measures.negatives_for(N, default_config())
    languages = ("de", "en") * (N // 2)
    return measures.Subset(tag, ids, anchors, languages, block(seed, 20.0), policies, negatives)


def club(scores, keep):
    part = scores[np.ix_(keep, keep)]
    return np.diagonal(part).mean() - part[~np.eye(len(keep), dtype=bool)].mean()


def r_emi(s: measures.Subset, policy: str, keep) -> float:
    return club(s.policies[policy].scores, keep) - club(s.golden.scores, keep)


def jackknife_error(values) -> float:
    values = np.array(values)
    g = len(values)
    return np.sqrt((g - 1) / g * ((values - values.mean()) ** 2).sum())


def without(k):
    return [i for i in range(N) if i != k]


@pytest.mark.parametrize("paired", [True, False])
def test_r_emid_and_its_error(paired):
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, paired)
    rows = estimate_rows([home, away], default_config())
    row = next(r for r in rows if (r["policy"], r["subset"]) == ("a", "german"))
    everyone = list(range(N))
    difference = r_emi(home, "a", everyone) - r_emi(away, "a", everyone)
    assert row["r_emid"] == pytest.approx(difference, abs=1e-3)
    homes = [r_emi(home, "a", without(k)) for k in range(N)]
    aways = [r_emi(away, "a", without(k)) for k in range(N)]
    if paired:
        expected = jackknife_error(np.array(homes) - np.array(aways))
    else:
        expected = np.hypot(jackknife_error(homes), jackknife_error(aways))
    assert row["paired"] is paired
    assert row["r_emid_se"] == pytest.approx(expected, rel=1e-3)
    assert row["r_emi_se"] == pytest.approx(jackknife_error(aways), rel=1e-3)
    assert row["within_noise"] == (row["r_emid_low"] <= 0 <= row["r_emid_high"])
    assert row["r_emid_low"] < row["r_emid"] < row["r_emid_high"]


def test_by_language_uses_those_samples_and_their_anchors_alone():
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, True)
    rows = estimate_by_language([home, away], default_config())
    assert [(r["policy"], r["language"], r["n"]) for r in rows] == [
        (p, x, 3) for p in ("a", "b") for x in ("de", "en")
    ]
    german = [0, 2, 4]
    assert rows[0]["r_emi"] == pytest.approx(r_emi(away, "a", german), abs=1e-3)
    drop = r_emi(home, "a", german) - r_emi(away, "a", german)
    assert rows[0]["r_emid"] == pytest.approx(drop, abs=1e-3)
    unpaired = subset("german", 10, 5.0, False)
    assert estimate_by_language([home, unpaired], default_config()) == []


def test_excluded_contexts_leave_both_sides():
    where = np.array([True, True, False, True, True, True])
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, True, where)
    rows = estimate_rows([home, away], default_config())
    row = next(r for r in rows if (r["policy"], r["subset"]) == ("a", "german"))
    assert row["n"] == 5
    assert row["r_emi"] == pytest.approx(r_emi(away, "a", without(2)), abs=1e-3)
    assert row["r_emid"] == pytest.approx(r_emi(home, "a", without(2)) - row["r_emi"], abs=1e-3)
    assert row["n_paired"] == 5


def test_the_shuffled_anchor_is_the_golden_matrix_with_moved_columns():
    s = measures.with_anchors(subset("IDTest", 0, 15.0, False))
    moved = s.policies[measures.SHUFFLED]
    for i in range(N):
        for j in range(N):
            assert moved.scores[i, j] == s.golden.scores[i, (j + 1) % N]
        assert moved.lengths[i] == s.golden.lengths[(i + 1) % N]


def test_too_few_usable_responses_leave_a_row_without_values():
    where = np.array([True, True, False, False, False, False])
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, True, where)
    rows = estimate_rows([home, away], default_config())
    empty, full = (
        next(r for r in rows if (r["policy"], r["subset"]) == (p, "german")) for p in "ab"
    )
    assert empty["n"] == 2 and empty["r_emi"] is None and empty["r_emid"] is None
    assert full["r_emid"] is not None
    (missing,) = compare_policies([away], default_config())
    assert missing["difference"] is None and missing["n"] == 2 and missing["p_holm"] is None


@pytest.mark.parametrize("kind", ["all", "cyclic", "random"])
def test_wanted_pairs_suffice_for_every_row(kind):
    config = default_config()
    config.estimator.negatives = kind
    config.estimator.num_negatives = 3
    config.estimator.emi_shifts = 2
    with_r, without_r = measures.negatives_for(N, config)
    whole = subset("IDTest", 0, 15.0, False)

    def cut(b: Block, golden: bool) -> Block:
        return Block(
            np.where(with_r.wanted(golden), b.scores, np.nan),
            np.where(without_r.wanted(golden), b.plain, np.nan),
            b.lengths, b.where,
        )  # fmt: skip

    s = measures.Subset(
        "IDTest", whole.sample_ids, whole.pair_ids, whole.languages, cut(whole.golden, True),
        {k: cut(b, False) for k, b in whole.policies.items()}, (with_r, without_r),
    )  # fmt: skip
    rows = estimate_rows([measures.with_anchors(s)], config)
    assert all(np.isfinite(r[c]) for r in rows for c in ("r_emi", "emi", "retained"))


def test_estimators_that_read_every_pair_get_every_pair():
    config = default_config()
    config.estimator.emi_shifts = 2
    config.estimator.name = "infonce"
    with_r, without_r = measures.negatives_for(N, config)
    assert without_r.wanted(golden=False).all() and with_r.wanted(golden=False).all()


def test_more_shifts_than_there_are_other_contexts_are_refused():
    config = default_config()
    config.estimator.emi_shifts = N - 1
    measures.negatives_for(N, config)
    config.estimator.emi_shifts = N
    with pytest.raises(UserError, match=f"emi_shifts is {N}, but {N} contexts have only {N - 1}"):
        measures.negatives_for(N, config)


def test_few_random_negatives_by_language_never_break_the_report():
    config = default_config()
    config.estimator.negatives = "random"
    config.estimator.num_negatives = 1
    home, away = subset("IDTest", 0, 15.0, False), subset("german", 10, 5.0, True)
    drawn = measures.negatives_for(N, config)
    subsets = [dataclasses.replace(s, negatives=drawn) for s in (home, away)]
    results = (
        estimate_rows(subsets, config),
        estimate_by_language(subsets, config),
    )
    json.dumps(results, allow_nan=False)

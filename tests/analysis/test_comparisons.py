"""Comparisons, clusters and warnings of random scores, against loops and enumeration."""

import dataclasses
import itertools

import numpy as np
import pytest
from made_up_subsets import (
    club,
    estimates_of,
    jackknife_error,
    r_emi,
    row_of,
    rows_of,
    settings_of,
    subset,
    without_each,
)

from remid_jax.analysis.comparisons import compare_rpms, find_warnings, worst_shifts
from remid_jax.data.reading import load_benchmark
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config, default_config
from remid_jax.information import pairs
from remid_jax.information.mutual_information import random_negatives
from remid_jax.information.pairs import Block
from remid_jax.information.uncertainty import t_test

N = 8
EVERYONE = list(range(N))


def test_compare_rpms_is_a_paired_difference():
    s = subset("IDTest", 0, 30.0)
    (row,) = compare_rpms(estimates_of([s]))
    gap = lambda keep: r_emi(s, "a", keep) - r_emi(s, "b", keep)  # noqa: E731
    assert row["difference"] == pytest.approx(gap(EVERYONE), abs=1e-3)
    errors = [gap(keep) for keep in without_each(EVERYONE)]
    assert row["se"] == pytest.approx(jackknife_error(errors), rel=1e-3)
    assert row["low"] > 0 and row["within_noise"] is False  # 28 nats apart
    assert row["p_sign_flip"] == 2 / 2**N  # no other choice of answers is as far apart


def test_sign_flips_exchange_the_models_answers():
    where = np.arange(N) != 3
    keep = [i for i in EVERYONE if i != 3]
    s = subset("IDTest", 40, 6.0, where=where)
    (row,) = compare_rpms(estimates_of([s]))
    a, b = s.rpms["a"].scores, s.rpms["b"].scores
    gaps = []
    for swapped in itertools.product([False, True], repeat=len(keep)):
        first, second = a.copy(), b.copy()
        columns = [i for i, x in zip(keep, swapped, strict=True) if x]
        first[:, columns], second[:, columns] = b[:, columns], a[:, columns]
        gaps.append(club(first, keep) - club(second, keep))
    p = np.mean(np.abs(gaps) >= abs(gaps[0]) - 1e-4)
    assert 0 < p < 1 and row["p_sign_flip"] == pytest.approx(p, abs=1e-9)


def test_holm_counts_the_subsets_of_each_two_models():
    tags = ("IDTest", "german", "Gaming")
    subsets = [subset(t, 10 * k, 20.0 * k) for k, t in enumerate(tags)]
    rows = compare_rpms(estimates_of(subsets))
    p = sorted(r["p_sign_flip"] for r in rows)
    assert min(r["p_holm"] for r in rows) == pytest.approx(min(1, 3 * p[0]))
    shifts = rows_of(subsets)
    for rpm in "ab":
        own = [r for r in shifts if r["rpm"] == rpm]
        assert own[0]["p_value"] is None and own[0]["p_holm"] is None  # IDTest has no R-EMID
        p = sorted(r["p_value"] for r in own[1:])
        assert sorted(r["p_holm"] for r in own[1:])[0] == pytest.approx(min(1, 2 * p[0]))
        assert all((r["p_value"] < 0.05) is not r["within_noise"] for r in own[1:])
        assert all(r["detectable"] > 2 * r["r_emid_se"] for r in own[1:])


def test_independence_tells_answers_from_one_text_for_all():
    s = subset("IDTest", 0, 30.0)
    parrot = np.repeat(np.random.default_rng(1).normal(-80, 6, (N, 1)), N, axis=1)
    fixed = Block(parrot, parrot, np.full(N, 9), np.ones(N, bool))
    s = dataclasses.replace(s, rpms={**s.rpms, "parrot": fixed})
    rows = rows_of([pairs.with_reference_rows(s)])
    assert row_of(rows, "a", "IDTest")["p_independence"] < 0.01
    assert row_of(rows, "golden", "IDTest")["p_independence"] < 0.01
    assert row_of(rows, "parrot", "IDTest")["p_independence"] == 1
    few = {"negatives": "cyclic", "num_negatives": 2}
    with_r, without_r = pairs.negatives_for(N, settings_of(**few))
    wanted = with_r.wanted(golden=False)
    cut = dataclasses.replace(s.rpms["a"], scores=np.where(wanted, parrot, np.nan))
    s = dataclasses.replace(s, rpms={"a": cut}, negatives=(with_r, without_r))
    assert rows_of([s], **few)[0]["p_independence"] is None


def test_worst_shift_is_the_largest_drop():
    home = subset("IDTest", 0, 15.0)
    mild, severe = subset("german", 10, 14.0, True), subset("Gaming", 20, -20.0, True)
    subsets = [home, mild, severe]
    rows = rows_of(subsets)
    worst = {w["rpm"]: w for w in worst_shifts(rows, estimates_of(subsets))}
    assert worst["a"]["not_distinguished_from"] == []
    assert worst["a"]["subset"] == "Gaming" and worst["a"]["shift"] == "character"
    assert worst["a"]["within_noise"] is False


@pytest.mark.parametrize("paired", [True, False])
def test_shifts_of_the_same_counterparts_are_told_apart_by_their_difference(paired):
    home, one = subset("IDTest", 0, 15.0), subset("german", 10, 5.0, paired)
    # The same noise, 3 nats less: invisible beside the s.e., plain in the paired difference.
    lower = {
        p: dataclasses.replace(b, scores=b.scores - 3 * np.eye(N)) for p, b in one.rpms.items()
    }
    ids = tuple(f"Gaming_{i}" for i in range(N))
    other = dataclasses.replace(one, tag="Gaming", sample_ids=ids, rpms=lower)
    subsets = [home, one, other]
    rows = rows_of(subsets)
    assert row_of(rows, "a", "Gaming")["r_emid_se"] > 2
    worst = worst_shifts(rows, estimates_of(subsets))[0]
    assert worst["subset"] == "Gaming"
    assert worst["not_distinguished_from"] == ([] if paired else ["german"])


LABELS = tuple("aabbccdd")


def test_clusters_are_deleted_together_and_give_no_negatives():
    s = subset("IDTest", 0, 15.0, labels=LABELS)
    row = rows_of([s])[0]
    assert (row["n"], row["clusters"]) == (8, 4)
    assert row["r_emi"] == pytest.approx(r_emi(s, "a", EVERYONE, LABELS), abs=1e-3)
    deleted = [r_emi(s, "a", keep, LABELS) for keep in without_each(LABELS)]
    assert row["r_emi_se"] == pytest.approx(jackknife_error(deleted), rel=1e-3)
    with_r, _ = s.negatives
    outside = ~with_r.wanted(golden=False)
    assert outside.sum() == 8  # each context's one companion is never scored
    blocks = {p: dataclasses.replace(b, scores=np.where(outside, np.nan, b.scores))
              for p, b in s.rpms.items()}  # fmt: skip
    scored = dataclasses.replace(s, rpms=blocks)
    again = rows_of([scored])[0]
    assert again["r_emi"] == row["r_emi"] and again["p_independence"] is None
    golden = row_of(rows_of([pairs.with_reference_rows(s)]), "golden", "IDTest")
    assert golden["p_independence"] is None  # dependent contexts cannot be permuted one by one
    (compared,) = compare_rpms(estimates_of([scored]))
    gap = [r_emi(s, "a", k, LABELS) - r_emi(s, "b", k, LABELS) for k in without_each(LABELS)]
    assert compared["se"] == pytest.approx(jackknife_error(gap), rel=1e-3)
    assert compared["p_sign_flip"] * 2**4 == int(compared["p_sign_flip"] * 2**4)  # 4 units


def test_paired_subsets_delete_what_either_clusters():
    home = subset("IDTest", 0, 15.0, labels=tuple("aabbcdef"))
    away = subset("german", 10, 5.0, True, labels=tuple("uvwxyyzz"))
    row = row_of(rows_of([home, away]), "a", "german")
    groups = tuple("aabbccee")  # both labellings together: {0, 1}, {2, 3}, {4, 5}, {6, 7}
    drops = [
        r_emi(home, "a", k, home.labels) - r_emi(away, "a", k, away.labels)
        for k in without_each(groups)
    ]
    assert row["r_emid_se"] == pytest.approx(jackknife_error(drops), rel=1e-3)
    assert row["clusters"] == 6 and row["paired"] is True


def test_contexts_each_their_own_cluster_change_nothing():
    own = tuple(map(str, EVERYONE))
    plain = [subset("IDTest", 0, 15.0), subset("german", 10, 5.0, True)]
    each = [dataclasses.replace(s, labels=own) for s in plain]
    assert rows_of(plain) == rows_of(each)
    assert compare_rpms(estimates_of(plain)) == compare_rpms(estimates_of(each))


def test_labels_come_from_the_samples_and_too_few_are_refused():
    samples = load_benchmark().subsets["IDTest"]
    assert pairs.cluster_labels("IDTest", samples, "none") is None
    for field in ("character", "persona", "dialogue"):
        copy = dataclasses.replace(samples[3], **{field: getattr(samples[0], field)})
        labels = pairs.cluster_labels("IDTest", [*samples[:3], copy], field)
        assert labels[3] == labels[0] and len(set(labels)) == 3
        with pytest.raises(
            UserError, match=rf"{field!r}.*4 contexts of subset 'X' form 2 clusters"
        ):
            pairs.cluster_labels("X", [samples[0], samples[1], copy, copy], field)


def test_settings_that_clusters_do_not_go_with():
    drawn = random_negatives(4, 1, 0).any(axis=0) | random_negatives(4, 1, 0).any(axis=1)
    labels = tuple("a" if d else str(i) for i, d in enumerate(drawn))
    with pytest.raises(UserError, match="all negative pairs lie within a cluster"):
        pairs.negatives_for(4, settings_of(negatives="random", num_negatives=1), labels)
    config = default_config()
    config.estimator.clusters = "character"
    check_config(config)
    config.estimator.name = "infonce"
    with pytest.raises(UserError, match=r"'infonce' needs config.estimator.clusters='none'"):
        check_config(config)
    config.estimator.clusters = "personas"
    with pytest.raises(UserError, match=r"did you mean 'persona'"):
        check_config(config)


def test_more_predictable_answers_are_warned_of():
    quiet, loud = subset("IDTest", 0, 19.0), subset("german", 10, 60.0, True)
    rows = rows_of([pairs.with_reference_rows(s) for s in (quiet, loud)])
    found = find_warnings(rows, 0.95)
    assert {(w["rpm"], w["subset"]) for w in found} == {("a", "german")}
    assert {w["kind"] for w in found} == {"r_emi_above_golden", "baseline_above_golden"}
    row = row_of(rows, "a", "german")
    p = t_test(row["r_emi"], row["r_emi_se"], N - 1)
    assert found[0]["p_holm"] == pytest.approx(2 * p) and "no merit" in found[0]["text"]
    surer = 1 - found[0]["p_holm"] / 2
    assert not [w for w in find_warnings(rows, surer) if w["kind"] == found[0]["kind"]]

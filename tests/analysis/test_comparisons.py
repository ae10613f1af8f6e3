"""Comparisons, clusters and warnings from made-up matrices, against loops and enumeration."""

import dataclasses
import itertools

import numpy as np
import pytest

from remid_jax.analysis import measures
from remid_jax.analysis.comparisons import compare_policies, find_warnings, worst_shifts
from remid_jax.analysis.rows import estimate_rows
from remid_jax.data.reading import load_benchmark
from remid_jax.data.shifts import SHIFT_OF
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config, default_config
from remid_jax.evaluation.scoring import Block
from remid_jax.information.mutual_information import random_negatives
from remid_jax.information.uncertainty import t_test

N = 8


def block(seed: int, lift: float, where=None) -> Block:
    rng = np.random.default_rng(seed)
    scores = rng.normal(-80, 6, (N, N)) + lift * np.eye(N)
    used = np.ones(N, bool) if where is None else where
    return Block(scores, scores + 1, rng.integers(10, 30, N), used)


def subset(tag, seed, lift, paired=False, where=None, labels=None, config=None) -> measures.Subset:
    ids = tuple(f"{tag}_{i}" for i in range(N))
    anchors = tuple(f"IDTest_{i}" for i in range(N)) if paired else (None,) * N
    policies = {"a": block(seed + 1, lift, where), "b": block(seed + 2, 2.0)}
    negatives = measures.negatives_for(N, config or default_config(), labels)
    golden = block(seed, 20.0)
    return measures.Subset(
        tag, ids, anchors, (None,) * N, golden, policies, negatives, labels, SHIFT_OF.get(tag)
    )


def club(scores, keep, labels=None):
    labels = list(range(N)) if labels is None else labels
    pairs = [scores[i, j] for i in keep for j in keep if labels[i] != labels[j]]
    return np.mean([scores[i, i] for i in keep]) - np.mean(pairs)


def r_emi(s, policy, keep, labels=None):
    golden = club(s.golden.scores, keep, labels)
    return club(s.policies[policy].scores, keep, labels) - golden


def jackknife_error(values):
    values, g = np.array(values), len(values)
    return np.sqrt((g - 1) / g * ((values - values.mean()) ** 2).sum())


def without_each(labels):
    return [[i for i in range(N) if labels[i] != g] for g in dict.fromkeys(labels)]


def row_of(rows, policy, tag):
    return next(r for r in rows if (r["policy"], r["subset"]) == (policy, tag))


EVERYONE = list(range(N))


def test_compare_policies_is_a_paired_difference():
    s = subset("IDTest", 0, 30.0)
    (row,) = compare_policies([s], default_config())
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
    (row,) = compare_policies([s], default_config())
    a, b = s.policies["a"].scores, s.policies["b"].scores
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
    rows = compare_policies(subsets, default_config())
    p = sorted(r["p_sign_flip"] for r in rows)
    assert min(r["p_holm"] for r in rows) == pytest.approx(min(1, 3 * p[0]))
    shifts = estimate_rows(subsets, default_config())
    for policy in "ab":
        own = [r for r in shifts if r["policy"] == policy]
        assert own[0]["p_value"] is None and own[0]["p_holm"] is None  # IDTest has no R-EMID
        p = sorted(r["p_value"] for r in own[1:])
        assert sorted(r["p_holm"] for r in own[1:])[0] == pytest.approx(min(1, 2 * p[0]))
        assert all((r["p_value"] < 0.05) is not r["within_noise"] for r in own[1:])
        assert all(r["detectable"] > 2 * r["r_emid_se"] for r in own[1:])


def test_independence_tells_answers_from_one_text_for_all():
    s = subset("IDTest", 0, 30.0)
    parrot = np.repeat(np.random.default_rng(1).normal(-80, 6, (N, 1)), N, axis=1)
    fixed = Block(parrot, parrot, np.full(N, 9), np.ones(N, bool))
    s = dataclasses.replace(s, policies={**s.policies, "parrot": fixed})
    rows = estimate_rows([measures.with_anchors(s)], default_config())
    assert row_of(rows, "a", "IDTest")["p_independence"] < 0.01
    assert row_of(rows, "golden", "IDTest")["p_independence"] < 0.01
    assert row_of(rows, "parrot", "IDTest")["p_independence"] == 1
    few = default_config()
    few.estimator.negatives, few.estimator.num_negatives = "cyclic", 2
    with_r, without_r = measures.negatives_for(N, few)
    wanted = with_r.wanted(golden=False)
    cut = dataclasses.replace(s.policies["a"], scores=np.where(wanted, parrot, np.nan))
    s = dataclasses.replace(s, policies={"a": cut}, negatives=(with_r, without_r))
    assert estimate_rows([s], few)[0]["p_independence"] is None


def test_worst_shift_is_the_largest_drop():
    home = subset("IDTest", 0, 15.0)
    mild, severe = subset("german", 10, 14.0, True), subset("Gaming", 20, -20.0, True)
    subsets = [home, mild, severe]
    rows = estimate_rows(subsets, default_config())
    worst = {w["policy"]: w for w in worst_shifts(rows, subsets, default_config())}
    assert worst["a"]["not_distinguished_from"] == []
    assert worst["a"]["subset"] == "Gaming" and worst["a"]["shift"] == "character"
    assert worst["a"]["within_noise"] is False


@pytest.mark.parametrize("paired", [True, False])
def test_shifts_of_the_same_anchors_are_told_apart_by_their_difference(paired):
    home, one = subset("IDTest", 0, 15.0), subset("german", 10, 5.0, paired)
    # The same noise, 3 nats less: invisible beside the s.e., plain in the paired difference.
    lower = {
        p: dataclasses.replace(b, scores=b.scores - 3 * np.eye(N)) for p, b in one.policies.items()
    }
    ids = tuple(f"Gaming_{i}" for i in range(N))
    other = dataclasses.replace(one, tag="Gaming", sample_ids=ids, policies=lower)
    subsets = [home, one, other]
    rows = estimate_rows(subsets, default_config())
    assert row_of(rows, "a", "Gaming")["r_emid_se"] > 2
    worst = worst_shifts(rows, subsets, default_config())[0]
    assert worst["subset"] == "Gaming"
    assert worst["not_distinguished_from"] == ([] if paired else ["german"])


LABELS = tuple("aabbccdd")


def clustered_config():
    config = default_config()
    config.estimator.clusters = "character"
    return config


def test_clusters_are_deleted_together_and_give_no_negatives():
    config = clustered_config()
    s = subset("IDTest", 0, 15.0, labels=LABELS, config=config)
    row = estimate_rows([s], config)[0]
    assert (row["n"], row["clusters"]) == (8, 4)
    assert row["r_emi"] == pytest.approx(r_emi(s, "a", EVERYONE, LABELS), abs=1e-3)
    deleted = [r_emi(s, "a", keep, LABELS) for keep in without_each(LABELS)]
    assert row["r_emi_se"] == pytest.approx(jackknife_error(deleted), rel=1e-3)
    with_r, _ = s.negatives
    outside = ~with_r.wanted(golden=False)
    assert outside.sum() == 8  # each context's one companion is never scored
    blocks = {p: dataclasses.replace(b, scores=np.where(outside, np.nan, b.scores))
              for p, b in s.policies.items()}  # fmt: skip
    scored = dataclasses.replace(s, policies=blocks)
    again = estimate_rows([scored], config)[0]
    assert again["r_emi"] == row["r_emi"] and again["p_independence"] is None
    golden = row_of(estimate_rows([measures.with_anchors(s)], config), "golden", "IDTest")
    assert golden["p_independence"] is None  # dependent contexts cannot be permuted one by one
    (compared,) = compare_policies([scored], config)
    gap = [r_emi(s, "a", k, LABELS) - r_emi(s, "b", k, LABELS) for k in without_each(LABELS)]
    assert compared["se"] == pytest.approx(jackknife_error(gap), rel=1e-3)
    assert compared["p_sign_flip"] * 2**4 == int(compared["p_sign_flip"] * 2**4)  # 4 units


def test_paired_subsets_delete_what_either_clusters():
    config = clustered_config()
    home = subset("IDTest", 0, 15.0, labels=tuple("aabbcdef"), config=config)
    away = subset("german", 10, 5.0, True, labels=tuple("uvwxyyzz"), config=config)
    row = row_of(estimate_rows([home, away], config), "a", "german")
    groups = tuple("aabbccee")  # both labellings together: {0, 1}, {2, 3}, {4, 5}, {6, 7}
    drops = [
        r_emi(home, "a", k, home.labels) - r_emi(away, "a", k, away.labels)
        for k in without_each(groups)
    ]
    assert row["r_emid_se"] == pytest.approx(jackknife_error(drops), rel=1e-3)
    assert row["clusters"] == 6 and row["paired"] is True


def test_contexts_each_their_own_cluster_change_nothing():
    config = clustered_config()
    own = tuple(map(str, EVERYONE))
    plain = [subset("IDTest", 0, 15.0), subset("german", 10, 5.0, True)]
    each = [dataclasses.replace(s, labels=own) for s in plain]
    assert estimate_rows(plain, default_config()) == estimate_rows(each, config)
    assert compare_policies(plain, default_config()) == compare_policies(each, config)


def test_labels_come_from_the_samples_and_too_few_are_refused():
    samples = load_benchmark().subsets["IDTest"]
    assert measures.cluster_labels("IDTest", samples, default_config()) is None
    for field in ("character", "persona", "dialogue"):
        config = default_config()
        config.estimator.clusters = field
        copy = dataclasses.replace(samples[3], **{field: getattr(samples[0], field)})
        labels = measures.cluster_labels("IDTest", [*samples[:3], copy], config)
        assert labels[3] == labels[0] and len(set(labels)) == 3
        with pytest.raises(
            UserError, match=rf"{field!r}.*4 contexts of subset 'X' form 2 clusters"
        ):
            measures.cluster_labels("X", [samples[0], samples[1], copy, copy], config)


def test_settings_that_clusters_do_not_go_with():
    config = clustered_config()
    check_config(config)
    config.estimator.negatives, config.estimator.num_negatives = "random", 1
    drawn = random_negatives(4, 1, config.seed).any(axis=0) | random_negatives(4, 1, 0).any(axis=1)
    labels = tuple("a" if d else str(i) for i, d in enumerate(drawn))
    with pytest.raises(UserError, match="all negative pairs lie within a cluster"):
        measures.negatives_for(4, config, labels)
    config.estimator.negatives = "all"
    config.estimator.name = "infonce"
    with pytest.raises(UserError, match=r"'infonce' needs config.estimator.clusters='none'"):
        check_config(config)
    config.estimator.clusters = "personas"
    with pytest.raises(UserError, match=r"did you mean 'persona'"):
        check_config(config)


def test_more_predictable_answers_are_warned_of():
    quiet, loud = subset("IDTest", 0, 19.0), subset("german", 10, 60.0, True)
    rows = estimate_rows([measures.with_anchors(s) for s in (quiet, loud)], default_config())
    found = find_warnings(rows, default_config())
    assert {(w["policy"], w["subset"]) for w in found} == {("a", "german")}
    assert {w["kind"] for w in found} == {"r_emi_above_golden", "baseline_above_golden"}
    row = row_of(rows, "a", "german")
    p = t_test(row["r_emi"], row["r_emi_se"], N - 1)
    assert found[0]["p_holm"] == pytest.approx(2 * p) and "no merit" in found[0]["text"]
    config = default_config()
    config.estimator.confidence = 1 - found[0]["p_holm"] / 2
    assert not [w for w in find_warnings(rows, config) if w["kind"] == found[0]["kind"]]

"""Shares of shifts and contributions of samples, of random scores, against loops."""

import dataclasses

import numpy as np
import pytest
from made_up_subsets import estimates_of, jackknife_error, rows_of, without_each
from made_up_subsets import r_emi as r_emi_of
from made_up_subsets import subset as subset_of

from remid_jax.analysis.by_shift import estimate_by_shift
from remid_jax.analysis.contributions import contribution_records
from remid_jax.analysis.rows import estimate_rows
from remid_jax.data.shifts import SHIFT_OF
from remid_jax.information import pairs
from remid_jax.information.uncertainty import combined_error

N = 8
EVERYONE = list(range(N))


def subset(*args, **changes):
    return subset_of(*args, names="a", **changes)


def r_emi(s, keep=EVERYONE):
    return r_emi_of(s, "a", keep)


def lowered(s, tag, by):
    """The same noise under another tag, `by` nats less information in the model's answers."""
    a = s.rpms["a"]
    policies = {"a": dataclasses.replace(a, scores=a.scores - by * np.eye(N))}
    ids = tuple(f"{tag}_{i}" for i in range(N))
    return dataclasses.replace(s, tag=tag, sample_ids=ids, rpms=policies, shift=SHIFT_OF.get(tag))


def mean_drop(home, shifted, keep=EVERYONE):
    return r_emi(home, keep) - np.mean([r_emi(s, keep) for s in shifted])


def shares(subsets):
    """The record of `a`, and its shifts by name."""
    estimates = estimates_of([pairs.with_reference_rows(s) for s in subsets])
    (found,) = estimate_by_shift(estimate_rows(estimates, {}), estimates)
    return found, {s["shift"]: s for s in found["shifts"]}


def test_subsets_of_the_same_counterparts_are_deleted_from_together():
    home = subset("IDTest", 0, 15.0)
    users = [subset("german", 10, 9.0, True), subset("korean", 20, 3.0, True)]
    games = subset("Gaming", 30, 12.0, True)
    found, by_name = shares([home, *users, games])
    assert (found["rpm"], found["method"]) == ("a", "one at a time")
    assert list(by_name) == ["user", "character"]
    user = by_name["user"]
    assert user["subsets"] == ["german", "korean"]
    assert user["r_emid"] == pytest.approx(mean_drop(home, users), abs=1e-3)
    deleted = [mean_drop(home, users, keep) for keep in without_each(EVERYONE)]
    assert user["r_emid_se"] == pytest.approx(jackknife_error(deleted), rel=1e-3)
    # A shift of one subset is that subset's row.
    row = rows_of([home, games])[1]
    own = by_name["character"]
    for key in ("r_emid", "r_emid_se", "r_emid_low", "r_emid_high", "p_value", "within_noise"):
        assert own[key] == pytest.approx(row[key], rel=1e-4)
    p = sorted(s["p_value"] for s in found["shifts"])
    assert min(s["p_holm"] for s in found["shifts"]) == pytest.approx(min(1, 2 * p[0]))


def test_independent_subsets_count_idtest_once():
    subsets = [subset("IDTest", 0, 15.0), subset("german", 10, 9.0), subset("korean", 20, 3.0)]
    _, by_name = shares(subsets)
    rows = rows_of(subsets)
    home, *errors = (r["r_emi_se"] for r in rows)
    expected = np.sqrt(home**2 + sum((e / 2) ** 2 for e in errors))
    assert by_name["user"]["r_emid_se"] == pytest.approx(expected, rel=1e-4)
    apart = [r["r_emid_se"] / 2 for r in rows[1:]]
    assert expected > np.hypot(*apart) * 1.05  # as if each subset had an IDTest of its own


def test_paired_and_independent_subsets_of_one_shift():
    home, one = subset("IDTest", 0, 15.0), subset("german", 10, 9.0, True)
    other = subset("korean", 20, 3.0)
    _, by_name = shares([home, one, other])
    assert by_name["user"]["r_emid"] == pytest.approx(mean_drop(home, [one, other]), abs=1e-3)
    joint = [r_emi(home, k) - r_emi(one, k) / 2 for k in without_each(EVERYONE)]
    alone = [r_emi(other, k) / 2 for k in without_each(EVERYONE)]
    error, _ = combined_error(jackknife_error(joint), N - 1, jackknife_error(alone), N - 1)
    assert by_name["user"]["r_emid_se"] == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("paired", [True, False])
def test_a_shift_is_named_by_the_difference_from_the_others(paired):
    home, german = subset("IDTest", 0, 40.0), subset("german", 10, 5.0, paired)
    # 3 nats: invisible beside the s.e., plain in the paired difference.
    games, turns = (lowered(german, t, b) for t, b in (("Gaming", 3), ("TurnLevelComposition", 1)))
    found, by_name = shares([home, german, games, turns])
    assert by_name["character"]["r_emid_se"] > 2
    assert by_name["character"]["r_emid_low"] > 0
    expected = ("character", []) if paired else (None, ["user", "dialogue"])
    assert (found["named"], found["not_distinguished_from"]) == expected


def test_no_shift_is_named_without_harm_or_without_another():
    home, german = subset("IDTest", 0, 0.0), subset("german", 10, 30.0, True)
    found, by_name = shares([home, german, lowered(german, "Gaming", 10)])
    assert by_name["user"]["r_emid"] < by_name["character"]["r_emid"] < 0
    assert found["named"] is None and found["not_distinguished_from"] == []
    home = subset("IDTest", 0, 60.0)
    found, by_name = shares([home, german])
    assert by_name["user"]["r_emid_low"] > 0 and found["named"] is None


def test_a_subset_without_a_value_is_left_out():
    where = np.arange(N) < 2
    subsets = [subset("IDTest", 0, 15.0), subset("german", 10, 9.0, True)]
    few = subset("korean", 20, 3.0, True, where)
    _, by_name = shares([*subsets, few])
    assert by_name["user"]["subsets"] == ["german"]
    found, _ = shares([subsets[0], few])
    assert found["shifts"] == [] and found["named"] is None


def test_other_languages_are_said():
    home = dataclasses.replace(subset("IDTest", 0, 40.0), languages=("en",) * N)
    german = subset("german", 10, 5.0, True)
    mixed = dataclasses.replace(german, languages=("en", "de") * (N // 2))
    games = dataclasses.replace(lowered(german, "Gaming", 3), languages=("en",) * N)
    _, by_name = shares([home, mixed, games])
    assert by_name["user"]["other_languages"] == ["de"]
    assert by_name["character"]["other_languages"] == []


@pytest.mark.parametrize("normalisation", ["sequence", "token"])
@pytest.mark.parametrize("negatives", ["all", "cyclic", "random"])
def test_contributions_average_to_r_emi(negatives, normalisation):
    how = {"negatives": negatives, "normalisation": normalisation}
    how["num_negatives"] = 24 if negatives == "random" else 3
    where = np.arange(N) != 5
    subsets = [subset("IDTest", 0, 15.0, **how)]
    subsets.append(subset("german", 10, 9.0, True, where, **how))
    subsets = [pairs.with_reference_rows(s) for s in subsets]
    rows = rows_of(subsets, **how)
    found = contribution_records(estimates_of(subsets, **how), {})
    assert {r["rpm"] for r in found} == {"a"}
    for s, row in zip(subsets, [r for r in rows if r["rpm"] == "a"], strict=True):
        own = [r for r in found if r["subset"] == s.tag]
        nats = [r["nats"] for r in own]
        assert nats == sorted(nats) and len(own) == row["n"]
        assert np.mean(nats) == pytest.approx(row["r_emi"], abs=1e-3)
        used = [i for i, u in zip(s.sample_ids, s.rpms["a"].where, strict=True) if u]
        assert {r["sample_ID"] for r in own} == set(used)
        tokens = dict(zip(s.sample_ids, s.rpms["a"].lengths.tolist(), strict=True))
        assert all(r["tokens"] == tokens[r["sample_ID"]] for r in own)


def test_a_contribution_reads_its_own_answer():
    s = subset("IDTest", 0, 15.0)
    by_id = {r["sample_ID"]: r for r in contribution_records(estimates_of([s]), {})}
    for i in EVERYONE:
        model, golden = (
            x[i, i] - np.mean([x[j, i] for j in EVERYONE if j != i])
            for x in (s.rpms["a"].scores, s.golden.scores)
        )
        row = by_id[f"IDTest_{i}"]
        assert row["nats"] == pytest.approx(model - golden, abs=1e-3)
        assert row["of_mean"] == pytest.approx(row["nats"] / N)


def test_contributions_are_of_club_alone():
    assert contribution_records(estimates_of([subset("IDTest", 0, 15.0)], name="infonce"), {}) == []

"""Shares of shifts and contributions of samples from made-up matrices, against loops."""

import dataclasses
import json

import numpy as np
import pytest

from remid_jax.analysis import measures
from remid_jax.analysis.by_shift import estimate_by_shift, shift_lines
from remid_jax.analysis.contributions import contribution_rows, write_contributions
from remid_jax.analysis.rows import estimate_rows
from remid_jax.data.shifts import SHIFT_OF
from remid_jax.evaluation.config import default_config
from remid_jax.evaluation.scoring import Block
from remid_jax.information.uncertainty import combined_error

N = 8
EVERYONE = list(range(N))


def block(seed, lift, where=None) -> Block:
    rng = np.random.default_rng(seed)
    scores = rng.normal(-80, 6, (N, N)) + lift * np.eye(N)
    used = np.ones(N, bool) if where is None else where
    return Block(scores, scores + 1, rng.integers(10, 30, N), used)


def subset(tag, seed, lift, paired=False, where=None, config=None) -> measures.Subset:
    ids = tuple(f"{tag}_{i}" for i in range(N))
    anchors = tuple(f"IDTest_{i}" for i in range(N)) if paired else (None,) * N
    negatives = measures.negatives_for(N, config or default_config())
    policies = {"a": block(seed + 1, lift, where)}
    golden = block(seed, 20.0)
    return measures.Subset(
        tag, ids, anchors, (None,) * N, golden, policies, negatives, shift=SHIFT_OF.get(tag)
    )


def lowered(s, tag, by):
    """The same noise under another tag, `by` nats less information in the model's answers."""
    a = s.policies["a"]
    policies = {"a": dataclasses.replace(a, scores=a.scores - by * np.eye(N))}
    ids = tuple(f"{tag}_{i}" for i in range(N))
    return dataclasses.replace(
        s, tag=tag, sample_ids=ids, policies=policies, shift=SHIFT_OF.get(tag)
    )


def club(scores, keep):
    pairs = [scores[i, j] for i in keep for j in keep if i != j]
    return np.mean([scores[i, i] for i in keep]) - np.mean(pairs)


def r_emi(s, keep=EVERYONE):
    return club(s.policies["a"].scores, keep) - club(s.golden.scores, keep)


def mean_drop(home, shifted, keep=EVERYONE):
    return r_emi(home, keep) - np.mean([r_emi(s, keep) for s in shifted])


def without_each():
    return [[i for i in EVERYONE if i != g] for g in EVERYONE]


def jackknife_error(values):
    values, g = np.array(values), len(values)
    return np.sqrt((g - 1) / g * ((values - values.mean()) ** 2).sum())


def shares(subsets, config=None):
    """The one policy's row, and its shifts by name."""
    config = config or default_config()
    anchored = [measures.with_anchors(s) for s in subsets]
    (found,) = estimate_by_shift(estimate_rows(anchored, config), anchored, config)
    return found, {s["shift"]: s for s in found["shifts"]}


def test_subsets_of_the_same_anchors_are_deleted_from_together():
    home = subset("IDTest", 0, 15.0)
    users = [subset("german", 10, 9.0, True), subset("korean", 20, 3.0, True)]
    games = subset("Gaming", 30, 12.0, True)
    found, by_name = shares([home, *users, games])
    assert (found["policy"], found["method"]) == ("a", "one at a time")
    assert list(by_name) == ["user", "character"]
    user = by_name["user"]
    assert user["subsets"] == ["german", "korean"]
    assert user["r_emid"] == pytest.approx(mean_drop(home, users), abs=1e-3)
    deleted = [mean_drop(home, users, keep) for keep in without_each()]
    assert user["r_emid_se"] == pytest.approx(jackknife_error(deleted), rel=1e-3)
    # A shift of one subset is that subset's row.
    row = estimate_rows([home, games], default_config())[1]
    own = by_name["character"]
    for key in ("r_emid", "r_emid_se", "r_emid_low", "r_emid_high", "p_value", "within_noise"):
        assert own[key] == pytest.approx(row[key], rel=1e-4)
    p = sorted(s["p_value"] for s in found["shifts"])
    assert min(s["p_holm"] for s in found["shifts"]) == pytest.approx(min(1, 2 * p[0]))


def test_independent_subsets_count_idtest_once():
    subsets = [subset("IDTest", 0, 15.0), subset("german", 10, 9.0), subset("korean", 20, 3.0)]
    _, by_name = shares(subsets)
    rows = estimate_rows(subsets, default_config())
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
    joint = [r_emi(home, k) - r_emi(one, k) / 2 for k in without_each()]
    alone = [r_emi(other, k) / 2 for k in without_each()]
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
    assert list(shift_lines([found], 1)) == []


def test_one_line_a_policy():
    home, german = subset("IDTest", 0, 40.0), subset("german", 10, 5.0, True)
    found, by_name = shares([home, german, lowered(german, "Gaming", 3)])
    (line,) = shift_lines([found], 2)
    game = by_name["character"]
    assert f"character {game['r_emid']:.2f} ± {game['r_emid_se']:.2f}" in line
    assert (
        line.startswith("a: ") and "one at a time" in line and line.endswith("largest: character")
    )
    assert next(shift_lines([{**found, "named": None}], 1)).endswith("none stands out")


def test_other_languages_are_said():
    home = dataclasses.replace(subset("IDTest", 0, 40.0), languages=("en",) * N)
    german = subset("german", 10, 5.0, True)
    mixed = dataclasses.replace(german, languages=("en", "de") * (N // 2))
    games = dataclasses.replace(lowered(german, "Gaming", 3), languages=("en",) * N)
    found, by_name = shares([home, mixed, games])
    assert by_name["user"]["other_languages"] == ["de"]
    assert by_name["character"]["other_languages"] == []
    (line,) = shift_lines([found], 1)
    assert line.endswith("largest: character (nats of other languages in user: read retained)")


@pytest.mark.parametrize("normalisation", ["sequence", "token"])
@pytest.mark.parametrize("negatives", ["all", "cyclic", "random"])
def test_contributions_average_to_r_emi(negatives, normalisation):
    config = default_config()
    config.estimator.update(negatives=negatives, normalisation=normalisation)
    config.estimator.num_negatives = 24 if negatives == "random" else 3
    where = np.arange(N) != 5
    subsets = [subset("IDTest", 0, 15.0, config=config)]
    subsets.append(subset("german", 10, 9.0, True, where, config))
    subsets = [measures.with_anchors(s) for s in subsets]
    rows = estimate_rows(subsets, config)
    found = contribution_rows(subsets, config)
    assert {r["policy"] for r in found} == {"a"}
    for s, row in zip(subsets, [r for r in rows if r["policy"] == "a"], strict=True):
        own = [r for r in found if r["subset"] == s.tag]
        nats = [r["nats"] for r in own]
        assert nats == sorted(nats) and len(own) == row["n"]
        assert np.mean(nats) == pytest.approx(row["r_emi"], abs=1e-3)
        used = [i for i, u in zip(s.sample_ids, s.policies["a"].where, strict=True) if u]
        assert {r["sample_ID"] for r in own} == set(used)
        tokens = dict(zip(s.sample_ids, s.policies["a"].lengths.tolist(), strict=True))
        assert all(r["tokens"] == tokens[r["sample_ID"]] for r in own)


def test_a_contribution_reads_its_own_answer():
    s = subset("IDTest", 0, 15.0)
    by_id = {r["sample_ID"]: r for r in contribution_rows([s], default_config())}
    for i in EVERYONE:
        model, golden = (
            x[i, i] - np.mean([x[j, i] for j in EVERYONE if j != i])
            for x in (s.policies["a"].scores, s.golden.scores)
        )
        row = by_id[f"IDTest_{i}"]
        assert row["nats"] == pytest.approx(model - golden, abs=1e-3)
        assert row["of_mean"] == pytest.approx(row["nats"] / N)


def test_the_file_holds_the_rows_of_the_last_run(tmp_path):
    config, s = default_config(), subset("IDTest", 0, 15.0)
    assert write_contributions(tmp_path, [s], config) == "contributions.jsonl"
    path = tmp_path / "contributions.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == contribution_rows([s], config) and len(lines) == N
    config.estimator.name = "infonce"
    assert write_contributions(tmp_path, [s], config) is None
    assert not path.exists()

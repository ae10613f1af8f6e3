"""Judges with known habits: who passes calibration, and what is told of their judgments."""

import dataclasses

import numpy as np
import pytest
from made_up_subsets import block, estimates_of, jackknife_error
from made_up_subsets import r_emi as r_emi_of
from made_up_subsets import subset as subset_of

from remid_jax.analysis.judge_schema import JUDGE_TABLES
from remid_jax.analysis.judges import joint_groups, judge_records
from remid_jax.information.judgments import PAIRWISE, POINTWISE, Judgments, wilson_interval
from remid_jax.information.pairs import GOLDEN, with_reference_rows

N = 8
TAGS = ("IDTest", "german", "Gaming")
REFERENCES = ("shuffled golden", "unshifted", "echo")


def subsets(n=N, rpms="ab"):
    """The in-distribution subset and two that are paired with it."""
    return [
        with_reference_rows(
            dataclasses.replace(
                s, rpms={rpm: block(100 * k + j, 4.0 * j + k, n=n) for j, rpm in enumerate(rpms)}
            )
        )
        for k, s in enumerate(subset_of(tag, 10 * k, 9.0, k > 0, n=n) for k, tag in enumerate(TAGS))
    ]


def pairwise(verdicts, name="judge", **changes):
    one = Judgments(name, PAIRWISE, "file", verdicts, {}, 0, 0)
    return dataclasses.replace(one, **changes)


def agreed(values):
    """[N, 2, 1] verdicts that don't change with the order."""
    return np.repeat(np.asarray(values, float)[:, None, None], 2, axis=1)


def calibration(rng, accuracy, n):
    """Verdicts on golden against each reference, so often right in both orders."""
    return {
        (GOLDEN, ref): np.broadcast_to(
            np.where(rng.random((n, 1, 1)) < accuracy, 1.0, -1.0), (n, 2, 1)
        )
        for ref in REFERENCES
    }


def perfect(n=N):
    return {(GOLDEN, ref): agreed(np.ones(n)) for ref in REFERENCES}


def records(judged, found=None, swaps=None):
    tables = judge_records(judged, estimates_of(found or subsets()), swaps or {})
    for name, rows in tables.items():
        for row in rows:
            assert set(row) == set(JUDGE_TABLES[name]), name
    return tables


@pytest.mark.parametrize("accuracy, passes", [(0.6, False), (0.9, True), (0.5, False)])
def test_a_judge_that_is_right_too_seldom_enters_nothing(accuracy, passes):
    rng, n = np.random.default_rng(3), 40
    verdicts = {
        tag: {
            **calibration(rng, accuracy, n),
            ("a", GOLDEN): agreed(rng.integers(-1, 2, n)),
            ("b", GOLDEN): agreed(rng.integers(-1, 2, n)),
        }
        for tag in TAGS
    }
    tables = records([pairwise(verdicts), pairwise(verdicts, "other")], subsets(n))
    for judge in tables["judges"]:
        assert judge["calibrated"] is passes
        assert judge["accuracy"] == pytest.approx(accuracy, abs=0.06)
        assert judge["accuracy_low"] < accuracy < judge["accuracy_high"]
        assert (judge["accuracy_n"], judge["accuracy_contexts"]) == (3 * 3 * n, n)
        assert (judge["reason"] is None) is passes
    assert bool(tables["judge_correlations"]) is bool(tables["judge_agreement"]) is passes
    assert {r["calibrated"] for r in tables["judge_scores"]} == {passes}
    assert len(tables["judge_scores"]) == 2 * 3 * 5


def test_the_gate_takes_the_point_estimate():
    for right, passes in ((5, False), (6, True)):  # of 8 contexts, .75 is enough
        golden = agreed([1] * right + [-1] * (N - right))
        (judge,) = records([pairwise({"IDTest": {(GOLDEN, "echo"): golden}})])["judges"]
        assert judge["calibrated"] is passes and judge["accuracy"] == right / N
        ends = wilson_interval(right / N, N)
        assert (judge["accuracy_low"], judge["accuracy_high"]) == pytest.approx(ends)
        assert judge["accuracy_echo"] == right / N and judge["accuracy_unshifted"] is None


def test_whoever_takes_the_first_answer_fails():
    first = np.tile(np.array([1.0, -1.0])[None, :, None], (N, 1, 1))
    (judge,) = records([pairwise({"IDTest": {(GOLDEN, "echo"): first}})])["judges"]
    assert (judge["accuracy"], judge["flips"], judge["calibrated"]) == (0, 1, False)
    assert judge["flips_low"] < 1 == judge["flips_high"]


def test_a_judge_without_reference_rows_is_not_calibrated():
    verdicts = {"IDTest": {("a", GOLDEN): agreed(np.ones(N))}}
    tables = records([pairwise(verdicts)])
    (judge,) = tables["judges"]
    assert not judge["calibrated"] and judge["accuracy"] is None
    assert "in 0 contexts" in judge["reason"]
    assert not tables["judge_correlations"]
    (score,) = tables["judge_scores"]
    assert (score["value"], score["n"], score["calibrated"]) == (1.0, N, False)


def test_win_rates_count_ties_and_flips_as_half():
    verdicts = agreed([1, 1, 1, 0, -1, -1, np.nan, 0])
    verdicts[7, :, 0] = 1, -1
    found = {"IDTest": {**perfect(), ("a", GOLDEN): verdicts, ("a", "b"): verdicts}}
    tables = records([pairwise(found)])
    score, between = [r for r in tables["judge_scores"] if r["rpm"] == "a"]
    assert (score["against"], between["against"]) == (GOLDEN, "b")
    assert score["value"] == between["value"] == pytest.approx(4 / 7)
    assert score["n"] == 7 and score["flips"] == pytest.approx(1 / 7)
    assert (score["value_low"], score["value_high"]) == pytest.approx(wilson_interval(4 / 7, 7))


def test_scores_have_means_and_calibrate_by_comparison():
    rng = np.random.default_rng(0)
    scores = {GOLDEN: np.full((N, 1), 8.0), "echo": np.full((N, 1), 3.0)}
    scores["echo"][0] = 8  # a tie
    scores["a"] = rng.integers(1, 11, (N, 1)).astype(float)
    one = Judgments("judge", POINTWISE, "file", {}, {"IDTest": scores}, 0, 0)
    tables = records([one])
    (judge,) = tables["judges"]
    assert judge["accuracy"] == 7 / 8 and judge["calibrated"] and judge["flips"] is None
    score = tables["judge_scores"][-1]
    assert (score["rpm"], score["against"], score["flips"]) == ("a", None, None)
    assert score["value"] == pytest.approx(scores["a"].mean())
    error = scores["a"].std(ddof=1) / np.sqrt(N)
    half = (score["value_high"] - score["value_low"]) / 2
    assert half == pytest.approx(2.364624 * error, rel=1e-5)


def test_repeated_calls_give_the_retest_variance():
    calls = agreed(np.ones(N)).repeat(2, axis=2)
    calls[:, 0, 1] = -1  # another verdict in the first order: variance .5, and none in the second
    (judge,) = records([pairwise({"IDTest": {("a", GOLDEN): calls}})])["judges"]
    assert judge["retest_variance"] == pytest.approx(0.25)
    assert judge["retest_variance_n"] == N
    once = records([pairwise({"IDTest": {("a", GOLDEN): calls[..., :1]}})])["judges"][0]
    assert once["retest_variance"] is None and once["retest_variance_n"] == 0


def test_agreement_leaves_reference_rows_out():
    said = [1, 1, 0, 0, -1, -1, 1, -1]
    same = {"IDTest": {**perfect(), ("a", GOLDEN): agreed(said)}}
    turned = {"IDTest": {**perfect(), ("a", GOLDEN): agreed([-x for x in said])}}
    (found,) = records([pairwise(same), pairwise(same, "twin")])["judge_agreement"]
    assert (found["alpha"], found["n"], found["judges"]) == (1.0, N, ["judge", "twin"])
    (found,) = records([pairwise(same), pairwise(turned, "foe")])["judge_agreement"]
    assert found["alpha"] < -0.5 and found["alpha_high"] < 0.2
    flat = {"IDTest": {**perfect(), ("a", GOLDEN): agreed(np.ones(N))}}
    (found,) = records([pairwise(flat), pairwise(flat, "twin")])["judge_agreement"]
    assert found["alpha"] is None and "the same" in found["reason"]


def level(s, rpm, keep):
    return r_emi_of(s, rpm, keep)


def test_correlations_are_those_of_the_cells_and_delete_a_context_everywhere():
    rng, found = np.random.default_rng(1), subsets()
    said = {
        tag: {**perfect(), **{(r, GOLDEN): agreed(rng.integers(-1, 2, N)) for r in "ab"}}
        for tag in TAGS
    }
    rows = {r["measure"]: r for r in records([pairwise(said)], found)["judge_correlations"]}
    assert list(rows) == ["r_emi", "baseline", "lost", "r_emid"]

    def correlations(keep):
        measured = [[level(s, r, keep) for r in "ab"] for s in found]
        judged = [[said[t][r, GOLDEN][keep, 0, 0].mean() for r in "ab"] for t in TAGS]
        measured, judged = np.array(measured), np.array(judged)
        drops = measured[0] - measured[1:], judged[0] - judged[1:]
        return [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in ((measured, judged), drops)]

    whole = correlations(list(range(N)))
    deleted = np.array([correlations([i for i in range(N) if i != j]) for j in range(N)])
    for name, value, without, cells in zip(
        ("r_emi", "r_emid"), whole, deleted.T, (6, 4), strict=True
    ):
        row = rows[name]
        assert (row["cells"], row["rpms"], row["contexts"]) == (cells, 2, N)
        assert row["pearson"] == pytest.approx(value, abs=1e-4)
        error = jackknife_error(np.arctanh(without))
        ends = np.tanh(np.arctanh(value) + 2.364624 * error * np.array([-1, 1]))
        assert (row["pearson_low"], row["pearson_high"]) == pytest.approx(ends, abs=2e-3)
    assert rows["lost"]["cells"] == 0 and "0 of at least 4" in rows["lost"]["reason"]


def test_a_judge_that_says_what_r_emi_says_correlates_with_it():
    rpms, n = "abcd", 12
    found = subsets(n, rpms)
    every = list(range(n))
    levels = {(s.tag, r): level(s, r, every) for s in found for r in rpms}
    low, high = min(levels.values()), max(levels.values())
    scores = {
        s.tag: {
            GOLDEN: np.full((n, 1), 11.0), "echo": np.full((n, 1), 0.0),
            **{r: np.full((n, 1), 10 * (levels[s.tag, r] - low) / (high - low)) for r in rpms},
        }
        for s in found
    }  # fmt: skip
    one = Judgments("judge", POINTWISE, "file", {}, scores, 0, 0)
    rows = {r["measure"]: r for r in records([one], found)["judge_correlations"]}
    for name, cells in (("r_emi", 12), ("r_emid", 8)):
        assert rows[name]["cells"] == cells
        assert rows[name]["pearson"] == pytest.approx(1, abs=1e-4)
        assert rows[name]["spearman"] == pytest.approx(1)
        assert rows[name]["pearson_low"] > 0.5


def test_too_few_cells_cannot_be_told():
    said = {"IDTest": {**perfect(), **{(r, GOLDEN): agreed([1, 0] * 4) for r in "ab"}}}
    for row in records([pairwise(said)])["judge_correlations"]:
        assert row["pearson"] is None and "of at least 4" in row["reason"]
        assert row["cells"] == (2 if row["measure"] in ("r_emi", "baseline") else 0)


def test_what_is_the_same_everywhere_has_no_correlation():
    said = {t: {**perfect(), **{(r, GOLDEN): agreed(np.ones(N)) for r in "ab"}} for t in TAGS}
    rows = {r["measure"]: r for r in records([pairwise(said)])["judge_correlations"]}
    assert rows["r_emi"]["pearson"] is None and "same everywhere" in rows["r_emi"]["reason"]


def test_counterparts_share_a_group_and_others_do_not():
    found = [*subsets(), with_reference_rows(subset_of("Theater", 50, 3.0))]
    groups = joint_groups(estimates_of(found))
    assert (groups["german"] == groups["IDTest"]).all()
    assert not set(groups["Theater"]) & set(groups["IDTest"])

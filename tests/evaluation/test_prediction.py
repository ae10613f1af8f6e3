"""The worst case of each shift, predicted without golden responses to shifted contexts."""

import json
from pathlib import Path

import numpy as np
import pytest

from remid_jax.analysis.prediction import rank_record
from remid_jax.data import prompts
from remid_jax.data.reading import load_benchmark
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import check_config
from remid_jax.evaluation.plan import make_plan
from remid_jax.evaluation.prediction import PAIRS, STAND_INS, spread_evenly
from remid_jax.evaluation.requests import costs
from remid_jax.evaluation.task import make_task
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.information.bound_estimates import (
    BoundBlocks,
    linear_bound_estimate,
    predict_worst_case,
)
from remid_jax.information.precision import double_precision
from remid_jax.information.uncertainty import t_interval
from remid_jax.models.pretrained import load_language_model

RPMS = ("full_context", "last_turn_only")


@pytest.fixture
def config(small_config):
    """Of which R-EMI takes one cyclic shift alone, so that own pairs are missing too."""
    c = small_config
    c.estimator.negatives, c.estimator.num_negatives, c.estimator.emi_shifts = "cyclic", 1, -1
    c.prediction.enabled = True
    return c


def planned(config, folder):
    config.dry_run = True
    stages = diagnose(config, folder)["plan"]["stages"]
    config.dry_run = False
    return {s["what"]: s for s in stages}


def answers_of(config, folder):
    """RPM, `golden` or `q` -> tag -> token ids of each context's answer; and the prompts of all."""
    cache = Cache(folder / "cache")
    plan = make_plan(make_task(config, None, False), cache)
    assert plan.is_final
    found = {
        name: {tag: [y.tokens for y in s.responses[name]] for tag, s in plan.subsets.items()}
        for name in ("golden", *RPMS)
    }
    draws = plan.prediction.draws
    found["q"] = {tag: [cache.generated(r)[0].tokens for r in rs] for tag, rs in draws.items()}
    longest = max(map(len, found["golden"]["IDTest"]))
    for r in plan.prediction.drawn:  # q's own law, at the length of golden answers
        how = r.sampling.temperature, r.sampling.top_p, r.sampling.repetition_penalty, r.draws
        assert how == (1, 1, 1, 1) and r.sampling.max_tokens == longest
    return found


def prompts_of(config, folder, encode):
    """Tag -> the prompts of q, each context with its thought."""
    lines = (folder / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    subsets = load_benchmark(config.benchmark).subsets
    found = {}
    for record in map(json.loads, lines):
        tag = record["subset_tag"]
        (sample,) = (s for s in subsets[tag] if s.sample_id == record["sample_ID"])
        asked = encode(prompts.scorer_messages(sample, record["thought"]))
        found.setdefault(tag, []).append(asked)
    return found


def test_records_are_those_of_directly_scored_blocks(config, tmp_path):
    results = diagnose(config, tmp_path)
    model = load_language_model(config.model.path)
    said = answers_of(config, tmp_path)
    asked = prompts_of(config, tmp_path, model.tokenizer.encode_chat)

    def scores(of, name, under):
        return np.asarray(pair_log_likelihoods(model, asked[under], said[name][of]).sums)

    records = {(r["rpm"], r["subset"]): r for r in results["prediction"]}
    assert list(records) == [(rpm, tag) for rpm in RPMS for tag in ("german", "Literature")]
    home, r_emid = "IDTest", {(r["rpm"], r["subset"]): r["r_emid"] for r in results["rows"]}
    for (rpm, tag), record in records.items():
        for name, golden, estimate in (
            ("predicted", "q", predict_worst_case),
            ("bound", "golden", linear_bound_estimate),
        ):
            blocks = BoundBlocks(
                np.diagonal(scores(home, rpm, home)),
                scores(home, rpm, tag),
                scores(tag, rpm, tag),
                scores(home, "golden", home),
                np.diagonal(scores(tag, golden, tag)),
                scores(tag, golden, home),
            )
            with double_precision():
                value, error, freedom = map(float, estimate(blocks))
            low, high = t_interval(value, error, freedom)
            found = [record[f"{name}{x}"] for x in ("", "_se", "_low", "_high")]
            np.testing.assert_allclose(found, [value, error, low, high], rtol=1e-3, atol=2e-3)
        assert (record["n"], record["n_id"]) == (3, 3)
        assert record["measured"] == r_emid[rpm, tag]
        assert record["shift"] == {"german": "user", "Literature": "character"}[tag]
    assert results["prediction_rank"] == [rank_record(results["prediction"], 0)]


def test_off_nothing_is_asked_and_nothing_said(config, tmp_path):
    config.prediction.enabled = False
    assert not {STAND_INS, PAIRS} & set(planned(config, tmp_path / "run"))
    results = diagnose(config, tmp_path / "run")
    assert results["prediction"] == results["prediction_rank"] == []
    off = {(r["rpm"], r["subset"]): r for r in results["rows"]}
    config.prediction.enabled = True
    more = diagnose(config, tmp_path / "run")  # the diagnosis is what it was
    assert {(r["rpm"], r["subset"]): r for r in more["rows"]} == off
    assert len(more["prediction"]) == 4


def test_golden_responses_to_shifted_contexts_do_not_enter(config, tmp_path):
    config.estimator.negatives = "all"
    before = diagnose(config, tmp_path / "a")["prediction"]
    content = json.loads(Path(config.benchmark).read_text(encoding="utf-8"))
    for split, records in content.items():
        for r in records if split != "IDTest" else ():
            r["agent_golden_response"] = r["agent_golden_response"][::-1]
    path = tmp_path / "other.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    config.benchmark = str(path)
    after = diagnose(config, tmp_path / "b")["prediction"]
    for a, b in zip(before, after, strict=True):
        assert a["predicted"] == pytest.approx(b["predicted"], abs=2e-3)
        assert abs(a["bound"] - b["bound"]) > 0.05


def test_a_dry_run_counts_what_is_then_done(config, tmp_path):
    stages = planned(config, tmp_path)
    drawn, scored = stages[STAND_INS], stages[PAIRS]
    assert (drawn["contexts"], drawn["known_share"]) == (6, 0)
    # Under 3 contexts in distribution: of two shifts 3 answers of q, and 3 golden ones that are
    # alike in both; the pairs of golden ones in distribution are there for the shuffled row.
    at_home = 3 * (2 * 3 + 3)
    # Under 3 of each shift: of two RPMs the 3 answers in distribution, and of the 3 own ones the
    # third that is neither on the diagonal nor on the cyclic shift; of q the own answer.
    away = 2 * (2 * (3 * 3 + 3) + 3)
    assert (scored["contexts"], scored["known_share"]) == (9, 0)
    assert scored["pairs"] == at_home + away
    most = make_plan(make_task(config, None, False), Cache())
    diagnose(config, tmp_path)
    assert planned(config, tmp_path) == {}
    done = make_plan(make_task(config, None, False), Cache(tmp_path / "cache"))
    assert not most.is_final and not most.second and done.is_final

    def flops(plan):
        return sum(c.flops for c in costs(plan.requests))

    assert 0.5 * flops(most) < flops(done) <= flops(most)


def test_fewer_contexts_are_fewer_pairs(config, tmp_path):
    config.limits.contexts = 6
    every = planned(config, tmp_path)
    config.prediction.contexts = 3
    some = planned(config, tmp_path)
    assert (every[STAND_INS]["contexts"], some[STAND_INS]["contexts"]) == (12, 6)
    assert some[PAIRS]["pairs"] < 0.4 * every[PAIRS]["pairs"]
    records = diagnose(config, tmp_path)["prediction"]
    assert {(r["n"], r["n_id"]) for r in records} == {(3, 3)}
    assert spread_evenly(6, 3) == [0, 2, 4] and spread_evenly(4, 0) == [0, 1, 2, 3]
    assert spread_evenly(2, 3) == [0, 1]


def test_a_cut_run_goes_on_to_the_same_records(config, tmp_path):
    whole = diagnose(config, tmp_path)["prediction"]
    files = sorted((tmp_path / "cache").rglob("*.result"))
    for file in files[::3]:
        file.unlink()
    assert planned(config, tmp_path)
    assert diagnose(config, tmp_path)["prediction"] == whole


def test_parts_of_a_job_array_share_it(config, tmp_path):
    alone = diagnose(config, tmp_path / "alone")["prediction"]
    for k in (0, 1, 0):
        config.shard = f"{k}/2"
        assert diagnose(config, tmp_path / "two")["unfinished"]
    config.shard = "1/2"
    assert diagnose(config, tmp_path / "two")["prediction"] == alone


def test_a_mixture_of_thoughts(config, tmp_path):
    config.shifts, config.reasoning.temperature = ("german",), 1.0
    config.reasoning.draws, config.reasoning.thought_free = 2, 0.5
    results = diagnose(config, tmp_path)
    assert len(results["prediction"]) == 2 and planned(config, tmp_path) == {}
    assert all(np.isfinite(r["predicted"]) for r in results["prediction"])
    plan = make_plan(make_task(config, None, False), Cache(tmp_path / "cache"))
    asked = plan.subsets["german"].asked
    for i, r in enumerate(plan.prediction.drawn):
        assert r.prompt in {asked.plain[i], *asked.thoughts[i]}
    # What the diagnosis scores of the mixture is what the prediction reads of it.
    with np.load(tmp_path / "pairs" / "german.npz") as saved:
        own = np.diagonal(saved["golden/scores"])
    extra = plan.prediction.extras["german"].values(Cache(tmp_path / "cache"))
    assert np.isfinite(own).all() and np.isfinite(extra["full_context", "IDTest"]).all()


def test_clustered_contexts_have_no_interval(config, tmp_path):
    config.estimator.update(negatives="all", clusters="persona")
    for r in diagnose(config, tmp_path)["prediction"]:
        assert r["predicted"] is not None and r["bound"] is not None
        assert {r[f"{name}_{x}"] for name in ("predicted", "bound") for x in ("se", "low")} == {
            None
        }


def test_contexts_without_an_answer_are_left_out(config, tmp_path):
    config.estimator.negatives = "all"
    config.limits.contexts, config.limits.excluded_share, config.shifts = 4, 0.5, ("german",)
    subsets = load_benchmark(config.benchmark).subsets
    silent = {"few": ("german", 3), "fewer": ("IDTest", 2)}  # from which context on
    lines = [
        {
            "sample_ID": s.sample_id,
            "model_response": {
                rpm: "" if tag == where and i >= first else f"I am {i}, {s.persona}"
                for rpm, (where, first) in silent.items()
            },
        }
        for tag in ("IDTest", "german")
        for i, s in enumerate(subsets[tag][:4])
    ]
    path = tmp_path / "responses.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    config.responses = str(path)
    few, fewer = diagnose(config, tmp_path / "run")["prediction"]
    assert (few["rpm"], few["n"], few["n_id"]) == ("few", 3, 4)
    assert np.isfinite([few["predicted"], few["bound"], few["measured"]]).all()
    assert (fewer["rpm"], fewer["n"], fewer["n_id"]) == ("fewer", 4, 2)
    assert fewer["predicted"] is fewer["bound"] is fewer["measured"] is None


@pytest.mark.parametrize("key, value, what", [
    ("estimator.normalisation", "token", "normalisation='sequence'"),
    ("estimator.span", "reference", "span='response'"),
    ("prediction.contexts", 2, r"contexts must be at least 3"),
])  # fmt: skip
def test_what_cannot_be_predicted_is_refused(config, key, value, what):
    group, name = key.split(".")
    config[group][name] = value
    with pytest.raises(UserError, match=what):
        check_config(config)


def pairs_of(predicted, measured):
    return [{"predicted": a, "measured": b} for a, b in zip(predicted, measured, strict=True)]


def test_golden_responses_are_needed_in_distribution(config, tmp_path):
    content = json.loads(Path(config.benchmark).read_text(encoding="utf-8"))
    for record in content["IDTest"]:
        record["agent_golden_response"] = ""
    config.benchmark = str(tmp_path / "b.json")
    Path(config.benchmark).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="needs golden responses in distribution"):
        diagnose(config, tmp_path / "run")
    assert not (tmp_path / "run" / "cache").exists()


def test_rank_correlation():
    found = rank_record(pairs_of([1, 2, 3, 4, None], [1, 3, 9, 27, 5]), 0)
    assert found["n"] == 4 and found["spearman"] == pytest.approx(1)
    assert found["p_value"] == pytest.approx(2 / 24)
    few = rank_record(pairs_of([1, 2, 3, 4], [1, None, 9, 27]), 0)
    assert few == {"n": 3, "spearman": None, "p_value": None}
    alike = rank_record(pairs_of([1, 2, 3, 4], [5, 5, 5, 5]), 0)
    assert alike == {"n": 4, "spearman": None, "p_value": None}
    assert rank_record([], 0)["n"] == 0
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 12))
    many = rank_record(pairs_of(a, -a + 0.1 * b), 1)
    assert many["spearman"] < -0.9 and many["p_value"] <= 1e-3
    assert many == rank_record(pairs_of(a, -a + 0.1 * b), 1)

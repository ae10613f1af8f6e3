"""Several thoughts a context, whose mean q is scored."""

import collections
import dataclasses
import json
import math

import numpy as np
import pytest

from remid_jax.data import prompts
from remid_jax.data.reading import load_benchmark
from remid_jax.data.thoughts import word_agreement
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import check_config
from remid_jax.evaluation.plan import make_plan, sampling_of
from remid_jax.evaluation.requests import costs
from remid_jax.evaluation.task import make_task
from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.models.pretrained import load_language_model

DRAWS = 3


@pytest.fixture
def config(small_config):
    c = small_config
    c.shifts, c.profile.swaps = ("german",), 0
    c.reasoning.temperature, c.reasoning.draws = 1.0, DRAWS
    return c


def matrices(folder, tag="german"):
    with np.load(folder / "pairs" / f"{tag}.npz") as saved:
        return {name: saved[name] for name in saved.files}


def thoughts_of(folder):
    lines = (folder / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    return {r["sample_ID"]: r["thought"] for r in map(json.loads, lines)}


def directly(c, ids, notes, repeat):
    """[len(notes), N] log q of golden responses under one context with each of its notes."""
    model = load_language_model(c.model.path)
    by_id = {s.sample_id: s for s in load_benchmark(c.benchmark).subsets["german"]}
    encode = model.tokenizer.encode_chat
    asked = [encode(prompts.scorer_messages(by_id[ids[repeat]], r)) for r in notes]
    golden = [model.tokenizer.encode(by_id[i].golden) for i in ids]
    return pair_log_likelihoods(model, asked, golden).sums


def log_mean(columns, weights):
    """log Σ w_k exp(log q_k), one number after the other."""
    best = columns.max(0)
    parts = [
        [w * math.exp(v - b) for v, b in zip(row, best, strict=True)]
        for w, row in zip(weights, columns, strict=True)
    ]
    return [math.log(math.fsum(p)) + b for p, b in zip(zip(*parts, strict=True), best, strict=True)]


@pytest.mark.parametrize("free", [0.0, 0.25])
def test_scores_are_the_log_of_a_mean_over_thoughts(config, tmp_path, free):
    config.reasoning.thought_free = free
    results = diagnose(config, tmp_path)
    found, drawn = matrices(tmp_path), thoughts_of(tmp_path)
    ids, effective = found["sample_ids"].tolist(), []
    assert all(isinstance(t, list) and len(t) == DRAWS for t in drawn.values())
    assert any(len(set(t)) > 1 for t in drawn.values())
    weights = [(1 - free) / DRAWS] * DRAWS + [free]
    for i, sample in enumerate(ids):
        parts = directly(config, ids, [*drawn[sample], None], i)
        expected = log_mean(parts, weights)
        np.testing.assert_allclose(found["golden/scores"][i], expected, atol=1e-3)
        share = np.exp(parts[:DRAWS, i] - parts[:DRAWS, i].max())
        effective.append(share.sum() ** 2 / (share**2).sum())
    said = results["provenance"]["effective_thoughts"]
    assert set(said) == {"IDTest", "german"} and said["german"]["n"] == 3
    assert said["german"]["mean"] == pytest.approx(np.mean(effective), abs=1e-3)
    agreed = results["provenance"]["thought_agreement"]["german"]
    expected = [word_agreement(drawn[sample]) for sample in ids]
    assert agreed["agreement"] == pytest.approx(np.mean(expected)) and agreed["n"] == 3
    assert said["german"]["se"] == pytest.approx(np.std(effective, ddof=1) / 3**0.5, abs=1e-3)


def test_the_prompt_without_a_thought_bounds_what_can_be_lost(config, tmp_path):
    """By −log w, also where EMI needs fewer pairs without reasoning than R-EMI with it."""
    config.reasoning.draws, config.estimator.emi_shifts = 1, 1
    diagnose(config, tmp_path)
    one = matrices(tmp_path)
    config.reasoning.thought_free = w = 0.1
    diagnose(config, tmp_path)
    both = matrices(tmp_path)
    assert np.isnan(one["full_context/scores_without_reasoning"]).any()
    for name in ("golden", "full_context", "last_turn_only"):
        alone, plain = one[f"{name}/scores"], both[f"{name}/scores_without_reasoning"]
        assert np.isfinite(plain).all()
        expected = np.log((1 - w) * np.exp(alone - plain) + w) + plain
        np.testing.assert_allclose(both[f"{name}/scores"], expected, rtol=1e-12)
        assert np.all(both[f"{name}/scores"] >= plain + math.log(w))
        known = np.isfinite(one[f"{name}/scores_without_reasoning"])
        np.testing.assert_array_equal(
            one[f"{name}/scores_without_reasoning"][known], plain[known], err_msg=name
        )


def test_one_thought_is_what_it_was(config, tmp_path):
    """Sums of cached scores bit by bit, a text and no list, and no word of a mixture."""
    config.reasoning.draws, config.reasoning.temperature = 1, 0.0
    results = diagnose(config, tmp_path)
    assert "effective_thoughts" not in results["provenance"]
    assert all(isinstance(t, str) for t in thoughts_of(tmp_path).values())
    cache = Cache(tmp_path / "cache")
    task = make_task(config, None, False)
    subset, found = make_plan(task, cache).subsets["german"], matrices(tmp_path)
    assert [r.draws for r in subset.thoughts] == [1, 1, 1]
    assert len(subset.scores.requests) == 6
    for i, request in enumerate(subset.scores.requests[:3]):
        by_response = dict(zip(request.responses, cache.scored(request), strict=True))
        for j, y in enumerate(subset.responses["golden"]):
            value = by_response[y.tokens].astype(np.float64).sum()
            assert found["golden/scores"][i, j] == value


class Repeating(JaxEngine):
    """Draws every thought twice, and counts what is scored."""

    def __init__(self, model):
        super().__init__(model)
        self.scored = collections.Counter()

    def generate(self, prompts, config, draws=1, prefix_lengths=None):
        drawn = super().generate(prompts, config, draws, prefix_lengths)
        return (
            [d if k % draws else drawn[k + 1] for k, d in enumerate(drawn)] if draws > 1 else drawn
        )

    def score(self, prompt, responses, prefix_lengths=()):
        self.scored[tuple(prompt)] += 1
        return super().score(prompt, responses, prefix_lengths)


def test_equal_thoughts_are_scored_once_and_count_twice(config, tmp_path):
    engine = Repeating(load_language_model(config.model.path))
    diagnose(config, tmp_path, engine)
    assert set(engine.scored.values()) == {1}
    found, drawn = matrices(tmp_path), thoughts_of(tmp_path)
    ids = found["sample_ids"].tolist()
    assert all(t[0] == t[1] for t in drawn.values())
    assert any(t[1] != t[2] for t in drawn.values())
    for i, sample in enumerate(ids):
        parts = directly(config, ids, drawn[sample][1:], i)
        expected = log_mean(parts, [2 / 3, 1 / 3])
        np.testing.assert_allclose(found["golden/scores"][i], expected, atol=1e-3)


def planned(config, folder):
    config.dry_run = True
    plan = diagnose(config, folder)["plan"]
    config.dry_run = False
    return {s["what"]: {k: v for k, v in s.items() if k != "seconds"} for s in plan["stages"]}


def test_a_dry_run_counts_every_thought_at_full_length(config, tmp_path):
    config.reasoning.draws = 1
    one = planned(config, tmp_path)
    config.reasoning.draws = DRAWS
    three = planned(config, tmp_path)
    what = "likelihoods with reasoning"
    assert three["thoughts"]["contexts"] == one["thoughts"]["contexts"] == 6
    assert (three[what]["contexts"], three[what]["known_share"]) == (DRAWS * 6, 0)
    assert three[what]["pairs"] == DRAWS * one[what]["pairs"]
    # A context's thoughts share its beginning, and nothing else.
    assert one[what]["flops"] < three[what]["flops"] < DRAWS * one[what]["flops"]
    assert three["likelihoods without"] == one["likelihoods without"]
    task = make_task(config, None, False)
    for s in make_plan(task, Cache()).subsets["german"].scores.thoughts:
        assert len({r.prompt for r in s.requests}) == DRAWS
        assert not any(r.is_known for r in s.requests)
        for r in s.requests:
            ahead = r.prompt[: r.prefix_lengths[-1]]
            assert min(ahead) >= 0 and len(r.prompt) - len(ahead) > config.reasoning.max_tokens


@pytest.mark.parametrize("tokens", [1, 5])
def test_what_a_run_does_is_not_above_what_was_planned(config, tmp_path, tokens):
    config.reasoning.max_tokens = tokens
    task = make_task(config, None, False)
    most = make_plan(task, Cache())
    diagnose(config, tmp_path)
    assert planned(config, tmp_path) == {}
    done = make_plan(task, Cache(tmp_path / "cache"))
    assert not most.is_final and done.is_final

    def flops(plan):
        return sum(c.flops for c in costs(plan.scores))

    assert 0.5 * flops(most) < flops(done) <= flops(most)
    scores = sorted((tmp_path / "cache" / "score").iterdir())
    scores[0].unlink()
    left = planned(config, tmp_path)
    assert sum(s["contexts"] for s in left.values()) == 1


def test_swapped_contexts_read_no_thought(config, tmp_path):
    config.profile.swaps = 1
    three = diagnose(config, tmp_path / "three")
    config.reasoning.draws = 1
    one = diagnose(config, tmp_path / "one")
    assert three["profile"] and len(three["profile"]) == len(one["profile"])
    for a, b in zip(three["profile"], one["profile"], strict=True):
        for name in ("info", "info_golden", "lost", "info_copied"):
            assert a[name] == pytest.approx(b[name], abs=1e-3), (a["rpm"], a["factor"], name)


def test_a_cut_run_goes_on_to_the_same_bits(config, tmp_path):
    diagnose(config, tmp_path / "whole")
    expected = matrices(tmp_path / "whole")
    diagnose(config, tmp_path / "cut")
    files = sorted((tmp_path / "cut" / "cache").rglob("*.result"))
    for file in files[::3]:
        file.unlink()
    diagnose(config, tmp_path / "cut")
    for name, values in matrices(tmp_path / "cut").items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_parts_of_a_job_array_share_thoughts(config, tmp_path):
    diagnose(config, tmp_path / "alone")
    config.shard = "0/2"
    assert diagnose(config, tmp_path / "two")["unfinished"]
    config.shard = "1/2"
    diagnose(config, tmp_path / "two")
    config.shard = "0/2"
    assert "rows" in diagnose(config, tmp_path / "two")
    expected = matrices(tmp_path / "alone")
    for name, values in matrices(tmp_path / "two").items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_texts_of_a_run_can_be_collected_responses(config, tmp_path):
    diagnose(config, tmp_path / "run")
    config.responses = str(tmp_path / "run" / "responses.jsonl")
    results = diagnose(config, tmp_path / "again")
    assert {r["rpm"] for r in results["rows"]} >= {"full_context", "last_turn_only"}
    assert thoughts_of(tmp_path / "again") == thoughts_of(tmp_path / "run")


class Silent(JaxEngine):
    """Has nothing to say."""

    def generate(self, prompts, config, draws=1, prefix_lengths=None):
        drawn = super().generate(prompts, config, draws, prefix_lengths)
        return [dataclasses.replace(d, tokens=()) for d in drawn] if draws > 1 else drawn


def test_thoughts_that_are_all_empty_are_refused_before_they_are_scored(config, tmp_path):
    engine = Silent(load_language_model(config.model.path))
    with pytest.raises(UserError, match=r"all 9 thoughts about 'IDTest' are empty.*set draws to 1"):
        diagnose(config, tmp_path, engine)
    assert not (tmp_path / "cache" / "score").exists()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 2.0])
def test_a_mixture_needs_thoughts_at_temperature_one(config, temperature):
    config.reasoning.temperature = temperature
    with pytest.raises(UserError, match=r"draws is 3 .*set config\.reasoning\.temperature=1\.0"):
        check_config(config)
    config.reasoning.draws = 1
    check_config(config)


@pytest.mark.parametrize("key, value", [
    ("draws", -1), ("thought_free", 1.0), ("thought_free", -0.1),
])  # fmt: skip
def test_values_out_of_range(config, key, value):
    config.reasoning[key] = value
    with pytest.raises(UserError, match=rf"config\.reasoning\.{key} is {value}"):
        check_config(config)


def test_a_key_holds_the_number_of_thoughts(config, tmp_path):
    task = make_task(config, None, False)
    request = make_plan(task, Cache()).subsets["german"].thoughts[0]
    assert request.draws == DRAWS and request.sampling == sampling_of(config)[1]
    config.reasoning.draws = 1
    one = make_plan(make_task(config, None, False), Cache()).subsets["german"].thoughts[0]
    assert one.prompt == request.prompt and one.key != request.key

"""What a run would cost, against what it then does."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny_checkpoint import tiny_tensors, write_hugging_face, write_reader

from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.inference import cost
from remid_jax.inference.engine import JaxEngine
from remid_jax.models.pretrained import open_language_model


def planned(config, workdir):
    """The record of a dry run, and its stages by name."""
    config.dry_run = True
    plan = diagnose(config, workdir)["plan"]
    config.dry_run = False
    return plan, {s["what"]: s for s in plan["stages"]}


def flops_of(plan):
    return sum(s["flops"] for s in plan["stages"])


def test_a_dry_run_touches_nothing(small_config, tmp_path):
    plan, stages = planned(small_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert [s["contexts"] for s in plan["stages"]] == [9] * 5
    assert list(stages) == [
        "answers of full_context", "answers of last_turn_only", "thoughts",
        "likelihoods with reasoning", "likelihoods without",
    ]  # fmt: skip
    # All pairs of 3 contexts for golden (and unshifted, the same), echo and two RPMs, 3 subsets.
    assert stages["likelihoods with reasoning"]["pairs"] == 3 * 3 * 12
    assert [s["known_share"] for s in plan["stages"]] == [1, 1, 1, 0, 0]
    full, last = (stages[f"answers of {n}"]["flops"] for n in ("full_context", "last_turn_only"))
    assert full > last


def test_a_dry_run_counts_what_is_left(small_config, tmp_path):
    whole, _ = planned(small_config, tmp_path)
    diagnose(small_config, tmp_path)
    assert planned(small_config, tmp_path)[0]["stages"] == []
    scores = sorted((tmp_path / "cache" / "score").iterdir())
    for file in scores[:4]:
        file.unlink()
    plan, stages = planned(small_config, tmp_path)
    assert sum(s["contexts"] for s in plan["stages"]) == 4
    assert set(stages) <= {"likelihoods with reasoning", "likelihoods without"}
    assert 0 < flops_of(plan) < flops_of(whole)
    next((tmp_path / "cache" / "generate").iterdir()).unlink()
    _, stages = planned(small_config, tmp_path)
    drawn = [s["contexts"] for what, s in stages.items() if "likelihoods" not in what]
    assert drawn == [1]


def test_planned_pairs_and_operations_are_those_of_the_run(small_config, tmp_path, monkeypatch):
    small_config.estimator.negatives = "cyclic"
    small_config.estimator.num_negatives = 1
    small_config.shifts = ("german",)
    _, stages = planned(small_config, tmp_path / "run")
    seen, read, score = [], set(), JaxEngine.score

    def watched(engine, prompt, responses, prefix_lengths):
        c, n, beginnings = engine.config, len(prompt), [prompt[:k] for k in prefix_lengths]
        shared = max((len(x) for x in beginnings if x in read), default=0)
        read.update(beginnings)
        flops = cost.extend_flops(c, n - shared, shared) + cost.head_flops(c, 1)
        flops += sum(cost.score_flops(c, n, len(y)) for y in responses)
        seen.append((len(responses), flops))
        return score(engine, prompt, responses, prefix_lengths)

    monkeypatch.setattr(JaxEngine, "score", watched)
    diagnose(small_config, tmp_path / "run")
    scored = [stages[k] for k in ("likelihoods with reasoning", "likelihoods without")]
    assert len(seen) == sum(s["contexts"] for s in scored)
    # Answers that are alike are scored once; answers and thoughts may end before their limit.
    assert 0.8 * sum(s["pairs"] for s in scored) < sum(n for n, _ in seen)
    assert sum(n for n, _ in seen) <= sum(s["pairs"] for s in scored)
    done, most = sum(f for _, f in seen), sum(s["flops"] for s in scored)
    assert 0.5 * most < done <= 1.02 * most


def test_swapped_contexts_are_counted(small_config, tmp_path):
    small_config.shifts = ("german",)
    plain, _ = planned(small_config, tmp_path)
    small_config.profile.swaps = 1
    plan, stages = planned(small_config, tmp_path)
    # Of 3 contexts in two subsets; no dialogue has a history. Golden, shuffled, echo and two RPMs.
    changed = stages["contexts with a swapped factor"]
    assert (changed["contexts"], changed["pairs"]) == (2 * 3 * 4, 2 * 3 * 4 * 5)
    # Other prompts part at other places, where what is shared is cut.
    assert flops_of(plan) == pytest.approx(flops_of(plain) + changed["flops"], rel=0.02)


def test_collected_responses_are_counted_at_their_own_length(small_config, tmp_path):
    import json

    from remid_jax.data.reading import load_benchmark

    subsets = load_benchmark(small_config.benchmark).subsets
    chosen = [s for tag in ("IDTest", "german", "Literature") for s in subsets[tag]]

    def stages(text):
        lines = [{"sample_ID": s.sample_id, "model_response": {"mine": text}} for s in chosen]
        path = tmp_path / "responses.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)))
        small_config.responses = str(path)
        return planned(small_config, tmp_path / "run")[1]

    short, long = stages("Yes."), stages("Yes, " * 40)
    assert list(short) == ["thoughts", "likelihoods with reasoning", "likelihoods without"]
    kind = "likelihoods without"
    assert long[kind]["flops"] > 1.05 * short[kind]["flops"]
    assert long[kind]["pairs"] == short[kind]["pairs"]


def test_weights_and_sizes(small_config, tmp_path):
    plan, _ = planned(small_config, tmp_path)
    opened = open_language_model(small_config.model.path)
    assert plan["weights"] == 4 * cost.num_parameters(opened.config)
    assert plan["rate"] > 0 and plan["sizes"]["call"] > 0 and plan["longest"] > 50


def test_memory_decides_sizes_and_numbers_stay(small_config, tmp_path):
    small_config.shifts = ("german",)
    results = diagnose(small_config, tmp_path / "a")
    sizes = results["provenance"]["sizes"]
    small_config.limits.memory_bytes = 6 * 2**20
    tight = diagnose(small_config, tmp_path / "b")
    assert tight["provenance"]["sizes"]["call"] < sizes["call"]
    for a, b in zip(results["rows"], tight["rows"], strict=True):
        assert a["r_emi"] == pytest.approx(b["r_emi"], abs=2e-3)
    work, programs = (results["provenance"][k] for k in ("work", "programs"))
    assert 0 < work["tokens"] <= work["positions"]
    assert programs["compiled"] + programs["found"] >= 0 and programs["seconds"] >= 0


def test_too_little_memory_is_said_before_any_work(small_config, tmp_path):
    small_config.limits.memory_bytes = 10_000
    with pytest.raises(UserError, match="memory_bytes is 10000; prompts of"):
        diagnose(small_config, tmp_path / "run")
    assert not (tmp_path / "run" / "cache").exists()


def test_an_evaluated_model_with_a_short_window_is_named_before_any_work(small_config, tmp_path):
    path = write_reader(tmp_path / "m", seed=1, window=100)
    small_config.rpms.full_context.path = str(path)
    with pytest.raises(
        UserError, match=r"too long .* of 'full_context' \(m, 100\); shorten the sample or choose"
    ):
        diagnose(small_config, tmp_path / "run")
    assert not (tmp_path / "run" / "cache").exists()


def test_stop_strings_end_answers(small_config, tmp_path):
    # Answers end in whole tokens: by single bytes, exactly before the stop.
    window = {"max_position_embeddings": 8192}
    small_config.model.path = str(write_hugging_face(tmp_path / "m", tiny_tensors(), window))
    small_config.shifts = ("german",)
    small_config.sampling.max_tokens = 40
    free = diagnose(small_config, tmp_path)
    import json

    def answers():
        lines = (tmp_path / "responses.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        return {r["sample_ID"]: r["model_response"]["full_context"] for r in records}

    before = answers()
    letters = [c for c in "".join(before.values()) if c.isascii() and c.isalnum()]
    stop = max(set(letters), key=letters.count)
    small_config.sampling.stop_strings = (stop,)
    stopped = diagnose(small_config, tmp_path)
    after = answers()
    assert any(stop in text for text in before.values())
    for name, text in after.items():
        assert text == before[name].split(stop)[0].strip()
    cut = stopped["cut_at_max_tokens"]["IDTest"]["full_context"]
    assert cut <= free["cut_at_max_tokens"]["IDTest"]["full_context"]
    assert np.isfinite(stopped["provenance"]["planned_flops"])


def test_a_model_more_is_what_is_left(small_config, tmp_path):
    both = small_config.rpms.to_dict()
    del small_config.rpms.last_turn_only
    diagnose(small_config, tmp_path)
    small_config.rpms.last_turn_only = ConfigDict(both["last_turn_only"])
    _, stages = planned(small_config, tmp_path)
    assert list(stages) == [
        "answers of last_turn_only", "likelihoods with reasoning", "likelihoods without",
    ]  # fmt: skip
    assert stages["likelihoods with reasoning"]["pairs"] == 3 * 3 * 3  # its answers alone

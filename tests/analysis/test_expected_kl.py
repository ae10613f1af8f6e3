"""E KL(p_θ‖q) of answers that were drawn from the models' own laws."""

import json

import numpy as np
import pytest

from remid_jax.data import prompts
from remid_jax.data.reading import load_benchmark
from remid_jax.diagnosis import diagnose
from remid_jax.evaluation.cache import from_bytes
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.information.pairs import REFERENCE_ROWS
from remid_jax.models.pretrained import load_language_model


@pytest.fixture
def own_law(small_config):
    small_config.shifts = ("german",)
    small_config.sampling.temperature = 1.0
    small_config.sampling.repetition_penalty = 1.0
    return small_config


def test_it_is_the_mean_of_log_ratios(own_law, tmp_path):
    results = diagnose(own_law, tmp_path)
    model = load_language_model(own_law.model.path)
    encode = model.tokenizer.encode_chat
    files = (tmp_path / "cache" / "generate").iterdir()
    drawn = [from_bytes(f.stem, f.read_bytes()) for f in files]
    tokens = {tuple(d["tokens"].tolist()): d["log_probs"].sum() for d in drawn}
    with np.load(tmp_path / "pairs" / "german.npz") as saved:
        ids, scores = saved["sample_ids"].tolist(), saved["full_context/scores"]
    by_id = {s.sample_id: s for s in load_benchmark(own_law.benchmark).subsets["german"]}
    lines = (tmp_path / "responses.jsonl").read_text().splitlines()
    details = {r["sample_ID"]: r["response_details"] for r in map(json.loads, lines)}
    gaps = []
    for i, sample_id in enumerate(ids):
        y = tuple(details[sample_id]["full_context"]["tokens"])
        chat = encode(prompts.reply_messages(by_id[sample_id]))
        log_p = pair_log_likelihoods(model, [chat], [y]).sums[0, 0]
        assert tokens[y] == pytest.approx(log_p, abs=1e-3)
        gaps.append(log_p - scores[i, i])
    row = next(r for r in results["rows"] if (r["rpm"], r["subset"]) == ("full_context", "german"))
    assert row["expected_kl"] == pytest.approx(np.mean(gaps), abs=1e-3)
    assert row["expected_kl_se"] == pytest.approx(np.std(gaps, ddof=1) / np.sqrt(3), abs=1e-3)
    rows = results["rows"]
    assert all((r["expected_kl"] is None) == (r["rpm"] in REFERENCE_ROWS) for r in rows)


def test_another_distribution_has_none(own_law, tmp_path):
    own_law.sampling.top_p = 0.9
    assert all(r["expected_kl"] is None for r in diagnose(own_law, tmp_path)["rows"])


def test_answers_from_a_file_have_none(own_law, tmp_path):
    samples = load_benchmark(own_law.benchmark).subsets
    lines = [
        json.dumps({"sample_ID": s.sample_id, "model_response": {"copycat": s.golden}})
        for tag in ("IDTest", "german")
        for s in samples[tag]
    ]
    (tmp_path / "responses.jsonl").write_text("\n".join(lines), encoding="utf-8")
    own_law.responses = str(tmp_path / "responses.jsonl")
    rows = diagnose(own_law, tmp_path / "run")["rows"]
    assert all(r["expected_kl"] is None and r["expected_kl_se"] is None for r in rows)

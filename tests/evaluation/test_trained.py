"""A diagnosis with a trained reasoner and policy instead of the model as it is."""

import json

import jax
import numpy as np
import pytest
from tiny_checkpoint import write_reader
from tiny_model import filled

from remid_jax.data import prompts
from remid_jax.data.reading import load_benchmark
from remid_jax.data.thoughts import scorer_notes
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.inference.sampling import SamplingConfig, sample
from remid_jax.models.adapters import load_adapter, new_adapter, save_adapter, with_adapter
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import load_language_model

LORA = LoraConfig(rank=2, dropout=0.0)


@pytest.fixture
def trained(tiny_path, tmp_path):
    """Folder of an estimator whose adapters are random."""
    model = load_language_model(tiny_path)
    for i, role in enumerate(("reasoner", "policy")):
        new = new_adapter(model, LORA, jax.random.key(i))
        save_adapter(tmp_path / "estimator" / role, filled(new, seed=10 + i, scale=0.3))
    return tmp_path / "estimator"


def test_the_reasoner_notes_and_the_policy_scores(small_config, trained, tmp_path):
    c = small_config
    c.shifts, c.scorer.checkpoint = ("german",), str(trained)
    c.reasoning.repetition_penalty = 1.0
    results = diagnose(c, tmp_path / "run")
    base = load_language_model(c.model.path)
    roles = {
        role: with_adapter(base, load_adapter(trained / role, base))
        for role in ("reasoner", "policy")
    }
    assert results["provenance"]["model"]["identity"] == roles["policy"].fingerprint
    by_id = {s.sample_id: s for s in load_benchmark(c.benchmark).subsets["german"]}
    with np.load(tmp_path / "run" / "pairs" / "german.npz") as saved:
        ids, scores = saved["sample_ids"].tolist(), saved["golden/scores"]
    lines = (tmp_path / "run" / "responses.jsonl").read_text().splitlines()
    thoughts = {r["sample_ID"]: r["thought"] for r in map(json.loads, lines)}
    encode, first = base.tokenizer.encode_chat, by_id[ids[0]]
    drawn = sample(
        roles["reasoner"], [encode(prompts.section_messages(first))],
        SamplingConfig(max_tokens=c.reasoning.max_tokens),
    )  # fmt: skip
    notes = scorer_notes(base.tokenizer.decode(drawn[0].tokens).strip())
    assert thoughts[ids[0]] == notes
    asked = encode(prompts.scorer_messages(first, notes))
    golden = base.tokenizer.encode(first.golden)
    alone = pair_log_likelihoods(roles["policy"], [asked], [golden]).sums[0, 0]
    assert scores[0, 0] == pytest.approx(alone, abs=1e-3)


def test_the_policy_reads_the_core_of_each_of_several_thoughts(small_config, trained, tmp_path):
    c = small_config
    c.shifts, c.scorer.checkpoint, c.profile.swaps = ("german",), str(trained), 0
    c.reasoning.temperature, c.reasoning.draws, c.reasoning.max_tokens = 1.0, 2, 12
    diagnose(c, tmp_path / "run")
    base = load_language_model(c.model.path)
    policy = with_adapter(base, load_adapter(trained / "policy", base))
    by_id = {s.sample_id: s for s in load_benchmark(c.benchmark).subsets["german"]}
    with np.load(tmp_path / "run" / "pairs" / "german.npz") as saved:
        ids, scores = saved["sample_ids"].tolist(), saved["golden/scores"]
    lines = (tmp_path / "run" / "responses.jsonl").read_text().splitlines()
    thoughts = {r["sample_ID"]: r["thought"] for r in map(json.loads, lines)}
    first, encode = by_id[ids[0]], base.tokenizer.encode_chat
    assert [scorer_notes(t) for t in thoughts[ids[0]]] == thoughts[ids[0]]
    asked = [encode(prompts.scorer_messages(first, t)) for t in thoughts[ids[0]]]
    golden = base.tokenizer.encode(first.golden)
    each = pair_log_likelihoods(policy, asked, [golden]).sums[:, 0]
    assert scores[0, 0] == pytest.approx(np.logaddexp(*each) - np.log(2), abs=1e-3)


def test_an_estimator_of_another_base_is_refused(small_config, trained, tmp_path):
    small_config.model.path = str(write_reader(tmp_path / "other", seed=2))
    small_config.scorer.checkpoint = str(trained)
    small_config.shifts = ("german",)
    with pytest.raises(UserError, match="was trained on another base"):
        diagnose(small_config, tmp_path / "run")
    small_config.scorer.checkpoint = str(tmp_path / "nothing")
    with pytest.raises(UserError, match="no checkpoint"):
        diagnose(small_config, tmp_path / "run")

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
from remid_jax.evaluation.scoring import with_scoring
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


REMEMBERED = {
    "draws": 2, "temperature": 1.0, "thought_free": 0.25, "repetition_penalty": 1.0,
}  # fmt: skip


@pytest.fixture
def remembering(trained, tiny_path):
    """The same pair, which says how it is scored; a function that stores something else."""
    base = load_language_model(tiny_path)

    def store(scoring):
        for role in ("reasoner", "policy"):
            adapter = load_adapter(trained / role, base)
            save_adapter(trained / role, adapter, scoring)
        return str(trained)

    store(REMEMBERED)
    return store


def test_a_trained_pair_is_scored_as_it_remembers(small_config, trained, remembering, tmp_path):
    c = small_config
    c.shifts, c.scorer.checkpoint, c.profile.swaps = ("german",), str(trained), 0
    remembered = diagnose(c, tmp_path / "remembered")
    assert remembered["provenance"]["config"]["reasoning"] == {
        **c.reasoning.to_dict(), **REMEMBERED
    }  # fmt: skip
    assert c.reasoning.draws == 0  # what was given is left alone
    c.reasoning.update(REMEMBERED)
    told = diagnose(c, tmp_path / "told")
    assert told["rows"] == remembered["rows"]
    c.reasoning.draws, c.reasoning.thought_free = 1, 0.0
    assert diagnose(c, tmp_path / "one")["rows"] != told["rows"]


def test_a_key_beside_what_the_pair_remembers_is_refused(small_config, trained, remembering):
    c = small_config
    c.scorer.checkpoint = str(trained)
    c.reasoning.temperature = 0.7
    with pytest.raises(UserError, match=r"temperature is 0.7, but .* pair says 1.0: set .*draws"):
        with_scoring(c)
    c.reasoning.draws = 1
    assert with_scoring(c) is c
    c.reasoning.draws, c.reasoning.temperature = 0, 1.0
    assert with_scoring(c).reasoning.draws == 2


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"draws": 2.5}, "scoring.draws is 2.5; it must be"),
        ({"draws": 2, "temperature": 0.0}, "a mixture is of thoughts drawn at temperature 1"),
        ({"thought_free": 1.0}, r"scoring.thought_free is 1.0; it must"),
        ({"thoughts": 2}, "its scoring names 'thoughts', which no diagnosis has"),
    ],
)
def test_what_a_pair_cannot_remember_is_refused(small_config, remembering, wrong, message):
    small_config.scorer.checkpoint = remembering(wrong)
    with pytest.raises(UserError, match=message):
        with_scoring(small_config)


def test_one_thought_where_nothing_is_remembered(small_config, trained):
    assert with_scoring(small_config).reasoning.draws == 1
    small_config.scorer.checkpoint = str(trained)
    assert with_scoring(small_config).reasoning.draws == 1


def test_a_record_that_was_altered_is_refused(small_config, trained, remembering):
    record = trained / "policy" / "record.json"
    record.write_text(record.read_text().replace('"draws": 2', '"draws": 3'))
    small_config.scorer.checkpoint = str(trained)
    with pytest.raises(UserError, match=r"record\.json was altered"):
        with_scoring(small_config)

"""The model check of a benchmark: does each factor of the context matter to the responses?"""

import dataclasses
import json

import pytest

from remid_jax.data import prompts, reading
from remid_jax.data.factors import FACTORS, Factor
from remid_jax.data.rules import Violation
from remid_jax.evaluation import factor_check
from remid_jax.inference.likelihood import score_responses
from remid_jax.inference.prefix import prefill


def test_a_factor_is_replaced_by_the_next_that_differs():
    a, b, c = reading.load_benchmark().subsets["IDTest"][:3]
    b = dataclasses.replace(b, persona=a.persona)
    assert factor_check.replaced([a, b, c], 0, Factor.USER).persona == c.persona
    assert factor_check.replaced([a, b, c], 2, Factor.USER).persona == a.persona
    assert factor_check.replaced([a, b], 0, Factor.USER) is None
    changed = factor_check.replaced([a, b, c], 0, Factor.DIALOGUE)
    assert changed == dataclasses.replace(a, dialogue=b.dialogue)


def test_english_subsets_hold_the_english_half():
    chosen = factor_check.english_subsets(reading.load_benchmark())
    sizes = {tag: len(samples) for tag, samples in chosen.items()}
    assert sizes["IDTest"] == 16
    assert sizes["german"] == sizes["korean"] == 8
    assert sum(sizes.values()) == 152
    assert "IDTrain" not in sizes


def effects(matter, factor=Factor.USER, n=10):
    return [
        factor_check.Effect(f"IDTest_{i}", "IDTest", factor, 1.0 if i < matter else 0.0)
        for i in range(n)
    ]


def test_a_weak_factor_is_a_violation():
    assert list(factor_check.weak_factors(effects(8))) == []
    (found,) = factor_check.weak_factors(effects(7) + effects(9, Factor.DIALOGUE))
    assert found == Violation(
        "all English test samples",
        "user",
        "matters in 7 of 10 (70%), want 80%; not in IDTest_7, IDTest_8, IDTest_9",
    )


def test_rows_count_by_factor():
    both = effects(7) + effects(9, Factor.DIALOGUE)
    shares = ["7/10", "=", "70%", "none", "9/10", "=", "90%"]
    assert factor_check.row("IDTest", both).split() == ["IDTest", *shares]
    assert factor_check.summary(both)[0].split() == ["all", *shares]


def test_what_a_user_can_get_wrong(tmp_path, capsys):
    assert factor_check.main(["--limit", "0"]) == 2
    assert capsys.readouterr().err == "error: --limit is 0; it must be at least 1\n"
    assert factor_check.main(["--model", str(tmp_path / "none.gguf")]) == 2
    assert "none.gguf" in capsys.readouterr().err
    records = [s.to_record() for s in reading.load_benchmark().subsets["IDTest"][:3]]
    for r in records:
        r["agent_golden_response"] = None
    (tmp_path / "b.json").write_text(json.dumps(records), encoding="utf-8")
    assert factor_check.english_subsets(reading.load_benchmark(tmp_path / "b.json")) == {}
    assert factor_check.main([str(tmp_path / "b.json")]) == 2
    assert "no sample has a golden response" in capsys.readouterr().err


@pytest.mark.slow
def test_effects_on_two_samples_are_differences_of_log_likelihoods(smollm2):
    # One exchange and a question of each, so that the prompts are short.
    pair = [
        dataclasses.replace(s, dialogue=s.dialogue[-3:])
        for s in reading.load_benchmark().subsets["IDTest"][:2]
    ]
    (found,) = factor_check.factor_effects(smollm2, {"IDTest": pair}, limit=1)
    assert [(e.sample_id, e.factor) for e in found] == [("IDTest_01", factor) for factor in FACTORS]
    golden = smollm2.tokenizer.encode(pair[0].golden)

    def log_likelihood(sample):
        context = smollm2.tokenizer.encode_chat(prompts.reply_messages(sample))
        prefix = prefill(smollm2, context)
        return score_responses(smollm2, prefix, [golden])[0][:-1].sum()

    changed = dataclasses.replace(pair[0], persona=pair[1].persona)
    assert found[0].drop == pytest.approx(
        log_likelihood(pair[0]) - log_likelihood(changed), abs=1e-3
    )
    assert all(e.matters for e in found)


@pytest.mark.slow
def test_the_model_check_from_the_command_line(tmp_path, capsys, smollm2):
    def record(i, trade, name, question, golden):
        return {
            "sample_ID": f"IDTest_{i}",
            "user_persona": f"A {trade}.",
            "agent_character": {"name": name},
            "dialogue_context": [{"user_query": question}],
            "agent_golden_response": golden,
            "subset_tag": "IDTest",
            "language": "en",
        }

    purple = "Purple lanterns juggle nine elephants."
    green = "Green kettles whisper about seven mountains."
    rows = [
        record(1, "baker in Leeds", "Newton", f"Say: {purple}", f"{purple} Newton and a baker."),
        record(2, "sailor in Cork", "Homer", f"Say: {green}", f"{green} Homer and a sailor."),
    ]
    path = tmp_path / "two.json"
    path.write_text(json.dumps({"IDTest": rows}), encoding="utf-8")
    assert factor_check.main([str(path), "--limit", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["factor", "matters", "in", *FACTORS]
    assert any(line.split()[:3] == ["all", "2/2", "="] for line in lines)

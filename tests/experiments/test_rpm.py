"""An RPM is trained, then diagnosed: two commands."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from children import finished, start
from pages import commands
from safetensors.numpy import load_file
from tiny_model import filled

from benchmarks.workers import free_address
from experiments.main import main
from remid_jax.data.prompts import reply_messages
from remid_jax.data.reading import load_benchmark
from remid_jax.data.thoughts import comparable_words
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.inference.sampling import SamplingConfig, sample
from remid_jax.models.adapters import (
    adapted_fingerprint,
    load_adapter,
    new_adapter,
    save_adapter,
    with_adapter,
)
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import load_language_model
from remid_jax.models.rpm import ADAPTER, RPM, WEIGHTS, TrainedRpm, write_rpm

SMALL = (
    "steps=2", "sft.batch=2", "dpo.batch=2", "answers.prompts=2", "answers.group=2",
    "answers.max_tokens=6", "sft.learning_rate=0.05", "evaluate.tags=('german',)",
    "evaluate.batch=2", "evaluate.samples=2", "lora.rank=2", "max_prompt_tokens=0",
)  # fmt: skip


@pytest.fixture
def benchmark(short_benchmark, tmp_path):
    """The short samples, with those of IDTest as IDTrain too."""
    content = json.loads(Path(short_benchmark).read_text(encoding="utf-8"))
    content["IDTrain"] = [
        {**r, "sample_ID": f"IDTrain_{r['sample_ID']}", "subset_tag": "IDTrain"}
        for r in content["IDTest"]
    ]
    file = tmp_path / "benchmark.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return str(file)


def trained(config, workdir, *more, model, benchmark):
    keys = (f"model.path={model}", f"benchmark={benchmark}", *SMALL, *more)
    words = ["--config", config, "--workdir", str(workdir), *(f"--config.{k}" for k in keys)]
    return main(words)


@pytest.mark.parametrize("how", ["lora", "full"])
def test_a_trained_rpm_is_diagnosed(how, small_config, tiny_path, benchmark, tmp_path, capsys):
    given = {"model": tiny_path, "benchmark": benchmark}
    where = tmp_path / "sft"
    assert trained("rpm_sft", where, f"trained={how}", **given) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "trained RPM: " in said and "before" in said
    (gain,) = json.loads((where / "results.json").read_text())["gains"]
    assert gain["tag"] == "german" and gain["n"] == 2 and gain["gain"] != 0
    assert f"{gain['gain']:+.2f} (" in said
    c = small_config
    c.benchmark, c.shifts, c.profile.swaps = benchmark, ("german",), 1
    c.sampling.repetition_penalty = 1.0
    c.rpms.full_context.path = str(where)
    results = diagnose(c, tmp_path / "run")
    assert {r["rpm"] for r in results["rows"]} >= {"full_context", "last_turn_only"}
    (words,) = (c[3:] for page, c in commands() if page == "docs/tutorial.md" and "report" in c[2])
    words = [str(tmp_path / "run") if w == "runs/sft_diagnosed" else w for w in words]
    assert main(["report", *words]) in (0, 1, 3)  # the gate, as of any run
    assert "share.user in german of full_context < 0.1" in capsys.readouterr().out
    base = load_language_model(tiny_path)
    if how == "lora":
        rpm = with_adapter(base, load_adapter(where / RPM / ADAPTER, base))
    else:
        rpm = load_language_model(str(where / RPM / WEIGHTS))
    lines = (tmp_path / "run" / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    answers = {r["sample_ID"]: r["model_response"]["full_context"] for r in map(json.loads, lines)}
    samples = [s for s in load_benchmark(benchmark).subsets["german"] if s.sample_id in answers]
    asked = [base.tokenizer.encode_chat(reply_messages(s)) for s in samples]
    limit = SamplingConfig(max_tokens=c.sampling.max_tokens)
    texts = {
        who: [
            comparable_words(model.tokenizer.decode(y.tokens)) for y in sample(model, asked, limit)
        ]
        for who, model in (("rpm", rpm), ("base", base))
    }
    said = [comparable_words(answers[s.sample_id]) for s in samples]  # control characters are cut
    assert said == texts["rpm"] != texts["base"]


def test_a_run_is_not_gone_on_with_other_held_out_samples(tiny_path, benchmark, tmp_path, capsys):
    given = {"model": tiny_path, "benchmark": benchmark}
    assert trained("rpm_sft", tmp_path / "sft", **given) == 0
    content = json.loads(Path(benchmark).read_text(encoding="utf-8"))
    split = next(s for s in content.values() if s[0]["subset_tag"] == "german")
    split[0]["agent_golden_response"] = "Another answer."
    Path(benchmark).write_text(json.dumps(content), encoding="utf-8")
    assert trained("rpm_sft", tmp_path / "sft", **given) == 2
    assert "another configuration, base or file of samples" in capsys.readouterr().err


def test_no_training_without_what_the_method_reads(tiny_path, benchmark, tmp_path, capsys):
    content = json.loads(Path(benchmark).read_text(encoding="utf-8"))
    for record in content["IDTrain"]:
        record["agent_golden_response"] = None
    Path(benchmark).write_text(json.dumps(content), encoding="utf-8")
    given = {"model": tiny_path, "benchmark": benchmark}
    assert trained("rpm_sft", tmp_path / "a", **given) == 2
    assert "has no golden response, which method 'sft' needs" in capsys.readouterr().err
    assert trained("rpm_dpo", tmp_path / "b", f"start={tmp_path}", **given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: config.start") and said.count("\n") == 1


def test_weights_of_another_vocabulary_are_refused(tiny_path, benchmark, tmp_path, capsys):
    given = {"model": tiny_path, "benchmark": benchmark}
    full = ("trained=full", "evaluate.ends=False")
    assert trained("rpm_sft", tmp_path / "sft", *full, **given) == 0, capsys.readouterr().err
    file = tmp_path / "sft" / RPM / WEIGHTS / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    words = content["model"]["vocab"]
    first, second = list(words)[-2:]
    words[first], words[second] = words[second], words[first]
    file.write_text(json.dumps(content), encoding="utf-8")
    capsys.readouterr()
    assert trained("rpm_dpo", tmp_path / "dpo", f"start={tmp_path / 'sft'}", *full, **given) == 2
    said = capsys.readouterr().err
    assert "its vocabulary is not that of config.model.path" in said and said.count("\n") == 1


PROCESS = "import sys; from experiments.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
def test_two_processes_train_all_weights_as_one(tiny_path, benchmark, tmp_path):
    def begun(workdir, devices, *more):
        keys = (f"model.path={tiny_path}", f"benchmark={benchmark}", *SMALL, "trained=full",
                "evaluate.ends=False", "sft.learning_rate=0.001", "mesh.fsdp=2", *more)  # fmt: skip
        words = ["--config", "rpm_sft", "--workdir", str(tmp_path / workdir)]
        return start(PROCESS, *words, *(f"--config.{k}" for k in keys), devices=devices)

    finished(begun("one", 2))
    joined = f"processes.coordinator={free_address()}", "processes.count=2"
    for process in [begun("two", 1, *joined, f"processes.index={i}") for i in range(2)]:
        finished(process)
    one, two = (
        load_file(tmp_path / name / RPM / WEIGHTS / "model.safetensors") for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-6)


def test_who_rewarded_does_not_evaluate(small_config, tiny_path, tmp_path):
    lora, base = LoraConfig(rank=2, dropout=0.0), load_language_model(tiny_path)
    pair = {
        role: filled(new_adapter(base, lora, jax.random.key(i)), seed=i)
        for i, role in enumerate(("reasoner", "policy"))
    }
    for role, adapter in pair.items():
        save_adapter(tmp_path / "pair" / role, adapter)
    judged = TrainedRpm("migrpo", "lora", tiny_path, (adapted_fingerprint(pair["policy"]),))
    save_adapter(tmp_path / "rpm" / ADAPTER, pair["reasoner"])
    write_rpm(tmp_path / "rpm", judged)
    c = small_config
    c.shifts, c.scorer.checkpoint = ("german",), str(tmp_path / "pair")
    c.rpms.full_context.path = str(tmp_path / "rpm")
    with pytest.raises(UserError, match="rewarded by the estimator that is to evaluate it"):
        diagnose(c, tmp_path / "run")

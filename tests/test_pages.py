"""Every command of the documentation is run in a small form, or parsed where it is long."""

import importlib
import json
import re
from pathlib import Path

import jax
import pytest
from export_files import answer, lines_of, write_lines
from pages import ROOT, blocks, commands

from experiments import validate
from experiments.command_line import parse
from experiments.configurations import load_config
from experiments.main import main
from remid_jax.data import export, rename
from remid_jax.data.reading import load_benchmark
from remid_jax.evaluation.config import check_config as check_diagnosis
from remid_jax.models.adapters import new_adapter, save_adapter
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import load_language_model
from remid_jax.models.rpm import ADAPTER, RPM, TrainedRpm, write_rpm
from remid_jax.training.config import check_config as check_training
from remid_jax.training.rpm_config import check_config as check_rpm

COMMANDS = list(dict.fromkeys(words for _, words in commands()))
BENCHMARKS = [c for c in COMMANDS if "python -m benchmarks." in " ".join(c)]
MODULES = {c[2] for c in BENCHMARKS}
SMALL = ("limits.contexts=4", "sampling.max_tokens=4", "reasoning.max_tokens=3", "dry_run=True")
PLACES = (("/path/to/", ""), ("/shared/", "shared/"))  # of the pages -> in the work folder
BUNDLED = ROOT / "remid_jax" / "data" / "bundled" / "role_play_mini.json"
OWN_TAGS = {"IDTest": "ours", "german": "french", "Literature": "noir"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_path):
    """A folder with all files that the pages name, of made-up content."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("data", "models"):
        (folder / name).mkdir()
    for name in ("configs", "docs"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("model", "tuned", "models/Qwen3-8B"):
        (folder / name).symlink_to(tiny_path)
    for name in ("data/rpgbench.json", "real_dialogues.json"):
        (folder / name).symlink_to(BUNDLED)
    splits = json.loads(BUNDLED.read_text(encoding="utf-8"))
    samples = [sample for split in splits.values() for sample in split]
    write_lines(folder / "samples.jsonl", samples)
    mine = [{**s, "subset_tag": OWN_TAGS[s["subset_tag"]]}
            for s in samples if s["subset_tag"] in OWN_TAGS]  # fmt: skip
    write_lines(folder / "mine.jsonl", mine)
    config, _ = (code for page, code in blocks("python") if page == "docs/howto/judges.md")
    (folder / "judged.py").write_text(config, encoding="utf-8")
    prices = {"my-rpm": {"input": 0.15, "output": 0.6}}
    (folder / "prices.json").write_text(json.dumps(prices), encoding="utf-8")
    for name in ("march.jsonl", "april.jsonl"):
        logged = [{**s, "model_response": {"my_rpm": f"Well, {s['subset_tag']}."}} for s in mine]
        write_lines(folder / name, logged)
    model = load_language_model(tiny_path)
    for name in ("sft", "dpo"):
        adapter = new_adapter(model, LoraConfig(rank=2), jax.random.key(0))
        save_adapter(folder / "runs" / name / RPM / ADAPTER, adapter)
        write_rpm(folder / "runs" / name / RPM, TrainedRpm(name, "lora", tiny_path))
    spoken = [answer(s.sample_id, f"I am {s.sample_id}.") for s in load_benchmark()]
    write_lines(folder / "output.jsonl", spoken)
    collect = ["--collect", str(folder / "output.jsonl"), "--rpm", "my_rpm", "--out"]
    assert export.main([*collect, str(folder / "responses.jsonl")]) == 0
    return folder


@pytest.fixture
def at(place, monkeypatch):
    """The test runs in that folder."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("THEIR_KEY", "sk-theirs")
    return place


def placed(words):
    for old, new in PLACES:
        words = [word.replace(old, new) for word in words]
    return list(words)


def of(*starts):
    """The commands that begin in one of these ways, without it."""
    found = [c[len(s) :] for c in COMMANDS for s in map(tuple, map(str.split, starts))
             if c[: len(s)] == s]  # fmt: skip
    assert found, starts
    return pytest.mark.parametrize("words", found, ids=" ".join)


def test_no_command_is_left_out():
    """A test below, or one of tests/experiments (test_report.py, test_rpm.py), takes each."""
    known = (
        "experiments.main",
        "experiments.validate",
        "remid_jax.data.export",
        "remid_jax.data.rename",
        *MODULES,
    )
    others = (("pip", "install"), ("pytest",), ("remid-jax",))
    for page, command in commands():
        if command[:3] == ("python", "-m", "experiments.report"):
            assert page in ("docs/gate.md", "docs/tutorial.md")
        elif command[:2] == ("python", "-m"):
            assert command[2] in known
        else:
            assert any(command[: len(start)] == start for start in others), command
    assert len(COMMANDS) > 40


@of("python -m experiments.main", "remid-jax")
def test_an_experiment_is_as_far_as_a_dry_run_goes(words, at, tiny_path, capsys):
    words = placed(words)
    if "--help" in words:
        assert main(words) == 0
        return
    config, _ = parse(words)
    kind = config.get("experiment", "diagnose")
    if kind == "corl":
        check_training(config)
    elif kind == "rpm":
        check_rpm(config)
    elif kind in ("diagnose", "monitor"):
        if kind == "diagnose":
            check_diagnosis(config)
        if config.processes.coordinator or config.mesh.tensor > 1 or config.scorer.checkpoint:
            for path in (config.model.path, config.benchmark):
                assert Path(path).exists() or path in ("smollm2-135m-instruct", "bundled")
            return
        small = [f"--config.{key}" for key in (f"model.path={tiny_path}", *SMALL)]
        assert main([*words, *small]) == 0, capsys.readouterr().err
        assert "what this run would do, at most" in capsys.readouterr().out


@of("python -m experiments.validate")
def test_samples_are_validated(words, at, tiny_path, capsys):
    assert validate.main([*words, f"--config.model.path={tiny_path}"]) == 0
    assert capsys.readouterr().out.startswith("usable: ")


@of("python -m remid_jax.data.export")
def test_prompts_are_exported_and_answers_collected(words, at, capsys):
    assert export.main(words) == 0
    out = Path(words[words.index("--out") + 1])
    written = out if out.is_file() else out / "openai_batch.jsonl"
    assert len(lines_of(written)) > 100


@of("python -m remid_jax.data.rename")
def test_characters_are_renamed(words, at):
    assert rename.main(words) == 0
    assert (at / words[words.index("--out") + 1]).exists()


@pytest.mark.parametrize("command", BENCHMARKS, ids=" ".join)
def test_arguments_of_a_benchmark_are_known(command, at, capsys):
    """Arguments of all kinds are read before an unknown one is complained of."""
    assert importlib.import_module(command[2]).main([*command[3:], "--nothing"]) == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --nothing\n"


def test_the_tutorial(at, tiny_path, capsys):
    (words,) = (list(c[3:]) for c in COMMANDS if "runs/tutorial" in c)
    small = [f"--config.{key}" for key in (f"model.path={tiny_path}", "reasoning.max_tokens=3")]
    assert main([*words, *small]) == 0
    folder = at / "runs" / "tutorial"
    assert (folder / "report.html").exists()
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    counts = {(r["rpm"], r["subset"]): r["n"] for r in results["rows"]}
    assert counts["my_rpm", "IDTest"] == counts["my_rpm", "fantasy"] == 6


def test_the_rpm_behind_a_url(at, tiny_path, short_benchmark, chat_url, capsys):
    """The page's commands, asked of a real server of this machine."""
    dry, words = (list(c[3:]) for c in COMMANDS if "runs/server" in c)
    keys = (f"model.path={tiny_path}", f"server.url={chat_url}", "limits.contexts=3",
            f"benchmark={short_benchmark}", "sampling.max_tokens=4",
            "reasoning.max_tokens=3", "shifts=('german',)")  # fmt: skip
    small = [f"--config.{key}" for key in keys]
    assert main([*dry, *small]) == 0
    assert f"my-rpm at {chat_url}: 6 calls, about " in capsys.readouterr().out
    assert main([*words, *small]) == 0
    text = (at / "runs" / "server" / "results.json").read_text(encoding="utf-8")
    (asked,) = json.loads(text)["provenance"]["servers"]
    assert (asked["rpm"], asked["calls"], asked["failures"]) == ("my-rpm", 6, 0)
    assert asked["cost"] > 0 and "servers: my-rpm calls 6" in capsys.readouterr().out
    assert main([*dry, *small]) == 0
    assert "nothing is left to do" in capsys.readouterr().out


@of("pip install -e")
def test_extras_exist(words):
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for extra in re.findall(r"\[(\w+)\]", words[0]):
        assert f'"{extra}": [' in setup


@of("pytest")
def test_files_of_tests_exist(words):
    for word in words:
        assert not word.startswith("tests/") or (ROOT / word).exists()


@pytest.mark.parametrize(
    "code", [c for _, c in blocks("python") if "def get_config" in c], ids=lambda c: c.split()[1]
)
def test_configuration_files_are_right(code, at):
    (at / "own.py").write_text(code, encoding="utf-8")
    config = load_config("own.py")
    (check_training if config.experiment == "corl" else check_diagnosis)(config)

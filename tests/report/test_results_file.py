"""results.json: the newest results of a work folder, where they come from, and older ones."""

import json
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from remid_jax.report import terminal


def results(seed: int, value: float) -> dict:
    return {"provenance": {"config": {"seed": seed, "shifts": ("german",)}}, "rows": [value]}


def rows(path) -> list[float]:
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def test_results_of_another_configuration_are_kept_and_named(tmp_path, capsys):
    path = terminal.write_results(tmp_path, results(0, 1.0))
    terminal.write_results(tmp_path, results(0, 2.0))  # the same configuration again
    assert [f.name for f in tmp_path.iterdir()] == ["results.json"]
    assert capsys.readouterr().err == ""

    assert terminal.write_results(tmp_path, results(1, 3.0)) == path
    (kept,) = tmp_path.glob("results-*.json")
    assert rows(path) == [3.0] and rows(kept) == [2.0]
    said = capsys.readouterr().err
    assert said == f"note: results of another configuration are kept as {kept}\n"

    terminal.write_results(tmp_path, results(1, 4.0))
    assert len(list(tmp_path.iterdir())) == 2 and capsys.readouterr().err == ""
    terminal.write_results(tmp_path, results(0, 5.0))  # back to the first
    assert rows(path) == [5.0] and rows(kept) == [2.0]
    (other,) = set(tmp_path.glob("results-*.json")) - {kept}
    assert rows(other) == [4.0]


@pytest.mark.parametrize("content", ["[1, 2", "[]", "null", "[" * 5000, '{"provenance": 3}'])
def test_what_is_no_results_file_is_kept_too(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    terminal.write_results(tmp_path, results(0, 1.0))
    (kept,) = tmp_path.glob("results-*.json")
    assert kept.read_text() == content


def test_a_command_that_is_no_unicode_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "x", "--config.a=\udcff\x1b"])
    origin = terminal.provenance(ConfigDict({"seed": 0}))
    path = terminal.write_results(tmp_path, {"provenance": origin})
    command = json.loads(path.read_text(encoding="utf-8"))["provenance"]["command"]
    assert command == ["python", "-m", "x", "--config.a=\\udcff\\x1b"]
    monkeypatch.setattr(sys, "orig_argv", ["python3", "/usr/bin/remid-jax", "--config", "x"])
    assert terminal.provenance(ConfigDict())["command"] == ["remid-jax", "--config", "x"]


def test_the_revision_is_not_that_of_a_checkout_around_an_environment(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = ["git", "-C", tmp_path, *who, "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(commit, check=True)
    installed = tmp_path / "terminal.py"
    installed.write_text("")
    monkeypatch.setattr(terminal, "__file__", str(installed))
    assert terminal.git_revision() is None
    subprocess.run(["git", "-C", tmp_path, "add", "terminal.py"], check=True)
    assert terminal.git_revision() is not None

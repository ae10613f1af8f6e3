"""Where the numbers of a run come from."""

import json
import subprocess
import sys

from ml_collections import ConfigDict

from remid_jax import provenance
from remid_jax.report.results_file import write_results


def test_a_command_that_is_no_unicode_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "x", "--config.a=\udcff\x1b"])
    origin = provenance.provenance(ConfigDict({"seed": 0}))
    path = write_results(tmp_path, {"provenance": origin})
    command = json.loads(path.read_text(encoding="utf-8"))["provenance"]["command"]
    assert command == ["python", "-m", "x", "--config.a=\\udcff\\x1b"]
    monkeypatch.setattr(sys, "orig_argv", ["python3", "/usr/bin/remid-jax", "--config", "x"])
    assert provenance.provenance(ConfigDict())["command"] == ["remid-jax", "--config", "x"]


def test_the_revision_is_not_that_of_a_checkout_around_an_environment(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = ["git", "-C", tmp_path, *who, "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(commit, check=True)
    installed = tmp_path / "provenance.py"
    installed.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance.git_revision() is None
    subprocess.run(["git", "-C", tmp_path, "add", "provenance.py"], check=True)
    assert provenance.git_revision() is not None

"""Scaling over real processes: they train together, and one that fails is said."""

import os

import pytest

from benchmarks import quiet, workers
from remid_jax.errors import UserError


@pytest.mark.slow  # workers that diagnose together: see tests/evaluation/test_sharing.py
def test_two_processes_train():
    cores = len(os.sched_getaffinity(0))
    assert workers.seconds_of(workers.TRAINING, 4, min(2, cores), steps=2) > 0


def test_a_process_that_fails_is_said(tmp_path):
    command = workers.command_of({"config": "configs/none.py"}, tmp_path)
    with pytest.raises(UserError, match=r"a process ended with 2: .*config file not found"):
        workers.together([command])


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--processes", "4096"], "--processes 4096: there are"),
        (["--contexts", "2"], "at least 3"),
        (["--steps", "1"], "at least 2"),
        (["--skip-diagnosis", "--skip-training"], "leave nothing to measure"),
    ],
)
def test_what_a_user_gets_wrong(capsys, monkeypatch, flags, said):
    monkeypatch.setattr(quiet, "listen", lambda: 0.0)
    assert workers.main(["--small", *flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err

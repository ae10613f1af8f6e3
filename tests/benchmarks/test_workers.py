"""Scaling over real processes: they work together, and one that fails is said."""

import os

import pytest

from benchmarks import load_check, workers
from remid_jax.errors import UserError


@pytest.mark.slow
def test_two_processes_train():
    before, cores = os.sched_getaffinity(0), len(os.sched_getaffinity(0))
    assert workers.seconds_of(workers.TRAINING, 4, min(2, cores), steps=2)["work"] > 0
    assert os.sched_getaffinity(0) == before


def test_each_process_has_an_index_and_all_one_coordinator(tmp_path):
    settings = workers.settings_of(workers.DIAGNOSIS, 3, 2, 5)
    one, two = workers.commands_of(settings, tmp_path, 2)
    assert (one[-1], two[-1]) == tuple(f"--config.processes.index={i}" for i in range(2))
    assert one[:-1] == two[:-1] and "--config.processes.count=2" in one
    (address,) = (w for w in one if w.startswith("--config.processes.coordinator=127.0.0.1:"))
    (alone,) = workers.commands_of(settings, tmp_path, 1)
    assert address not in alone and "--config.limits.contexts=3" in alone


def test_start_up_is_told_apart():
    def seconds(start_up, work):
        return {"start_up": start_up, "work": work, "command": start_up + work}

    report = workers.report_of({
        ("diagnosis", 1): [seconds(20.0, 100.0), seconds(22.0, 110.0), seconds(18.0, 90.0)],
        ("diagnosis", 2): [seconds(20.0, 50.0), seconds(22.0, 55.0), seconds(18.0, 60.0)],
        ("training", 1): [{"work": 4.0}], ("training", 2): [{"work": 2.5}],
    })  # fmt: skip
    one, two, *training = report.json["workers"]
    assert (one["efficiency"], one["with start-up"]) == (1, 1)
    assert two["efficiency"] == 1 and two["start-up, s"] == 20
    assert two["with start-up"] == pytest.approx(120 / 70 / 2)
    assert [(row["efficiency"], row["start-up, s"]) for row in training] == [(1, "-"), (0.8, "-")]


def test_a_process_that_fails_is_said(tmp_path):
    commands = workers.commands_of({"config": "configs/none.py"}, tmp_path, 1)
    with pytest.raises(UserError, match=r"a process ended with 2: .*config file not found"):
        workers.together(commands)


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
    monkeypatch.setattr(load_check, "listen", lambda: 0.0)
    assert workers.main(["--small", *flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err

"""What the command of CoRL says of a run that is over."""

import numpy as np
import pytest
from tiny_corl import tiny_config

from experiments.corl import gains_of, print_gains
from remid_jax.training.config import stages
from remid_jax.training.held_out import Predicted, change
from remid_jax.training.run_logger import EVALUATIONS, RunLogger, read_lines

BEFORE = np.array([-30.0, -25.0, -28.0, -31.0])


@pytest.fixture
def written(tmp_path):
    """(folder, stages) of a run whose two subsets were evaluated after each stage."""
    config = tiny_config()
    records, planned = RunLogger(tmp_path, "a base", config), stages(config)
    for i, stage in enumerate(planned):
        for tag, gain in (("IDTest", [2.0, 3.0, 2.5, 2.0]), ("german", [5.0, -5.0, 1.0, 0.0])):
            late = np.array(gain) if i == len(planned) - 1 else np.zeros(4)
            sums = BEFORE + 100 * (i == 0) + late  # the first stage is no end of the cold start
            nothing = np.full(4, np.nan)
            seen = Predicted(list("abcd"), sums, np.full(4, 9), sums, *[nothing] * 4)
            records.add_evaluation(i, stage.steps, tag, seen)
    return tmp_path, planned


def test_gains_are_those_since_the_cold_start(written, capsys):
    folder, planned = written
    gains = gains_of(folder, read_lines(folder / EVALUATIONS), planned)
    assert [g["stage"] for g in gains] == [2, 2, 3, 3, 4, 4]
    assert all(g["gain"] == 0 for g in gains[:4])
    assert [(g["tag"], g["n"], g["gain"]) for g in gains[4:]] == [
        ("IDTest", 4, 2.375), ("german", 4, 0.25)
    ]  # fmt: skip
    half = 3.182446 * np.std([2.0, 3.0, 2.5, 2.0], ddof=1) / 2  # t(3) at 97.5 %
    assert gains[4]["interval"] == pytest.approx((2.375 - half, 2.375 + half), rel=1e-6)
    print_gains(gains, planned)
    out = capsys.readouterr().out.splitlines()
    assert any("5. policy_grpo" in x and "IDTest" in x and x.rstrip().endswith("rise") for x in out)
    assert any("5. policy_grpo" in x and "german" in x and "within noise" in x for x in out)


def test_samples_that_one_evaluation_lacks_are_left_out():
    found = change({"a": -1.0, "b": -2.0}, {"b": -1.5, "c": 7.0})
    assert found == {"n": 1, "gain": 0.5, "gain_se": None, "interval": None}
    assert change({"a": -1.0}, {})["gain"] is None


def test_without_a_cold_start_or_its_evaluation_there_is_nothing_to_say(written):
    folder, planned = written
    evaluations = read_lines(folder / EVALUATIONS)
    later = [e for e in evaluations if e["stage"] != 1]
    assert gains_of(folder, later, planned) == []
    assert gains_of(folder, evaluations, planned[2:]) == []

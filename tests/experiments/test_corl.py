"""What the command of CoRL says of a run that is over."""

import numpy as np
import pytest
from tiny_corl import tiny_config

from configs import corl_smollm2 as configs
from experiments.corl import (
    gains_of,
    print_compared,
    print_gains,
)
from experiments.studies.held_out import FIRST, LAST, changes, predictions
from remid_jax.errors import UserError
from remid_jax.training.config import check_config, stages
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
            seen = Predicted(
                list("abcd"), sums, np.full(4, 9), sums, nothing, mixture=sums + late,
                agreement=nothing, entropy=nothing,
            )  # fmt: skip
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
    mixed = gains[4]["mixture"]
    assert mixed["gain"] == 4.75 and mixed["interval"] == pytest.approx(
        (4.75 - 2 * half, 4.75 + 2 * half), rel=1e-6
    )
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


def test_a_run_is_compared_with_another_on_the_samples_of_both(written, tmp_path, capsys):
    folder, planned = written
    other, planned_there = tmp_path / "other", planned[:3]
    records = RunLogger(other, "a base", tiny_config())
    for i, sums in enumerate((BEFORE - 50, BEFORE - 1)):  # the last one counts
        seen = Predicted(
            list("abcz"), sums, np.full(4, 9), sums, sums, mixture=sums, agreement=sums,
            entropy=sums,
        )  # fmt: skip
        records.add_evaluation(i, planned_there[i].steps, "IDTest", seen)
    one, mixture = changes(predictions(other, LAST), predictions(folder, LAST))
    assert (one["tag"], one["scored"], one["n"]) == ("IDTest", "log_q", 3)
    assert one["gain"] == pytest.approx(np.mean([3.0, 4.0, 3.5]))
    assert mixture["gain"] == pytest.approx(np.mean([5.0, 7.0, 6.0]))
    first, _ = changes(predictions(other, FIRST), predictions(folder, LAST))
    assert first["gain"] == pytest.approx(one["gain"] + 49)
    print_compared([one, mixture], "runs/other")
    assert "runs/other" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds no evaluation of a run"):
        predictions(tmp_path / "nothing", LAST)


def test_the_control_has_as_many_supervised_steps_and_no_grpo():
    corl, control = (stages(configs.get_config(v)) for v in ("", "equal_sft"))
    assert [s.steps for s in control] == [s.steps for s in corl]
    assert [s.role for s in control] == [s.role for s in corl]
    assert [s.kind for s in control[:2]] == [s.kind for s in corl[:2]]
    assert not any(s.kind.endswith("grpo") for s in control)
    check_config(configs.get_config("equal_sft"))
    with pytest.raises(ValueError, match="choose among equal_sft, runlocal"):
        configs.get_config("sft")

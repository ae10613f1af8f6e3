"""What held-out golden responses say of a training run: its predictions, changes, tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remid_jax.errors import UserError
from remid_jax.training.experiment import Experiment
from remid_jax.training.held_out import change
from remid_jax.training.run_logger import EVALUATIONS, read_lines, read_predictions

from .pieces import print_records

Predictions = Mapping[str, Mapping[str, Mapping[str, float]]]  # subset -> way -> sample id -> nats
FIRST, LAST = 0, -1  # evaluations of a run
GAIN = "{gain:+.2f} ({interval[0]:+.2f} to {interval[1]:+.2f})"  # a cell of a table


def print_left_out(experiment: Experiment) -> None:
    """How many samples lost turns, and how many are not used at all."""
    if experiment.shortened or experiment.excluded:
        shortened, excluded = len(experiment.shortened), len(experiment.excluded)
        print(
            f"{shortened} prompts lost their oldest turns, {excluded} were too long all the same "
            "and are left out"
        )


def evaluated(folder: Path, which: int) -> list[dict[str, Any]]:
    """The lines, one a subset, of a run's FIRST or LAST evaluation.

    Raises:
      UserError: the folder holds no evaluation.
    """
    evaluations = read_lines(folder / EVALUATIONS)
    if not evaluations:
        raise UserError(f"{folder} holds no evaluation of a run")
    at = evaluations[which]["stage"], evaluations[which]["step"]
    return [e for e in evaluations if (e["stage"], e["step"]) == at]


def predictions(folder: Path, which: int) -> Predictions:
    """Subset -> way to score -> sample id -> log q of golden responses in nats; as `evaluated`."""
    return {
        e["tag"]: read_predictions(folder, e["stage"], e["step"], e["tag"])
        for e in evaluated(folder, which)
    }


def changes(before: Predictions, after: Predictions) -> list[dict[str, Any]]:
    """What log q gained on the samples of both, by subset and way to score."""
    return [
        {"tag": tag, "scored": way, **change(before[tag][way], after[tag][way])}
        for tag in after
        if tag in before
        for way in after[tag]
    ]


def print_changes(title: str, first: tuple[str, str], rows: list[dict[str, Any]]) -> None:
    """Gains with their intervals, and whether they are beyond them."""
    if not rows:
        return
    print_records(
        title,
        (first, ("subset", "{tag}"), ("scored by", "{scored}"), ("samples", "{n}"),
         ("gain", "{gain:+.2f}"), ("95 % interval", "{interval[0]:+.2f} to {interval[1]:+.2f}"),
         ("", "{verdict}")),
        [with_verdict(row) for row in rows],
        left=(first[0], "subset", "scored by", ""),
    )  # fmt: skip


def with_verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    """A gain, and which way its interval lies of 0; empty where there is none."""
    interval, said = row["interval"], ""
    if interval:
        said = "rise" if interval[0] > 0 else "fall" if interval[1] < 0 else "within noise"
    return {**row, "verdict": said}

"""A trained RPM as a folder: what it is, beside its adapter or its weights."""

import dataclasses
import json
from pathlib import Path

from remid_jax.errors import UserError
from remid_jax.files import path_of, write_atomically
from remid_jax.json_files import read_json_object
from remid_jax.models.fields import Fields

RECORD, RPM = "rpm.json", "rpm"  # of an RPM's folder; its name within the folder of a run
ADAPTER, WEIGHTS = "adapter", "weights"  # folders beside the record, of which one is there
TRAINED = ("lora", "full")


@dataclasses.dataclass(frozen=True)
class TrainedRpm:
    """How an RPM came about.

    Attributes:
      method: that trained it.
      trained: `lora`, an adapter of the base, or `full`, weights of its own.
      base: path of the base as it was configured; empty for the base of a textual world.
      judges: fingerprints of the estimators whose scores rewarded it or what it began from.
    """

    method: str
    trained: str
    base: str
    judges: tuple[str, ...] = ()


def write_rpm(folder: Path, rpm: TrainedRpm) -> None:
    """Writes the record, after adapter or weights: a folder that has it is complete.

    Raises:
      UserError: the folder cannot be written.
    """
    content = json.dumps(dataclasses.asdict(rpm), indent=1)
    write_atomically(folder / RECORD, [f"{content}\n".encode()])


def rpm_folder(path: str | Path) -> Path | None:
    """The folder of an RPM, given as itself or as the work folder of the run that trained it.

    None where neither has a record.

    Raises:
      UserError: what is no path.
    """
    folder = path_of(path, "folder of an RPM")
    found = (part for part in (folder, folder / RPM) if (part / RECORD).is_file())
    return next(found, None)


def read_rpm(folder: Path) -> TrainedRpm:
    """How the RPM of a folder came about.

    Raises:
      UserError: the record is missing or damaged.
    """
    fields = Fields(read_json_object(folder / RECORD, "RPM"), folder / RECORD)
    trained, judges = fields.text("trained"), fields.values.get("judges")
    if trained not in TRAINED:
        raise fields.error("trained", f"one of {', '.join(TRAINED)}")
    if not isinstance(judges, list) or not all(isinstance(j, str) for j in judges):
        raise fields.error("judges", "a list of fingerprints")
    return TrainedRpm(fields.text("method"), trained, fields.text("base", ""), tuple(judges))


def check_other_judge(path: str | Path, rpm: TrainedRpm, estimator: str) -> None:
    """Refuses to have an RPM evaluated by the estimator that rewarded it.

    Args:
      path: of the RPM, for the message.
      rpm: how it came about.
      estimator: fingerprint of the engine that is to evaluate.

    Raises:
      UserError: it is that of a judge.
    """
    if estimator.split("/")[0] in rpm.judges:  # behind it stands the type of a cache
        raise UserError(
            f"{path}: this RPM was rewarded by the estimator that is to evaluate it; name another "
            "one in config.scorer.checkpoint"
        )

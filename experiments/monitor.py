"""What has collapsed between two files of logged dialogues; golden responses are not needed."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data.logs import answers_of, names_in, read_log
from remid_jax.errors import UserError, visible
from remid_jax.evaluation.config import check_config, default_config
from remid_jax.files import open_workdir
from remid_jax.json_files import write_json_lines
from remid_jax.messages import log
from remid_jax.report.terminal import print_monitor
from remid_jax.settings import check_keys

from . import diagnose
from .configurations import packaged_module

BEFORE, AFTER = "before", "after"  # keys of the configuration, and tags of the subsets
SHIFT = "time"


def run(config: ConfigDict, workdir: Path) -> None:
    """Reads both logs and prints what has collapsed; with `dry_run` what that would cost."""
    check(config)
    records = _records(config)
    if config.dry_run:  # which leaves nothing behind
        with tempfile.TemporaryDirectory() as folder:
            diagnose.run(_diagnosis(config, _written(records, Path(folder))), workdir)
        return
    file = _written(records, open_workdir(workdir))
    diagnose.run(_diagnosis(config, file), workdir, print_monitor)


def check(config: ConfigDict) -> None:
    """Raises a UserError for what no diagnosis can be made of, before any file is read."""
    check_keys(config, packaged_module("monitor").KEYS)
    check_config(_diagnosis(config, ""))
    if not config.profile.swaps:
        raise UserError("config.profile.swaps is 0, but what collapsed is told by swapped factors")


def _diagnosis(config: ConfigDict, file: str) -> ConfigDict:
    """The configuration of a diagnosis of a file that holds both logs."""
    made = default_config()
    shared = {key: value for key, value in config.items() if key in made}
    with made.unlocked():
        made.update(ConfigDict(shared))
    made.experiment = "diagnose"
    made.benchmark = made.responses = file
    made.in_distribution, made.shifts = BEFORE, (AFTER,)
    made.subset_shifts = (f"{AFTER}={SHIFT}",)
    return made


def _records(config: ConfigDict) -> list[dict[str, Any]]:
    """Records of both logs with the answers of the models that both know."""
    for key in (BEFORE, AFTER):
        if not config[key]:
            raise UserError(f"config.{key} is empty: name a file of dialogues with logged answers")
    logs = {tag: read_log(config[tag], tag) for tag in (BEFORE, AFTER)}
    for tag, dialogues in logs.items():
        if dialogues.silent:
            count = dialogues.silent + len(dialogues.records)
            said = "note: %d of %d records of %s hold no answer and are left out"
            log.warning(said, dialogues.silent, count, tag)
    names = {tag: names_in(found.records) for tag, found in logs.items()}
    both = [name for name in names[BEFORE] if name in names[AFTER]]
    if not both:
        raise UserError(
            f"no model has answers in both files: before has {_listed(names[BEFORE])}, after has "
            f"{_listed(names[AFTER])}; give the one that is watched the same name in both"
        )
    for tag, known in names.items():
        if alone := {name: n for name, n in known.items() if name not in both}:
            said = "note: only %s has answers of %s; they are not compared"
            log.warning(said, tag, _listed(alone))
    return [answers_of(record, both) for found in logs.values() for record in found.records]


def _listed(names: Mapping[str, int]) -> str:
    return ", ".join(visible(name) for name in names)


def _written(records: list[dict[str, Any]], folder: Path) -> str:
    """A file of samples and answers, named by its content: other logs are another configuration."""
    digest = hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()[:8]
    file = folder / f"dialogues-{digest}.jsonl"
    write_json_lines(file, records)
    return str(file)

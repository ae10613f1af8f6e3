"""Why variants of the world study differ: right facts of thoughts, and log q slot by slot.

Reads the pairs that `configs/corl_world.py` trained; --workdir is that study's folder.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.shifts import SHIFTS
from remid_jax.errors import UserError
from remid_jax.files import open_workdir, write_atomically
from remid_jax.progress import progress
from remid_jax.report.tables import new_table, print_whole
from remid_jax.report.terminal import provenance
from remid_jax.training.experiment import make_experiment
from remid_jax.training.rollout_worker import RolloutWorker

from .configurations import packaged_module
from .corl import ESTIMATOR
from .corl_world import check, mean_and_error
from .studies.world_thoughts import FACTS, SLOTS, measure_pair
from .studies.world_truth import COLUMNS

THOUGHTS = "thoughts.json"
PLACES = (*COLUMNS, *SHIFTS["dialogue"])
TITLES = {
    "right": ("share of drawn thoughts in which a fact is right", FACTS),
    "kl": ("E[log p - log q] of a slot in nats, drawn thoughts", SLOTS),
    "kl_right": ("the same with right thoughts", SLOTS),
}


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, prints tables and writes `workdir/thoughts.json`."""
    check(config)
    started, folder = time.monotonic(), open_workdir(workdir)
    origin = provenance(config)
    runs = [(v, s) for v in config.study.variants for s in config.study.seeds]
    found: dict[str, list[Any]] = {v: [] for v in config.study.variants}
    with progress("trained pairs", len(runs)) as advance:
        for variant, seed in runs:
            found[variant].append(_measured(variant, int(seed), folder))
            advance(1)
    table = {
        measure: {v: _places(seeds, measure) for v, seeds in found.items()} for measure in TITLES
    }
    content = {
        "seeds": list(config.study.seeds), "command": " ".join(origin["command"]),
        "commit": origin["git_revision"], "seconds": time.monotonic() - started, **table,
    }  # fmt: skip
    write_atomically(folder / THOUGHTS, [json.dumps(content, indent=1).encode() + b"\n"])
    print_tables(table)


def _measured(variant: str, seed: int, folder: Path) -> Any:
    """Measures of one run, from its file where they stand there."""
    where = folder / f"{variant}-{seed}"
    if (where / THOUGHTS).exists():
        return json.loads((where / THOUGHTS).read_text(encoding="utf-8"))
    if not (where / ESTIMATOR).exists():
        raise UserError(f"{where} holds no trained pair: run configs/corl_world.py here first")
    config = packaged_module("corl_world").get_config(f"{variant},{seed}")
    config.pretraining.folder = str(folder / "base")
    config.start = str(where / ESTIMATOR)
    setting = make_experiment(config, where)
    values = measure_pair(RolloutWorker(config, setting), setting.start)
    write_atomically(where / THOUGHTS, [json.dumps(values).encode()])
    return values


def _places(seeds: list[Any], measure: str) -> dict[str, Any]:
    """Place -> name -> mean and standard error over seeds."""
    return {
        place: {
            name: mean_and_error([s[place][measure][name] for s in seeds])
            for name in seeds[0][place][measure]
        }
        for place in PLACES
        if measure in seeds[0][place]
    }


def print_tables(table: Mapping[str, Any]) -> None:
    """One table a measure: variants and places down, facts or slots across."""
    for measure, (title, names) in TITLES.items():
        texts = ("variant", "where")
        made = new_table(title, (*texts, *names), left=texts)
        for variant, places in table[measure].items():
            for place, values in places.items():
                cells = [f"{v['mean']:.3f} ± {v['se'] or np.nan:.3f}" for v in values.values()]
                made.add_row(variant, place, *cells)
        print_whole(made)

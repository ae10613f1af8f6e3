"""How far every estimator and interval can be trusted, on worlds with known truth."""

import itertools
from pathlib import Path

from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.settings import check_keys

from .configurations import packaged_module
from .studies import accuracy, coverage, faults, negatives, shapley
from .studies.pieces import run_studies

STUDIES = {
    "coverage": coverage,
    "negatives": negatives,
    "accuracy": accuracy,
    "faults": faults,
    "shapley": shapley,
}


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures piece by piece, prints the tables; results are in `workdir/results.json`."""
    check(config)
    studies = {name: study.pieces(config) for name, study in STUDIES.items()}
    results = run_studies(studies, config, workdir)
    for name, study in STUDIES.items():
        study.show(results[name])
    accuracy.figure(results["accuracy"], workdir)
    print(f"results: {workdir / 'results.json'}")


def check(config: ConfigDict) -> None:
    """Refuses what cannot be measured, before any work.

    Raises:
      UserError: a value is of another type or out of range, or values do not go together.
    """
    check_keys(config, packaged_module("calibrate").KEYS)
    c = config.coverage
    for n, g in itertools.product(c.contexts, c.clusters):
        if g and (g < 3 or n % g):
            raise UserError(
                f"config.coverage: {n} contexts cannot be split into {g} equal clusters (3 or more)"
            )
    if c.draws < c.worlds or config.faults.draws < config.faults.worlds:
        raise UserError("config.coverage.draws and config.faults.draws: one draw a world at least")
    if config.negatives.shifts >= config.negatives.contexts:
        raise UserError("config.negatives.shifts must be smaller than config.negatives.contexts")
    if config.negatives.data_sets < 2 * config.negatives.worlds:
        raise UserError("config.negatives.data_sets must be at least twice config.negatives.worlds")

"""CoRL against known truth: every seed and variant on a textual world, and their table."""

import json
import time
from pathlib import Path

from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.files import open_workdir
from remid_jax.provenance import provenance
from remid_jax.report.results_file import write_results
from remid_jax.settings import Key, check_keys, value_of, walk
from remid_jax.training.config import KEYS, check_config

from .configurations import packaged_module
from .corl import ESTIMATOR, TRUTH
from .studies.children import Child, header, run_children
from .studies.corl_tables import print_tables, record_of


def check(config: ConfigDict) -> None:
    """Raises a UserError for a key that the study cannot run with, or that has no effect."""
    module = packaged_module("corl_world")
    check_keys(config, module.KEYS)
    if not config.study.variants:
        raise UserError("config.study.variants names none")
    own = ConfigDict({name: value for name, value in config.to_dict().items() if name != "study"})
    check_config(own)
    known = module.get_config()
    for name, one in walk(KEYS):
        free = name == "experiment" or not isinstance(one, Key)
        if not free and value_of(own, name) != value_of(known, name):
            raise UserError(
                f"config.{name} has no effect: the runs of the study are corl_world:VARIANT,SEED "
                "as they are; run one by that name to change it"
            )


def run(config: ConfigDict, workdir: Path) -> None:
    """Runs what is left of the study, prints its tables and writes `workdir/results.json`."""
    check(config)
    started, folder = time.monotonic(), open_workdir(workdir)
    origin = provenance(config)
    waves = waves_of(config)
    begins = dict(config.study.begins)
    children = [[_child(v, s, folder, begins.get(v)) for v, s in wave] for wave in waves]
    run_children(children, config.study.workers)
    runs = {
        v: [json.loads(_truth_of(folder, v, s).read_text()) for s in config.study.seeds]
        for v in config.study.variants
    }
    record = record_of(runs)
    head = header(config.study.seeds, origin, time.monotonic() - started)
    scoring = {**config.scoring.to_dict(), "without_notes": config.sft.without_notes}
    write_results(folder, {**head, "scoring": scoring, **record, "provenance": origin})
    print_tables(record)
    print(f"{sum(map(len, waves))} runs in {head['seconds']:.0f} s; results: {folder}/results.json")


def waves_of(config: ConfigDict) -> list[list[tuple[str, int]]]:
    """(variant, seed) of runs that may be at work at once, in the order of these waves.

    First one run a seed, which trains the seed's base; then others that begin from the base, then
    those that go on from a pair.
    """
    variants, begins = tuple(config.study.variants), dict(config.study.begins)
    missing = {begins[v] for v in variants if v in begins} - (set(variants) - set(begins))
    if missing:
        raise UserError(f"config.study.variants needs {', '.join(sorted(missing))} to begin from")
    first, *others = (v for v in variants if v not in begins)
    waves = [first], others, [v for v in variants if v in begins]
    return [[(v, int(s)) for s in config.study.seeds for v in wave] for wave in waves]


def base_of(folder: Path, seed: int) -> Path:
    """Where the base of a seed is kept: no two seeds share one, so that errors hold it too."""
    return folder / f"base-{seed}"


def _truth_of(folder: Path, variant: str, seed: int) -> Path:
    """What a finished run measured."""
    return folder / f"{variant}-{seed}" / TRUTH


def _child(variant: str, seed: int, folder: Path, begin: str | None) -> Child:
    """One run, which may go on from the pair of the variant `begin`."""
    where = folder / f"{variant}-{seed}"
    words = [
        "--config", f"corl_world:{variant},{seed}", "--workdir", str(where),
        f"--config.pretraining.folder={base_of(folder, seed)}",
    ]  # fmt: skip
    if begin is not None:
        words += [f"--config.init_from={folder / f'{begin}-{seed}' / ESTIMATOR}",
                  "--config.cold_start=()"]  # fmt: skip
    return Child(f"{variant},{seed}", _truth_of(folder, variant, seed), tuple(words))

"""Training methods for RPMs on textual worlds: true quality, exact R-EMID, and what scores see."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data.shifts import TEST_TAGS
from remid_jax.errors import UserError
from remid_jax.files import open_workdir, write_atomically
from remid_jax.json_files import read_json_object
from remid_jax.models.adapters import load_adapter
from remid_jax.models.rpm import ADAPTER, RPM
from remid_jax.progress import progress
from remid_jax.provenance import provenance
from remid_jax.report.results_file import write_results
from remid_jax.settings import check_keys
from remid_jax.training.experiment import make_experiment
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.training.rpm_config import loop_config
from remid_jax.training.rpm_experiment import make_rpm_experiment

from .configurations import packaged_module
from .corl import ESTIMATOR
from .studies.children import Child, check_starts, header, run_children
from .studies.method_tables import print_tables, record_of, scores_of, truth_of
from .studies.method_world import measure_rpm, measure_scores

MEASURED, SCORED = "measured.json", "scored.json"


def check(config: ConfigDict) -> None:
    """Raises a UserError for what cannot be compared, before any work."""
    module = packaged_module("study_methods_world")
    check_keys(config, module.KEYS)
    check_starts(config.methods, module.STARTS)
    if not config.methods:
        raise UserError("config.methods names none")


def run(config: ConfigDict, workdir: Path) -> None:
    """Runs what is left of the study, prints its tables and writes `workdir/results.json`."""
    check(config)
    started, folder = time.monotonic(), open_workdir(workdir)
    origin = provenance(config)
    waves = waves_of(config, folder)
    run_children(waves, config.workers)
    truths, scores = [], []
    with progress("measures", len(config.seeds) * (len(config.methods) + 1)) as advance:
        for seed in map(int, config.seeds):
            measured = {}
            for method in config.methods:
                measured[method] = _measured(config, method, seed, folder)
                advance(1)
            truths.append(truth_of(measured))
            scores.append(scores_of(_scored(config, measured, seed, folder)))
            advance(1)
    module = packaged_module("study_methods_world")
    record = record_of(truths, scores, module.OVER)
    head = header(config.seeds, origin, time.monotonic() - started)
    write_results(folder, {**head, **record, "provenance": origin})
    print_tables(record)
    print(f"{sum(map(len, waves))} runs in {head['seconds']:.0f} s; results: {folder}/results.json")


def waves_of(config: ConfigDict, folder: Path) -> list[list[Child]]:
    """Runs that may be at work at once, in the order of these waves.

    First one run a seed, which trains the seed's base; then what begins from the base, then what
    begins from another RPM.
    """
    module = packaged_module("study_methods_world")
    methods = [m for m in config.methods if m != module.BASE]
    first, evaluator = module.ESTIMATORS
    begin = [m for m in methods if module.STARTS[m] is None]
    later = [m for m in methods if module.STARTS[m] is not None]
    waves = [first], [evaluator, *begin], later
    return [[_child(config, n, int(s), folder) for s in config.seeds for n in wave]
            for wave in waves if wave]  # fmt: skip


def _child(config: ConfigDict, name: str, seed: int, folder: Path) -> Child:
    module, where = packaged_module("study_methods_world"), folder / f"{name}-{seed}"
    words = ["--config", f"study_methods_world:{_variant(config, name, seed)}"]
    words += ["--workdir", str(where), f"--config.pretraining.folder={_base(folder, seed)}"]
    if start := module.STARTS.get(name):
        words.append(f"--config.start={folder / f'{start}-{seed}'}")
    if name in module.JUDGED:
        judge = folder / f"{next(iter(module.ESTIMATORS))}-{seed}" / ESTIMATOR
        words.append(f"--config.estimator={judge}")
    return Child(f"{name},{seed}", where / "results.json", tuple(words))


def _variant(config: ConfigDict, name: str, seed: int) -> str:
    return f"{name},{seed}" + (",small" if config.size == "small" else "")


def _base(folder: Path, seed: int) -> Path:
    return folder / f"base-{seed}"


def _kept(file: Path, config: ConfigDict, measure: Any) -> Any:
    """What a file holds of a measurement with these settings; measured where it holds none."""
    settings = {k: config[k] for k in ("contexts", "draws", "thoughts")}
    if file.exists():
        known = read_json_object(file, "measurement", finite=False)
        if known.get("settings") == settings:
            return known["found"]
    found = measure()
    write_atomically(file, [json.dumps({"settings": settings, "found": found}).encode()])
    return found


def _measured(config: ConfigDict, method: str, seed: int, folder: Path) -> dict[str, Any]:
    """Subset -> truth of one RPM, from its file where it stands there."""
    where = folder / f"{method}-{seed}"

    def measure() -> dict[str, Any]:
        worker, params = _rpm(config, method, seed, folder)
        subsets = worker.experiment.tests
        return measure_rpm(worker, params, subsets, config.draws, config.thoughts)

    return _kept(where / MEASURED, config, measure)


def _rpm(config: ConfigDict, method: str, seed: int, folder: Path) -> tuple[RolloutWorker, Any]:
    """A trained RPM, or the base, with the contexts of all subsets."""
    module = packaged_module("study_methods_world")
    trained = method != module.BASE
    settings = module.get_config(_variant(config, method if trained else "sft", seed))
    settings.pretraining.folder = str(_base(folder, seed))
    if trained and module.STARTS[method]:
        settings.start = str(folder / f"{module.STARTS[method]}-{seed}")
    _take_contexts(settings, config.contexts)
    made = make_rpm_experiment(settings, folder)
    params = made.experiment.start["policy"]
    if trained:
        params = load_adapter(folder / f"{method}-{seed}" / RPM / ADAPTER, made.base).params
    return RolloutWorker(loop_config(settings), made.experiment), params


def _take_contexts(settings: ConfigDict, contexts: int) -> None:
    settings.evaluate.tags = TEST_TAGS
    settings.world.test = contexts


def _scored(
    config: ConfigDict, measured: Mapping[str, Any], seed: int, folder: Path
) -> dict[str, Any]:
    """Scores of all methods by the pair that evaluates, from its file where they stand there."""
    module, evaluator = packaged_module("study_methods_world"), "evaluator"

    def measure() -> dict[str, Any]:
        settings = module.get_config(_variant(config, evaluator, seed))
        settings.pretraining.folder = str(_base(folder, seed))
        settings.init_from = str(folder / f"{evaluator}-{seed}" / ESTIMATOR)
        experiment = make_experiment(settings, folder)
        subsets = _rpm(config, module.BASE, seed, folder)[0].experiment.tests
        answers = {
            m: {tag: at["answers"] for tag, at in by_tag.items()} for m, by_tag in measured.items()
        }
        worker = RolloutWorker(settings, experiment)
        return measure_scores(worker, experiment.start, subsets, answers)

    file = folder / f"{evaluator}-{seed}" / SCORED
    found = _kept(file, config, measure)
    if set(measured) <= set(found):
        return found
    file.unlink()  # of an earlier study of fewer methods
    return _kept(file, config, measure)

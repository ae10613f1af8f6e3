"""CoRL against known truth: every seed and variant on a textual world, and their table."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.files import open_workdir
from remid_jax.information.uncertainty import t_interval
from remid_jax.progress import progress
from remid_jax.provenance import provenance
from remid_jax.report.results_file import write_results
from remid_jax.report.tables import new_table, print_whole
from remid_jax.settings import Key, check_keys, value_of, walk
from remid_jax.training.config import KEYS, check_config
from remid_jax.training.world_base import base_params

from .configurations import packaged_module
from .corl import ESTIMATOR, TRUTH
from .studies.world_truth import COLUMNS, columns

MEASURES = {
    "perplexity": "perplexity of golden responses per slot",
    "perplexity_token": "perplexity of golden responses per token",
    "kl": "E KL(p || q), nats a response",
    "emid_error": "|R-EMID by q - R-EMID by the true p|, nats a response (id: of R-EMI)",
}


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
    base_params(config, folder / "base")
    waves = waves_of(config)
    _run_all(waves, config, folder)
    found = {
        v: [
            columns(json.loads((folder / f"{v}-{s}" / TRUTH).read_text()))
            for s in config.study.seeds
        ]
        for v in config.study.variants
    }  # variant -> measure -> column, for each seed
    table = {
        m: {v: {c: mean_and_error([s[m][c] for s in seeds]) for c in seeds[0][m]}
            for v, seeds in found.items()}
        for m in MEASURES
    }  # fmt: skip
    gains = gains_of(found)
    seconds = time.monotonic() - started
    write_results(folder, {**header(config, origin, seconds), **table, "gains": gains,
                           "provenance": origin})  # fmt: skip
    for measure, title in MEASURES.items():
        _print(title, table[measure], 4)
    _print("CoRL's perplexity per slot below that of ... (mean ± standard error)", gains, 3)
    runs = sum(map(len, waves))
    print(f"{runs} runs in {seconds:.0f} s; results: {folder / 'results.json'}")


def header(config: ConfigDict, origin: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What results of the study begin with."""
    return {
        "seeds": list(config.study.seeds), "command": " ".join(origin["command"]),
        "commit": origin["git_revision"], "seconds": seconds,
    }  # fmt: skip


def waves_of(config: ConfigDict) -> list[list[tuple[str, int]]]:
    """(variant, seed): first those that begin from the base, then those that go on from them."""
    variants, begins = tuple(config.study.variants), dict(config.study.begins)
    missing = {begins[v] for v in variants if v in begins} - (set(variants) - set(begins))
    if missing:
        raise UserError(f"config.study.variants needs {', '.join(sorted(missing))} to begin from")
    waves = [v for v in variants if v not in begins], [v for v in variants if v in begins]
    return [[(v, int(s)) for s in config.study.seeds for v in wave] for wave in waves]


def _run_all(waves: Sequence[Sequence[tuple[str, int]]], config: ConfigDict, folder: Path) -> None:
    begins, children = dict(config.study.begins), set()
    total = sum(map(len, waves))
    with progress("runs", total) as advance, ThreadPoolExecutor(config.study.workers) as pool:
        try:
            for wave in waves:
                for one in [
                    pool.submit(_run_one, v, s, folder, begins.get(v), children) for v, s in wave
                ]:
                    one.result()
                    advance(1)
        except BaseException as e:  # what has not begun is not begun any more
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children if isinstance(e, KeyboardInterrupt) else ():
                child.terminate()
            raise


def _run_one(
    variant: str, seed: int, folder: Path, begin: str | None, children: set[subprocess.Popen]
) -> None:
    """One run in a process of its own, which may go on from the pair of the variant `begin`."""
    where = folder / f"{variant}-{seed}"
    if (where / TRUTH).exists():
        return
    command = [
        sys.executable, "-m", f"{__package__}.main", "--config",
        f"corl_world:{variant},{seed}", "--workdir", str(where),
        f"--config.pretraining.folder={folder / 'base'}",
    ]  # fmt: skip
    if begin is not None:
        command += [f"--config.init_from={folder / f'{begin}-{seed}' / ESTIMATOR}",
                    "--config.cold_start=()"]  # fmt: skip
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **streams, text=True, errors="replace") as child:
        children.add(child)
        said = child.stderr.read()
    if child.returncode:
        last = (said.strip() or "no message").splitlines()[-1]
        raise UserError(f"run {variant},{seed} failed: {last}")


def mean_and_error(values: Sequence[float]) -> dict[str, float]:
    """Mean over seeds and its standard error, None for one seed."""
    n = len(values)
    error = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None
    return {"mean": float(np.mean(values)), "se": error}


def gains_of(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Other variant -> column -> 1 − perplexity(CoRL) / perplexity(other), paired over seeds."""
    corl = [seed["perplexity"] for seed in found.get("corl", ())]
    gains: dict[str, Any] = {other: {} for other in found if corl and other != "corl"}
    for other, gain in gains.items():
        for c in corl[0]:
            pairs = zip(corl, found[other], strict=True)
            mean = mean_and_error([1 - a[c] / b["perplexity"][c] for a, b in pairs])
            known = mean["se"] is not None and np.isfinite(mean["se"])
            interval = t_interval(mean["mean"], mean["se"], len(corl) - 1) if known else None
            gain[c] = {**mean, "interval": interval}
    return gains


def _print(title: str, table: Mapping[str, Mapping[str, Any]], digits: int) -> None:
    """Variants down, columns across: mean ± standard error over seeds."""

    def cell(value: Mapping[str, float] | None) -> str:
        if value is None:
            return "-"
        error = "" if value["se"] is None else f" ± {value['se']:.2g}"
        return f"{value['mean']:.{digits}g}{error}"

    rows = [(variant, *(cell(v.get(c)) for c in COLUMNS)) for variant, v in table.items()]
    print_whole(new_table(title, ("", *COLUMNS), rows))

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
from remid_jax.report.tables import new_table, print_whole
from remid_jax.report.terminal import provenance, write_results
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
    """Refuses what the study cannot run, or would not heed, before any work.

    Raises:
      UserError: naming the key.
    """
    module = packaged_module("corl_world")
    check_keys(config, module.KEYS)
    if not config.study.variants:
        raise UserError("config.study.variants names none")
    own = ConfigDict({name: value for name, value in config.to_dict().items() if name != "study"})
    check_config(own)
    known = module.get_config()
    for name, one in walk(KEYS):
        if (
            isinstance(one, Key)
            and name != "experiment"
            and value_of(own, name) != value_of(known, name)
        ):
            raise UserError(
                f"config.{name} is not heeded: the runs of the study are corl_world:VARIANT,SEED "
                "as they are; run one by that name to change it"
            )


def run(config: ConfigDict, workdir: Path) -> None:
    """Runs what is left of the study, prints its tables and writes `workdir/results.json`."""
    check(config)
    started, folder = time.monotonic(), open_workdir(workdir)
    origin = provenance(config)
    base_params(config, folder / "base")
    waves = waves_of(config)
    runs = [run for wave in waves for run in wave]
    begins = dict(config.study.begins)
    children: set[subprocess.Popen] = set()
    with progress("runs", len(runs)) as advance, ThreadPoolExecutor(config.study.workers) as pool:
        try:
            for wave in waves:
                waiting = [
                    pool.submit(_run_one, v, s, folder, begins.get(v), children) for v, s in wave
                ]
                for one in waiting:
                    one.result()
                    advance(1)
        except BaseException as e:  # what has not begun is not begun any more
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children if isinstance(e, KeyboardInterrupt) else ():
                child.terminate()
            raise
    found = {v: [_columns(folder, v, s) for s in config.study.seeds] for v in config.study.variants}
    table = {m: {v: _means([f[m] for f in found[v]]) for v in found} for m in MEASURES}
    gains = gains_of(found)
    seconds = time.monotonic() - started
    write_results(folder, {
        "seeds": list(config.study.seeds), "command": " ".join(origin["command"]),
        "commit": origin["git_revision"], "seconds": seconds, **table, "gains": gains,
        "provenance": origin,
    })  # fmt: skip
    print_tables(table, gains)
    print(f"{len(runs)} runs in {seconds:.0f} s; results: {folder / 'results.json'}")


def waves_of(config: ConfigDict) -> list[list[tuple[str, int]]]:
    """(variant, seed): first those that begin from the base, then those that go on from them."""
    variants, begins = tuple(config.study.variants), dict(config.study.begins)
    missing = {begins[v] for v in variants if v in begins} - (set(variants) - set(begins))
    if missing:
        raise UserError(f"config.study.variants needs {', '.join(sorted(missing))} to begin from")
    waves = [v for v in variants if v not in begins], [v for v in variants if v in begins]
    return [[(v, int(s)) for s in config.study.seeds for v in wave] for wave in waves]


def _run_one(
    variant: str, seed: int, folder: Path, begin: str | None, children: set[subprocess.Popen]
) -> None:
    """One run in a process of its own; nothing where it is done.

    With `begin` it goes on from that variant's pair instead of a cold start of its own.
    """
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


def _columns(folder: Path, variant: str, seed: int) -> dict[str, dict[str, float]]:
    text = (folder / f"{variant}-{seed}" / TRUTH).read_text(encoding="utf-8")
    return columns(json.loads(text))


def _means(seeds: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Column -> mean over seeds and its standard error (none for one seed)."""
    return {c: mean_and_error([s[c] for s in seeds]) for c in COLUMNS if c in seeds[0]}


def mean_and_error(values: Sequence[float]) -> dict[str, float]:
    """Mean over seeds and its standard error, None for one seed."""
    n = len(values)
    error = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None
    return {"mean": float(np.mean(values)), "se": error}


def gains_of(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Other variant -> column -> 1 − perplexity(CoRL) / perplexity(other), paired over seeds."""
    if "corl" not in found:
        return {}
    gains: dict[str, Any] = {}
    for other in found:
        if other == "corl":
            continue
        gains[other] = {}
        for c in found["corl"][0]["perplexity"]:
            ratios = [
                1 - a["perplexity"][c] / b["perplexity"][c]
                for a, b in zip(found["corl"], found[other], strict=True)
            ]
            mean = mean_and_error(ratios)
            interval = None
            if mean["se"] is not None and np.isfinite(mean["se"]):
                interval = t_interval(mean["mean"], mean["se"], len(ratios) - 1)
            gains[other][c] = {**mean, "interval": interval}
    return gains


def print_tables(table: Mapping[str, Any], gains: Mapping[str, Any]) -> None:
    """Each measure by variant and column, mean ± standard error over seeds; then CoRL's gains."""
    for measure, title in MEASURES.items():
        made = new_table(title, ("", *COLUMNS))
        for variant, cells in table[measure].items():
            made.add_row(variant, *(_cell(cells.get(c), 4) for c in COLUMNS))
        print_whole(made)
    title = "CoRL's perplexity per slot below that of ... (mean ± standard error)"
    made = new_table(title, ("", *COLUMNS))
    for variant, cells in gains.items():
        made.add_row(variant, *(_cell(cells.get(c), 3) for c in COLUMNS))
    print_whole(made)


def _cell(value: Mapping[str, float] | None, digits: int) -> str:
    if value is None:
        return "-"
    error = "" if value["se"] is None else f" ± {value['se']:.2g}"
    return f"{value['mean']:.{digits}g}{error}"

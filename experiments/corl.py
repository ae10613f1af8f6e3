"""CoRL: reasoner and policy co-evolve, and are judged on held-out golden responses."""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.studies import world_truth
from remid_jax.diagnosis.report import provenance, write_results
from remid_jax.files import write_atomically
from remid_jax.models.pretrained import cache_folder
from remid_jax.processes import is_first, join
from remid_jax.training.config import check_config, stages
from remid_jax.training.corl import Corl
from remid_jax.training.estimators import save_estimator
from remid_jax.training.records import EVALUATIONS, read_lines
from remid_jax.training.setting import make_setting

ESTIMATOR = "estimator"  # folder of the trained pair
TRUTH = "truth.json"  # of a world: what `experiments.studies.world_truth` measures


def run(config: ConfigDict, workdir: str) -> None:
    """Trains what is left to train, writes both roles and `workdir/results.json`, and prints."""
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    check_config(config)
    join(config)
    origin = provenance(config)
    folder = Path(workdir)
    setting = make_setting(config, folder)
    if setting.shortened or setting.excluded:
        print(f"{len(setting.shortened)} prompts lost their oldest turns, {len(setting.excluded)} "
              "were too long all the same and are left out")  # fmt: skip
    loop = Corl(config, setting, folder)
    state = loop.run()
    save_estimator(folder / ESTIMATOR, setting.adapters(state.roles))
    measured = world_truth.measure(loop, state.roles) if config.task == "world" else None
    if not is_first():
        return
    if measured is not None:
        write_atomically(folder / TRUTH, [json.dumps(measured).encode()])
    evaluations = read_lines(folder / EVALUATIONS)
    counts = {"train": len(setting.train), "shortened": setting.shortened,
              "excluded": setting.excluded}  # fmt: skip
    write_results(folder, {"provenance": origin, **counts, "evaluations": evaluations})
    print_table(evaluations, [s.kind for s in stages(config)])
    print(f"results: {folder / 'results.json'}; trained estimator: {folder / ESTIMATOR}")


def print_table(evaluations: list[dict[str, Any]], kinds: list[str]) -> None:
    """Perplexity of golden responses after each stage, with standard errors."""
    if not evaluations:
        return
    made = Table(title="Perplexity of golden responses per token (± standard error)",
                 box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))  # fmt: skip
    tags = list(dict.fromkeys(e["tag"] for e in evaluations))
    for i, name in enumerate(["after", *tags]):
        made.add_column(name, justify="right" if i else "left", no_wrap=True)
    for at in dict.fromkeys((e["stage"], e["step"]) for e in evaluations):
        cells = {e["tag"]: e for e in evaluations if (e["stage"], e["step"]) == at}
        shown = [f"{cells[t]['perplexity']:.4g} ± {cells[t]['perplexity_se']:.2g}" for t in tags]
        made.add_row(f"{at[0] + 1}. {kinds[at[0]]}, {at[1]} steps", *shown)
    Console().print(made)

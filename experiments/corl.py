"""CoRL: reasoner and policy co-evolve, and are judged on held-out golden responses."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments.studies import world_truth
from remid_jax.diagnosis.report import provenance, write_results
from remid_jax.files import write_atomically
from remid_jax.processes import is_first, join
from remid_jax.tables import new_table, print_whole
from remid_jax.training.config import Stage, check_config, stages
from remid_jax.training.corl import Corl
from remid_jax.training.estimators import save_estimator
from remid_jax.training.evaluation import change
from remid_jax.training.records import EVALUATIONS, read_lines, read_predictions
from remid_jax.training.setting import make_setting

ESTIMATOR = "estimator"  # folder of the trained pair
TRUTH = "truth.json"  # of a world: what `experiments.studies.world_truth` measures


def run(config: ConfigDict, workdir: str) -> None:
    """Trains what is left to train, writes both roles and `workdir/results.json`, and prints."""
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
    evaluations, planned = read_lines(folder / EVALUATIONS), stages(config)
    gains = gains_of(folder, evaluations, planned)
    counts = {"train": len(setting.train), "shortened": setting.shortened,
              "excluded": setting.excluded}  # fmt: skip
    write_results(folder, {"provenance": origin, **counts, "evaluations": evaluations,
                           "gains": gains})  # fmt: skip
    print_table(evaluations, planned)
    print_gains(gains)
    print(f"results: {folder / 'results.json'}; trained estimator: {folder / ESTIMATOR}")


def gains_of(
    folder: Path, evaluations: list[dict[str, Any]], planned: list[Stage]
) -> list[dict[str, Any]]:
    """What log q of golden responses gained since the cold start, by subset."""
    cold = sum(s.cold for s in planned)
    if not 0 < cold < len(planned):
        return []
    ends = [(i, planned[i].steps) for i in (cold - 1, len(planned) - 1)]
    at = {(e["stage"], e["step"], e["tag"]) for e in evaluations}
    tags = [t for t in dict.fromkeys(e["tag"] for e in evaluations)
            if all((*end, t) in at for end in ends)]  # fmt: skip
    found = {t: [read_predictions(folder, *end, t) for end in ends] for t in tags}
    return [{"tag": t, **change(*both)} for t, both in found.items()]


def print_table(evaluations: list[dict[str, Any]], planned: list[Stage]) -> None:
    """Perplexity of golden responses after each stage, with standard errors."""
    if not evaluations:
        return
    tags = list(dict.fromkeys(e["tag"] for e in evaluations))
    title = "Perplexity of golden responses per token (± standard error)"
    made = new_table(title, ["after", *tags])
    for at in dict.fromkeys((e["stage"], e["step"]) for e in evaluations):
        cells = {e["tag"]: e for e in evaluations if (e["stage"], e["step"]) == at}
        shown = [f"{cells[t]['perplexity']:.4g} ± {cells[t]['perplexity_se']:.2g}" for t in tags]
        made.add_row(f"{at[0] + 1}. {planned[at[0]].kind}, {at[1]} steps", *shown)
    print_whole(made)


def print_gains(gains: list[dict[str, Any]]) -> None:
    """Gains since the cold start with their intervals, and whether they are beyond them."""
    if not gains:
        return
    title = "Gain of log q(golden response) since the cold start, nats a response"
    made = new_table(title, ["subset", "samples", "gain", "95 % interval", ""])
    for row in gains:
        cells = [row["tag"], str(row["n"]), f"{row['gain']:+.2f}"]
        if row["interval"]:
            low, high = row["interval"]
            said = "rise" if low > 0 else "fall" if high < 0 else "within noise"
            cells += [f"{low:+.2f} to {high:+.2f}", said]
        made.add_row(*cells)
    print_whole(made)

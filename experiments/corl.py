"""CoRL: reasoner and policy co-evolve, and are judged on held-out golden responses."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.files import open_workdir, path_of, write_atomically
from remid_jax.processes import check_folder, is_primary, join
from remid_jax.provenance import provenance
from remid_jax.report.results_file import write_results
from remid_jax.report.tables import new_table, print_whole
from remid_jax.training.config import Stage, check_config, stages
from remid_jax.training.corl import Corl
from remid_jax.training.experiment import make_experiment
from remid_jax.training.held_out import change
from remid_jax.training.run_logger import EVALUATIONS, METRICS, read_lines, read_predictions

from .studies import world_truth
from .studies.held_out import LAST, changes, predictions, print_changes, print_left_out

ESTIMATOR = "estimator"  # folder of the trained pair
TRUTH = "truth.json"  # of a world: what `experiments.studies.world_truth` measures


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is left to train, writes both roles and `workdir/results.json`, and prints."""
    check_config(config)
    if config.compare_with:  # before hours of work
        predictions(path_of(config.compare_with, "config.compare_with"), LAST)
    folder = open_workdir(workdir)
    join(config)
    check_folder(folder)
    origin = provenance(config)
    experiment = make_experiment(config, folder)
    print_left_out(experiment)
    loop = Corl(config, experiment, folder)
    state = loop.run()
    experiment.save_adapters(folder / ESTIMATOR, state.roles)
    measured = world_truth.measure(loop, state.roles) if config.task == "world" else None
    if not is_primary():
        return
    if measured is not None:
        write_atomically(folder / TRUTH, [json.dumps(measured).encode()])
    evaluations, planned = read_lines(folder / EVALUATIONS), stages(config)
    gains = gains_of(folder, evaluations, planned)
    compared = []
    if config.compare_with:
        compared = changes(predictions(Path(config.compare_with), LAST), predictions(folder, LAST))
    counts = {"train": len(experiment.train), "shortened": experiment.shortened,
              "excluded": experiment.excluded}  # fmt: skip
    seconds = sum(step["time"]["seconds"] for step in read_lines(folder / METRICS))
    write_results(folder, {"provenance": origin, **counts, "seconds_of_steps": seconds,
                           "evaluations": evaluations, "gains": gains,
                           "compared": compared})  # fmt: skip
    print_table(evaluations, planned)
    print_gains(gains, planned)
    print_compared(compared, config.compare_with)
    print(f"all steps took {seconds / 60:.1f} min, evaluations apart")
    print(f"results: {folder / 'results.json'}; trained estimator: {folder / ESTIMATOR}")


def gains_of(
    folder: Path, evaluations: list[dict[str, Any]], planned: list[Stage]
) -> list[dict[str, Any]]:
    """What log q of golden responses gained since the cold start, by subset and later stage.

    With one thought, trusted; `mixture` of a record is the same by the mixture over thoughts.
    """
    at = {(e["stage"], e["step"], e["tag"]) for e in evaluations}
    cold = sum(s.cold for s in planned)
    found = []
    for i in range(cold, len(planned)) if cold else ():
        for tag in dict.fromkeys(e["tag"] for e in evaluations):
            ends = [(k, planned[k].steps, tag) for k in (cold - 1, i)]
            if at.issuperset(ends):
                before, after = (read_predictions(folder, *end) for end in ends)
                gains = {way: change(before[way], after[way]) for way in before}
                found.append({"tag": tag, "stage": i, **gains["log_q"],
                              "mixture": gains["log_q_mixture"]})  # fmt: skip
    return found


def _stage_name(i: int, planned: list[Stage], steps: int) -> str:
    return f"{i + 1}. {planned[i].kind}, {steps} steps"


def print_table(evaluations: list[dict[str, Any]], planned: list[Stage]) -> None:
    """Perplexity of golden responses after each stage, with standard errors."""
    if not evaluations:
        return
    tags = list(dict.fromkeys(e["tag"] for e in evaluations))
    for name, said in (("perplexity", "one thought"), ("perplexity_mixture", "the mixture")):
        title = f"Perplexity of golden responses per token, {said} (± standard error)"
        made = new_table(title, ["after", *tags])
        for at in dict.fromkeys((e["stage"], e["step"]) for e in evaluations):
            cells = {e["tag"]: e for e in evaluations if (e["stage"], e["step"]) == at}
            shown = [f"{cells[t][name]:.4g} ± {cells[t][f'{name}_se']:.2g}" for t in tags]
            made.add_row(_stage_name(at[0], planned, at[1]), *shown)
        print_whole(made)


def print_gains(gains: list[dict[str, Any]], planned: list[Stage]) -> None:
    """Gains since the cold start with their intervals, and whether they are beyond them."""
    rows = [
        {**row, **way, "scored": scored,
         "after": _stage_name(row["stage"], planned, planned[row["stage"]].steps)}
        for row in gains
        for scored, way in (("one thought", {}), ("mixture", row["mixture"]))
    ]  # fmt: skip
    title = "Gain of log q(golden response) since the cold start, nats a response"
    print_changes(title, ("after", "{after}"), rows)


def print_compared(compared: list[dict[str, Any]], other: str) -> None:
    """What the run gained over another, with intervals, and whether it is beyond them."""
    names = {"log_q": "one thought", "log_q_mixture": "mixture"}
    rows = [{**row, "scored": names[row["scored"]], "other": other} for row in compared]
    title = "log q(golden response) at the end minus that of another run, nats a response"
    print_changes(title, ("minus", "{other}"), rows)

"""Trains an RPM by one method, and leaves a folder that a diagnosis takes as an evaluated model."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.files import open_workdir
from remid_jax.models.rpm import RPM
from remid_jax.processes import check_folder, is_primary, join
from remid_jax.provenance import provenance
from remid_jax.report.results_file import write_results
from remid_jax.training.rpm import RpmTraining
from remid_jax.training.rpm_config import check_config
from remid_jax.training.rpm_experiment import make_rpm_experiment
from remid_jax.training.run_logger import EVALUATIONS, METRICS, read_lines

from .studies.held_out import (
    FIRST,
    GAIN,
    LAST,
    changes,
    evaluated,
    predictions,
    print_left_out,
    with_verdict,
)
from .studies.pieces import print_records


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is left to train, writes the RPM and `workdir/results.json`, and prints."""
    check_config(config)
    folder = open_workdir(workdir)
    join(config)
    check_folder(folder)
    origin = provenance(config)
    made = make_rpm_experiment(config, folder)
    experiment = made.experiment
    print_left_out(experiment)
    state = RpmTraining(config, made, folder).run()
    made.save(folder / RPM, state.roles["policy"])
    if not is_primary():
        return
    evaluations = read_lines(folder / EVALUATIONS)
    gains = gains_of(folder) if evaluations else []
    seconds = sum(step["time"]["seconds"] for step in read_lines(folder / METRICS))
    write_results(folder, {
        "provenance": origin, "method": config.method, "train": len(experiment.train),
        "shortened": experiment.shortened, "excluded": experiment.excluded,
        "seconds_of_steps": seconds, "evaluations": evaluations, "gains": gains,
    })  # fmt: skip
    if evaluations:
        print_held_out(folder, gains)
    print(f"all steps took {seconds / 60:.1f} min, evaluations apart")
    print(f"results: {folder / 'results.json'}; trained RPM: {folder / RPM}")


def gains_of(folder: Path) -> list[dict[str, Any]]:
    """What log p of golden responses gained since before the first step, by subset.

    Of an RPM that thinks, by the mixture over its thoughts. None without an evaluation before the
    first step, and another one.
    """
    first, last = evaluated(folder, FIRST), evaluated(folder, LAST)
    if first[0]["step"] or not last[0]["step"]:
        return []
    found = changes(predictions(folder, FIRST), predictions(folder, LAST))
    return [row for row in found if row["scored"] == "log_q_mixture"]


def print_held_out(folder: Path, gains: list[dict[str, Any]]) -> None:
    """Perplexity of golden responses at the first and last evaluation, and gains in nats."""
    of_tag = {row["tag"]: with_verdict(row) for row in gains}
    first = {e["tag"]: e for e in evaluated(folder, FIRST)} if gains else {}
    perplexity = "{perplexity_mixture:.4g} ± {perplexity_mixture_se:.2g}"
    print_records(
        "Golden responses under the RPM: perplexity per token (± standard error), and what log p "
        "of a response gained in nats (95 %)",
        (("subset", "{tag}"), ("samples", "{n}"), ("before", "{before}"),
         (f"after {evaluated(folder, LAST)[0]['step']} steps", perplexity),
         ("gain", GAIN), ("", "{verdict}")),
        [
            {**of_tag.get(e["tag"], {}), **e,
             "before": perplexity.format_map(first[e["tag"]]) if e["tag"] in first else ""}
            for e in evaluated(folder, LAST)
        ],
        left=("subset", ""),
    )  # fmt: skip

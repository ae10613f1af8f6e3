"""Trains an RPM by one method, and leaves a folder that a diagnosis takes as an evaluated model."""

from pathlib import Path

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

from .corl import print_left_out
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
    seconds = sum(step["time"]["seconds"] for step in read_lines(folder / METRICS))
    write_results(folder, {
        "provenance": origin, "method": config.method, "train": len(experiment.train),
        "shortened": experiment.shortened, "excluded": experiment.excluded,
        "seconds_of_steps": seconds, "evaluations": evaluations,
    })  # fmt: skip
    if evaluations:
        print_records(
            "Golden responses under the RPM (± standard error)",
            (("subset", "{tag}"), ("samples", "{n}"),
             ("perplexity per token", "{perplexity_mixture:.4g} ± {perplexity_mixture_se:.2g}")),
            [e for e in evaluations if e["step"] == evaluations[-1]["step"]],
        )  # fmt: skip
    print(f"all steps took {seconds / 60:.1f} min, evaluations apart")
    print(f"results: {folder / 'results.json'}; trained RPM: {folder / RPM}")

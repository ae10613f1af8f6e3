"""R-EMID of role-playing models: answers, likelihoods, estimates, and the table."""

from pathlib import Path

from ml_collections import ConfigDict

from remid_jax.diagnosis import diagnose
from remid_jax.evaluation.plan import print_plan
from remid_jax.report.terminal import print_table


def run(config: ConfigDict, workdir: Path) -> None:
    """Runs the diagnosis and prints its table; results are in `workdir/results.json`."""
    results = diagnose(config, workdir)
    if config.dry_run:
        print_plan(results["plan"])
        return
    print_table(results)
    print(f"results: {workdir / 'results.json'}")

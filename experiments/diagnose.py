"""R-EMID of role-playing models: answers, likelihoods, estimates, and the report."""

from pathlib import Path

from ml_collections import ConfigDict

from remid_jax.diagnosis import diagnose
from remid_jax.evaluation.plan import plan_record
from remid_jax.report.cost import print_cost
from remid_jax.report.terminal import print_report


def run(config: ConfigDict, workdir: Path) -> None:
    """Runs the diagnosis and prints its report; with `config.dry_run` only what it would cost."""
    results = diagnose(config, workdir)
    if config.dry_run:
        print_cost(plan_record(results["plan"]))
    else:
        print_report(results, workdir)

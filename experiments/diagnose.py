"""R-EMID of role-playing models: answers, likelihoods, estimates, and the report."""

from pathlib import Path

from ml_collections import ConfigDict

from remid_jax.diagnosis import diagnose
from remid_jax.evaluation.config import check_config
from remid_jax.evaluation.plan import print_plan
from remid_jax.processes import is_primary, join
from remid_jax.report.terminal import print_table


def run(config: ConfigDict, workdir: Path) -> None:
    """Runs the diagnosis and prints its report; results are in `workdir/results.json`."""
    check_config(config)
    join(config)
    results = diagnose(config, workdir)
    if not is_primary():
        return
    if config.dry_run:
        print_plan(results["plan"])
    elif "unfinished" in results:
        print(unfinished)
    else:
        print_table(results)
        print(f"results: {workdir / 'results.json'}")

"""R-EMID of role-playing models: answers, likelihoods, estimates, and the table."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from remid_jax.diagnosis.plan import print_plan
from remid_jax.diagnosis.report import print_table
from remid_jax.diagnosis.run import diagnose
from remid_jax.models.pretrained import cache_folder


def run(config: ConfigDict, workdir: str) -> None:
    """Runs the diagnosis and prints its table; results are in `workdir/results.json`."""
    # Programs compiled once are found again by the next run.
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    results = diagnose(config, workdir)
    if config.dry_run:
        print_plan(results["plan"])
        return
    print_table(results)
    print(f"results: {Path(workdir) / 'results.json'}")

"""R-EMID of role-playing models: answers, likelihoods, estimates, and the report."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.diagnosis import diagnose
from remid_jax.evaluation.config import check_config
from remid_jax.models.sharding import MeshConfig
from remid_jax.processes import is_primary, join
from remid_jax.report.cost import print_cost
from remid_jax.report.terminal import print_report


def run(
    config: ConfigDict,
    workdir: Path,
    report: Callable[[Mapping[str, Any], Path], None] = print_report,
) -> None:
    """Runs the diagnosis and prints its report; with `config.dry_run` only what it would cost."""
    check_config(config)
    join(config, devices=MeshConfig(**config.mesh).size > 1)
    results = diagnose(config, workdir)
    if not is_primary():
        return
    if config.dry_run:
        if config.shard:
            print(f"config.shard is {config.shard!r}; this is what is left of all parts")
        print_cost(results["plan"])
    elif "unfinished" in results:
        print(
            f"part {config.shard} is done as far as it can be; requests that are left: "
            f"{results['unfinished']}; run again when the files of all parts are in the cache"
        )
    else:
        report(results, workdir)

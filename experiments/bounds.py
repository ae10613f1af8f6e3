"""Are the bounds of EMID valid and tight, and does the prediction order shifts?"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.config_checks import SEEDS, check_form, check_least, check_within
from remid_jax.provenance import provenance
from remid_jax.report.results_file import write_results
from remid_jax.report.tables import new_table, print_whole

from .configurations import packaged_module
from .studies import bounds
from .studies.pieces import run_pieces

LOWEST = {
    "worlds": 1, "sampled.contexts": 3, "sampled.draws": 2, "prediction.contexts": 3,
    "prediction.worlds": 2, "prediction.shifts": 3, "prediction.misfit": 0.0,
}  # fmt: skip


def check(config: ConfigDict) -> None:
    """Refuses what cannot be measured, before any work.

    Raises:
      UserError: naming the key.
    """
    check_form(config.to_dict(), packaged_module("bounds").get_config().to_dict())
    check_least(config, LOWEST)
    check_within(config, {"seed": SEEDS})


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures family by family, prints the tables; results are in `workdir/results.json`."""
    check(config)
    origin = provenance(config)
    found = run_pieces("bounds", bounds.pieces(config), config, workdir)
    results = {
        study: [v for k, v in found.items() if k.split()[0] == study]
        for study in ("exact", "sampled", "prediction")
    }
    path = write_results(workdir, {"provenance": origin, **results})
    print_tables(results)
    print(f"results: {path}")


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def print_tables(results: dict[str, list[dict[str, Any]]]) -> None:
    """Prints what each study found."""
    names = list(results["exact"][0]["bounds"])
    for title, cell in (
        ("violations (of so many worlds in which the bound is finite)",
         lambda r: f"{r['violations']} ({r['finite']})"),
        ("how many times closer to EMID than the printed formula, median",
         lambda r: _times(r["times_closer_than_printed"])),
        ("how many times smaller than the printed formula, median",
         lambda r: _times(r["times_smaller_than_printed"])),
        ("bound / EMID, median where EMID > 0",
         lambda r: _times(r["times_emid_where_positive"])),
    ):  # fmt: skip
        rows = [
            (r["family"], r["worlds"], *(cell(r["bounds"][n]) for n in names))
            for r in results["exact"]
        ]
        print_whole(new_table(title, ("family", "worlds", *names), rows))
    print_whole(new_table(
        "upper 95 % limit of the sampled linear bound",
        ("family", "N", "draws", "holds exact EMID", "holds exact bound", "limit − EMID (nats)"),
        [
            (r["family"], r["n"], r["draws"], f"{r['upper_limit_holds_emid']:.3f}",
             f"{r['upper_limit_holds_bound']:.3f}", f"{r['mean_upper_minus_emid']:.3f}")
            for r in results["sampled"]
        ],
    ))  # fmt: skip
    names = list(results["prediction"][0]["spearman_mean"])
    print_whole(new_table(
        "rank correlation with exact EMID over graded shifts of a world (mean ± s.e.)",
        ("family", "worlds", "shifts", *names),
        [
            (r["family"], r["worlds"], r["shifts"],
             *("" if r["spearman_mean"][k] is None
               else f"{r['spearman_mean'][k]:.2f} ± {r['spearman_se'][k]:.2f}" for k in names))
            for r in results["prediction"]
        ],
    ))  # fmt: skip
    print("the printed formula is no guarantee: see `remid_jax.information.bounds.paper_bound`")

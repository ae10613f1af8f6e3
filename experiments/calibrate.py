"""How far every estimator and interval can be trusted, on worlds with known truth."""

import itertools
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.config_checks import SEEDS, check_form, check_least, check_within
from remid_jax.errors import UserError
from remid_jax.provenance import provenance
from remid_jax.report.results_file import write_results
from remid_jax.report.tables import new_table, print_whole

from .configurations import packaged_module
from .studies import accuracy, coverage, faults, negatives, shapley
from .studies.pieces import run_pieces

STUDIES = {
    "coverage": coverage,
    "negatives": negatives,
    "accuracy": accuracy,
    "faults": faults,
    "shapley": shapley,
}


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures piece by piece, prints the tables; results are in `workdir/results.json`."""
    check(config)
    origin = provenance(config)
    pieces = {k: p for study in STUDIES.values() for k, p in study.pieces(config).items()}
    found = run_pieces("calibrate", pieces, config, workdir)
    results = {name: [found[k] for k in study.pieces(config)] for name, study in STUDIES.items()}
    path = write_results(workdir, {"provenance": origin, **results})
    print_tables(results)
    figure(results["accuracy"], workdir)
    print(f"results: {path}")


LOWEST = {
    "coverage.contexts": 10, "coverage.clusters": 0, "coverage.worlds": 1, "coverage.draws": 1,
    "coverage.misfit": 0.0, "negatives.contexts": 3, "negatives.shifts": 1, "negatives.worlds": 1,
    "negatives.data_sets": 2, "negatives.choices": 2, "negatives.misfit": 0.0,
    "negatives.surfaces": 0.0, "accuracy.contexts": 10, "accuracy.misfits": 0.0,
    "accuracy.draws": 2, "accuracy.sets": 1, "accuracy.calibration_contexts": 10,
    "faults.contexts": 3, "faults.worlds": 1, "faults.draws": 1, "faults.misfit": 0.0,
    "shapley.contexts": 3, "shapley.worlds": 1, "shapley.misfits": 0.0,
}  # fmt: skip


def check(config: ConfigDict) -> None:
    """Refuses what cannot be measured, before any work.

    Raises:
      UserError: a value is of another type or out of range, or values do not go together.
    """
    check_form(config.to_dict(), packaged_module("calibrate").get_config().to_dict())
    check_least(config, LOWEST)
    check_within(config, {"seed": SEEDS})
    c = config.coverage
    for n, g in itertools.product(c.contexts, c.clusters):
        if g and (g < 3 or n % g):
            raise UserError(
                f"config.coverage: {n} contexts cannot be split into {g} equal clusters (3 or more)"
            )
    if c.draws < c.worlds or config.faults.draws < config.faults.worlds:
        raise UserError("config.coverage.draws and config.faults.draws: one draw a world at least")
    if config.negatives.shifts >= config.negatives.contexts:
        raise UserError("config.negatives.shifts must be smaller than config.negatives.contexts")
    if config.negatives.data_sets < 2 * config.negatives.worlds:
        raise UserError("config.negatives.data_sets must be at least twice config.negatives.worlds")


def print_tables(results: dict[str, list[dict[str, Any]]]) -> None:
    """Prints what each study found."""
    names = list(results["coverage"][0]["coverage"])
    print_whole(new_table(
        "(i) share of 95 % intervals that hold the population value (lowest of the worlds)",
        ("N", "clusters", "draws", *names, "exact EMID"),
        [
            (r["n"], r["clusters"] or "iid", r["draws"],
             *(f"{r['coverage'][k]:.3f} ({r['lowest_of_worlds'][k]:.2f})"
               if k in r["coverage"] else "" for k in names),
             f"{r['exact_emid_inside']:.3f}")
            for r in results["coverage"]
        ],
    ))  # fmt: skip
    for r in results["negatives"]:
        print_whole(new_table(
            f"(ii) s.d. of R-EMI, N = {r['n']}, {r['pairs_a_side']} pairs a side, "
            f"surface forms of s.d. {r['surface_sd']:g}; nats",
            ("negatives", "from choosing them", "in all"),
            [(k, f"{v:.4f}", f"{r['sd_total'][k]:.4f}") for k, v in r["sd_from_choice"].items()],
        ))  # fmt: skip
        print(f"cyclic / random, data fixed: {r['ratio_cyclic_to_random']:.2f}")
    print_whole(new_table(
        "error of R-EMID against exact EMID, nats: bias ± s.e., s.d., r.m.s.e., rank correlation",
        ("N", "misfit", "estimator", "bias", "s.d.", "r.m.s.e.", "Spearman"),
        [
            (r["n"], r["misfit"], name, f"{e['bias']:.3f} ± {e['bias_se']:.3f}", f"{e['sd']:.3f}",
             f"{e['rmse']:.3f}", f"{e['spearman']:.2f}")
            for r in results["accuracy"] for name, e in r["estimators"].items()
        ],
    ))  # fmt: skip
    columns = list(results["faults"][0]["power"])
    print_whole(new_table(
        "(v) share of draws in which a column flags the fault (Holm, 5 %)",
        ("fault", "N", *columns, "any", "names factor", "warned"),
        [
            (r["fault"], r["n"], *(f"{r['power'][k]:.2f}" for k in columns),
             f"{r['flagged_by_any']:.3f}",
             "" if r["names_factor"] is None else f"{r['names_factor']:.3f}",
             f"{r['warned_of_sharpness']:.2f}")
            for r in results["faults"]
        ],
    ))  # fmt: skip
    print_whole(new_table(
        "(iv) Shapley attribution in worlds where one factor shifts",
        ("misfit", "worlds", "|EMID| > 4 s.e.", "named right", "wrong", "else", "silent", "wrong",
         "exact |EMID| > 4 s.e.", "named right"),
        [
            (r["misfit"], r["worlds"], r["clear"], r["named_right"], r["named_wrong"], r["faint"],
             r["faint_silent"], r["faint_named_wrong"], r["exact_clear"], r["exact_named_right"])
            for r in results["shapley"]
        ],
    ))  # fmt: skip


def figure(rows: list[dict[str, Any]], folder: Path) -> None:
    """Estimate against truth, the reference's procedure beside ours; needs matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no figure: pip install 'remid_jax[report]' and run again; nothing is recomputed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    middle = [r for r in rows if r["misfit"] == sorted({r["misfit"] for r in rows})[-1]]
    fig, axes = plt.subplots(1, len(middle), figsize=(4 * len(middle), 4), squeeze=False)
    for axis, row in zip(axes[0], middle, strict=True):
        exact = row["scatter"]["exact"]
        for name, colour in (("reference", "tab:orange"), ("club", "tab:blue")):
            axis.plot(exact, row["scatter"][name], ".", color=colour, label=name, alpha=0.6)
        axis.axline((0, 0), slope=1, color="grey", linewidth=1)
        axis.set(title=f"N = {row['n']}, misfit {row['misfit']}", xlabel="exact EMID (nats)")
    axes[0][0].set_ylabel("estimate (nats)")
    axes[0][0].legend()
    fig.tight_layout()
    fig.savefig(folder / "estimates.png", dpi=120)
    plt.close(fig)
    print(f"figure: {folder / 'estimates.png'}")

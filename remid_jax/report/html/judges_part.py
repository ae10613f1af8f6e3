"""Judges: their calibration first, what they say, how far they agree, and with what."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remid_jax.report.html.grid import (
    NONE,
    RPM,
    SHIFT,
    SUBSET,
    Cell,
    Column,
    Section,
    Table,
    count,
    name,
    shares,
    text,
    without_empty,
)
from remid_jax.report.judge_lines import MEASURES, calibration_of
from remid_jax.report.text import NO_BREAK, Figures, Row, short

JUDGE = Column("judge", is_text=True)
BY_REFERENCE = ("shuffled", "unshifted", "echo")


def judges_section(results: Mapping[str, Any], figures: Figures) -> Section | None:
    """All that is known of judges; None where there are none."""
    judges = results.get("judges")
    if not judges:
        return None
    tables = [_calibration(judges, figures), _scores(results, figures)]
    if asked := results["provenance"].get("judges"):
        tables.append(_asked(asked))
    if results["judge_agreement"]:
        tables.append(_agreement(results["judge_agreement"], figures))
    if results["judge_correlations"]:
        tables.append(_correlations(results["judge_correlations"], figures))
    return Section(
        "judges",
        "Judges, judged first",
        ["A judge counts only where it puts golden answers above reference rows, in both orders, "
         "in at least 75 % of the cases. The scores of others are shown, and enter no agreement "
         "and no correlation. Passing is a low bar: it is no proof that a judge ranks RPMs well."],
        ("calibrated", "flip", "agreement", "judge correlation", "reference rows", "interval"),
        tables=tables,
        points=[(short(j["judge"], 40), f"{calibration_of(j)}.") for j in judges],
    )  # fmt: skip


def _calibration(judges: Sequence[Row], figures: Figures) -> Table:
    names = ("accuracy, %", *(f"over {ref}, %" for ref in BY_REFERENCE), "n", "flips, %",
             "retest variance", "unscored")  # fmt: skip
    columns = [JUDGE, Column("mode", is_text=True), Column("calibrated", is_text=True)]
    columns += [*map(Column, names), Column("source", is_text=True)]
    rows = [
        [
            name(j["judge"]), text(j["mode"]), _verdict(j), shares(j, "accuracy"),
            *(shares(j, f"accuracy_{ref}") for ref in BY_REFERENCE),
            Cell(str(j["accuracy_n"]), f"{j['accuracy_contexts']}{NO_BREAK}contexts"),
            shares(j, "flips"), _interval(j, "retest_variance"),
            Cell(str(j["unscored"]), f"of{NO_BREAK}{j['calls']}"), text(short(j["source"], 60)),
        ]
        for j in judges
    ]  # fmt: skip
    note = "accuracy: golden above the reference row, in both orders where pairs are judged (a "
    note += "coin: 25 %). Wilson intervals with contexts as units."
    kept, rows = without_empty(columns, rows, ("judge", "mode", "calibrated", "accuracy, %", "n"))
    return Table("judges", f"Calibration [{figures.level}]", kept, rows, note, is_open=True)


def _verdict(judge: Row) -> Cell:
    if judge["calibrated"]:
        return Cell("yes")
    return Cell("not calibrated", "not asked further" if judge["stopped"] else "", "bad")


def _scores(results: Mapping[str, Any], figures: Figures) -> Table:
    """Those of RPMs; reference rows are in the calibration."""
    shifts = {r["subset"]: r["shift"] for r in results["rows"]}
    known = {r["rpm"] for r in results["rows"]}
    own = [r for r in results["judge_scores"] if r["rpm"] in known]
    pairwise = {j["judge"] for j in results["judges"] if j["mode"] == "pairwise"}
    columns = [RPM, SUBSET, SHIFT, JUDGE, Column("against", is_text=True)]
    columns += map(Column, ("n", "win rate, %", "mean score", "flips, %"))
    columns.append(Column("counts", is_text=True))
    rows = []
    for r in own:
        wins = r["judge"] in pairwise
        counts = Cell("yes") if r["calibrated"] else Cell("not calibrated", tone="quiet")
        rows.append([
            name(r["rpm"]), name(r["subset"]), name(shifts.get(r["subset"])), name(r["judge"]),
            name(r["against"]), count(r["n"]), shares(r, "value") if wins else Cell(NONE),
            Cell(NONE) if wins else _interval(r, "value"), shares(r, "flips"), counts,
        ])  # fmt: skip
    kept, rows = without_empty(columns, rows, ("RPM", "subset", "shift", "judge", "n", "counts"))
    note = "A flip is a tie, and a tie is half a win."
    return Table("judge-scores", f"What judges say [{figures.level}]", kept, rows, note)


def _asked(records: Sequence[Row]) -> Table:
    """What the servers of judges were asked."""
    keys = ("calls", "retries", "failures", "input_tokens", "output_tokens")
    columns = [JUDGE, *(Column(key.replace("_", " ")) for key in keys), Column("cost")]
    rows = [
        [name(r["judge"]), *(count(r[key]) for key in keys),
         Cell(NONE if r["cost"] is None else f"{r['cost']:.4g}")]
        for r in records
    ]  # fmt: skip
    return Table("judge-calls", "What judges were asked", columns, rows)


def _agreement(records: Sequence[Row], figures: Figures) -> Table:
    columns = [Column("judges", is_text=True), Column("mode", is_text=True)]
    columns += [Column("alpha"), Column("n"), Column("why none", is_text=True)]
    rows = [
        [
            text(", ".join(short(x, 24) for x in r["judges"])), text(r["mode"]),
            _interval(r, "alpha"), Cell(str(r["n"]), f"{r['contexts']}{NO_BREAK}contexts"),
            text(r["reason"], "quiet"),
        ]
        for r in records
    ]  # fmt: skip
    title = f"Krippendorff’s α of calibrated judges [{figures.level}]"
    kept, rows = without_empty(columns, rows, ("judges", "mode", "alpha", "n"))
    return Table("judge-agreement", title, kept, rows, is_open=True)


def _correlations(records: Sequence[Row], figures: Figures) -> Table:
    columns = [JUDGE, Column("measure", is_text=True)]
    columns += map(Column, ("Pearson", "Spearman", "RPM × subset", "contexts"))
    columns.append(Column("why none", is_text=True))
    rows = [list(_correlation(r)) for r in records]
    kept, rows = without_empty(columns, rows, ("judge", "measure", "Pearson", "RPM × subset"))
    note = "R-EMI, baseline and loss beside the judge’s value in each subset, R-EMID beside the "
    note += "drop of that value: a good measure has a positive sign, loss a negative one. "
    note += "Intervals are about other contexts for these RPMs and shifts."
    title = f"Measures beside calibrated judges [{figures.level}]"
    return Table("judge-correlations", title, kept, rows, note, is_open=True)


def _correlation(r: Row) -> Iterator[Cell]:
    yield name(r["judge"])
    yield text(MEASURES[r["measure"]])
    yield _interval(r, "pearson")
    yield _interval(r, "spearman")
    yield Cell(str(r["cells"]), f"{r['rpms']}{NO_BREAK}RPMs, {r['subsets']}{NO_BREAK}subsets")
    yield count(r["contexts"])
    yield text(r["reason"], "quiet")


def _interval(row: Row, key: str) -> Cell:
    """A value without unit with its interval, to two digits."""
    if row[key] is None:
        return Cell(NONE)
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    ends = "no interval" if None in (low, high) else f"[{low:.2f}, {high:.2f}]"
    return Cell(f"{row[key]:.2f}", ends)

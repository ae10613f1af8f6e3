"""What a diagnosis shows on the terminal: verdicts, one table, warnings, and where the rest is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import chop_cells
from rich.text import Text

from remid_jax.errors import visible
from remid_jax.report.notes import note_lines, subsets_without_golden, warning_lines
from remid_jax.report.profile_cells import Profile, refused_lines
from remid_jax.report.profile_table import long_table, ruler_lines, wide_table
from remid_jax.report.run_folder import PAGE
from remid_jax.report.tables import new_table, rendered
from remid_jax.report.text import (
    NO_BREAK,
    SHUFFLED,
    WIDTH,
    Figures,
    Row,
    rpms_of,
    short,
    span,
    wrapped,
)
from remid_jax.report.uncertainty import collapse_sentences, uncertainty_table
from remid_jax.report.verdict_lines import all_lack_golden, told_by_collapse, verdict_lines
from remid_jax.report.verdicts import comparison_lines

FEW_ROWS = 12  # of a table with a row an RPM and subset; where there are more, an RPM has a column
LINES, MANY_LINES = 30, 50  # of two RPMs on four subsets, and of six on twelve
COLUMN, COLUMNS = 13, 6  # cells of an RPM's column, and how many stand side by side


def print_report(results: Mapping[str, Any], folder: str | Path) -> None:
    """Prints the results that a folder holds, in lines of at most `WIDTH` cells but for paths."""
    rows, figures = results["rows"], Figures(results["provenance"]["config"]["estimator"])
    rpms = rpms_of(rows)
    few = sum(r["rpm"] in rpms for r in rows) <= FEW_ROWS
    below = _below(results, folder, figures)
    room = (LINES if few else MANY_LINES) - len(below) - 1
    all_lack, verdicts = all_lack_golden(results), verdict_lines(results, figures)
    if results["profile"]:
        table = [] if all_lack else _profile(results, rpms, figures, few, room - len(verdicts))
        if lacking := subsets_without_golden(results):
            profile = Profile(results, figures)
            told = told_by_collapse(profile, lacking)
            tags = [tag for tag in profile.shifts if tag in told or tag == profile.home]
            table += [""] * bool(table) + uncertainty_table(profile, rpms, tags, figures)
    else:
        table = (_long if few else _wide)(rows, rpms, figures)
        table += wrapped(_references(rows, figures))
    room -= len(verdicts) + len(table)
    compared = [] if all_lack else comparison_lines(results, figures, max(room, 1))
    print("\n".join((*verdicts, *compared, "", *table, *below)).replace(NO_BREAK, " "))


def print_monitor(results: Mapping[str, Any], folder: str | Path) -> None:
    """Prints what has collapsed: a sentence an RPM and factor, the table, and where the rest is."""
    figures = Figures(results["provenance"]["config"]["estimator"])
    profile = Profile(results, figures)
    rpms = rpms_of(results["rows"])
    said = [x for rpm in rpms for s in collapse_sentences(rpm, profile) for x in wrapped(s)]
    table = uncertainty_table(profile, rpms, list(profile.shifts), figures)
    below = _below(results, folder, figures)
    print("\n".join((*said, "", *table, *below)).replace(NO_BREAK, " "))


def _below(results: Mapping[str, Any], folder: str | Path, figures: Figures) -> list[str]:
    """Warnings and notes, and where the rest is."""
    notes = (*warning_lines(results), *note_lines(results, figures))
    return [*(x for line in notes for x in wrapped(line)), *_files(results, folder)]


def _profile(
    results: Mapping[str, Any], rpms: Sequence[str], figures: Figures, few: bool, room: int
) -> list[str]:
    """The table with what belongs to it; there is room for so many lines."""
    profile = Profile(results, figures)
    table = (long_table if few else wide_table)(results, profile, rpms, figures)
    rulers = ruler_lines(results, profile, figures)
    room -= len(table) + len(rulers) + bool(results["comparisons"])
    return [*table, *refused_lines(profile, rpms, figures, 1 + (room > 1)), *rulers]


def _long(rows: Sequence[Row], rpms: Sequence[str], figures: Figures) -> list[str]:
    columns = ("RPM", "subset", "n", "R-EMI", "R-EMID", "retained", "baseline")
    title = f"R-EMI and R-EMID ± s.e. in {figures.about}"
    table = new_table(title, columns, left=("RPM", "subset"))
    for rpm in rpms:
        for i, row in enumerate(r for r in rows if r["rpm"] == rpm):
            cells = ("" if i else short(rpm), short(row["subset"], 22), str(row["n"]))
            found = (figures.estimate(row, "r_emi"), figures.r_emid(row) if i else "")
            levels = (figures.estimate(row, key, 2) for key in ("retained", "baseline"))
            table.add_row(*map(Text, (*cells, *found, *levels)))
    shares = "retained: share of golden's information; baseline: log q per token minus golden's"
    return [*rendered(table), f"* p < {figures.alpha:.2g} (Holm over the subsets); {shares}"]


def _wide(rows: Sequence[Row], rpms: Sequence[str], figures: Figures) -> list[str]:
    """A row a subset, a column an RPM: R-EMI in distribution, then R-EMID."""
    lines: list[str] = []
    by_place = {(r["rpm"], r["subset"]): r for r in rows}
    title = f"R-EMID, and R-EMI in distribution, ± s.e. in {figures.about}"
    for start in range(0, len(rpms), COLUMNS):
        some = rpms[start : start + COLUMNS]
        room = max((WIDTH - 32) // len(some) - 1, COLUMN)
        heads = ("\n".join(chop_cells(short(rpm, 2 * COLUMN), room)) for rpm in some)
        table = new_table(title, ("subset", "n", *heads))
        for i, subset in enumerate(dict.fromkeys(r["subset"] for r in rows)):
            own = [by_place[rpm, subset] for rpm in some]
            name = short(subset, 22) if i else f"{short(subset, 14)}, R-EMI"
            found = (figures.r_emid(r) if i else figures.estimate(r, "r_emi") for r in own)
            cells = (name, span([r["n"] for r in own]), *(f.replace(NO_BREAK, "") for f in found))
            table.add_row(*map(Text, cells))
        lines += rendered(table)
    return [*lines, f"* p < {figures.alpha:.2g} (Holm over the subsets of an RPM)"]


def _references(rows: Sequence[Row], figures: Figures) -> str:
    """The rows that serve as a ruler: golden responses, and those of other contexts."""
    own = [r for r in rows if r["rpm"] == SHUFFLED]
    if not own:
        return "no golden responses, and so no row of them"
    home, *shifted = own
    known = sorted((r for r in shifted if r["r_emid"] is not None), key=lambda r: r["r_emid"])
    ends = [
        f"{figures.r_emid(r)} ({short(r['subset'], 18)})" for r in (*known[:1], *known[1:][-1:])
    ]
    text = f"golden 0; shuffled golden, n = {span([r['n'] for r in own])}: R-EMI "
    text += figures.estimate(home, "r_emi")
    return f"{text}, R-EMID {' to '.join(ends)}" if ends else text


def _files(results: Mapping[str, Any], folder: str | Path) -> list[str]:
    """Where the rest is; the page first."""
    tables = [results[key] for key in ("contributions", "examples") if results.get(key)]
    beside = ", ".join(("results.json and results.csv (all figures)", *tables, "responses.jsonl"))
    return [f"report: {visible(str(Path(folder) / PAGE))}", f"beside it: {beside}, pairs/"]

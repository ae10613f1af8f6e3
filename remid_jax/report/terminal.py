"""What a diagnosis shows on the terminal: verdicts, one table, warnings, and where the rest is."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.table import Table
from rich.text import Text

from remid_jax.report.notes import note_lines, warning_lines
from remid_jax.report.tables import new_table
from remid_jax.report.text import NO_BREAK, REFERENCES, WIDTH, Figures, Row, short, span
from remid_jax.report.verdicts import comparison_lines, verdict

FEW_ROWS = 12  # of a table with a row an RPM and subset; where there are more, an RPM has a column
LINES, MANY_LINES = 30, 50  # of two RPMs on four subsets, and of six on twelve
COLUMN, COLUMNS = 13, 6  # cells of an RPM's column, and how many stand side by side


def print_report(
    results: Mapping[str, Any], folder: str | Path, console: Console | None = None
) -> None:
    """Prints what a run shows, in lines of at most 120 cells but for long paths.

    Args:
      results: content of results.json.
      folder: where it lies.
      console: where to print.
    """
    rows, figures = results["rows"], Figures(results["provenance"]["config"]["estimator"])
    rpms = list(dict.fromkeys(r["rpm"] for r in rows if r["rpm"] not in REFERENCES))
    few = sum(r["rpm"] in rpms for r in rows) <= FEW_ROWS
    verdicts = [line for rpm in rpms for line in _wrapped(verdict(rpm, results, figures))]
    table = [*(_long if few else _wide)(rows, rpms, figures), _references(rows, figures)]
    below = [*warning_lines(results), *note_lines(results, figures), *_files(results, folder)]
    room = (LINES if few else MANY_LINES) - len(verdicts) - len(table) - len(below) - 1
    compared = comparison_lines(results, figures, max(room, 1))
    for line in (*verdicts, *compared, "", *table, *below):
        (console or Console()).print(Text(line.replace(NO_BREAK, " ")), soft_wrap=True)


def _wrapped(text: str) -> list[str]:
    """Lines that break at spaces, though not within a figure."""
    first, *words = text.split(" ")
    lines = [first]
    for word in words:
        if cell_len(f"{lines[-1]} {word}") > WIDTH:
            lines.append(" ")
        lines[-1] += f" {word}"
    return lines


def _long(rows: Sequence[Row], rpms: Sequence[str], figures: Figures) -> list[str]:
    """A row an RPM and subset."""
    columns = ("RPM", "subset", "n", "R-EMI", "R-EMID", "retained", "baseline")
    title = f"R-EMI and R-EMID ± s.e. in {figures.about}"
    table = new_table(title, columns, left=("RPM", "subset"))
    for rpm in rpms:
        for i, row in enumerate(r for r in rows if r["rpm"] == rpm):
            cells = ("" if i else short(rpm), short(row["subset"]), str(row["n"]))
            found = (figures.estimate(row, "r_emi"), figures.r_emid(row) if i else "")
            levels = (figures.estimate(row, key, 2) for key in ("retained", "baseline"))
            table.add_row(*map(Text, (*cells, *found, *levels)))
    shares = "retained: share of golden's information; baseline: log q per token minus golden's"
    return [*_rendered(table), f"* p < {figures.alpha:.2g} (Holm over the subsets); {shares}"]


def _wide(rows: Sequence[Row], rpms: Sequence[str], figures: Figures) -> list[str]:
    """A row a subset, a column an RPM: R-EMI in distribution, then R-EMID."""
    lines: list[str] = []
    by_place = {(r["rpm"], r["subset"]): r for r in rows}
    home, *_ = subsets = list(dict.fromkeys(r["subset"] for r in rows))
    for start in range(0, len(rpms), COLUMNS):
        some = rpms[start : start + COLUMNS]
        room = max((WIDTH - 30) // len(some) - 1, COLUMN)
        heads = ("\n".join(chop_cells(short(rpm, 2 * COLUMN), room)) for rpm in some)
        title = f"R-EMID, and R-EMI in distribution, ± s.e. in {figures.about}"
        table = new_table(title, ("subset", "n", *heads))
        for subset in subsets:
            own = [by_place[rpm, subset] for rpm in some]
            name, found = short(subset, 22), [figures.r_emid(r) for r in own]
            if subset == home:
                name, found = (
                    f"{short(subset, 14)}, R-EMI",
                    [figures.estimate(r, "r_emi") for r in own],
                )
            cells = (name, span([r["n"] for r in own]), *(f.replace(" ", "") for f in found))
            table.add_row(*map(Text, cells))
        lines += _rendered(table)
    return [*lines, f"* p < {figures.alpha:.2g} (Holm over the subsets of an RPM)"]


def _rendered(table: Table) -> list[str]:
    """The lines of a table at the width that it needs."""
    table.show_edge = False
    console = Console(file=io.StringIO(), width=10_000, color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().rstrip("\n").split("\n")]


def _references(rows: Sequence[Row], figures: Figures) -> str:
    """The rows that serve as a ruler: golden responses, and those of other contexts."""
    home, *shifted = [r for r in rows if r["rpm"] == REFERENCES[1]]
    n = span([r["n"] for r in (home, *shifted)])
    text = f"golden 0; shuffled golden, n = {n}: R-EMI {figures.estimate(home, 'r_emi')}"
    if not (found := [r for r in shifted if r["r_emid"] is not None]):
        return text
    low, high = (f(found, key=lambda r: r["r_emid"]) for f in (min, max))
    ends = dict.fromkeys(f"{figures.r_emid(r)} ({short(r['subset'], 18)})" for r in (low, high))
    return f"{text}, R-EMID {' to '.join(ends)}"


def _files(results: Mapping[str, Any], folder: str | Path) -> list[str]:
    beside = "responses.jsonl, pairs/"
    if results["contributions"]:
        beside = f"{results['contributions']} (what each sample adds to R-EMI), {beside}"
    path = Path(folder) / "results.json"
    return [f"results: {path}", f"{path.name} holds all figures; beside it: {beside}"]

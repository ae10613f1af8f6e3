"""Names, lists and figures as they stand in a report."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

from remid_jax.errors import visible

WIDTH = 120  # cells of a line
GOLDEN, SHUFFLED, UNSHIFTED, ECHO = "golden", "shuffled golden", "unshifted", "echo"
REFERENCES = (GOLDEN, SHUFFLED, UNSHIFTED, ECHO)  # rows that belong to no RPM
NO_BREAK = "\u00a0"  # a space where no line is broken
Row = Mapping[str, Any]


def rpms_of(rows: Sequence[Row]) -> list[str]:
    """Names of the evaluated models, in their order."""
    return list(dict.fromkeys(r["rpm"] for r in rows if r["rpm"] not in REFERENCES))


def without_r_emid(rpm: str, rows: Sequence[Row]) -> list[str]:
    """Shifted subsets of an RPM whose R-EMID could not be estimated."""
    return [r["subset"] for r in rows if r["rpm"] == rpm and r["shift"] and r["r_emid"] is None]


def short(name: str, room: int = 30) -> str:
    """An untrusted name: control characters escaped, and its middle left out where it is long."""
    text = visible(name)
    if cell_len(text) <= room:
        return text
    half = (room - 1) // 2
    return f"{set_cell_size(text, half)}…{set_cell_size(text[::-1], half)[::-1]}"


def fit(start: str, parts: Sequence[str], end: str = "", width: int = WIDTH) -> str:
    """A line that lists as many of the parts as there is room for, and counts the others."""
    for kept in range(len(parts), -1, -1):
        listed = ", ".join(parts[:kept])
        if kept < len(parts):
            listed += f" and {len(parts) - kept} more" if kept else f"{len(parts)}"
        line = f"{start}{listed}{end}"
        if cell_len(line) <= width:
            return line
    return set_cell_size(line, width - 1) + "…"


def wrapped(text: str) -> list[str]:
    """Lines of at most `WIDTH` cells, broken at spaces."""
    first, *words = text.split(" ")
    lines = [first]
    for word in words:
        if cell_len(f"{lines[-1]} {word}") > WIDTH:
            lines.append(" ")
        lines[-1] += f" {word}"
    return lines


def span(values: Sequence[Any]) -> str:
    """`10`, or `8-10` where they differ."""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low}-{high}"


def n_and_p(row: Row) -> str:
    """`n = 10, p = 0.036 (Holm)`, or the p-value as it is where nothing was adjusted."""
    p, how = (row["p_value"], "") if row["p_holm"] is None else (row["p_holm"], " (Holm)")
    found = f"p < 0.001{how}" if p < 0.001 else f"p = {p:.2g}{how}"
    both = (f"n = {row.get('n_paired') or row['n']}", found)
    return ", ".join(x.replace(" ", NO_BREAK) for x in both)


class Figures:
    """How the figures of a run are written, from its configuration `estimator`."""

    def __init__(self, estimator: Mapping[str, Any]):
        whole = estimator["normalisation"] == "sequence"
        self.unit, self._digits = ("nats per response", 1) if whole else ("nats per token", 3)
        self.level = f"{100 * estimator['confidence']:g} %"
        how = f"{estimator['name']}, {estimator['negatives']} negatives"
        self.how = f"{self.unit} ({how})"
        self.about = f"{self.how}; intervals at {self.level}"
        self.alpha = 1 - estimator["confidence"]

    def value(self, value: float, digits: int | None = None) -> str:
        """A rounded number, without the sign of a rounded zero."""
        digits = self._digits if digits is None else digits
        return f"{round(value, digits) + 0.0:.{digits}f}"

    def estimate(self, row: Row, key: str, digits: int | None = None) -> str:
        """`19.1 ± 7.0`; a dash stands for what could not be estimated."""
        both = (row[key], row[f"{key}_se"])
        value, error = ("–" if x is None else self.value(x, digits) for x in both)
        return value if row[key] is None else f"{value}{NO_BREAK}±{NO_BREAK}{error}"

    def r_emid(self, row: Row) -> str:
        """R-EMID ± s.e., marked where it is significant."""
        return self.estimate(row, "r_emid") + "*" * self.is_significant(row)

    def interval(self, *ends: float) -> str:
        """`19.1 [3.2, 35.0]` of a value and its two limits."""
        value, low, high = map(self.value, ends)
        return f"{value} [{low},{NO_BREAK}{high}]"

    def is_significant(self, row: Row) -> bool:
        """Whether a difference is not 0, after Holm's correction where there is one."""
        adjusted = row["p_holm"]
        return row["within_noise"] is False if adjusted is None else adjusted < self.alpha

"""Tables and sections of the page, before they are HTML."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from remid_jax.report.profile_cells import percent
from remid_jax.report.text import NO_BREAK, REFERENCES, Figures, Row, short

NONE = "–"
NAME = 40  # characters


class Column(NamedTuple):
    """A column; `filters` is what the page filters by it: rpm, subset, shift or nothing."""

    name: str
    filters: str = ""
    is_text: bool = False


class Cell(NamedTuple):
    """A figure, its interval in smaller type behind it, and `bad`, `quiet` or no tone."""

    text: str
    aside: str = ""
    tone: str = ""


RPM, SUBSET, SHIFT = (
    Column("RPM", "rpm", True),
    Column("subset", "subset", True),
    Column("shift", "shift", True),
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that folds, sorts and filters.

    Attributes:
      name: unique in the page.
      title: stands above it.
      columns: the first one names the row.
      rows: cells.
      note: stands below it; may be empty.
      is_open: whether it is unfolded at first.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    is_open: bool = False

    @property
    def of_references(self) -> list[bool]:
        """For each row whether it belongs to no RPM."""
        return [row[0].text in REFERENCES for row in self.rows]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
      name: anchor.
      title: heading, and entry of the contents.
      lead: paragraphs.
      terms: names of what is explained here, of `terms.TERMS`.
      pictures: SVG elements side by side.
      key: (kind of mark, meaning) for the pictures.
      tables: below them.
      points: (RPM, sentence) in a list.
    """

    name: str
    title: str
    lead: Sequence[str] = ()
    terms: Sequence[str] = ()
    pictures: Sequence[Markup] = ()
    key: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    points: Sequence[tuple[str, str]] = ()


def name(value: str | None) -> Cell:
    """A name that others chose, its middle left out where it is long."""
    return Cell(short(value, NAME) if value else NONE)


def capitalised(said: str) -> str:
    """A sentence with a capital at its beginning."""
    return f"{said[:1].upper()}{said[1:]}"


def text(value: str | None, tone: str = "") -> Cell:
    """A sentence, or a dash."""
    return Cell(value or NONE, tone=tone)


def count(value: int | None, none: str = NONE) -> Cell:
    """A whole number."""
    return Cell(none if value is None else str(value))


def estimate(row: Row, key: str, figures: Figures, digits: int | None = None) -> Cell:
    """A value with its standard error, under `key` and `key_se`."""
    value, _, error = figures.estimate(row, key, digits).partition(f"{NO_BREAK}±{NO_BREAK}")
    return Cell(value, f"±{NO_BREAK}{error}" if error else "")


def interval(row: Row, key: str, figures: Figures, marked: bool = False, tone: str = "") -> Cell:
    """A value with its interval, under `key`, `key_low` and `key_high`; a star where marked."""
    if row[key] is None:
        return Cell(NONE)
    star = "*" * marked
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    if low is None or high is None:
        return Cell(figures.value(row[key]) + star, tone=tone)
    ends = f"[{figures.value(low)}, {figures.value(high)}]"
    return Cell(figures.value(row[key]) + star, ends, tone)


def shares(row: Row, key: str, marked: bool = False, tone: str = "") -> Cell:
    """A share in percent with its interval."""
    if row[key] is None:
        return Cell(NONE)
    low, high = (row[f"{key}_{end}"] for end in ("low", "high"))
    ends = "" if None in (low, high) else f"[{percent(low)}, {percent(high)}]"
    return Cell(percent(row[key]) + "*" * marked, ends, tone)


def p_value(value: float | None) -> Cell:
    """A p-value to two digits."""
    if value is None:
        return Cell(NONE)
    return Cell("<0.001" if value < 0.001 else f"{value:.2g}")


def without_empty(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], kept: Sequence[str]
) -> tuple[list[Column], list[list[Cell]]]:
    """The table without columns in which nothing stands, but for those that are `kept`."""
    full = [
        column.name in kept or any(row[k].text not in (NONE, "") for row in rows)
        for k, column in enumerate(columns)
    ]
    chosen = [c for c, there in zip(columns, full, strict=True) if there]
    return chosen, [[c for c, there in zip(row, full, strict=True) if there] for row in rows]

"""The information profile of a run as a report reads it: its cells, its flags and its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from remid_jax.factor_names import FACTORS
from remid_jax.report.text import NO_BREAK, WIDTH, Figures, Row, fit, short, span, wrapped

SLACK = 20  # cells that breaking a line may cost
MOST_PERCENT = 999  # beyond which only the side is written


class Profile:
    """`profile` and `flags` of the results, by RPM, subset and factor.

    Attributes:
      shifts: subset -> what is shifted, None where nothing is; in distribution first.
      home: the subset in distribution.
    """

    def __init__(self, results: Mapping[str, Any], figures: Figures):
        self._cells = {(r["rpm"], r["subset"], r["factor"]): r for r in results["profile"]}
        self._flags = [(r["rpm"], r["flag"], r["factor"], r["subset"]) for r in results["flags"]]
        self._alpha = figures.alpha
        self.shifts = {r["subset"]: r["shift"] for r in results["rows"]}
        self.home = next(iter(self.shifts))

    def cells(self, rpm: str, factors: Sequence[str] = FACTORS) -> list[Row]:
        """Cells of an RPM or reference row, subset by subset."""
        places = ((rpm, tag, factor) for tag in self.shifts for factor in factors)
        return [self._cells[place] for place in places if place in self._cells]

    def row(self, rpm: str, subset: str) -> list[Row | None]:
        """Its cells of user, character and dialogue."""
        return [self._cells.get((rpm, subset, factor)) for factor in FACTORS]

    def count_shown(self, rpm: str, factor: str) -> int:
        """Subsets in which a factor has a share."""
        return sum(cell["shown"] for cell in self.cells(rpm, [factor]))

    def is_home(self, cell: Row) -> bool:
        """Whether it is of the subset in distribution."""
        return cell["subset"] == self.home

    def flagged(self, rpm: str, flag: str, factor: str | None = None) -> list[str]:
        """Subsets in which a flag is raised."""
        found = {tag for *key, tag in self._flags if key == [rpm, flag, factor]}
        return [tag for tag in self.shifts if tag in found]

    def flags_of(self, rpm: str, subset: str) -> list[tuple[str, str | None]]:
        """(flag, factor or None) of what is raised in a subset."""
        place = (rpm, subset)
        return [(flag, factor) for r, flag, factor, tag in self._flags if (r, tag) == place]

    def tells(self, cell: Row) -> bool:
        """Whether a cell is of a factor that its subset shifts; in distribution all count."""
        shift = self.shifts[cell["subset"]]
        return shift not in FACTORS or shift == cell["factor"]

    def is_lost(self, cell: Row) -> bool:
        """Whether it carries less than golden answers do, after Holm's correction."""
        return cell["p_holm"] is not None and cell["p_holm"] < self._alpha and cell["lost"] > 0

    def slashed(self, rpm: str, subset: str) -> str:
        """`2*/48/–` of user, character and dialogue, in percent."""
        return "/".join(self.cell(cell, interval=False) for cell in self.row(rpm, subset))

    def cell(self, cell: Row | None, interval: bool = True) -> str:
        """`48 [20, 75]*` in percent; the mark is that of a significant loss."""
        if cell is None or not cell["shown"]:
            return "–"
        value, *ends = (percent(cell[key]) for key in ("share", "share_low", "share_high"))
        text = f"{value} [{', '.join(ends)}]" if interval else value
        return text + "*" * self.is_lost(cell)


def percent(share: float) -> str:
    """A whole number; `>999` where it is beyond what means anything."""
    value = round(100 * share)
    if abs(value) <= MOST_PERCENT:
        return str(value)
    return f">{MOST_PERCENT}" if value > 0 else f"<-{MOST_PERCENT}"


def said_share(cell: Row) -> str:
    """`7 % (0 to 21)`, unbroken."""
    value, low, high = (percent(cell[key]) for key in ("share", "share_low", "share_high"))
    return f"{value} % ({low} to {high})".replace(" ", NO_BREAK)


def refused_lines(profile: Profile, rpms: Sequence[str], figures: Figures, lines: int) -> list[str]:
    """Why cells have no share, in so many lines; what the data cannot test stands first."""
    silent: dict[tuple[str, str], Row] = {}
    others: dict[str, Row] = {}
    for cell in (c for rpm in rpms for c in profile.cells(rpm) if not c["shown"]):
        if cell["info_golden"] is None:
            others.setdefault(f"{short(cell['subset'], 18)}: {cell['reason']}", cell)
        else:
            silent.setdefault((cell["factor"], cell["subset"]), cell)
    parts = []
    for cell in sorted(silent.values(), key=lambda c: not profile.tells(c)):
        place = "at home" if profile.is_home(cell) else f"under {short(cell['subset'], 18)}"
        found = figures.estimate(cell, "info_golden").replace(NO_BREAK, "")
        found = f"{found} nats, n = {cell['n']}"
        if (needed := cell["n_to_show"]) and needed > cell["n"]:
            found += f"; about {needed} might do"
        parts.append(f"{cell['factor']} {place} ({found})")
    start = "– golden answers say too little of: " if silent else "– no share: "
    width = WIDTH * lines - SLACK * (lines - 1)
    return wrapped(fit(start, [*parts, *others], width=width)) if silent or others else []


def counted(cells: Sequence[Row]) -> str:
    """`n = 10` of cells that have an estimate; where none has, of the contexts with an answer."""
    known = [c["n"] for c in cells if c["info"] is not None]
    known = known or [c["n"] + c["left_out"] for c in cells]
    return f"n{NO_BREAK}={NO_BREAK}{span(known)}"

"""The table of the information profile, with R-EMI, R-EMID and the baseline in the same rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, chop_cells
from rich.text import Text

from remid_jax.factor_names import FACTORS
from remid_jax.report.notes import seen_with_power
from remid_jax.report.profile_cells import Profile, counted
from remid_jax.report.tables import new_table, rendered
from remid_jax.report.text import (
    ECHO,
    NO_BREAK,
    SHUFFLED,
    UNSHIFTED,
    WIDTH,
    Figures,
    Row,
    fit,
    short,
    span,
)

GAP = 2  # cells between columns
LEAST = 8  # cells of a name
MOST = 22  # of a subset's
COLUMNS = 6  # RPMs side by side
SLASHED = "user/character/dialogue"


def long_table(
    results: Mapping[str, Any], profile: Profile, rpms: Sequence[str], figures: Figures
) -> list[str]:
    """A row an RPM and subset, a column a factor."""
    rows = [r for rpm in rpms for r in results["rows"] if r["rpm"] == rpm]
    found = [_figures_of(r, profile, figures) for r in rows]
    heads = ("n", *(f"{factor} %" for factor in FACTORS), "R-EMI", "R-EMID", "baseline")
    title = f"% of golden's information in the answers [{figures.level}]; R-EMI, R-EMID ± s.e. in "
    places = [(r["rpm"], r["subset"]) for r in rows]
    return [*placed(title + figures.how, heads, places, found), _footnote(results, figures)]


def placed(
    title: str, heads: Sequence[str], places: Sequence[tuple[str, str]],
    found: Sequence[Sequence[str]],
) -> list[str]:  # fmt: skip
    """The lines of a table with a row an RPM and subset, whose names take the room that is left."""
    used = sum(max(map(cell_len, column)) + GAP for column in zip(heads, *found, strict=True))
    rpm_room, room = _rooms(*zip(*places, strict=True), WIDTH + 1 - used - 2 * GAP)
    table = new_table(title, ("RPM", "subset", *heads), left=("RPM", "subset"))
    before = None
    for (rpm, tag), cells in zip(places, found, strict=True):
        name = "" if rpm == before else short(rpm, rpm_room)
        table.add_row(*map(Text, (name, short(tag, room), *cells)))
        before = rpm
    return rendered(table)


def _figures_of(row: Row, profile: Profile, figures: Figures) -> list[str]:
    cells = profile.row(row["rpm"], row["subset"])
    counts = [row["n"], *(cell["n"] for cell in cells if cell)]
    r_emid = "" if row["subset"] == profile.home else figures.r_emid(row)
    levels = figures.estimate(row, "r_emi"), r_emid, figures.estimate(row, "baseline", 2)
    return [span(counts), *map(profile.cell, cells), *(x.replace(NO_BREAK, "") for x in levels)]


def _rooms(rpms: Sequence[str], subsets: Sequence[str], room: int) -> tuple[int, int]:
    """Cells for the names of RPMs and subsets, of those that the figures leave."""
    first, second = (max(cell_len(short(n)) for n in names) for names in (rpms, subsets))
    second = min(second, MOST, max(room - min(first, room // 2), LEAST))
    return max(min(first, room - second), LEAST), second


def wide_table(
    results: Mapping[str, Any], profile: Profile, rpms: Sequence[str], figures: Figures
) -> list[str]:
    """A row a subset, a column an RPM; below them R-EMI in distribution and R-EMID by shift."""
    title = f"{SLASHED}: % of golden's; R-EMI, mean R-EMID ± s.e.: {figures.how}"
    lines: list[str] = []
    while rpms:
        for count in range(min(COLUMNS, len(rpms)), 0, -1):
            some = rpms[:count]
            body = [
                *_slashed_rows(results, profile, some),
                *_levels(results, profile, some, figures),
            ]
            columns = zip(*(cells for _, cells in body), strict=True)
            counts, *widths = (max(map(cell_len, column)) + GAP for column in columns)
            room = WIDTH + 1 - counts - sum(widths) - GAP
            if room >= LEAST:
                break
        width = max(*widths, (WIDTH - MOST - counts - GAP) // count) - GAP
        heads = ["\n".join(chop_cells(short(rpm, 2 * width), width)) for rpm in some]
        table = new_table(title, ("subset", "n", *heads))
        for name, cells in body:
            table.add_row(*map(Text, (short(name, max(min(room, MOST), LEAST)), *cells)))
        lines += rendered(table)
        rpms = rpms[count:]
    return [*lines, _footnote(results, figures)]


def _slashed_rows(
    results: Mapping[str, Any], profile: Profile, rpms: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    for subset in profile.shifts:
        counts = [r["n"] for r in results["rows"] if r["rpm"] in rpms and r["subset"] == subset]
        counts += [cell["n"] for rpm in rpms for cell in profile.row(rpm, subset) if cell]
        yield subset, [span(counts), *(profile.slashed(rpm, subset) for rpm in rpms)]


def _levels(
    results: Mapping[str, Any], profile: Profile, rpms: Sequence[str], figures: Figures
) -> Iterator[tuple[str, list[str]]]:
    own = {r["rpm"]: r for r in results["rows"] if r["subset"] == profile.home}
    home = [own[rpm] for rpm in rpms]
    levels = [figures.estimate(r, "r_emi").replace(NO_BREAK, "") for r in home]
    yield f"R-EMI {profile.home}", [span([r["n"] for r in home]), *levels]
    means = {(r["rpm"], s["shift"]): s for r in results["by_shift"] for s in r["shifts"]}
    for shift in dict.fromkeys(shift for _, shift in means):
        tags = {tag for tag, what in profile.shifts.items() if what == shift}
        counts = [r["n"] for r in results["rows"] if r["rpm"] in rpms and r["subset"] in tags]
        known = (means.get((rpm, shift)) for rpm in rpms)
        cells = ["–" if r is None else figures.r_emid(r).replace(NO_BREAK, "") for r in known]
        yield f"R-EMID {shift}", [span(counts or ["–"]), *cells]


def _footnote(results: Mapping[str, Any], figures: Figures) -> str:
    said = f"* loss, or R-EMID, with p < {figures.alpha:.2g} (Holm); – no share"
    seen = seen_with_power(results["rows"], figures)
    return f"{said}; {seen}" if seen else said


def ruler_lines(results: Mapping[str, Any], profile: Profile, figures: Figures) -> list[str]:
    """What the rows of known faults reach, a line each."""
    home = {r["rpm"]: r for r in results["rows"] if r["subset"] == profile.home}
    lines = []
    for name in (UNSHIFTED, ECHO, SHUFFLED):
        cells = profile.cells(name)
        if name == UNSHIFTED:  # which is golden itself in distribution
            cells = [c for c in cells if not profile.is_home(c)]
        if cells:
            tags = dict.fromkeys(c["subset"] for c in cells if c["shown"])
            said = [counted(cells)]
            if name in home:
                said.append(f"R-EMI {figures.estimate(home[name], 'r_emi')}")
            about = ", ".join(said if lines else [SLASHED, *said[: 1 + (name != UNSHIFTED)]])
            parts = [f"{short(tag, 20)} {profile.slashed(name, tag)}" for tag in tags]
            lines.append(fit(f"{name} ({about}): ", parts or ["–"]))
    return lines

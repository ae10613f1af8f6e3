"""The information profile: pictures, shares, and the nats behind them."""

from collections.abc import Mapping, Sequence
from typing import Any

from remid_jax.factor_names import DIALOGUE_PARTS, FACTORS, NAME
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
    estimate,
    name,
    p_value,
    shares,
    text,
    without_empty,
)
from remid_jax.report.html.pictures import inline
from remid_jax.report.profile_cells import Profile, percent, refused_lines
from remid_jax.report.svg import PROFILE_KEY, profile_panels
from remid_jax.report.text import ECHO, SHUFFLED, UNSHIFTED, Figures, Row, rpms_of, span

EVERY = (*FACTORS, *DIALOGUE_PARTS, NAME)
REFUSED = 40  # lines of why there is no share
KEPT = ("RPM", "subset", "n", *FACTORS)


def profile_section(results: Mapping[str, Any], figures: Figures) -> Section:
    """What of golden's information the answers carry."""
    title = "What the answers carry"
    if not results["profile"]:
        why = "This run measured no information profile (config.profile.swaps = 0)."
        return Section("profile", title, [why])
    profile, rpms = Profile(results, figures), rpms_of(results["rows"])
    panels = profile_panels(results)
    lead = (
        "Each factor of the context is swapped for another sample’s. What the own words of an "
        "answer lose in likelihood is the information that they carry about it, here as a "
        f"percentage of what golden answers carry [{figures.level} interval]."
    )
    if not panels:
        lead = (
            "No share can be given: nothing here can be compared with golden answers. The table "
            "holds the information in nats and u, its share of the words’ uncertainty."
        )
    tables = [_shares(profile, rpms, figures)] if panels else []
    return Section(
        "profile",
        title,
        [lead],
        ("share", "information", "own words", "golden", "loss", "ignores", "reference rows",
         "interval", "n", "u", "collapsed"),
        [inline(panel) for panel in panels],
        PROFILE_KEY,
        [*tables, _nats(profile, rpms, figures, is_open=not panels)],
    )  # fmt: skip


def _shares(profile: Profile, rpms: Sequence[str], figures: Figures) -> Table:
    columns = [RPM, SUBSET, SHIFT, Column("n"), *map(Column, FACTORS)]
    columns += [*(Column(part.replace("_", " ")) for part in DIALOGUE_PARTS), Column("name alone")]
    columns.append(Column("copied"))
    columns.append(Column("flags", is_text=True))
    rows = [
        _share_row(rpm, tag, profile)
        for rpm in (*rpms, UNSHIFTED, ECHO, SHUFFLED)
        for tag in profile.shifts
        if (rpm, tag) != (UNSHIFTED, profile.home) and any(profile.row(rpm, tag))
    ]
    note = " ".join(refused_lines(profile, rpms, figures, REFUSED)).replace("  ", " ")
    kept, cells = without_empty(columns, rows, KEPT)
    title = f"Shares of golden’s information, % [{figures.level}]"
    return Table("shares", title, kept, cells, note, is_open=True)


def _share_row(rpm: str, tag: str, profile: Profile) -> list[Cell]:
    cells = {c["factor"]: c for c in profile.cells(rpm, EVERY) if c["subset"] == tag}
    flags = profile.flags_of(rpm, tag)
    made = []
    for factor in EVERY:
        cell = cells.get(factor)
        bad = any((flag, factor) in flags for flag in ("ignores", "contradicts"))
        made.append(
            shares(cell, "share", profile.is_lost(cell), "bad" * bad)
            if cell and cell["shown"]
            else Cell(NONE)
        )
    copied = next((c["copied"] for c in cells.values() if c["copied"] is not None), None)
    return [
        name(rpm), name(tag), name(profile.shifts[tag]), Cell(span([c["n"] for c in
        cells.values()])), *made, Cell(NONE if copied is None else percent(copied)),
        Cell(_flags(flags), tone="quiet"),
    ]  # fmt: skip


def _flags(flags: Sequence[tuple[str, str | None]]) -> str:
    """`ignores user, character; echo`."""
    about: dict[str, list[str]] = {}
    for flag, factor in flags:
        about.setdefault(flag, []).extend([factor] if factor else [])
    said = (
        f"{flag} {', '.join(sorted(factors, key=EVERY.index))}".strip()
        for flag, factors in about.items()
    )
    return "; ".join(said).replace("_", " ")


def _nats(profile: Profile, rpms: Sequence[str], figures: Figures, is_open: bool) -> Table:
    names = (
        "n", "left out", "information", "golden’s", "lost", "p (Holm)", "copied words",
        "golden’s copied", "share lost to shift, %", "u, %",
    )  # fmt: skip
    columns = [RPM, SUBSET, Column("factor", is_text=True), *map(Column, names)]
    columns.append(Column("why no share", is_text=True))
    rows = [
        _nats_row(cell, figures) for rpm in rpms for cell in profile.cells(rpm, (*FACTORS, NAME))
    ]
    kept, cells = without_empty(columns, rows, ("RPM", "subset", "factor", "n", "information"))
    title = f"The same in {figures.unit}, ± s.e., and u [{figures.level}]"
    note = "! collapsed: u is shown to be below 0.3 of that in distribution. "
    note += "History and last turn, the parts of the dialogue, are in results.json. "
    note += "The name, where it was replaced by a made-up one, is a part of the character."
    return Table("nats", title, kept, cells, note, is_open)


def _nats_row(cell: Row, figures: Figures) -> list[Cell]:
    u = shares(cell, "u", tone="bad" * bool(cell["collapsed"]))
    if cell["collapsed"]:
        u = u._replace(text=f"{u.text}!")
    copied = [
        Cell(NONE if cell[key] is None else figures.value(cell[key]))
        for key in ("info_copied", "info_copied_golden")
    ]
    return [
        name(cell["rpm"]), name(cell["subset"]), name(cell["factor"]), count(cell["n"]),
        count(cell["left_out"]), estimate(cell, "info", figures),
        estimate(cell, "info_golden", figures), estimate(cell, "lost", figures),
        p_value(cell["p_holm"]), *copied, shares(cell, "share_drop"), u,
        Cell("") if cell["shown"] else text(cell["reason"], "quiet"),
    ]  # fmt: skip

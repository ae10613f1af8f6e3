"""What the information profile says of an RPM: a sentence made of flags and intervals.

It claims no more than these show: a share of 0 is called ignorance only where the flag says so, and
a share above 100 % is no merit.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from remid_jax.factor_names import FACTORS
from remid_jax.report.profile_cells import Profile, counted, said_share
from remid_jax.report.text import Figures, Row, short, without_r_emid, wrapped

LINES = 2  # of a verdict
NAMES = 2  # places that a clause names where there are more
FAULTS = {
    "echo": "echoes the last user turn",
    "copies_last_turn": "copies the last user turn",
    "copies_persona": "copies the user's persona",
    "context_free": "carries less than a quarter of golden's information",
    "colder_than_golden": "colder than golden",
}
IMPLIED = {"copies_last_turn": "echo"}  # by a flag that says more
ABOUT_FACTORS = ("contradicts", "ignores")
COPIED, R_EMID, FLAGGED, SHARES, DROPS, UNTESTED, UNSURE, HOME, OTHERS = range(9)  # ranks
UNDER_SHIFT = {  # kind -> rank of its clause, and how that begins
    "drops": (DROPS, "drops:"),
    "less": (HOME, "less than golden:"),
    "steady": (OTHERS, "no drop shown:"),
    "kept": (OTHERS, "no loss shown:"),
}


class Piece(NamedTuple):
    """A part of a clause; where room lacks, pieces of the highest ranks go, and what follows."""

    rank: int
    text: str


Clause = tuple[Piece, ...]


def profile_verdict(
    rpm: str, results: Mapping[str, Any], profile: Profile, figures: Figures
) -> list[str]:
    """What an RPM's answers carry in distribution, and what changes under each shift.

    The factor that a subset shifts is the one that counts there. At most `LINES` lines.
    """
    clauses = profile_clauses(rpm, results, profile, figures)
    return _fitted(f"{short(rpm)}: {counted(profile.cells(rpm))}; ", clauses)


def profile_clauses(
    rpm: str, results: Mapping[str, Any], profile: Profile, figures: Figures
) -> list[Clause]:
    """All that a verdict can say of an RPM, the gravest first."""
    cells = profile.cells(rpm)
    kinds: dict[str, list[Row]] = {}
    for cell in (c for c in cells if c["shown"]):
        kind = _kind(cell, profile)
        if kind in ABOUT_FACTORS or profile.is_home(cell) or profile.tells(cell):
            kinds.setdefault(kind, []).append(cell)
    flagged, told = _flagged(kinds, profile)
    faults = list(_faults(rpm, profile))
    return [
        *(c for c in faults if c[0].rank == COPIED),
        *flagged,
        *_at_home(kinds, profile, told),
        *_under_shift(kinds, profile),
        _r_emid(rpm, results, figures, _has_degraded(kinds, profile)),
        *_unsure(kinds, profile),
        *_untested(cells, profile),
        *(c for c in faults if c[0].rank != COPIED),
    ]


def _fitted(start: str, clauses: Sequence[Clause]) -> list[str]:
    """The clauses in their order, with as many of their pieces as there is room for."""
    pieces = [(p.rank, i, k) for i, clause in enumerate(clauses) for k, p in enumerate(clause)]
    kept = [0] * len(clauses)  # pieces of each
    said = wrapped(start)[:LINES]
    for _, i, k in sorted(pieces):
        trial = [*kept[:i], k + 1, *kept[i + 1 :]]
        parts = (
            "".join(p.text for p in clause[:count])
            for clause, count in zip(clauses, trial, strict=True)
            if count
        )
        lines = wrapped(start + "; ".join(parts))
        if len(lines) <= LINES:
            kept, said = trial, lines
    return said


def _kind(cell: Row, profile: Profile) -> str:
    """What is shown of a cell that has a share."""
    for flag in ABOUT_FACTORS:
        if cell["subset"] in profile.flagged(cell["rpm"], flag, cell["factor"]):
            return flag
    if profile.is_lost(cell):
        if (low := cell["share_drop_low"]) is None:
            return "less"  # in distribution, or nothing to compare with there
        return "drops" if low > 0 else "steady"
    needed = cell["n_to_tell_half"]
    return "unsure" if needed is not None and needed > cell["n"] else "kept"


def _faults(rpm: str, profile: Profile) -> Iterator[Clause]:
    """Flags of the answers as a whole; those that copy come first."""
    every = {c["subset"] for c in profile.cells(rpm) if c["info"] is not None}
    for flag, what in FAULTS.items():
        more = profile.flagged(rpm, IMPLIED[flag]) if flag in IMPLIED else []
        tags = [tag for tag in profile.flagged(rpm, flag) if tag not in more]
        if tags:
            rank = OTHERS if flag in ("context_free", "colder_than_golden") else COPIED
            yield (Piece(rank, f"{what} {_where(tags, len(every), profile)}"),)


def _flagged(kinds: Mapping[str, Sequence[Row]], profile: Profile) -> tuple[list[Clause], set[str]]:
    """`ignores the user everywhere: …`, and the factors whose share at home is said with it."""
    clauses, told = [], set()
    home = {c["factor"]: c for cells in kinds.values() for c in cells if profile.is_home(c)}
    for flag in ABOUT_FACTORS:
        groups: dict[tuple[str, ...], list[Row]] = {}  # subsets -> a cell a factor
        counts = {}
        for factor in FACTORS:
            if cells := [c for c in kinds.get(flag, ()) if c["factor"] == factor]:
                tags = tuple(c["subset"] for c in cells)
                shifted = [c for c in cells if not profile.is_home(c) and profile.tells(c)]
                groups.setdefault(tags, []).append(max(shifted or cells, key=_share))
                counts[tags] = profile.count_shown(cells[0]["rpm"], factor)
        for tags, cells in groups.items():
            names = "the " * (len(cells) == 1) + _listed([c["factor"] for c in cells])
            where = _where(tags, counts[tags], profile)
            pieces = [Piece(FLAGGED, f"{flag} {names} {where}")]
            if len(cells) > 1:
                said = [_said(c, profile) for c in cells]
                pieces.append(Piece(SHARES, f": {said[0]}"))
                pieces += [Piece(SHARES, f", {x}") for x in said[1:]]
            else:
                (cell,) = cells
                place = f" {_place(cell['subset'], profile)}" * (len(tags) > 1)
                pieces.append(Piece(SHARES, f": {said_share(cell)}{place}"))
                told.add(cell["factor"])
                at_home = home.get(cell["factor"], cell)
                if at_home is not cell:
                    pieces.append(Piece(HOME, f", {said_share(at_home)} at home"))
            clauses.append(tuple(pieces))
    return clauses, told


def _at_home(
    kinds: Mapping[str, Sequence[Row]], profile: Profile, told: set[str]
) -> Iterator[Clause]:
    cells = [c for kind in ("less", "unsure", "kept") for c in kinds.get(kind, ())]
    cells = [c for c in cells if profile.is_home(c) and c["factor"] not in told]
    if cells:
        cells.sort(key=lambda c: FACTORS.index(c["factor"]))
        shares = [f"{c['factor']} {said_share(c)}" for c in cells]
        yield Piece(HOME, f"at home {shares[0]}"), *(Piece(HOME, f", {x}") for x in shares[1:])


def _under_shift(kinds: Mapping[str, Sequence[Row]], profile: Profile) -> Iterator[Clause]:
    """Shares that are lower than in distribution, and those that are not shown to be."""
    for kind, (rank, what) in UNDER_SHIFT.items():
        if cells := [c for c in kinds.get(kind, ()) if not profile.is_home(c)]:
            cells.sort(key=_share)
            yield (Piece(rank, f"{what} {_some([_said(c, profile) for c in cells])}"),)


def _unsure(kinds: Mapping[str, Sequence[Row]], profile: Profile) -> Iterator[Clause]:
    """Cells with too few contexts to show a loss of half, and how many would do."""
    if cells := kinds.get("unsure", ()):
        most = max(c["n_to_tell_half"] for c in cells)
        places = f"{cells[0]['factor']} {_place(cells[0]['subset'], profile)}"
        places += f" and {len(cells) - 1} more" * (len(cells) > 1)
        would = f"{most} contexts would, power 0.8"
        yield (Piece(UNSURE, f"cannot tell a loss of half ({would}): {places}"),)


def _untested(cells: Sequence[Row], profile: Profile) -> Iterator[Clause]:
    """What the data cannot test: the line of refused cells says why."""
    counting = [c for c in cells if profile.is_home(c) or profile.tells(c)]
    refused = [c for c in counting if not c["shown"]]
    if refused and len(refused) == len(counting):
        if all(c["info"] is None and c["reason"] for c in refused):  # no context has a partner
            yield (Piece(FLAGGED, f"the profile cannot be told: {refused[0]['reason']}"),)
            return
        yield (Piece(FLAGGED, "no share can be given (see –)"),)
    elif refused:
        places = _some([f"{c['factor']} {_place(c['subset'], profile)}" for c in refused])
        yield (Piece(UNTESTED, f"not tested (–): {places}"),)


def _has_degraded(kinds: Mapping[str, Sequence[Row]], profile: Profile) -> bool:
    """Whether the profile shows that a shift makes an RPM worse than it is at home."""
    flagged = [(flag, c) for flag in ABOUT_FACTORS for c in kinds.get(flag, ())]
    home = {c["factor"] for _, c in flagged if profile.is_home(c)}
    return "drops" in kinds or any(c["factor"] not in home for _, c in flagged)


def _r_emid(rpm: str, results: Mapping[str, Any], figures: Figures, degraded: bool) -> Clause:
    rows = [r for r in results["rows"] if r["rpm"] == rpm and r["r_emid"] is not None]
    if not rows:
        return (Piece(R_EMID, "no R-EMID could be estimated"),)
    missing = [f"under {short(tag, 22)}" for tag in without_r_emid(rpm, results["rows"])]
    unknown = f", not estimated {_some(missing)}" if missing else ""
    clear = [r for r in rows if r["r_emid"] > 0 and figures.is_significant(r)]
    if clear:
        top = max(clear, key=lambda r: r["r_emid"])
        ends = figures.interval(top["r_emid"], top["r_emid_low"], top["r_emid_high"])
        more = f" and {len(clear) - 1} more" * (len(clear) > 1)
        return (Piece(R_EMID, f"R-EMID {ends} under {short(top['subset'], 22)}{more}{unknown}"),)
    far = max(rows, key=lambda r: r["r_emid_high"])
    most = f"at most {figures.value(far['r_emid_high'])} ({short(far['subset'], 22)})"
    none = "no degradation shown" + (" by R-EMID:" if degraded else "; R-EMID")
    return (Piece(R_EMID, f"{none} {most}{unknown}"),)


def _share(cell: Row) -> float:
    return cell["share"]


def _said(cell: Row, profile: Profile) -> str:
    return f"{cell['factor']} {said_share(cell)} {_place(cell['subset'], profile)}"


def _place(subset: str, profile: Profile) -> str:
    return "at home" if subset == profile.home else f"under {short(subset, 22)}"


def _where(tags: Sequence[str], count: int, profile: Profile) -> str:
    """Of the subsets, `count` of which could have been named."""
    if len(tags) == count > 1:
        return "everywhere" if count == len(profile.shifts) else "wherever tested"
    if len(tags) <= NAMES:
        return _listed([_place(tag, profile) for tag in tags])
    return f"in {len(tags)} of {count} subsets"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _some(parts: Sequence[str]) -> str:
    """The first ones, and how many more there are."""
    if len(parts) <= NAMES:
        return _listed(parts)
    return f"{', '.join(parts[:NAMES])} and {len(parts) - NAMES} more"

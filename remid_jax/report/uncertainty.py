"""What can be said without golden responses: the uncertainty that factors take away, its collapse.

A collapse is a drop to less than .3 of the share in distribution, shown with its interval. Smaller
drops tell nothing: golden responses themselves differ as much between subsets.
"""

from collections.abc import Collection, Iterator, Sequence

from remid_jax.factor_names import FACTORS
from remid_jax.report.profile_cells import Profile, counted, percent
from remid_jax.report.profile_table import placed
from remid_jax.report.text import ECHO, NO_BREAK, Figures, Row, fit, short

SMALL = 0.0995  # a share below it is written with a decimal
MOST_SHARE = 0.99  # a larger one means nothing more
WHOLE = 100  # nats from which none is written


def collapse_verdict(rpm: str, profile: Profile, subsets: Collection[str]) -> str:
    """A line: which factors have collapsed in these subsets, and where."""
    shown = profile.cells(rpm)
    home = {c["factor"]: c for c in shown if profile.is_home(c)}
    cells = [c for c in shown if not profile.is_home(c) and c["subset"] in subsets]
    found = [c for c in cells if c["collapsed"]]
    able = [c for c in cells if c["collapsed"] is not None and home[c["factor"]]["u_low"] > 0]
    start = f"{short(rpm)}: {counted(cells or shown)}; "
    if not found and cells and not able:
        return start + _sentence(home[cells[0]["factor"]], cells[0])
    if not found:
        return f"{start}no collapse shown; {len(able)} of {len(cells)} cells could show one"
    said = [f"{c['factor']} under {short(c['subset'], 22)} {_said(c)}" for c in found]
    return fit(f"{start}collapsed: ", said)


def collapse_sentences(rpm: str, profile: Profile) -> Iterator[str]:
    """For each factor and shifted subset a sentence: collapsed, not shown to have, or not told."""
    home = {c["factor"]: c for c in profile.cells(rpm) if profile.is_home(c)}
    for cell in sorted(profile.cells(rpm), key=lambda c: FACTORS.index(c["factor"])):
        if not profile.is_home(cell):
            before, start = home[cell["factor"]], f"{short(rpm)}, {cell['factor']}: "
            yield start + _sentence(before, cell)


def _sentence(home: Row, cell: Row) -> str:
    for one in (home, cell):
        if one["u"] is None:
            why = one["reason"] or "too few own words"
            return f"cannot be told; {short(one['subset'], 22)}: {why}"
    both = f"{_place(cell)}; {_place(home)}"
    if cell["collapsed"]:
        return f"COLLAPSED: {both}"
    if home["u_low"] <= 0:
        return f"cannot be told: {_place(home)} is not shown to be above 0"
    return f"no collapse shown: {both}"


def _place(cell: Row) -> str:
    return f"{short(cell['subset'], 22)} {_said(cell)}, n{NO_BREAK}={NO_BREAK}{cell['n']}"


def _said(cell: Row) -> str:
    value, low, high = (_percent(cell[key]) for key in ("u", "u_low", "u_high"))
    return f"{value} % ({low} to {high})".replace(" ", NO_BREAK)


def _percent(share: float) -> str:
    if abs(share) > MOST_SHARE:
        return f">{MOST_SHARE:.0%}"[:-1] if share > 0 else f"<{-MOST_SHARE:.0%}"[:-1]
    return f"{round(100 * share, 1) + 0.0:.1f}" if abs(share) < SMALL else percent(share)


def uncertainty_table(
    profile: Profile, rpms: Sequence[str], subsets: Sequence[str], figures: Figures
) -> list[str]:
    """A row an RPM and subset, for each factor nats and u; echo stands last, as a ruler."""
    places = [(rpm, tag) for rpm in (*rpms, ECHO) for tag in subsets if profile.cells(rpm)]
    found = [_figures_of(profile, rpm, tag, figures) for rpm, tag in places]
    heads = ("n", *(head for factor in FACTORS for head in (factor, "u %")), "copied")
    title = "information in own words ± s.e. in nats per response; u: % of their uncertainty"
    lines = placed(f"{title} [{figures.level}]", heads, places, found)
    return [*lines, f"! collapsed: shown to be below .3 of that of {profile.home}"]


def _nats(cell: Row, figures: Figures) -> str:
    size = max(abs(cell[key] or 0) for key in ("info", "info_se"))
    return figures.estimate(cell, "info", 0 if size >= WHOLE else 1).replace(NO_BREAK, "")


def told_uncertainty(cell: Row | None) -> str:
    """u in percent with its interval, and `!` where it is shown to have collapsed."""
    if not cell or cell["u"] is None:
        return "–"
    value, low, high = (_percent(cell[key]) for key in ("u", "u_low", "u_high"))
    return f"{value} [{low}, {high}]" + "!" * bool(cell["collapsed"])


def _figures_of(profile: Profile, rpm: str, tag: str, figures: Figures) -> list[str]:
    cells = profile.row(rpm, tag)
    known = [c for c in cells if c]
    said = [counted(known).rpartition(NO_BREAK)[2] if known else "–"]
    for cell in cells:
        said.append(_nats(cell, figures) if cell else "–")
        said.append(told_uncertainty(cell))
    copied = next((c["copied"] for c in known if c["copied"] is not None), None)
    return [*said, "–" if copied is None else f"{percent(copied)} %"]

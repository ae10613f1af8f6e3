"""The pictures of a run: what its answers carry of the context, and R-EMI under each shift."""

import functools
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from markupsafe import escape

from remid_jax.factor_names import FACTORS
from remid_jax.report.inert import plain
from remid_jax.report.profile_cells import Profile, counted, said_share
from remid_jax.report.strips import WIDTH, Group, Mark, Panel, axis, draw
from remid_jax.report.text import (
    ECHO,
    NO_BREAK,
    REFERENCES,
    SHUFFLED,
    UNSHIFTED,
    Figures,
    Row,
    rpms_of,
    short,
)

SHARES = (-0.3, 1.5)  # the axis of shares; what lies beyond is an arrow
PERCENTS = {0.0: "0", 0.5: "50", 1.0: "100"}
RULERS = (UNSHIFTED, ECHO, SHUFFLED)
LIGHT = {
    "ink": "#1d1d1b", "mut": "#5d5c57", "faint": "#8c8a83", "line": "#e3e1da", "paper": "#ffffff",
    "blue": "#1b5e9e", "red": "#b23c0e",
}  # fmt: skip
SPACE, HEAD, FOOT = 28, 56, 40  # of a picture by itself, in pixels
FLAGGED = ("ignores", "contradicts")
PROFILE_KEY = (  # kind of a mark -> what it says
    ("flag", "flagged: ignores or contradicts"),
    ("shown", "loss shown (Holm)"),
    ("open", "no loss shown"),
    ("ref", "reference rows"),
)
R_EMI_KEY = (
    ("shown", "R-EMID shown to be above 0 (Holm)"),
    ("open", "not shown to be above 0"),
    ("plain", "level, not tested"),
    ("ref", "reference rows"),
)


def profile_panels(results: Mapping[str, Any]) -> list[Panel]:
    """The share of each factor in each subset; empty where no share can be given."""
    figures = Figures(results["provenance"]["config"]["estimator"])
    if not any(cell["shown"] for cell in results["profile"]):
        return []
    profile, rpms = Profile(results, figures), rpms_of(results["rows"])
    return [_factor(factor, results, profile, rpms) for factor in FACTORS]


def r_emi_panels(results: Mapping[str, Any]) -> list[Panel]:
    """R-EMI, R-EMID and the baseline in each subset, without those that have no value."""
    figures = Figures(results["provenance"]["config"]["estimator"])
    home = next(r["subset"] for r in results["rows"])
    rows = [
        row
        for name in (*rpms_of(results["rows"]), *RULERS)
        for row in results["rows"]
        if row["rpm"] == name and (name, row["subset"]) != (UNSHIFTED, home)
    ]

    def r_emid(row: Row) -> Mark:
        ends = row["r_emid_low"], row["r_emid_high"]
        clear = row["r_emid"] is not None and row["r_emid"] > 0 and figures.is_significant(row)
        return _mark(row, "r_emid", ends, "shown" if clear else "open", figures)

    def level(key: str) -> Callable[[Row], Mark]:
        return lambda row: _mark(row, key, _around(row, key), "plain", figures)

    unit = figures.unit
    made = [
        _levels("R-EMI", f"{unit}, ± s.e.", rows, level("r_emi")),
        _levels("R-EMID", f"{unit}, {figures.level} interval", rows, r_emid),
        _levels("baseline", "nats per token, ± s.e.", rows, level("baseline")),
    ]
    return [panel for panel in made if panel is not None]


def profile_svg(results: Mapping[str, Any]) -> str:
    """The information profile as an SVG file: RPM × subset × factor.

    Args:
      results: the content of results.json.
    """
    level = Figures(results["provenance"]["config"]["estimator"]).level
    title = f"What of golden's information the answers carry, in percent [{level} interval]"
    return _alone(title, profile_panels(results), PROFILE_KEY, results)


def r_emid_svg(results: Mapping[str, Any]) -> str:
    """R-EMI, R-EMID and the baseline as an SVG file: RPM × subset.

    Args:
      results: the content of results.json.
    """
    title = "Information of the answers minus golden's, and its drop under shift"
    return _alone(title, r_emi_panels(results), R_EMI_KEY, results)


@functools.cache
def picture_style() -> str:
    """CSS of the pictures; its colours are variables."""
    return resources.files(__package__).joinpath("picture.css").read_text(encoding="utf-8")


def _factor(
    factor: str, results: Mapping[str, Any], profile: Profile, rpms: Sequence[str]
) -> Panel:
    groups = []
    for tag, shift in profile.shifts.items():
        rulers = [name for name in RULERS if (name, tag) != (UNSHIFTED, profile.home)]
        cells = [
            cell
            for name in (*rpms, *rulers)
            for cell in profile.cells(name, [factor])
            if cell["subset"] == tag
        ]
        marks = [_share_mark(cell, profile) for cell in cells]
        aside = "in distribution" if tag == profile.home else "shifted" * (shift == factor)
        groups.append(Group(_label(tag, 24), marks, aside, shift == factor))
    return Panel(factor, "% of golden's", groups, SHARES, PERCENTS, (0.0, 1.0))


def _share_mark(cell: Row, profile: Profile) -> Mark:
    name = cell["rpm"]
    ruler = name in REFERENCES
    label = _label(name)
    if not cell["shown"]:
        said = "" if ruler else f"no share: {cell['reason'] or 'golden says too little'}"
        return Mark(label, "ref" if ruler else "open", None, None, None, plain(said))
    flagged = any(cell["subset"] in profile.flagged(name, f, cell["factor"]) for f in FLAGGED)
    kind = "flag" if flagged else "shown" if profile.is_lost(cell) else "open"
    said = f"{_label(name, 40)}: {said_share(cell)}, {counted([cell])}"
    ends = cell["share_low"], cell["share_high"]
    return Mark(label, "ref" if ruler else kind, cell["share"], *ends, "" if ruler else said)


def _levels(
    title: str, unit: str, rows: Sequence[Row], mark_of: Callable[[Row], Mark]
) -> Panel | None:
    groups: dict[str, list[Mark]] = {}
    shifts = {r["subset"]: r["shift"] for r in rows}
    for row in rows:
        if (mark := mark_of(row)).value is not None:
            groups.setdefault(row["subset"], []).append(mark)
    every = [mark for marks in groups.values() for mark in marks]
    if not every:
        return None
    ends = [end for m in every for end in (m.low, m.high) if end is not None]
    domain, ticks = axis([m.value for m in every if m.value is not None], ends)
    made = [
        Group(_label(tag, 24), groups[tag], _label(shifts[tag] or "in distribution", 16))
        for tag in shifts
        if tag in groups
    ]
    labels = {tick: f"{tick + 0.0:g}" for tick in ticks}
    return Panel(title, unit, made, domain, labels, (0.0,))


def _mark(
    row: Row, key: str, ends: tuple[float | None, float | None], kind: str, figures: Figures
) -> Mark:
    value, name = row[key], row["rpm"]
    if name in REFERENCES:
        return Mark(_label(name), "ref", value, *ends)
    said = ""
    if value is not None:
        digits = 2 if key == "baseline" else None
        found = figures.estimate(row, key, digits)
        if key == "r_emid" and None not in ends:
            found = figures.interval(value, *ends)
        n = row["n_paired"] if key == "r_emid" and row["n_paired"] else row["n"]
        said = f"{_label(name, 40)}: {found}, n{NO_BREAK}={NO_BREAK}{n}"
    return Mark(_label(name), kind, value, *ends, said)


def _around(row: Row, key: str) -> tuple[float | None, float | None]:
    value, error = row[key], row[f"{key}_se"]
    if value is None or error is None:
        return None, None
    return value - error, value + error


def _label(name: str, room: int = 18) -> str:
    return plain(short(name, room))


def _alone(
    title: str, panels: Sequence[Panel], foot: Sequence[tuple[str, str]], results: Mapping[str, Any]
) -> str:
    """A picture that needs nothing around it: style, white background, legend."""
    style = picture_style()
    for name, colour in LIGHT.items():
        style = style.replace(f"var(--{name})", colour)  # few programs know variables
    style += ".pic{font-family:system-ui,'Liberation Sans',Arial,sans-serif}.pic rect{fill:#fff}"
    style += ".pic g rect{fill:transparent}"
    width = max(len(panels), 2) * (WIDTH + SPACE) + SPACE
    height = HEAD + max((p.height for p in panels), default=20) + FOOT
    body = [f'<text class="title" x="{SPACE}" y="30">{escape(title)}</text>']
    if not panels:
        body.append(f'<text class="mut" x="{SPACE}" y="{HEAD}">this run has no such figure</text>')
    for k, panel in enumerate(panels):
        at = SPACE + k * (WIDTH + SPACE)
        body.append(f'<g transform="translate({at} {HEAD})">{draw(panel)}</g>')
    at = SPACE + 6
    for kind, text in foot if panels else ():
        body += _key(kind, text, at, height - 16)
        at += 30 + 7 * len(text)
    scorer = _label(results["provenance"]["model"]["name"], 40)
    body.append(
        f'<text class="mut end" x="{width - SPACE}" y="30">judged by {escape(scorer)}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pic" role="img" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}"><title>{escape(title)}</title>'
        f'<style>{style}</style><rect width="100%" height="100%"/>{"".join(body)}</svg>\n'
    )


def _key(kind: str, text: str, x: int, y: int) -> list[str]:
    at = f"M{x} {y - 4}h0"
    parts = [f'<path class="dot {kind}" d="{at}"/>']
    if kind == "open":
        parts.append(f'<path class="hole {kind}" d="{at}"/>')
    return [*parts, f'<text class="mut" x="{x + 10}" y="{y}">{escape(text)}</text>']

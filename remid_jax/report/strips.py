"""Panels of strips as SVG: a point and an interval a line, in groups, on a common axis.

A panel's marks of one kind are one path, so that a page with a thousand of them stays small: a
subpath of no length is drawn as its cap, a disc or a square.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from markupsafe import escape

WIDTH, LABELS, MARGIN = 344, 122, 12  # of a panel, of its names, and beside the plot, in pixels
TITLE, HEADING, LINE, GAP = 42, 21, 15, 7  # heights
TICKS = 6  # at most
KINDS = ("plain", "shown", "open", "flag", "ref")  # classes of marks


@dataclasses.dataclass(frozen=True)
class Mark:
    """A line of a panel.

    Attributes:
      label: stands before it.
      kind: one of `KINDS`.
      value: the point, or None where there is none.
      low: lower end of the interval, or None.
      high: upper end, or None.
      said: the figures in words, shown where the pointer rests; may be empty.
    """

    label: str
    kind: str
    value: float | None
    low: float | None
    high: float | None
    said: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """Lines under a heading; `aside` stands behind it, in colour where it is `stressed`."""

    heading: str
    marks: Sequence[Mark]
    aside: str = ""
    stressed: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    """Groups on an axis.

    Attributes:
      title: what is shown.
      unit: of the axis.
      groups: from top to bottom.
      domain: ends of the axis; an arrow stands for what lies beyond them.
      ticks: value -> label.
      rules: values at which a line stands out.
    """

    title: str
    unit: str
    groups: Sequence[Group]
    domain: tuple[float, float]
    ticks: dict[float, str]
    rules: Sequence[float]

    @property
    def height(self) -> int:
        """In pixels."""
        lines = sum(HEADING + GAP + LINE * len(g.marks) for g in self.groups)
        return TITLE + lines + 16

    def x(self, value: float) -> float:
        """Where a value stands, held within the plot."""
        low, high = self.domain
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return round(LABELS + share * (WIDTH - LABELS - MARGIN), 1)


def axis(values: Sequence[float], ends: Sequence[float]) -> tuple[tuple[float, float], list[float]]:
    """A domain that holds all points and 0, and as much of the intervals as is of use; its ticks.

    An interval may reach as far beyond the points as these and 0 are apart.

    >>> axis([3.0, 7.5], [1.0, 400.0])
    ((-0.5, 15.5), [0.0, 5.0, 10.0, 15.0])
    """
    low, high = min([0.0, *values]), max([0.0, *values])
    reach = (high - low) or 1.0
    low, high = (max(min([low, *ends]), low - reach), min(max([high, *ends]), high + reach))
    room = (high - low) / 30 or 1.0
    step = next(s for s in _steps(high - low) if (high - low) / s <= TICKS)
    first = math.ceil(low / step)
    ticks = [round(k * step, 10) for k in range(first, math.floor(high / step) + 1)]
    return (round(low - room, 10), round(high + room, 10)), ticks


def _steps(width: float) -> Iterator[float]:
    size = 10.0 ** (math.floor(math.log10(width or 1.0)) - 1)
    while True:
        yield from (size, 2 * size, 5 * size)
        size *= 10


def draw(panel: Panel) -> str:
    """The elements of a panel, from its top left corner at 0, 0; untrusted texts are escaped."""
    top, bottom = TITLE - 6, panel.height - 14
    parts = [
        _text(0, 12, panel.title, "title"),
        _text(WIDTH - MARGIN, 12, panel.unit, "mut end"),
    ]
    for at, label in panel.ticks.items():
        x = panel.x(at)
        kind = "rule" if at in panel.rules else "grid"
        parts.append(f'<path class="{kind}" d="M{x:g} {top}V{bottom}"/>')
        parts += [_text(x, y, label, "mut mid") for y in (top - 4, panel.height - 2)]
    y = TITLE
    paths: dict[str, list[str]] = {}
    for group in panel.groups:
        parts.append(_heading(group, y + 10))
        y += HEADING
        for mark in group.marks:
            parts.append(_line(panel, mark, y))
            _collect(paths, panel, mark, y)
            y += LINE
        y += GAP
    order = [f"{part} {kind}" for part in ("bar", "tip", "dot", "hole") for kind in KINDS]
    parts += [f'<path class="{c}" d="{"".join(paths[c])}"/>' for c in order if c in paths]
    return "".join(parts)


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y}">{escape(text)}</text>'


def _heading(group: Group, y: int) -> str:
    aside = ""
    if group.aside:
        kind = "em" if group.stressed else "mut"
        aside = f'<tspan class="{kind}" dx="6">{escape(group.aside)}</tspan>'
    return f'<text class="head" x="0" y="{y}">{escape(group.heading)}{aside}</text>'


def _line(panel: Panel, mark: Mark, y: int) -> str:
    """The name of a line, and what is said where the pointer rests on it."""
    kind = "ref" if mark.kind == "ref" else "name"
    name = _text(8, y + 4, mark.label, kind)
    if mark.value is None and mark.kind != "ref":
        name += _text(panel.x(0.0) + 6, y + 4, "no share", "mut")
    if not mark.said:
        return name
    area = f'<rect x="0" y="{y - 7}" width="{WIDTH}" height="{LINE}"/>'
    return f"<g><title>{escape(mark.said)}</title>{area}{name}</g>"


def _collect(paths: dict[str, list[str]], panel: Panel, mark: Mark, y: int) -> None:
    """Adds what a mark draws to the paths of its kind."""

    def add(part: str, path: str) -> None:
        paths.setdefault(f"{part} {mark.kind}", []).append(path)

    if mark.value is None:
        return
    low, high = panel.domain
    ends = [x for x in (mark.low, mark.value, mark.high) if x is not None]
    left, right = panel.x(min(ends)), panel.x(max(ends))
    add("bar", f"M{left:g} {y}H{right:g}")
    if min(ends) < low:
        add("tip", f"M{left - 5:g} {y}l6-3.5v7z")
    if max(ends) > high:
        add("tip", f"M{right + 5:g} {y}l-6-3.5v7z")
    if low <= mark.value <= high:
        at = f"M{panel.x(mark.value):g} {y}h0"
        add("dot", at)
        if mark.kind == "open":
            add("hole", at)

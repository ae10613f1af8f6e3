"""Two runs beside each other: what was changed, and what that changed, with intervals."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from remid_jax.report.run_changes import change_lines
from remid_jax.report.run_folder import Run
from remid_jax.report.text import WIDTH, Figures, Row, fit, short

COLUMNS = ("measure", "subset", "n", "first", "second", "second − first", "p (Holm)")
DIGITS = {"share": 2, "retained": 2, "baseline": 2, "r_emi_token": 3}
NAMES = {
    "r_emi": "R-EMI", "r_emi_token": "R-EMI per token", "emi": "EMI", "r_emid": "R-EMID",
    "retained": "retained", "baseline": "baseline", "share": "share", "info": "info",
}  # fmt: skip
INTERVALS = "the intervals say how large a change may be"
ORDER = ("share", "info", "r_emi", "r_emid", "baseline", "retained", "r_emi_token", "emi")


class Table(NamedTuple):
    """A table of two RPMs, as text.

    Attributes:
      title: what it shows; rows: cells under `COLUMNS`; verdict: what may be said of it.
    """

    title: str
    rows: list[tuple[str, ...]]
    verdict: str


def heading_lines(first: Run, second: Run, contexts: Sequence[Row]) -> Iterator[str]:
    """Which runs, what was changed, and which contexts count."""
    yield f"second − first on the same contexts; first: {first.name}, second: {second.name}"
    changed = change_lines(first, second)
    yield "changed: " + ("; ".join(changed) if changed else "nothing that the runs record")
    common = [c for c in contexts if c["common"]]
    counts = (f"{short(c['subset'], 22)} {c['common']}" for c in common)
    yield f"contexts in both: {', '.join(counts)}"
    left = [
        f"{short(c['subset'], 22)} {c[side] - c['common']} only in the {side}"
        for c in contexts
        for side in ("first", "second")
        if c[side] > c["common"]
    ]
    if left:
        yield f"left out, as the other run lacks them: {', '.join(left)}"


def comparison_tables(differences: Sequence[Row], figures: Figures) -> list[Table]:
    """A table for each two RPMs; measures without any value are left out.

    Args:
      differences: of `analysis.run_differences.compare_runs`.
      figures: of the runs.
    """
    known = {d["measure"] for d in differences if d["difference"] is not None}
    tables = []
    for pair in dict.fromkeys((d["first"], d["second"]) for d in differences):
        own = [d for d in differences if (d["first"], d["second"]) == pair]
        own = [d for d in own if d["measure"] in known]
        own.sort(key=lambda d: ORDER.index(d["measure"]))  # subsets stay in their order
        title = " and ".join(dict.fromkeys(short(name, 40) for name in pair))
        unit = f"R-EMI and R-EMID in {figures.unit}, info in nats per response"
        rows = [_cells(d, figures) for d in own]
        tables.append(Table(f"{title} [{figures.level}]: {unit}", rows, _said(own, figures)))
    return tables


def _cells(d: Row, figures: Figures) -> tuple[str, ...]:
    place = (_name(d), short(d["subset"], 22), str(d["n"]))
    if d["difference"] is None:
        return (*place, "–", "–", f"– {d['reason']}", "–")
    digits = DIGITS.get(d["measure"])
    first, second, value, low, high = (
        "–" if d[key] is None else figures.value(d[key], digits)
        for key in ("value_first", "value_second", "difference", "low", "high")
    )
    change = f"{value} [{low}, {high}]" + "*" * _clear(d, figures)
    p = "–" if d["p_holm"] is None else "<0.001" if d["p_holm"] < 0.001 else f"{d['p_holm']:.2g}"
    return (*place, first, second, change, p)


def _clear(d: Row, figures: Figures) -> bool:
    return d["p_holm"] is not None and d["p_holm"] < figures.alpha


def _name(d: Row) -> str:
    return f"{NAMES[d['measure']]} {d['factor'] or ''}".strip().replace("_", " ")


def _said(own: Sequence[Row], figures: Figures) -> str:
    """Which differences are shown; that others are not is no proof of none."""
    tested = [d for d in own if d["p_holm"] is not None and d["difference"] is not None]
    clear = [f"{_name(d)} in {short(d['subset'], 22)}" for d in tested if _clear(d, figures)]
    if not clear:
        return f"no change is shown (tests: {len(tested)}), which proves no sameness: {INTERVALS}"
    rest = f"; not shown: {len(tested) - len(clear)}, which proves no sameness: {INTERVALS}"
    return fit(f"* changes with p < {figures.alpha:.2g} (Holm): ", clear, rest, width=2 * WIDTH)

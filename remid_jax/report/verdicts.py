"""What a run shows: a sentence an RPM, and the RPMs against each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len

from remid_jax.report.text import WIDTH, Figures, Row, fit, n_and_p, short, span, without_r_emid

MOST = 2 * WIDTH - 20  # cells of a verdict, which is wrapped into two lines


def verdict(rpm: str, results: Mapping[str, Any], figures: Figures) -> str:
    """Whether an RPM degrades, in a sentence of at most two lines.

    It does where a positive R-EMID is significant after Holm's correction. Where none is, the
    largest upper limit bounds all: no less than the limit of whichever is truly the largest.
    """
    rows = [r for r in results["rows"] if r["rpm"] == rpm]
    shifted = [r for r in rows if r["r_emid"] is not None]
    if not shifted:
        return f"{short(rpm)}: no R-EMID could be estimated (n = {span([r['n'] for r in rows])})"
    largest = max(shifted, key=lambda r: r["r_emid"])
    clear = [r for r in shifted if r["r_emid"] > 0 and figures.is_significant(r)]
    found = _degrades(clear, largest, figures) if clear else _bound(shifted, largest, figures)
    said = f"{short(rpm)}: {found}"
    (worst,) = (w for w in results["worst"] if w["rpm"] == rpm)
    near = worst["not_distinguished_from"] if largest in clear else []
    missing = without_r_emid(rpm, rows)
    for start, tags in (("not distinguished from", near), ("not estimated under", missing)):
        if tags:
            names = [short(tag, 22) for tag in tags]
            said = fit(f"{said}; {start} ", names, width=max(MOST, cell_len(said) + 50))
    return said


def _degrades(clear: Sequence[Row], largest: Row, figures: Figures) -> str:
    top = max(clear, key=lambda r: r["r_emid"])
    said = f"degrades under {_estimate(top, figures)}"
    if largest is top:
        return said
    return f"{said}; larger but not significant under {_estimate(largest, figures)}"


def _bound(shifted: Sequence[Row], largest: Row, figures: Figures) -> str:
    said = "no degradation shown"
    if largest["r_emid"] > 0:
        why = "within noise" if largest["within_noise"] else "not significant"
        said += f"; positive but {why} under {_estimate(largest, figures)}"
    far = max(shifted, key=lambda r: r["r_emid_high"])
    most = f"at most {figures.value(far['r_emid_high'])} {figures.unit}"
    where = f"{short(far['subset'], 22)}, n = {far['n_paired'] or far['n']}"
    return f"{said}; with {figures.level} confidence {most} ({where})"


def _estimate(row: Row, figures: Figures) -> str:
    shift = f" ({short(row['shift'], 16)})" if row["shift"] else ""
    found = figures.interval(row["r_emid"], row["r_emid_low"], row["r_emid_high"])
    return f"{short(row['subset'], 22)}{shift}: R-EMID {found}, {n_and_p(row)}"


def comparison_lines(results: Mapping[str, Any], figures: Figures, room: int) -> list[str]:
    """The significant paired differences of R-EMI, in at most `room` lines."""
    known = [c for c in results["comparisons"] if c["difference"] is not None]
    found = sorted(filter(figures.is_significant, known), key=lambda c: c["p_value"])
    if not found:
        none = f"no two RPMs differ significantly in R-EMI (paired comparisons: {len(known)})"
        if known and all(_least_p(c, known) >= figures.alpha for c in known):
            n = span([c["n"] for c in known])
            none = f"n = {n} cannot show that two RPMs differ in R-EMI (sign flips, Holm): "
            none += f"{len(known)} comparison{'s' * (len(known) != 1)}"
        return [none] if results["comparisons"] else []
    kept = len(found) if len(found) <= room else room - 1
    more = f"{len(found) - kept} more significant differences between two RPMs"
    return [*(_compared(c, figures) for c in found[:kept]), *[more] * (kept < len(found))]


def _least_p(row: Row, known: Sequence[Row]) -> float:
    """The least p that sign flips of so many differences can have after Holm's correction."""
    if row["p_sign_flip"] is None:
        return 0.0
    pair = [c for c in known if (c["first"], c["second"]) == (row["first"], row["second"])]
    return len(pair) * 2 / 2 ** row["n"]


def _compared(row: Row, figures: Figures) -> str:
    gap = figures.interval(row["difference"], row["low"], row["high"])
    pair = f"R-EMI of {short(row['first'], 22)} minus {short(row['second'], 22)}"
    return f"{short(row['subset'], 20)}: {pair}: {gap}, {n_and_p(row)}"

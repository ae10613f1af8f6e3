"""What is said of judges, a line each: whether they passed their calibration comes first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remid_jax.report.text import NO_BREAK, Row, short, span

CALIBRATED = 75  # percent: least accuracy of a judge that counts, as the analysis has it
MEASURES = {
    "r_emi": "R-EMI", "r_emid": "R-EMID", "lost": "profile lost", "baseline": "baseline",
}  # fmt: skip


def percent_of(row: Row, key: str) -> str:
    """`83 % [70, 92]`, or a dash."""
    if row[key] is None:
        return "–"
    value, low, high = (f"{100 * row[k]:.0f}" for k in (key, f"{key}_low", f"{key}_high"))
    return f"{value}{NO_BREAK}% [{low},{NO_BREAK}{high}]"


def calibration_of(judge: Row) -> str:
    """Whether a judge is calibrated, and how surely."""
    if judge["accuracy"] is None:
        return f"is not calibrated: {judge['reason']}"
    n = f"n{NO_BREAK}={NO_BREAK}{judge['accuracy_n']} of {judge['accuracy_contexts']} contexts"
    said = f"golden above reference rows in {percent_of(judge, 'accuracy')}, {n}"
    if not judge["calibrated"]:
        return f"is not calibrated: {said}"
    unsure = judge["accuracy_low"] < CALIBRATED / 100
    return f"is calibrated: {said}" + f"; the interval includes {CALIBRATED}{NO_BREAK}%" * unsure


def judge_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Lines for the terminal: each judge, and what correlates with those that are calibrated."""
    for judge in results.get("judges", ()):
        parts = [calibration_of(judge), *_counts(judge)]
        yield f"judge {short(judge['judge'], 24)} {'; '.join(parts)}"
    for name, rows in _by_judge(results.get("judge_correlations", ())).items():
        known = [r for r in rows if r["pearson"] is not None]
        told = [f"{MEASURES[r['measure']]} {interval_of(r, 'pearson')}" for r in known]
        if told:
            cells = span([r["cells"] for r in known])
            start = f"beside judge {short(name, 24)} (Pearson over {cells} RPM x subset)"
            yield f"{start}: {', '.join(told)}"


def _counts(judge: Row) -> Iterator[str]:
    """What a judge did beside judging."""
    if judge["flips"]:
        yield f"order changes {percent_of(judge, 'flips')}"
    if judge["unscored"]:
        yield f"{judge['unscored']} of {judge['calls']} unscored"
    if judge["stopped"]:
        yield "not asked about RPMs"


def _by_judge(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["judge"], []).append(row)
    return found


def interval_of(row: Row, key: str) -> str:
    """`0.61 [0.12, 0.85]` of a correlation, or a dash; without ends where they are unknown."""
    if row[key] is None:
        return "–"
    ends = [row[f"{key}_low"], row[f"{key}_high"]]
    if None in ends:
        return f"{row[key]:.2f}{NO_BREAK}(no interval)"
    return f"{row[key]:.2f} [{ends[0]:.2f},{NO_BREAK}{ends[1]:.2f}]"

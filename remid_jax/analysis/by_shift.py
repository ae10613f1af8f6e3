"""What each shift alone takes from an RPM's R-EMI."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from remid_jax.analysis.contrast import R_EMID, Contrast, Record, largest, with_holm
from remid_jax.analysis.measures import Estimates
from remid_jax.information.uncertainty import combined_error

Row = Mapping[str, Any]
METHOD = "one at a time"


def estimate_by_shift(rows: Sequence[Row], estimates: Estimates) -> list[Record]:
    """The mean R-EMID of each RPM over the subsets of each shift.

    R-EMI(in-distribution) − (1/K) Σ_k R-EMI(k) over the K subsets of a shift that have an R-EMID.
    Each shift is measured by itself, as texts in which several factors are shifted do not exist:
    the values do not add up to the R-EMID of a joint shift. Paired subsets and the in-distribution
    one are deleted from together, others are independent, and the in-distribution one counts once.

    Args:
      rows: of `estimate_rows`.
      estimates: of all subsets.
    """
    return [_of_rpm(rpm, rows, estimates) for rpm in estimates.rpms]


def _of_rpm(rpm: str, rows: Sequence[Row], estimates: Estimates) -> Record:
    members: dict[str, list[str]] = {}
    for row in rows:
        if row["rpm"] == rpm and row["r_emid"] is not None:
            members.setdefault(row["shift"], []).append(row["subset"])
    shifts, weights = [], {}
    for shift, tags in members.items():
        weights[shift] = {estimates.home.tag: 1.0} | {tag: -1 / len(tags) for tag in tags}
        drop = estimates.r_emi(rpm, weights[shift]).record(estimates.settings.confidence, R_EMID)
        foreign = _other_languages(tags, estimates)
        shifts.append({"shift": shift, "subsets": tags, "other_languages": foreign, **drop})
    found = [s for s in shifts if s["r_emid"] is not None]
    named, near = _named(found, [weights[s["shift"]] for s in found], rpm, estimates)
    return {
        "rpm": rpm,
        "method": METHOD,
        "named": named,
        "not_distinguished_from": near,
        "shifts": with_holm(shifts),
    }


def _other_languages(tags: Sequence[str], estimates: Estimates) -> list[str]:
    there = {x for s in estimates.subsets if s.tag in tags for x in s.languages}
    return sorted(there - set(estimates.home.languages) - {None})


def _named(
    found: Sequence[Row], weights: Sequence[Mapping[str, float]], rpm: str, estimates: Estimates
) -> tuple[str | None, list[str]]:
    """The shift to name, or None; and those that the largest is not distinguished from."""
    if not found:
        return None, []

    def gap(k: int, m: int) -> Contrast:
        tags = {**weights[k], **weights[m]}
        between = {t: weights[k].get(t, 0) - weights[m].get(t, 0) for t in tags}
        difference = estimates.r_emi(rpm, between)
        if difference.known:
            return difference
        # The in-distribution subset counts twice: too wide rather than none.
        both = (estimates.r_emi(rpm, w)[1:] for w in (weights[k], weights[m]))
        return Contrast(np.nan, *combined_error(*(x for part in both for x in part)))

    values = [s["r_emid"] for s in found]
    top, others = largest(values, gap, estimates.settings.confidence)
    clear = len(found) > 1 and not others and found[top]["r_emid_low"] > 0
    return (found[top]["shift"] if clear else None), [found[k]["shift"] for k in others]

"""RPMs against each other, the worst shift of each, and rows that call for a warning."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from remid_jax.analysis.contrast import (
    Contrast,
    Record,
    contrast,
    count_groups,
    largest,
    with_holm,
)
from remid_jax.analysis.measures import Estimates
from remid_jax.information.pairs import MIN_CONTEXTS, REFERENCE_ROWS, Subset, groups_of, is_paired
from remid_jax.information.significance import holm, sign_flip_test
from remid_jax.information.uncertainty import combined_error, t_test

Row = Mapping[str, Any]
TOO_PREDICTABLE = {
    "r_emi_above_golden": (
        "r_emi",
        "R-EMI is above 0 ({value:.3g} ± {se:.2g}): these answers tell more of their contexts to "
        "the scorer than the golden ones do",
    ),
    "baseline_above_golden": (
        "baseline",
        "the baseline is above 0 ({value:.3g} ± {se:.2g} nats per token): these answers are more "
        "predictable than the golden ones",
    ),
}
CAUSES = "cold or greedy sampling and echoing do that, and it is no merit"


def compare_rpms(estimates: Estimates) -> list[Record]:
    """Differences of R-EMI between every two RPMs on the same contexts, subset by subset.

    `p_holm` adjusts the p-values of sign flips over the subsets, for each two RPMs.
    """
    blocks = [
        with_holm([_compare(estimates, s, *pair) for s in estimates.subsets], "p_sign_flip")
        for pair in itertools.combinations(estimates.rpms, 2)
    ]
    return [record for of_subset in zip(*blocks, strict=True) for record in of_subset]


def _compare(estimates: Estimates, subset: Subset, a: str, b: str) -> Record:
    used = subset.used(a) & subset.used(b)
    groups = groups_of(used, subset)
    first, second = (estimates.replicates(subset, x, groups).column(0) for x in (a, b))
    difference = contrast([(1.0, first), (-1.0, second)])
    return {
        "first": a,
        "second": b,
        "subset": subset.tag,
        "n": int(used.sum()),
        **difference.record(estimates.settings.confidence),
        "p_sign_flip": _p_sign_flip(estimates, subset, a, b, groups),
    }


def _p_sign_flip(
    estimates: Estimates, subset: Subset, a: str, b: str, groups: np.ndarray
) -> float | None:
    """Of the differences of both RPMs' contributions; the golden side is the same for both."""
    used, settings = groups >= 0, estimates.settings
    weights = subset.negatives[0].model
    enough = count_groups(groups) >= MIN_CONTEXTS and weights[np.ix_(used, used)].any()
    if settings.name != "club" or not enough:
        return None
    first, second = (estimates.contributions(subset.rpms[x], used, weights) for x in (a, b))
    return sign_flip_test(first - second, groups=groups[used], seed=settings.seed)


def worst_shifts(rows: Sequence[Row], estimates: Estimates) -> list[Record]:
    """The subset of largest R-EMID of each RPM, a candidate rather than a verdict.

    The largest of several noisy values is biased upwards, so `not_distinguished_from` names the
    other members of the confidence set of worst shifts; see `worst_set`.
    """
    keys = ("rpm", "subset", "shift", "r_emid", "r_emid_low", "r_emid_high", "within_noise")
    worst = []
    for rpm in estimates.rpms:
        shifted = [r for r in rows if r["rpm"] == rpm and r["r_emid"] is not None]
        if shifted:
            top, near = _worst(shifted, estimates, rpm)
            others = [shifted[k]["subset"] for k in near]
            kept = {key: shifted[top][key] for key in keys}
            worst.append({**kept, "not_distinguished_from": others})
    return worst


def _worst(shifted: Sequence[Row], estimates: Estimates, rpm: str) -> tuple[int, list[int]]:
    """See `largest`; R-EMID_k − R-EMID_l = R-EMI_l − R-EMI_k."""
    tags = [r["subset"] for r in shifted]
    paired = [s for s in estimates.subsets if s.tag in tags and is_paired(s, estimates.home)]
    joint = {s.tag for s in paired}

    def gap(k: int, m: int) -> Contrast:
        groups = None
        if {tags[k], tags[m]} <= joint:
            groups = groups_of(np.any([s.used(rpm) for s in paired], axis=0), *paired)
        found = estimates.r_emi(rpm, {tags[k]: -1.0, tags[m]: 1.0}, groups)
        if found.known:
            return found
        return Contrast(np.nan, *combined_error(*_own_error(shifted[k]), *_own_error(shifted[m])))

    values = [r["r_emid"] for r in shifted]
    return largest(values, gap, estimates.settings.confidence)


def _own_error(row: Row) -> tuple[float, float]:
    error = row["r_emid_se"] if row["r_emi_se"] is None else row["r_emi_se"]
    return error, row["clusters"] - 1


def find_warnings(rows: Sequence[Row], confidence: float) -> list[Record]:
    """Rows whose answers are more predictable than the golden ones: suspicion, not praise.

    R-EMI and baseline are tested against 0 at 1 − `confidence`, adjusted over the subsets of each
    RPM.
    """
    found = []
    names = dict.fromkeys(r["rpm"] for r in rows if r["rpm"] not in REFERENCE_ROWS)
    for rpm, (kind, (column, text)) in itertools.product(names, TOO_PREDICTABLE.items()):
        own = [r for r in rows if r["rpm"] == rpm]
        for row, p in zip(own, holm([_p_of(r, column) for r in own]), strict=True):
            if p < 1 - confidence and row[column] > 0:  # never where p is NaN
                said = text.format(value=row[column], se=row[f"{column}_se"])
                where = {"rpm": rpm, "subset": row["subset"], "kind": kind}
                found.append({**where, "p_holm": float(p), "text": f"{said}; {CAUSES}"})
    return found


def _p_of(row: Row, column: str) -> float | None:
    if row[column] is None or row[f"{column}_se"] is None:
        return None
    return t_test(row[column], row[f"{column}_se"], row["clusters"] - 1)

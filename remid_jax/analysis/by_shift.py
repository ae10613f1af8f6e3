"""What each shift alone takes from a policy's R-EMI."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis.measures import ANCHORS, Subset, count_groups, groups_of, is_paired
from remid_jax.analysis.rows import add_holm, interval
from remid_jax.evaluation.config import MIN_CONTEXTS
from remid_jax.information.significance import worst_set
from remid_jax.information.uncertainty import combined_error, replicate_error

Row = Mapping[str, Any]
Weights = Mapping[str, float]
METHOD = "one at a time"


def estimate_by_shift(
    rows: Sequence[Row], subsets: Sequence[Subset], config: ConfigDict
) -> list[dict[str, Any]]:
    """Each evaluated model's mean R-EMID over the subsets of each shift.

    R-EMI(ID) − (1/K) Σ_k R-EMI(k) over the K subsets of a shift that have an R-EMID. Each shift is
    measured by itself, as texts in which several factors are shifted do not exist: the values do
    not add up to the R-EMID of a joint shift. Subsets that vary the same anchors are deleted from
    together with IDTest; others are independent parts, and IDTest counts once.

    Args:
      rows: of `estimate_rows`, in nats per response or per token.
      subsets: `IDTest` first.
      config: of the diagnosis.

    Returns:
      {policy, method, named, not_distinguished_from, shifts} a policy. `shifts` holds {shift,
      subsets, other_languages, r_emid, r_emid_se, r_emid_low, r_emid_high, within_noise, p_value,
      detectable, p_holm}; `other_languages` are those that IDTest does not hold, whose nats are
      not those of IDTest's language. `named` is the shift of the largest value where that is
      above 0 and distinguished from all others, else None (also where there is no other).
    """
    names = dict.fromkeys(r["policy"] for r in rows if r["policy"] not in ANCHORS)
    return [_of_policy(p, rows, subsets, config) for p in names]


def _of_policy(
    policy: str, rows: Sequence[Row], subsets: Sequence[Subset], config: ConfigDict
) -> dict[str, Any]:
    own = {r["subset"]: r for r in rows if r["policy"] == policy}
    home = subsets[0].tag
    members: dict[str, list[str]] = {}
    for tag, row in own.items():
        if row["r_emid"] is not None:
            members.setdefault(row["shift"], []).append(tag)
    error = functools.partial(_error, policy=policy, own=own, subsets=subsets, config=config)
    found, weights = [], {}
    for shift, tags in members.items():
        weights[shift] = {home: 1.0} | {tag: -1 / len(tags) for tag in tags}
        value = sum(w * own[tag]["r_emi"] for tag, w in weights[shift].items())
        parts = interval(value, *error(weights[shift]), config)
        parts = {f"r_emid{_SUFFIX[k]}" if k in _SUFFIX else k: v for k, v in parts.items()}
        foreign = _other_languages(tags, subsets)
        found.append({"shift": shift, "subsets": tags, "other_languages": foreign, **parts})
    add_holm(found)
    named, near = _largest([f for f in found if f["r_emid"] is not None], weights, error, config)
    verdict = {"named": named, "not_distinguished_from": near}
    return {"policy": policy, "method": METHOD, **verdict, "shifts": found}


_SUFFIX = {"value": "", "se": "_se", "low": "_low", "high": "_high"}


def _other_languages(tags: Sequence[str], subsets: Sequence[Subset]) -> list[str]:
    there = {x for s in subsets if s.tag in tags for x in s.languages}
    return sorted(there - set(subsets[0].languages) - {None})


def _error(
    weights: Weights,
    policy: str,
    own: Mapping[str, Row],
    subsets: Sequence[Subset],
    config: ConfigDict,
) -> tuple[float, float]:
    """Standard error of Σ_k w_k R-EMI_k and its freedom; NaN where it has none."""
    reference = subsets[0]
    chosen = [s for s in subsets if weights.get(s.tag)]
    joint = [s for s in chosen if s is reference or is_paired(s, reference)]
    tags = [s.tag for s in joint]
    parts = [
        (abs(weights[s.tag]) * own[s.tag]["r_emi_se"], own[s.tag]["clusters"] - 1)
        for s in chosen
        if s.tag not in tags
    ]
    if joint:
        groups = groups_of(np.any([s.used(policy) for s in joint], axis=0), *joint)
        if count_groups(groups) < MIN_CONTEXTS:
            return np.nan, 0
        without = [weights[s.tag] * s.delete_one(policy, groups, config)[1][:, 0] for s in joint]
        error, freedom = replicate_error(np.sum(without, axis=0))
        if not np.isfinite(error):
            return np.nan, 0
        parts.append((float(error), freedom))
    return functools.reduce(lambda a, b: combined_error(*a, *b), parts)


def _largest(
    found: Sequence[Row], weights: Mapping[str, Weights], error: Any, config: ConfigDict
) -> tuple[str | None, list[str]]:
    """The shift to name, or None; and those that the largest is not distinguished from."""
    if not found:
        return None, []
    errors, freedom = np.zeros((2, len(found), len(found)))
    for (k, a), (m, b) in itertools.combinations(enumerate(found), 2):
        first, second = weights[a["shift"]], weights[b["shift"]]
        gap = {t: first.get(t, 0) - second.get(t, 0) for t in {**first, **second}}
        e, f = error(gap)
        if not np.isfinite(e):  # IDTest counts twice: too wide rather than none
            e, f = combined_error(*error(first), *error(second))
        errors[k, m] = errors[m, k] = e
        freedom[k, m] = freedom[m, k] = f
    values = [s["r_emid"] for s in found]
    kept = worst_set(values, errors, freedom, config.estimator.confidence)
    top = int(np.argmax(values))
    near = [s["shift"] for k, s in enumerate(found) if kept[k] and k != top]
    clear = len(found) > 1 and not near and found[top]["r_emid_low"] > 0
    return (found[top]["shift"] if clear else None), near


def shift_lines(by_shift: Sequence[Row], digits: int) -> Iterator[str]:
    """One line a policy."""
    for row in by_shift:
        shares = [
            f"{s['shift']} {s['r_emid']:.{digits}f} ± {s['r_emid_se']:.{digits}f}"
            for s in row["shifts"]
            if s["r_emid"] is not None
        ]
        if shares:
            verdict = f"largest: {row['named']}" if row["named"] else "none stands out"
            if mixed := [s["shift"] for s in row["shifts"] if s["other_languages"]]:
                verdict += f" (nats of other languages in {', '.join(mixed)}: read retained)"
            yield (
                f"{row['policy']}: mean R-EMID by shift ({row['method']}, no parts of a total): "
                f"{', '.join(shares)}; {verdict}"
            )

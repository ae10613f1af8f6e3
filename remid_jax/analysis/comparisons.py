"""Models against each other, shifts against each other, and rows that call for a warning."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis.measures import ANCHORS, Subset, count_groups, groups_of, is_paired
from remid_jax.analysis.rows import add_holm, interval, number
from remid_jax.evaluation.config import MIN_CONTEXTS
from remid_jax.information.significance import contributions, holm, sign_flip_test, worst_set
from remid_jax.information.uncertainty import combined_error, delete_one, replicate_error, t_test

Row = Mapping[str, Any]
TOO_PREDICTABLE = {
    "r_emi_above_golden": (
        "r_emi",
        "R-EMI is above 0 ({value:.3g} ± {se:.2g}): these answers tell more of their contexts to "
        "the policy than the golden ones do",
    ),
    "baseline_above_golden": (
        "baseline",
        "the baseline is above 0 ({value:.3g} ± {se:.2g} nats per token): these answers are more "
        "predictable than the golden ones",
    ),
}
CAUSES = "cold or greedy sampling and echoing do that, and it is no merit"


def compare_policies(subsets: Sequence[Subset], config: ConfigDict) -> list[dict[str, Any]]:
    """Paired differences of R-EMI between every two evaluated models on the same contexts.

    `p_sign_flip` is the p-value of sign flips (club only), and `p_holm` the same adjusted over the
    subsets for each two models.
    """
    rows = []
    names = [p for p in subsets[0].policies if p not in ANCHORS]
    for subset in subsets:
        rows += [_compare(subset, a, b, config) for a, b in itertools.combinations(names, 2)]
    for pair in itertools.combinations(names, 2):
        add_holm([r for r in rows if (r["first"], r["second"]) == pair], "p_sign_flip")
    return rows


def _compare(subset: Subset, a: str, b: str, config: ConfigDict) -> dict[str, Any]:
    first, second = subset.statistic(a, config), subset.statistic(b, config)
    used = subset.used(a) & subset.used(b)
    common, groups = jnp.asarray(used), groups_of(used, subset)
    value, error, freedom = np.nan, np.nan, 0
    if count_groups(groups) >= MIN_CONTEXTS:
        value, without = delete_one(
            lambda mask: first(mask & common)[0] - second(mask & common)[0], groups
        )
        error, freedom = replicate_error(without)
    parts = interval(value, error, freedom, config)
    named = {"first": a, "second": b, "subset": subset.tag, "n": int(used.sum())}
    p = _p_sign_flip(subset, a, b, groups, config)
    return {**named, "difference": parts.pop("value"), **parts, "p_sign_flip": p}


def _p_sign_flip(
    subset: Subset, a: str, b: str, groups: np.ndarray, config: ConfigDict
) -> float | None:
    """Of the differences of both models' contributions; the golden side is the same for both."""
    used = groups >= 0
    weights = subset.negatives[0].model
    enough = count_groups(groups) >= MIN_CONTEXTS and weights[np.ix_(used, used)].any()
    if config.estimator.name != "club" or not enough:
        return None

    def shares(policy: str) -> np.ndarray:
        block = subset.policies[policy]
        lengths = block.lengths if config.estimator.normalisation == "token" else None
        return np.asarray(contributions(block.scores, lengths, used, weights))

    differences = (shares(a) - shares(b))[used]
    return sign_flip_test(differences, groups=groups[used], seed=config.seed)


def worst_shifts(
    rows: Sequence[Row], subsets: Sequence[Subset], config: ConfigDict
) -> list[dict[str, Any]]:
    """Each evaluated model's subset of largest R-EMID, a candidate rather than a verdict.

    The largest of several noisy values is biased upwards, so `not_distinguished_from` names the
    other members of the confidence set of worst shifts; see `worst_set`.
    """
    keys = ("policy", "subset", "shift", "r_emid", "r_emid_low", "r_emid_high", "within_noise")
    worst = []
    for policy in dict.fromkeys(r["policy"] for r in rows if r["policy"] not in ANCHORS):
        shifted = [r for r in rows if r["policy"] == policy and r["r_emid"] is not None]
        if not shifted:
            continue
        errors, freedom = _errors_between(shifted, subsets, policy, config)
        values = [r["r_emid"] for r in shifted]
        chosen = worst_set(values, errors, freedom, config.estimator.confidence)
        top = int(np.argmax(values))
        near = [r["subset"] for k, r in enumerate(shifted) if chosen[k] and k != top]
        worst.append({**{k: shifted[top][k] for k in keys}, "not_distinguished_from": near})
    return worst


def _errors_between(
    shifted: Sequence[Row], subsets: Sequence[Subset], policy: str, config: ConfigDict
) -> tuple[np.ndarray, np.ndarray]:
    """[K, K] standard errors of R-EMID_k − R-EMID_l = R-EMI_l − R-EMI_k, and their freedom.

    Subsets that vary the same anchors are deleted from together, others are independent.
    """
    by_tag = {s.tag: s for s in subsets}
    joint = _joint_replicates([by_tag[r["subset"]] for r in shifted], subsets[0], policy, config)
    errors, freedom = np.zeros((2, len(shifted), len(shifted)))
    for (k, a), (m, b) in itertools.combinations(enumerate(shifted), 2):
        error = np.nan
        if a["subset"] in joint and b["subset"] in joint:
            error, f = replicate_error(joint[a["subset"]] - joint[b["subset"]])
        if not np.isfinite(error):
            error, f = combined_error(*_own_error(a), *_own_error(b))
        errors[k, m] = errors[m, k] = float(error)
        freedom[k, m] = freedom[m, k] = f
    return errors, freedom


def _own_error(row: Row) -> tuple[float, float]:
    error = row["r_emid_se"] if row["r_emi_se"] is None else row["r_emi_se"]
    return error, row["clusters"] - 1


def _joint_replicates(
    subsets: Sequence[Subset], reference: Subset, policy: str, config: ConfigDict
) -> dict[str, np.ndarray]:
    """tag -> [G] R-EMI without each group, of the subsets that vary the same anchors."""
    paired = [s for s in subsets if is_paired(s, reference)]
    if len(paired) < 2:
        return {}
    used = np.any([s.used(policy) for s in paired], axis=0)
    groups = groups_of(used, *paired)
    if count_groups(groups) < MIN_CONTEXTS:
        return {}
    return {s.tag: s.delete_one(policy, groups, config)[1][:, 0] for s in paired}


def find_warnings(rows: Sequence[Row], config: ConfigDict) -> list[dict[str, Any]]:
    """Rows whose answers are more predictable than the golden ones: suspicion, not praise.

    R-EMI and baseline are tested against 0 and adjusted over the subsets of each policy.

    Returns:
      {policy, subset, kind, p_holm, text} with kind of `TOO_PREDICTABLE`.
    """
    found = []
    names = dict.fromkeys(r["policy"] for r in rows if r["policy"] not in ANCHORS)
    for policy, kind in itertools.product(names, TOO_PREDICTABLE):
        column, text = TOO_PREDICTABLE[kind]
        own = [r for r in rows if r["policy"] == policy]
        for row, p in zip(own, holm([_p_of(r, column) for r in own]), strict=True):
            if number(p) is not None and p < 1 - config.estimator.confidence and row[column] > 0:
                said = text.format(value=row[column], se=row[f"{column}_se"])
                where = {"policy": policy, "subset": row["subset"], "kind": kind}
                found.append({**where, "p_holm": float(p), "text": f"{said}; {CAUSES}"})
    return found


def _p_of(row: Row, column: str) -> float | None:
    if row[column] is None or row[f"{column}_se"] is None:
        return None
    return t_test(row[column], row[f"{column}_se"], row["clusters"] - 1)

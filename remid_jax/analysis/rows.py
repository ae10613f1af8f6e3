"""The rows of the report: estimates, their errors, and what the errors allow to say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis.measures import (
    ANCHORS,
    COLUMNS,
    Subset,
    count_groups,
    groups_of,
    is_paired,
)
from remid_jax.evaluation.config import MIN_CONTEXTS
from remid_jax.information import mutual_information as mi
from remid_jax.information.power import detectable
from remid_jax.information.significance import holm, independence_test
from remid_jax.information.uncertainty import combined_error, replicate_error, t_interval, t_test

POWER = 0.8  # with which a difference of size `detectable` is seen
_INTERVAL = ("value", "se", "low", "high", "within_noise", "p_value", "detectable")
_R_EMID = {"value": "r_emid", "se": "r_emid_se", "low": "r_emid_low", "high": "r_emid_high"}


def number(value: Any) -> float | None:
    """A finite number, or None where the masked pairs gave none."""
    return None if value is None or not np.isfinite(value) else float(value)


def interval(value: Any, error: Any, freedom: float, config: ConfigDict) -> dict[str, Any]:
    """Interval, test and power of one difference; None throughout where it has no value."""
    if not np.isfinite(value) or not np.isfinite(error):
        return dict.fromkeys(_INTERVAL)
    value, error, level = float(value), float(error), 1 - config.estimator.confidence
    low, high = t_interval(value, error, freedom, config.estimator.confidence)
    smallest = detectable(error, freedom, POWER, level) if level < POWER else None
    p, noise = t_test(value, error, freedom), bool(low <= 0 <= high)
    return dict(zip(_INTERVAL, (value, error, low, high, noise, p, smallest), strict=True))


def add_holm(rows: Sequence[dict[str, Any]], key: str = "p_value") -> None:
    """Adds `p_holm`, the p-values adjusted over these rows; missing ones are not counted."""
    for row, p in zip(rows, holm([r[key] for r in rows]), strict=True):
        row["p_holm"] = number(p)


def estimate_rows(subsets: Sequence[Subset], config: ConfigDict) -> list[dict[str, Any]]:
    """One row a policy and subset.

    Where a subset is paired with the in-distribution one, R-EMID is taken on the `n_paired`
    contexts that can be used in both, and its standard error deletes an anchor together with the
    sample that varies it; other subsets are taken as independent (too wide where they share
    clusters). `p_value` tests R-EMID = 0, `p_holm` adjusts it over the
    policy's subsets, `detectable` is the |R-EMID| seen with power .8, `p_independence` tests that
    the responses do not depend on their contexts.

    Args:
      subsets: the in-distribution one first.
      config: of the diagnosis.

    Returns:
      Rows of plain numbers; None where there is no value, as with fewer than 3 usable clusters.
    """
    rows = []
    reference = subsets[0]
    for policy in reference.policies:
        home = _level(reference, policy, config)
        block = [{**home, **_difference(None, config, None)}]
        for subset in subsets[1:]:
            row = _level(subset, policy, config)
            if row["r_emi"] is None or home["r_emi"] is None:
                difference = _difference(None, config, None)
            elif is_paired(subset, reference):
                difference = _paired_difference(subset, reference, policy, config)
            else:
                difference = _independent_difference(row, home, config)
            block.append({**row, **difference})
        add_holm(block)
        rows += block
    return rows


def estimate_by_language(subsets: Sequence[Subset], config: ConfigDict) -> list[dict[str, Any]]:
    """Rows of the paired subsets that hold several languages, for each language by itself.

    Negatives, too, are taken within the language, and the anchors of just these samples stand for
    in-distribution: so a culture's shift can be told from its language's. The shuffled anchor row
    mixes languages and is left out.
    """
    rows = []
    reference = subsets[0]
    for policy in [p for p in reference.policies if p not in ANCHORS]:
        block: list[dict[str, Any]] = []
        for subset in subsets[1:]:
            languages = np.array([str(x) for x in subset.languages])
            if len(set(languages)) < 2 or not is_paired(subset, reference):
                continue
            for language in sorted(set(languages)):
                chosen = languages == language
                both = chosen & subset.used(policy) & reference.used(policy)
                row = _level(subset, policy, config, chosen)
                groups = groups_of(both, subset, reference)
                if count_groups(groups) < MIN_CONTEXTS or row["r_emi"] is None:
                    continue
                row.update(_paired_difference(subset, reference, policy, config, chosen))
                block.append({"language": language, **row})
        add_holm(block)
        rows += block
    return rows


def _level(
    subset: Subset, policy: str, config: ConfigDict, chosen: np.ndarray | None = None
) -> dict[str, Any]:
    """The values of one policy in a subset, or on its chosen contexts [N] alone."""
    used = subset.used(policy) if chosen is None else subset.used(policy) & chosen
    groups = groups_of(used, subset)
    row: dict[str, Any] = {
        "policy": policy,
        "subset": subset.tag,
        "shift": subset.shift,
        "n": int(used.sum()),
        "clusters": count_groups(groups),
    }
    value = error = np.full(len(COLUMNS), np.nan)
    if row["clusters"] >= MIN_CONTEXTS:
        value, without = subset.delete_one(policy, groups, config)
        error, _ = replicate_error(without)
    for k, name in enumerate(COLUMNS):
        row[name], row[f"{name}_se"] = number(value[k]), number(error[k])
    return {**row, "p_independence": _p_independence(subset, policy, used, config)}


def _p_independence(
    subset: Subset, policy: str, used: np.ndarray, config: ConfigDict
) -> float | None:
    """Only where all pairs are scored and no contexts depend: others cannot be permuted."""
    block, n = subset.policies[policy], int(used.sum())
    scored = np.isfinite(block.scores[np.ix_(used, used)]).all()
    if n < MIN_CONTEXTS or not scored or count_groups(groups_of(used, subset)) < n:
        return None
    lengths = block.lengths if config.estimator.normalisation == "token" else None
    return independence_test(block.scores, lengths=lengths, where=used, seed=config.seed)


def _difference(
    parts: Mapping[str, Any] | None, config: ConfigDict, paired: bool | None, n: int | None = None
) -> dict[str, Any]:
    parts = parts or interval(np.nan, np.nan, 0, config)
    renamed = {_R_EMID.get(k, k): v for k, v in parts.items()}
    return {**renamed, "paired": paired, "n_paired": n, "p_holm": None}


def _paired_difference(
    subset: Subset,
    reference: Subset,
    policy: str,
    config: ConfigDict,
    chosen: np.ndarray | None = None,
) -> dict[str, Any]:
    """On the contexts whose answer can be used in both subsets."""
    both = subset.used(policy) & reference.used(policy)
    both = both if chosen is None else both & chosen
    groups, n = groups_of(both, subset, reference), int(both.sum())
    if count_groups(groups) < MIN_CONTEXTS:  # clusters of the two subsets together are fewer
        return _difference(None, config, True, n)
    here, there = (s.delete_one(policy, groups, config) for s in (subset, reference))
    # An R-EMID, without a value (NaN) where a deletion leaves no pair.
    value, without = there[0][0] - here[0][0], there[1][:, 0] - here[1][:, 0]
    error, freedom = replicate_error(without)
    return _difference(interval(value, error, freedom, config), config, True, n)


def _independent_difference(
    row: Mapping[str, Any], home: Mapping[str, Any], config: ConfigDict
) -> dict[str, Any]:
    if row["r_emi_se"] is None or home["r_emi_se"] is None:
        return _difference(None, config, False)
    error, freedom = combined_error(
        home["r_emi_se"], home["clusters"] - 1, row["r_emi_se"], row["clusters"] - 1
    )
    value = mi.emid(home["r_emi"], row["r_emi"])
    return _difference(interval(value, error, freedom, config), config, False)

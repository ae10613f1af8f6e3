"""Factor-wise information: which factor of the context a model's answers ignore or get wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis.measures import ANCHORS, Subset, count_groups, groups_of
from remid_jax.analysis.rows import add_holm, interval, number
from remid_jax.data.factors import Factor
from remid_jax.evaluation.config import MIN_CONTEXTS
from remid_jax.evaluation.factor_swaps import Scores, Swaps
from remid_jax.evaluation.scoring import GOLDEN
from remid_jax.information.cross_information import factor_information
from remid_jax.information.uncertainty import delete_one, replicate_error


def factor_rows(
    subsets: Sequence[Subset],
    swaps: Mapping[str, Swaps],
    scores: Mapping[str, Scores],
    config: ConfigDict,
) -> list[dict[str, Any]]:
    """Factor-wise information of each evaluated model and of golden, a row a subset and factor.

    `difference` = model − golden on the same contexts, with the interval of a jackknife that
    deletes a context both as a row and as a source of swapped factors; `p_holm` is adjusted over
    the three factors, and `named` marks the lowest of those significantly below 0: the factor that
    the answers ignore, or take for another.

    Args:
      subsets: all of them.
      swaps: tag -> of `plan_swaps`; scores: tag -> of `score_swaps`.
      config: of the diagnosis.
    """
    rows = []
    for policy in [p for p in subsets[0].policies if p not in ANCHORS]:
        for subset in subsets if scores else ():
            block = [
                _row(subset, policy, factor, swaps[subset.tag], scores[subset.tag], config)
                for factor in Factor
            ]
            add_holm(block)
            _name_one(block, 1 - config.estimator.confidence)
            rows += block
    return rows


def _row(
    subset: Subset, policy: str, factor: Factor, swaps: Swaps, scores: Scores, config: ConfigDict
) -> dict[str, Any]:
    sources = swaps.sources[factor]
    used = subset.used(policy) & (sources[:, 0] >= 0)
    groups = groups_of(used, subset)
    sides = [
        scores[name][factor] - np.diagonal(block.plain)[:, None]
        for name, block in ((policy, subset.policies[policy]), (GOLDEN, subset.golden))
    ]
    value, error, freedom = np.full(3, np.nan), np.full(3, np.nan), 0
    if count_groups(groups) >= MIN_CONTEXTS:
        value, without = delete_one(lambda mask: _values(*sides, sources, used, mask), groups)
        error, freedom = replicate_error(without)
    parts = interval(value[2], error[2], freedom, config)
    return {
        "policy": policy,
        "subset": subset.tag,
        "factor": factor.value,
        "n": int(used.sum()),
        "K": sources.shape[1] + 1,
        "model": number(value[0]),
        "golden": number(value[1]),
        "difference": parts["value"],
        **{k: parts[k] for k in ("se", "low", "high", "p_value")},
    }


@jax.jit
def _values(
    model: jax.Array, golden: jax.Array, sources: jax.Array, used: jax.Array, mask: jax.Array
) -> jax.Array:
    """Factor information of model and golden, and their difference, on a mask of contexts [N].

    Args:
      model, golden: [N, K − 1] log-likelihoods minus those under the own context.
      sources: [N, K − 1]; used: [N] bool. A context that is not used as a row remains a source.
    """
    kept = jnp.concatenate([mask[:, None], mask[:, None] & (mask | ~used)[sources]], axis=1)
    own = jnp.zeros((len(mask), 1), model.dtype)
    ours, theirs = (
        factor_information(jnp.concatenate([own, gaps], axis=1), where=kept)
        for gaps in (model, golden)
    )
    return jnp.stack([ours, theirs, ours - theirs])


def _name_one(block: Sequence[dict[str, Any]], level: float) -> None:
    below = [r for r in block if r["p_holm"] is not None and r["p_holm"] < level]
    below = [r for r in below if r["difference"] < 0]
    # By its t: a large difference that is hardly known does not outweigh a sure one.
    lowest = min(below, key=lambda r: r["difference"] / r["se"], default=None)
    for row in block:
        row["named"] = row is lowest

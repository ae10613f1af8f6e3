"""From cached results to arrays: what the analysis reads."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.features import texts_of
from remid_jax.evaluation.own_log_probs import own_log_probs
from remid_jax.evaluation.plan import Plan, Task
from remid_jax.information import pairs
from remid_jax.information.pairs import GOLDEN


@dataclasses.dataclass(frozen=True)
class Gathered:
    """Everything that is estimated from.

    Attributes:
      subsets: pair matrices of golden, all rpms and the reference rows, in distribution first.
      log_p: tag -> rpm -> [N] log p of its own answers in nats, see `own_log_probs`.
      swapped: tag -> rpm or golden -> factor -> [N, K − 1] scores under swapped contexts.
      features: tag -> factor -> [N, d].
    """

    subsets: list[pairs.Subset]
    log_p: Mapping[str, Mapping[str, np.ndarray]]
    swapped: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
    features: Mapping[str, Mapping[str, np.ndarray]]


def gather(task: Task, plan: Plan, cache: Cache) -> Gathered:
    """Reads all results of a finished plan.

    Args:
      task: what was evaluated.
      plan: of it, final.
      cache: that holds every result.
    """
    tags = list(task.selection.subsets)
    return Gathered(
        [_subset(task, plan, cache, tag) for tag in tags],
        {
            tag: own_log_probs(
                task.selection.subsets[tag],
                plan.subsets[tag].texts.answers,
                task.models.scorer.tokenizer,
                task.config.estimator.span,
            )
            for tag in tags
        },
        {tag: _swapped(task, plan, cache, tag) for tag in task.swaps},
        {tag: _features(task, plan, cache, tag) for tag in tags} if plan.features else {},
    )


def _subset(task: Task, plan: Plan, cache: Cache, tag: str) -> pairs.Subset:
    """The pair matrices of one subset, with and without reasoning."""
    samples, found = task.selection.subsets[tag], plan.subsets[tag]
    n = len(samples)
    scores, plain = (matrix.values(cache) for matrix in found.scores)
    blocks = {
        name: pairs.Block(
            scores[:, a : a + n],
            plain[:, a : a + n],
            np.array([r.counted if r else 1 for r in column]),
            np.array([r is not None for r in column]),
        )
        for a, (name, column) in zip(
            range(0, scores.shape[1], n), found.responses.items(), strict=True
        )
    }
    subset = pairs.Subset(
        tag=tag,
        sample_ids=tuple(s.sample_id for s in samples),
        pair_ids=tuple(s.pair_id for s in samples),
        languages=tuple(s.extra.get("language") for s in samples),
        golden=blocks.pop(GOLDEN),
        rpms=blocks,
        negatives=pairs.negatives_for(n, task.settings, task.labels[tag]),
        labels=task.labels[tag],
        shift=task.selection.shift_of.get(tag),
    )
    return pairs.with_reference_rows(subset)


def _swapped(task: Task, plan: Plan, cache: Cache, tag: str) -> dict[str, dict[str, np.ndarray]]:
    """rpm or golden -> factor -> [N, K − 1] in nats, NaN where there is no such context."""
    swaps, found = task.swaps[tag], plan.subsets[tag]
    shape = next(iter(swaps.sources.values())).shape
    scores = {name: {f: np.full(shape, np.nan) for f in swaps.sources} for name in found.responses}
    for i, matrix in enumerate(found.swapped):
        values, place = matrix.values(cache), 0
        for factor, sources in swaps.sources.items():
            if sources[i, 0] < 0:
                continue
            rows = values[place : place + shape[1]]
            for name, column in zip(scores, rows.T, strict=True):
                scores[name][factor][i] = column
            place += shape[1]
    return scores


def _features(task: Task, plan: Plan, cache: Cache, tag: str) -> dict[str, np.ndarray]:
    texts = [texts_of(s) for s in task.selection.subsets[tag]]
    return {
        factor: np.stack([cache.embedded(plan.features[row[factor]]) for row in texts])
        for factor in texts[0]
    }

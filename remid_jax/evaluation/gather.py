"""From cached results to arrays: what the analysis reads."""

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np

from remid_jax.data.responses import Answer
from remid_jax.data.thoughts import word_agreement
from remid_jax.evaluation.answers import blocks_of, copied_in, own_answers
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.features import texts_of
from remid_jax.evaluation.plan import Plan, Task
from remid_jax.evaluation.prediction import prediction_blocks
from remid_jax.information import pairs
from remid_jax.information.bound_estimates import PredictionBlocks
from remid_jax.information.pairs import GOLDEN, SHUFFLED


@dataclasses.dataclass(frozen=True)
class Gathered:
    """Everything that is estimated from.

    Attributes:
      subsets: pair matrices of golden, all rpms and the reference rows, in distribution first.
      log_p: tag -> rpm -> [N] log p of its own answers in nats, NaN where it is not known.
      swapped: tag -> scores under contexts with a swapped factor.
      features: tag -> factor -> [N, d].
      effective: tag -> [N], how many thoughts carry each golden response's likelihood.
      agreement: tag -> [N], how alike the thoughts about each context are; NaN for one.
      prediction: shifted tag -> rpm -> what the prediction of its worst case is made of; empty
        where that is off.
    """

    subsets: list[pairs.Subset]
    log_p: Mapping[str, Mapping[str, np.ndarray]]
    swapped: Mapping[str, pairs.Swapped]
    features: Mapping[str, Mapping[str, np.ndarray]]
    effective: Mapping[str, np.ndarray]
    agreement: Mapping[str, np.ndarray]
    prediction: Mapping[str, Mapping[str, PredictionBlocks]]


def gather(task: Task, plan: Plan, cache: Cache) -> Gathered:
    """Reads all results of a finished plan.

    Args:
      task: what was evaluated.
      plan: of it, final.
      cache: that holds every result.
    """
    tags = list(task.selection.subsets)
    scores = {tag: plan.subsets[tag].scores.values(cache) for tag in tags}
    predicted = {}
    if plan.prediction:
        own = {tag: with_thoughts for tag, (with_thoughts, *_) in scores.items()}
        predicted = prediction_blocks(plan.prediction, plan.subsets, own, cache)
    return Gathered(
        [_subset(task, plan, tag, *scores[tag][:2]) for tag in tags],
        {tag: _own_log_probs(task, plan, tag) for tag in tags},
        {tag: _swapped(task, plan, cache, tag) for tag in task.swaps},
        {tag: _features(task, plan, cache, tag) for tag in tags} if plan.features else {},
        {tag: effective for tag, (*_, effective) in scores.items()},
        {tag: _agreement(plan, tag) for tag in tags},
        predicted,
    )


def _agreement(plan: Plan, tag: str) -> np.ndarray:
    thoughts = plan.subsets[tag].texts.thoughts
    return np.array([word_agreement(own) for own in thoughts.values()])


def _subset(
    task: Task, plan: Plan, tag: str, scores: np.ndarray, plain: np.ndarray
) -> pairs.Subset:
    """The pair matrices of one subset, with and without reasoning."""
    samples, found = task.selection.subsets[tag], plan.subsets[tag]
    n = len(samples)
    draws: dict[str, list[pairs.Block]] = {}
    for a, ((name, _), column) in zip(
        range(0, scores.shape[1], n), blocks_of(found.responses, found.further).items(), strict=True
    ):
        block = pairs.Block(
            scores[:, a : a + n],
            plain[:, a : a + n],
            np.array([r.counted if r else 1 for r in column]),
            np.array([r is not None for r in column]),
        )
        draws.setdefault(name, []).append(block)
    blocks = {name: pairs.mean_of_draws(some) for name, some in draws.items()}
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
        draws={name: some for name, some in draws.items() if len(some) > 1},
    )
    return pairs.with_reference_rows(subset)


def _own_log_probs(task: Task, plan: Plan, tag: str) -> dict[str, np.ndarray]:
    """RPM -> [N] log p_θ of its answers in nats, where the scorer reads just the same tokens.

    A mean over the draws of a context. NaN for answers from a file, of another tokenizer, or drawn
    from another distribution than the model's own (greedy, tempered, truncated or penalised).
    """
    own, samples = task.models.scorer.tokenizer.fingerprint, task.selection.subsets[tag]
    same = task.config.estimator.span == "response"

    def value(a: Answer) -> float:
        known = same and a.tokenizer == own and a.log_prob is not None
        return a.log_prob if known else np.nan

    return {
        rpm: np.array([np.mean([value(a) for a in by_id[s.sample_id].draws]) for s in samples])
        for rpm, by_id in plan.subsets[tag].texts.answers.items()
    }


def _swapped(task: Task, plan: Plan, cache: Cache, tag: str) -> pairs.Swapped:
    """Sums over own words and over copied ones, under the own context and swapped ones."""
    swaps, found = task.swaps[tag], plan.subsets[tag]
    blocks = blocks_of(found.responses, found.further)
    places_of = [*blocks, (SHUFFLED, 0)]
    m = collections.Counter(name for name, _ in places_of)
    n, k = next(iter(swaps.sources.values())).shape
    own = {name: np.full((m[name], n, 2), np.nan) for name in m}
    scores = {name: {f: np.full((m[name], n, k, 2), np.nan) for f in swaps.sources} for name in m}
    copied = {name: np.zeros((n, 2), int) for name in m}
    whole = {name: np.full((m[name], n, 2), np.nan) for name in m}
    for i, (sample, answers) in enumerate(
        zip(task.selection.subsets[tag], own_answers(blocks), strict=True)
    ):
        places = swaps.places(i)
        under = [found.swapped[i].log_probs(cache, row) for row in range(len(places))]
        rows = {i, swaps.whole[i], swaps.whole[(i + 1) % n]} - {-1}
        plain = {j: found.scores.plain.log_probs(cache, j) for j in rows}
        for (name, draw), y in zip(places_of, answers, strict=True):
            if y is None:
                continue
            (mask,) = copied_in(y, sample, task.models.scorer.tokenizer, [{}])
            copied[name][i] += np.sum(~mask), np.sum(mask)
            own[name][draw, i] = _by_origin(plain[i][y.tokens][y.skip :], mask)
            whose = (i + 1) % n if name == SHUFFLED else i
            if (j := swaps.whole[whose]) >= 0:
                whole[name][draw, i] = _by_origin(plain[j][y.tokens][y.skip :], mask)
            for (factor, column), found_there in zip(places, under, strict=True):
                values = found_there[y.tokens][y.skip :]
                scores[name][factor][draw, i, column] = _by_origin(values, mask)
    return pairs.Swapped(
        swaps.sources,
        swaps.weights,
        {name: _known_mean(x) for name, x in own.items()},
        {name: {f: _known_mean(x) for f, x in some.items()} for name, some in scores.items()},
        copied,
        {name: _known_mean(x) for name, x in whole.items()},
        {
            name: {f: _lost(own[name], x) for f, x in scores[name].items()}
            for name in m
            if m[name] > 1
        },
    )


def _known_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.sum(values, axis=0, where=known)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _lost(own: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """[N, M], what own words of each draw lose with a factor, from [M, N, 2] and [M, N, K, 2]."""
    return (own[..., 0] - _known_mean(np.moveaxis(swapped[..., 0], -1, 0))).T


def _by_origin(values: np.ndarray, copied: np.ndarray) -> tuple[float, float]:
    return values[~copied].sum(), values[copied].sum()


def _features(task: Task, plan: Plan, cache: Cache, tag: str) -> dict[str, np.ndarray]:
    texts = [texts_of(s) for s in task.selection.subsets[tag]]
    return {
        factor: np.stack([cache.embedded(plan.features[row[factor]]) for row in texts])
        for factor in texts[0]
    }

"""Scores of made-up answers under their own and under changed contexts, subset by subset.

A subset is scored by the requests of a diagnosis, through its cache: a study that was killed goes
on where it ended.
"""

import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.contexts import choose_contexts
from remid_jax.data.reading import load_benchmark
from remid_jax.errors import UserError
from remid_jax.evaluation.answers import Response, blocks_of, copied_in, own_answers
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import default_config
from remid_jax.evaluation.cost import longest_of, stages_of
from remid_jax.evaluation.plan import Plan, SubsetPlan, Task, make_plan
from remid_jax.evaluation.requests import Score
from remid_jax.evaluation.runner import Part, run
from remid_jax.evaluation.task import make_task
from remid_jax.files import write_atomically
from remid_jax.information.pairs import SHUFFLED, UNSHIFTED
from remid_jax.information.precision import double_precision
from remid_jax.information.profile import factor_gaps

from .known_faults import answers

LIMITS = (4, 8)  # words and characters of a copied run, as every diagnosis has them
Limits = tuple[int, int]


def limits_of(config: ConfigDict) -> list[Limits]:
    """The limits of copied runs that are compared: one of both is varied at a time."""
    words, characters = LIMITS
    varied = [(w, characters) for w in config.words] + [(words, c) for c in config.characters]
    return list(dict.fromkeys([LIMITS, *varied]))


def name_of(limits: Limits) -> str:
    """For results, where keys are texts."""
    return "{} words, {} characters".format(*limits)


class Scorer:
    """What all subsets share: one task, its plan, and the cache."""

    def __init__(self, config: ConfigDict, folder: Path):
        """Nothing is read before the first subset is scored."""
        self._config, self._folder = config, folder

    @functools.cached_property
    def _task(self) -> Task:
        c = self._config
        benchmark = load_benchmark(c.benchmark, c.in_distribution)
        chosen = choose_contexts(benchmark, c.shifts, c.subset_contexts)
        if absent := [tag for tag in c.shifts if tag not in chosen]:
            raise UserError(f"config.shifts holds {absent[0]!r}, no subset of {benchmark.name}")
        samples = [s for part in chosen.values() for s in part]
        file = self._folder / "answers.json"
        made = json.dumps(answers(samples, c.in_distribution), ensure_ascii=False, indent=1)
        write_atomically(file, [made.encode()])
        task = make_task(_diagnosis(c, file), None, lockstep=False)
        task.models.longest = longest_of(make_plan(task, Cache()))
        return task

    @functools.cached_property
    def _cache(self) -> Cache:
        return Cache(self._folder / "cache")

    @functools.cached_property
    def _plan(self) -> Plan:
        """Of all subsets; scores with reasoning are known where all pairs are asked for."""
        plan, c = make_plan(self._task, self._cache), self._config
        tags = (c.in_distribution, *c.pairs)
        self._run("thoughts", [r for tag in tags for r in plan.subsets[tag].thoughts])
        return make_plan(self._task, self._cache)

    def _run(self, what: str, requests: Sequence[Any]) -> None:
        run(what, requests, self._cache, self._task.config.sampling.batch_rows, Part())

    def requests(self, tag: str) -> list[Score]:
        """What a subset needs; without its pairs, nothing under contexts with a thought."""
        found = self._plan.subsets[tag]
        pairs = found.scores.thoughts if self._has_pairs(tag) else ()
        matrices = (*pairs, found.scores.plain, *found.swapped)
        return [r for matrix in matrices for r in matrix.requests if r is not None]

    def flops(self, tag: str) -> float:
        """Operations of a subset's likelihoods, whatever is in the cache."""
        return sum(s.flops for s in stages_of(self.requests(tag), 1))

    def score(self, tag: str) -> dict[str, Any]:
        """Everything that detection reads of a subset, as JSON can hold it."""
        requests, started = self.requests(tag), time.monotonic()
        self._run(f"likelihoods of {tag}", requests)
        took = time.monotonic() - started
        task, samples = self._task, self._task.selection.subsets[tag]
        return {
            "subset": tag,
            "shift": task.selection.shift_of.get(tag),
            "ids": [s.sample_id for s in samples],
            "counterparts": [s.pair_id for s in samples],
            "languages": [s.extra.get("language") for s in samples],
            "flops": self.flops(tag),
            "seconds": took,
            "rows": self._rows(tag),
        }

    def _rows(self, tag: str) -> dict[str, dict[str, Any]]:
        """Name -> what was scored of a row, of those that answer in the subset."""
        found, at_home = self._plan.subsets[tag], tag == self._config.in_distribution
        every, rows = own_answers(blocks_of(found.responses, found.further)), {}
        for k, name in enumerate((*found.responses, SHUFFLED)):
            columns = [own[k] for own in every]
            if any(columns) and not (name == UNSHIFTED and at_home):  # which is golden itself
                limits = limits_of(self._config)
                rows[name] = _row(self._task, found, self._cache, tag, columns, limits)
        if self._has_pairs(tag):
            scores = found.scores.values(self._cache)[0]
            blocks = np.split(scores, len(found.responses), axis=1)
            for name, block in zip(found.responses, blocks, strict=True):
                if name in rows:
                    rows[name]["pairs"] = _plain(block)
        return rows

    def _has_pairs(self, tag: str) -> bool:
        return tag in (self._config.in_distribution, *self._config.pairs)


def _diagnosis(c: ConfigDict, responses: Path) -> ConfigDict:
    """The configuration of the diagnosis whose requests are taken."""
    d = default_config()
    d.update(benchmark=c.benchmark, in_distribution=c.in_distribution, shifts=c.shifts)
    d.update(seed=c.seed, responses=str(responses))
    d.model.update(c.model)
    d.limits.update(contexts=c.subset_contexts, excluded_share=1.0, too_long="drop_oldest_turns")
    d.reasoning.max_tokens = c.thought_tokens
    d.sampling.update(max_tokens=c.thought_tokens, batch_rows=8)
    d.estimator.emi_shifts = 1  # without reasoning: own pairs, and few others
    return d


def _row(
    task: Task, found: SubsetPlan, cache: Cache, tag: str, columns: Sequence[Response | None],
    limits: Sequence[Limits],
) -> dict[str, Any]:  # fmt: skip
    """δ of one row in nats, of all words and of own words by limits; None without an answer.

    `baseline` is log q a token under the own context without a thought.
    """
    swaps, n = task.swaps[tag], len(columns)
    used = np.array([y is not None for y in columns])
    lengths, own = np.ones(n, int), np.zeros(n)
    copied = {which: np.zeros(n, int) for which in limits}
    # One more "limit": all words.
    parts = {which: np.zeros(n) for which in (*limits, None)}
    under = {f: {which: np.zeros(js.shape) for which in parts} for f, js in swaps.sources.items()}
    for i, y in enumerate(columns):
        if y is None:
            continue
        masks = {None: np.ones(y.counted, bool), **_own_tokens(task, tag, i, y, limits)}
        plain = found.scores.plain.log_probs(cache, i)[y.tokens][y.skip :]
        lengths[i], own[i] = y.counted, plain.sum()
        for which, mask in masks.items():
            parts[which][i] = plain[mask].sum()
            if which is not None:
                copied[which][i] = np.sum(~mask)
        for row, (factor, k) in enumerate(swaps.places(i)):
            there = found.swapped[i].log_probs(cache, row)[y.tokens][y.skip :]
            for which, mask in masks.items():
                under[factor][which][i, k] = there[mask].sum()
    with double_precision():  # sums are large, and what they differ in is small
        gaps = {
            factor: {
                which: factor_gaps(parts[which], there[which], swaps.weights[factor], where=used)
                for which in parts
            }
            for factor, there in under.items()
        }
    return {
        "tokens": lengths.tolist(),
        "copied": {name_of(which): copied[which].tolist() for which in limits},
        "baseline": _plain(np.where(used, own / lengths, np.nan)),
        "all": {str(f): _plain(g[None]) for f, g in gaps.items()},
        "own": {
            name_of(which): {str(f): _plain(g[which]) for f, g in gaps.items()} for which in limits
        },
    }


def _own_tokens(
    task: Task, tag: str, i: int, response: Response, limits: Sequence[Limits]
) -> dict[Limits, np.ndarray]:
    """Limits -> which counted tokens of a response are not copied from its context."""
    sample, tokenizer = task.selection.subsets[tag][i], task.models.scorer.tokenizer
    named = [{"words": words, "characters": characters} for words, characters in limits]
    masks = copied_in(response, sample, tokenizer, named)
    return {which: ~mask for which, mask in zip(limits, masks, strict=True)}


def _plain(values: Any) -> list[Any]:
    """Numbers as JSON holds them, None for NaN."""
    listed = np.asarray(values, np.float64)
    return np.where(np.isfinite(listed), listed.astype(object), None).tolist()

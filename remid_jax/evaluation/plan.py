"""From a configuration and samples to requests: the one description of what a run does."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from remid_jax.data import prompts
from remid_jax.data.samples import Sample
from remid_jax.evaluation.answers import (
    Column,
    Response,
    blocks_of,
    own_answers,
    to_response,
)
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import specs_of
from remid_jax.evaluation.drawn import (
    Texts,
    answers_asked,
    sampling_of,
    texts_of_draws,
    thoughts_asked,
)
from remid_jax.evaluation.excluded import check_excluded
from remid_jax.evaluation.features import texts_of
from remid_jax.evaluation.judging import Judging, plan_judging
from remid_jax.evaluation.matrices import Asked, Matrix, Mixture, matrix_of, mixture_of
from remid_jax.evaluation.prediction import STAND_INS, Prediction, plan_prediction
from remid_jax.evaluation.requests import (
    UNKNOWN,
    About,
    Ask,
    Embed,
    Generate,
    Request,
    Score,
    Tokens,
)
from remid_jax.evaluation.task import Task
from remid_jax.inference.prefix import branch_points, common_prefix_length
from remid_jax.information import pairs
from remid_jax.information.pairs import GOLDEN
from remid_jax.progress import progress

WITH_REASONING, WITHOUT = "likelihoods with reasoning", "likelihoods without"
SWAPPED = "contexts with a swapped factor"
FEATURES = "features of contexts"


@dataclasses.dataclass(frozen=True)
class SubsetPlan:
    """What one subset needs.

    Attributes:
      answers: rpm -> its requests, one a sample, of servers one a draw of each sample; none where
        answers are collected.
      thoughts: requests, one a sample.
      asked: the scorer's prompts.
      scores: the pair matrix with reasoning, and that without in it.
      swapped: for each sample the matrix of its swapped contexts.
      responses: golden's and every rpm's answers as they are scored, the first draw of each.
      texts: answers and thoughts, as far as they are drawn.
      further: rpm -> its second draws, its third, ...; without those that have none.
    """

    answers: Mapping[str, Sequence[Generate] | Sequence[Ask]]
    thoughts: Sequence[Generate]
    asked: Asked
    scores: Mixture
    swapped: Sequence[Matrix]
    responses: Mapping[str, Column]
    texts: Texts
    further: Mapping[str, Sequence[Column]] = dataclasses.field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether all answers and thoughts are there, and no score is an estimate."""
        return self.answers.keys() <= self.texts.answers.keys() and self.texts.thoughts is not None

    @property
    def requests(self) -> list[Request]:
        """All of them, in the order in which they run."""
        drawn = [r for column in (*self.answers.values(), self.thoughts) for r in column]
        swapped = [r for m in self.swapped for r in m.requests if r is not None]
        return [*drawn, *self.scores.requests, *swapped]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is asked of models.

    Attributes:
      subsets: tag -> its plan.
      features: text -> its request.
      prediction: what predicting the worst case needs beside that; None where it is off.
      judging: what judges behind servers are asked.
    """

    subsets: Mapping[str, SubsetPlan]
    features: Mapping[str, Embed]
    prediction: Prediction | None = None
    judging: Sequence[Judging] = ()

    @property
    def requests(self) -> list[Request]:
        """All of them; those that are not known are upper estimates."""
        return [*self._measured, *(r for one in self.judging for r in one.asked)]

    @property
    def _measured(self) -> list[Request]:
        """Those that measures rest on, as judges do not."""
        of_subsets = (r for s in self.subsets.values() for r in s.requests)
        more = self.prediction.requests if self.prediction else ()
        return [*self.features.values(), *of_subsets, *more]

    @property
    def first(self) -> list[Request]:
        """Those that need no other's result."""
        drawn = [r for r in self._measured if not isinstance(r, Score)]
        return [r for r in drawn if r.about.stage != STAND_INS]

    @property
    def second(self) -> list[Generate]:
        """Those that need thoughts; none until all of these are there."""
        drawn = self.prediction.drawn if self.prediction else []
        return drawn if all(r.is_known for r in drawn) else []

    @property
    def scores(self) -> list[Score]:
        """Those that can be executed once the plan is final."""
        return [r for r in self.requests if isinstance(r, Score)]

    @property
    def is_final(self) -> bool:
        """Whether nothing is estimated any more."""
        parts = [*self.subsets.values(), *([self.prediction] if self.prediction else [])]
        return all(part.is_final for part in parts)


def make_plan(task: Task, cache: Cache) -> Plan:
    """Turns what is evaluated into requests.

    Scores need the answers and thoughts that are scored: until these are in the cache, scores are
    upper estimates, with unknown tokens, as many as there can be.

    Args:
      task: what is evaluated.
      cache: of results.

    Raises:
      UserError: a prompt and its answer exceed an evaluated model's window, or too many answers
        cannot be scored.
    """
    chosen, subsets = task.selection.subsets, {}
    total = sum(map(len, chosen.values()))
    with progress("prompts", total) as advance:  # a run of thousands tokenises for minutes
        for tag, samples in chosen.items():
            subsets[tag] = _subset_plan(task, tag, samples, cache)
            advance(len(samples))
    judging = plan_judging(task, {tag: s.texts.answers for tag, s in subsets.items()}, cache)
    return Plan(subsets, _features(task), _prediction(task, subsets, cache), judging)


def _prediction(task: Task, subsets: Mapping[str, SubsetPlan], cache: Cache) -> Prediction | None:
    """What predicting the worst case of each shifted subset needs."""
    if not task.config.prediction.enabled:
        return None
    chosen, scorer = task.selection.subsets, task.models.scorer
    reply, _ = sampling_of(task.config)

    def prefix_lengths(tag: str, i: int, prompt: Tokens) -> Tokens:
        return task.prefix_lengths(scorer, chosen[tag][i], prompt)

    known = all(s.texts.thoughts is not None for s in subsets.values())
    there = cache if known else Cache()
    scoring = task.models.scoring
    return plan_prediction(scorer, scoring, task.config, subsets, reply, prefix_lengths, there)


def _features(task: Task) -> dict[str, Embed]:
    if task.encoder is None:
        return {}
    requests: dict[str, Embed] = {}
    for tag, samples in task.selection.subsets.items():
        for sample in samples:
            for text in texts_of(sample).values():
                about = About(FEATURES, tag, sample.sample_id)
                requests.setdefault(text, Embed(task.encoder, text, about))
    return requests


def _subset_plan(task: Task, tag: str, samples: Sequence[Sample], cache: Cache) -> SubsetPlan:
    generated = answers_asked(task, tag, samples), thoughts_asked(task, tag, samples)
    texts = texts_of_draws(task, samples, *generated, cache)
    check_excluded(tag, samples, texts.answers, task.config)
    responses, further = _responses(task, samples, texts)
    blocks = blocks_of(responses, further)
    columns = [r for column in blocks.values() for r in column]
    n, others, scorer = len(samples), len(blocks) - 1, task.models.scoring
    wanted, plainly = pairs.wanted_columns(n, others, task.settings, task.labels[tag])
    if tag in task.swaps:
        plainly = plainly | task.swaps[tag].wanted(len(blocks))
    thoughts = [texts.thoughts and texts.thoughts[s.sample_id] for s in samples]
    asked = [_with_thoughts(task, s, r) for s, r in zip(samples, thoughts, strict=True)]
    plain = [_without_thought(task, s) for s in samples]
    contexts = task.swaps[tag].contexts if tag in task.swaps else [()] * n
    changed = [[_without_thought(task, c) for c in some] for some in contexts]
    # Where the prompts of one sample part: what they share is read once.
    rows = [(*a, p, *more) for a, p, more in zip(asked, plain, changed, strict=True)]
    points = [[tuple(found) for found in branch_points(row)] for row in rows]
    ids, ends = [s.sample_id for s in samples], [len(a) for a in asked]
    asks = Asked(tag, ids, asked, plain, [p[: k + 1] for p, k in zip(points, ends, strict=True)])
    free = task.config.reasoning.thought_free
    scores = mixture_of(scorer, (WITH_REASONING, WITHOUT), asks, columns, wanted, plainly, free)
    swapped = [
        matrix_of(
            scorer, SWAPPED, tag, ids[i : i + 1] * len(changed[i]), changed[i],
            points[i][ends[i] + 1 :], own, np.ones((len(changed[i]), len(own)), bool),
        )
        for i, own in enumerate(own_answers(blocks))
    ]  # fmt: skip
    return SubsetPlan(*generated, asks, scores, swapped, responses, texts, further)


def _responses(
    task: Task, samples: Sequence[Sample], texts: Texts
) -> tuple[dict[str, Column], dict[str, list[Column]]]:
    """`responses` and `further` of a `SubsetPlan`; answers that are unknown have full length."""
    tokenizer, config = task.models.scorer.tokenizer, task.config
    answers = {GOLDEN: task.golden, **task.references, **texts.answers}
    unknown = Response((UNKNOWN,) * config.sampling.max_tokens)

    def drawn(name: str, sample: Sample) -> list[Response]:
        if name not in answers:
            return [unknown] * config.sampling.draws
        usable = (a for a in answers[name][sample.sample_id].draws if a.text)
        return [to_response(tokenizer, a, config.estimator.span) for a in usable]

    found, further = {}, {}
    asked = () if task.given is not None else specs_of(config)
    for name in dict.fromkeys((*answers, *asked)):
        first, *more = itertools.zip_longest(*(drawn(name, s) or [None] for s in samples))
        found[name] = list(first)
        if more:
            further[name] = [list(column) for column in more]
    return found, further


def _with_thoughts(
    task: Task, sample: Sample, thoughts: Sequence[str] | None
) -> collections.Counter[Tokens]:
    """The distinct prompts with a thought, and how many of the draws give each."""
    scorer, config = task.models.scorer, task.config.reasoning
    if thoughts is not None:
        asked = (prompts.scorer_messages(sample, r) for r in thoughts)
        return collections.Counter(tuple(scorer.tokenizer.encode_chat(a)) for a in asked)
    known = task.encode(scorer, sample, "no thought", prompts.scorer_messages(sample, ""))
    # Thoughts that are not drawn yet may all differ, from their first token on.
    k = common_prefix_length(known, _without_thought(task, sample))
    ahead, behind = known[:k], known[k:]
    unknown = ((UNKNOWN - i,) * config.max_tokens for i in range(config.draws))
    return collections.Counter((*ahead, *u, *behind) for u in unknown)


def _without_thought(task: Task, sample: Sample) -> Tokens:
    return task.encode(task.models.scorer, sample, "score", prompts.scorer_messages(sample))

"""From a configuration and samples to requests: the one description of what a run does."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data import prompts
from remid_jax.data.responses import Answer, Answers, join_draws
from remid_jax.data.samples import Sample
from remid_jax.data.thoughts import check_some_text, scorer_notes
from remid_jax.errors import UserError
from remid_jax.evaluation.answers import (
    Column,
    Response,
    blocks_of,
    own_answers,
    spoken_answer,
    to_response,
)
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.excluded import check_excluded
from remid_jax.evaluation.features import texts_of
from remid_jax.evaluation.matrices import Asked, Matrix, Mixture, matrix_of, mixture_of
from remid_jax.evaluation.models import Model, Models
from remid_jax.evaluation.prediction import STAND_INS, Prediction, plan_prediction
from remid_jax.evaluation.requests import (
    UNKNOWN,
    About,
    Embed,
    Generate,
    Request,
    Score,
    Tokens,
)
from remid_jax.evaluation.selection import Selection
from remid_jax.evaluation.swaps import Swaps
from remid_jax.inference.prefix import LEAST_SHARED, branch_points, common_prefix_length
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.information import pairs
from remid_jax.information.pairs import GOLDEN, EstimatorSettings
from remid_jax.progress import progress
from remid_jax.settings import made_from

FULL, THOUGHTS = "full", "thoughts"
WITH_REASONING, WITHOUT = "likelihoods with reasoning", "likelihoods without"
SWAPPED = "contexts with a swapped factor"
ANSWERS = "answers of"
FEATURES = "features of contexts"


@dataclasses.dataclass(frozen=True)
class Task:
    """What a run evaluates, settled before any of it.

    Attributes:
      config: of the diagnosis.
      settings: how information is estimated.
      models: all of them.
      encoder: makes features of contexts, or None.
      selection: the chosen contexts, as they fit.
      labels: tag -> clusters of its contexts, or None.
      golden: sample id -> golden response of every chosen context.
      references: name -> sample id -> response of a reference row that the matrices do not hold.
      given: collected answers, or None.
      swaps: tag -> contexts with one factor swapped.
    """

    config: ConfigDict
    settings: EstimatorSettings
    models: Models
    encoder: Model | None
    selection: Selection
    labels: Mapping[str, pairs.Labels | None]
    golden: Mapping[str, Answer]
    references: Answers
    given: Answers | None
    swaps: Mapping[str, Swaps]
    _encoded: dict[Any, Tokens] = dataclasses.field(default_factory=dict, repr=False)
    _shared: dict[Any, Tokens] = dataclasses.field(default_factory=dict, repr=False)

    def encode(self, model: Model, sample: Sample, role: str, messages: Any) -> Tokens:
        """Prompt of a model in a role about a sample, tokenised once."""
        place = (model.tokenizer.fingerprint, id(sample), role)
        if place not in self._encoded:
            self._encoded[place] = tuple(model.tokenizer.encode_chat(messages))
        return self._encoded[place]

    def prefix_lengths(self, model: Model, sample: Sample, prompt: Tokens) -> Tokens:
        """Where a prompt is cut so that its sample's beginning is computed once for all roles."""
        place = (model.tokenizer.fingerprint, id(sample))
        if place not in self._shared:
            full = self.encode(model, sample, FULL, prompts.reply_messages(sample))
            reason = self.encode(model, sample, THOUGHTS, prompts.reason_messages(sample))
            self._shared[place] = full[: common_prefix_length(full, reason)]
        n = len(self._shared[place])
        shares = LEAST_SHARED <= n < len(prompt) and prompt[:n] == self._shared[place]
        return (n,) if shares else ()


@dataclasses.dataclass(frozen=True)
class Texts:
    """What was answered and noted in one subset.

    Attributes:
      answers: rpm -> sample id -> its answer; without the rpms of which some are not drawn yet.
      thoughts: sample id -> draws of R; None where some are not drawn yet.
    """

    answers: Answers
    thoughts: Mapping[str, tuple[str, ...]] | None


@dataclasses.dataclass(frozen=True)
class SubsetPlan:
    """What one subset needs.

    Attributes:
      answers: rpm -> its requests, one a sample; none where answers are collected.
      thoughts: requests, one a sample.
      asked: the scorer's prompts.
      scores: the pair matrix with reasoning, and that without in it.
      swapped: for each sample the matrix of its swapped contexts.
      responses: golden's and every rpm's answers as they are scored, the first draw of each.
      texts: answers and thoughts, as far as they are drawn.
      further: rpm -> its second draws, its third, ...; without those that have none.
    """

    answers: Mapping[str, Sequence[Generate]]
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
    """

    subsets: Mapping[str, SubsetPlan]
    features: Mapping[str, Embed]
    prediction: Prediction | None = None

    @property
    def requests(self) -> list[Request]:
        """All of them; those that are not known are upper estimates."""
        of_subsets = (r for s in self.subsets.values() for r in s.requests)
        more = self.prediction.requests if self.prediction else ()
        return [*self.features.values(), *of_subsets, *more]

    @property
    def first(self) -> list[Request]:
        """Those that need no other's result."""
        drawn = [r for r in self.requests if not isinstance(r, Score)]
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
    return Plan(subsets, _features(task), _prediction(task, subsets, cache))


def _prediction(task: Task, subsets: Mapping[str, SubsetPlan], cache: Cache) -> Prediction | None:
    """What predicting the worst case of each shifted subset needs."""
    if not task.config.prediction.enabled:
        return None
    chosen, scorer, (reply, _) = (
        task.selection.subsets,
        task.models.scorer,
        sampling_of(task.config),
    )

    def prefix_lengths(tag: str, i: int, prompt: Tokens) -> Tokens:
        return task.prefix_lengths(scorer, chosen[tag][i], prompt)

    known = all(s.texts.thoughts is not None for s in subsets.values())
    there = cache if known else Cache()
    return plan_prediction(scorer, task.config, subsets, reply, prefix_lengths, there)


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


def _answers(task: Task, tag: str, samples: Sequence[Sample]) -> dict[str, list[Generate]]:
    """Requests for the answers of every rpm that is run."""
    reply, _ = sampling_of(task.config)
    specs = {} if task.given is not None else task.config.rpms
    return {
        name: [
            _generate(
                task, task.models.rpms[name], tag, s, f"{ANSWERS} {name}", spec.view,
                prompts.reply_messages(s, spec.view), reply, name, task.config.sampling.draws,
            )
            for s in samples
        ]
        for name, spec in specs.items()
    }  # fmt: skip


def _thoughts(task: Task, tag: str, samples: Sequence[Sample]) -> list[Generate]:
    """Requests for thoughts; a trained reasoner writes in sections."""
    _, reason = sampling_of(task.config)
    role = "sections" if task.models.trained else THOUGHTS
    asks = prompts.section_messages if task.models.trained else prompts.reason_messages
    draws = task.config.reasoning.draws
    return [
        _generate(
            task, task.models.reasoner, tag, s, THOUGHTS, role, asks(s), reason, "reasoner", draws
        )
        for s in samples
    ]


def _generate(
    task: Task, model: Model, tag: str, sample: Sample, stage: str, role: str, messages: Any,
    sampling: SamplingConfig, name: str, draws: int = 1,
) -> Generate:  # fmt: skip
    prompt = task.encode(model, sample, role, messages)
    window = model.config.max_positions
    if (over := len(prompt) + sampling.max_tokens - window) > 0:
        remedy = "lower max_tokens" if over < sampling.max_tokens else "shorten the sample"
        raise UserError(
            f"sample {sample.sample_id!r} is {over} tokens too long for the context window "
            f"of {name!r} ({model.name}, {window}); {remedy} or choose another model"
        )
    # Golden answers tell about how long others will be.
    expected = len(model.tokenizer.encode(sample.golden))
    lengths = task.prefix_lengths(model, sample, prompt)
    about = About(stage, tag, sample.sample_id)
    return Generate(model, prompt, lengths, sampling, about, expected, draws)


def _texts(
    task: Task, samples: Sequence[Sample], answers: Mapping[str, Sequence[Generate]],
    thoughts: Sequence[Generate], cache: Cache,
) -> Texts:  # fmt: skip
    """What was drawn, or is given, as it is scored."""
    own_law, ids = is_own_law(task.config.sampling), [s.sample_id for s in samples]
    known = {name: {i: column[i] for i in ids} for name, column in (task.given or {}).items()}
    for name, requests in answers.items():
        if all(r in cache for r in requests):
            known[name] = {
                s.sample_id: join_draws(
                    [spoken_answer(d, s, r.model.tokenizer, own_law) for d in cache.generated(r)]
                )
                for s, r in zip(samples, requests, strict=True)
            }
    if not all(r in cache for r in thoughts):
        return Texts(known, None)
    read = scorer_notes if task.models.trained else str.strip
    decode = task.models.reasoner.tokenizer.decode
    notes = [tuple(read(decode(d.tokens)) for d in cache.generated(r)) for r in thoughts]
    if task.config.reasoning.draws > 1:
        check_some_text(samples[0].tag, notes)
    return Texts(known, dict(zip(ids, notes, strict=True)))


def is_own_law(config: Any) -> bool:
    """Whether answers are drawn from the model's own law: temperature, top_p and penalty are 1."""
    return config.temperature == config.top_p == config.repetition_penalty == 1


def sampling_of(config: ConfigDict) -> tuple[SamplingConfig, SamplingConfig]:
    """How the evaluated models answer, and how the reasoner notes.

    Raises:
      UserError: a value out of range.
    """
    stops = tuple(config.sampling.stop_strings)
    reply = made_from(SamplingConfig, config.sampling, seed=config.seed, stop_strings=stops)
    return reply, made_from(SamplingConfig, config.reasoning, seed=config.seed)


def _subset_plan(task: Task, tag: str, samples: Sequence[Sample], cache: Cache) -> SubsetPlan:
    generated = _answers(task, tag, samples), _thoughts(task, tag, samples)
    texts = _texts(task, samples, *generated, cache)
    check_excluded(tag, samples, texts.answers, task.config)
    responses, further = _responses(task, samples, texts)
    blocks = blocks_of(responses, further)
    columns = [r for column in blocks.values() for r in column]
    n, others, scorer = len(samples), len(blocks) - 1, task.models.scorer
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
    for name in dict.fromkeys((*answers, *task.models.rpms)):
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

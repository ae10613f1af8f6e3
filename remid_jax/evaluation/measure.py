"""What is generated and scored in one subset, before anything is estimated."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis import measures
from remid_jax.analysis.settings import EstimatorSettings
from remid_jax.data import prompts
from remid_jax.data.samples import Sample
from remid_jax.data.thoughts import scorer_notes
from remid_jax.errors import UserError
from remid_jax.evaluation.answers import Answer, golden_answer, spoken_answer
from remid_jax.evaluation.factor_swaps import Scores, Swaps, score_swaps
from remid_jax.evaluation.generation import cuts_of, generate, shared_beginning
from remid_jax.evaluation.own_log_probs import own_log_probs
from remid_jax.evaluation.scoring import (
    GOLDEN,
    Block,
    Response,
    Rows,
    find_rows,
    score_rows,
    to_response,
)
from remid_jax.evaluation.selection import Answers
from remid_jax.evaluation.store import Store
from remid_jax.inference.engine import Engine
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.progress import OPERATIONS, progress


@dataclasses.dataclass(frozen=True)
class Measured:
    """One subset's texts and scores.

    Attributes:
      samples: N contexts.
      answers: policy -> sample id -> its answer; thoughts: sample id -> r.
      subset: pair matrices of golden, of all policies and of the anchor rows.
      log_p: policy -> [N] log p_θ of its own answers where that is known; see `own_log_probs`.
      swapped: scores under swapped contexts, or None where none are wanted.
    """

    samples: Sequence[Sample]
    answers: Answers
    thoughts: Mapping[str, str]
    subset: measures.Subset
    log_p: Mapping[str, np.ndarray]
    swapped: Scores | None

    @property
    def cut(self) -> dict[str, int]:
        """Policy -> answers that did not end by themselves."""
        return {p: sum(not a.stopped for a in by_id.values()) for p, by_id in self.answers.items()}

    @property
    def excluded(self) -> list[dict[str, str]]:
        """Answers that cannot be scored; golden ones leave out their contexts for all."""
        golden = {s.sample_id: golden_answer(s) for s in self.samples}
        return find_excluded(self.samples, {**self.answers, GOLDEN: golden})


def find_excluded(samples: Sequence[Sample], answers: Answers) -> list[dict[str, str]]:
    """Answers without text, as `{rpm, sample_ID, reason}`."""
    return [
        {
            "rpm": rpm,
            "sample_ID": s.sample_id,
            "reason": by_id[s.sample_id].failure,
        }
        for rpm, by_id in answers.items()
        for s in samples
        if not by_id[s.sample_id].text
    ]


def check_excluded(
    tag: str, samples: Sequence[Sample], answers: Answers, config: ConfigDict
) -> None:
    """Refuses an evaluated model of whose answers in a subset too many cannot be scored.

    Raises:
      UserError: naming model, subset, count, limit, and the first of them.
    """
    allowed, found = config.limits.excluded_share, find_excluded(samples, answers)
    for rpm, count in Counter(x["rpm"] for x in found).items():
        if count > allowed * len(samples):
            first = next(x for x in found if x["rpm"] == rpm)
            raise UserError(
                f"{count} of {len(samples)} answers of {rpm!r} in {tag!r} cannot be scored, "
                f"more than config.limits.excluded_share ({allowed:g}) of them; first "
                f"{first['sample_ID']!r}: {first['reason']}"
            )


@dataclasses.dataclass(frozen=True)
class Estimator:
    """Who notes and who scores.

    Attributes:
      policy: q; reasoner: writes R.
      base: what evaluated models without weights of their own run on.
      trained: whether both were trained: then R has sections, and q reads its core features.
    """

    policy: Engine
    reasoner: Engine
    base: Engine
    trained: bool = False


class Measurement:
    """Generates and scores subset by subset, keeping finished pieces in a store."""

    def __init__(
        self,
        estimator: Estimator,
        load: Callable[[str], Engine],
        given: Answers | None,
        sampling: tuple[SamplingConfig, SamplingConfig],
        shift_of: Mapping[str, str],
        store: Store,
        config: ConfigDict,
    ):
        """Takes what it measures with.

        Args:
          estimator: the reasoner and q.
          load: path of an evaluated model's own weights -> its engine.
          given: collected responses, or None.
          sampling: how evaluated models answer, and how the reasoner notes.
          shift_of: tag of a shifted subset -> its shift.
          store: finished pieces.
          config: of the diagnosis.
        """
        self._policy, self._estimator = estimator.policy, estimator
        self._load = load
        self._given = given
        self._reply, self._reason = sampling
        self._shift_of = shift_of
        self._store = store
        self._config = config
        # Weights named twice are loaded once.
        self._loaded = dict.fromkeys(("", config.model.path), estimator.base)

    def of(
        self,
        tag: str,
        samples: Sequence[Sample],
        labels: measures.Labels | None,
        swaps: Swaps | None,
    ) -> Measured:
        """Answers, thoughts, pair matrices, and scores under swapped contexts of one subset."""
        answers, thoughts = self._generate(tag, samples)
        check_excluded(tag, samples, answers, self._config)
        subset = self._score(tag, samples, answers, thoughts, labels)
        tokenizer, span = self._policy.tokenizer, self._config.estimator.span
        log_p = own_log_probs(samples, answers, tokenizer, span)
        swapped = None
        if swaps is not None:
            swapped = score_swaps(tag, samples, answers, swaps, self._policy, self._store, span)
        return Measured(samples, answers, thoughts, subset, log_p, swapped)

    def _rpm(self, path: str) -> Engine:
        if path not in self._loaded:
            self._loaded[path] = self._load(path)
        return self._loaded[path]

    def _generate(self, tag: str, samples: Sequence[Sample]) -> tuple[Answers, dict[str, str]]:
        """Responses of every policy, and thoughts."""
        given, rows = self._given or {}, self._config.sampling.batch_rows
        rpms = {} if given else self._config.rpms
        answers = {
            name: {x.sample_id: column[x.sample_id] for x in samples}
            for name, column in given.items()
        }
        with progress(f"{tag}: answers and thoughts", len(samples) * (len(rpms) + 1)) as advance:
            for name, spec in rpms.items():
                chats = {x.sample_id: (x, prompts.reply_messages(x, spec.view)) for x in samples}
                rpm = self._rpm(spec.path)
                drawn = generate(rpm, self._store, "responses", chats, self._reply, rows, advance)
                answers[name] = {
                    x.sample_id: spoken_answer(drawn[x.sample_id], x, rpm.tokenizer)
                    for x in samples
                }
            trained = self._estimator.trained
            asks = prompts.section_messages if trained else prompts.reason_messages
            chats = {x.sample_id: (x, asks(x)) for x in samples}
            reasoner = self._estimator.reasoner
            noted = generate(reasoner, self._store, "thoughts", chats, self._reason, rows, advance)
        read = scorer_notes if trained else str.strip
        decode = reasoner.tokenizer.decode
        return answers, {i: read(decode(d.tokens)) for i, d in noted.items()}

    def _responses(
        self, samples: Sequence[Sample], by_id: Mapping[str, Answer]
    ) -> list[Response | None]:
        """Tokens of one policy's answers; None for those without text."""
        tokenizer, span = self._policy.tokenizer, self._config.estimator.span
        answers = [by_id[s.sample_id] for s in samples]
        return [to_response(tokenizer, a, span) if a.text else None for a in answers]

    def _score(
        self,
        tag: str,
        samples: Sequence[Sample],
        answers: Answers,
        thoughts: Mapping[str, str],
        labels: measures.Labels | None,
    ) -> measures.Subset:
        """The pair matrices, with and without reasoning."""
        n = len(samples)
        settings = EstimatorSettings.from_config(self._config)
        negatives = measures.negatives_for(n, settings, labels)
        golden = {s.sample_id: golden_answer(s) for s in samples}
        columns = [
            r for by_id in (golden, *answers.values()) for r in self._responses(samples, by_id)
        ]
        pairs = measures.wanted_columns(n, len(answers), settings, labels)
        names = [s.sample_id for s in samples]
        beginnings = [shared_beginning(self._policy.tokenizer, s) for s in samples]

        def rows(notes: Mapping[str, str] | None, wanted: np.ndarray) -> Rows:
            encode = self._policy.tokenizer.encode_chat
            texts = [None if notes is None else notes[s.sample_id] for s in samples]
            asked = [
                encode(prompts.scorer_messages(*pair)) for pair in zip(samples, texts, strict=True)
            ]
            cuts = [cuts_of(*pair) for pair in zip(asked, beginnings, strict=True)]
            return find_rows(self._policy, self._store, names, asked, cuts, columns, wanted)

        both = rows(thoughts, pairs[0]), rows(None, pairs[1])
        total = sum(sum(r.flops) for r in both)
        with progress(f"{tag}: likelihoods", total, OPERATIONS) as advance:
            scores, plain = score_rows(self._policy, self._store, both, advance)
        blocks = [
            Block(
                scores[:, a : a + n],
                plain[:, a : a + n],
                np.array([r.scored if r else 1 for r in columns[a : a + n]]),
                np.array([r is not None for r in columns[a : a + n]]),
            )
            for a in range(0, len(columns), n)
        ]
        subset = measures.Subset(
            tag=tag,
            sample_ids=tuple(s.sample_id for s in samples),
            pair_ids=tuple(s.pair_id for s in samples),
            languages=tuple(s.extra.get("language") for s in samples),
            golden=blocks[0],
            rpms=dict(zip(answers, blocks[1:], strict=True)),
            negatives=negatives,
            labels=labels,
            shift=self._shift_of.get(tag),
        )
        return measures.with_reference_rows(subset)


def sampling_of(config: ConfigDict) -> tuple[SamplingConfig, SamplingConfig]:
    """How the evaluated models answer, and how the reasoner notes.

    Raises:
      UserError: a value out of range.
    """
    s, r, seed = config.sampling, config.reasoning, config.seed
    reply = SamplingConfig(
        s.max_tokens, s.temperature, s.top_p, s.repetition_penalty, seed, tuple(s.stop_strings)
    )
    return reply, SamplingConfig(r.max_tokens, r.temperature, 1.0, r.repetition_penalty, seed=seed)

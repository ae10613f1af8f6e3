"""What is drawn before anything is scored: requests for answers and thoughts, and their texts."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data import prompts
from remid_jax.data.responses import Answer, Answers, join_draws
from remid_jax.data.samples import Sample
from remid_jax.data.thoughts import check_some_text, scorer_notes
from remid_jax.errors import UserError
from remid_jax.evaluation.answers import spoken_answer
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import specs_of
from remid_jax.evaluation.models import Model
from remid_jax.evaluation.requests import About, Ask, Generate
from remid_jax.evaluation.servers import answer_of, asks_of, room_of
from remid_jax.evaluation.task import THOUGHTS, Task
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.settings import made_from

ANSWERS = "answers of"  # begins the stage of an RPM's answers


@dataclasses.dataclass(frozen=True)
class Texts:
    """What was answered and noted in one subset.

    Attributes:
      answers: rpm -> sample id -> its answer; without the rpms of which some are not drawn yet.
      thoughts: sample id -> draws of R; None where some are not drawn yet.
    """

    answers: Answers
    thoughts: Mapping[str, tuple[str, ...]] | None


def answers_asked(
    task: Task, tag: str, samples: Sequence[Sample]
) -> dict[str, list[Generate] | list[Ask]]:
    """Requests for the answers of every rpm that is run or asked."""
    specs = {} if task.given is not None else specs_of(task.config)
    return {
        name: (_asked if name in task.servers else _run)(task, tag, samples, name, spec.view)
        for name, spec in specs.items()
    }


def _run(task: Task, tag: str, samples: Sequence[Sample], name: str, view: str) -> list[Generate]:
    (reply, _), draws = sampling_of(task.config), task.config.sampling.draws
    return [
        _generate(
            task, task.models.rpms[name], tag, s, f"{ANSWERS} {name}", view,
            prompts.reply_messages(s, view), reply, name, draws,
        )
        for s in samples
    ]  # fmt: skip


def _asked(task: Task, tag: str, samples: Sequence[Sample], name: str, view: str) -> list[Ask]:
    (reply, _), draws = sampling_of(task.config), task.config.sampling.draws
    server, stage = task.servers[name], f"{ANSWERS} {name}"
    return [
        r
        for s in samples
        for r in asks_of(
            server, prompts.reply_messages(s, view), reply, draws, About(stage, tag, s.sample_id)
        )
    ]


def thoughts_asked(task: Task, tag: str, samples: Sequence[Sample]) -> list[Generate]:
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


def texts_of_draws(
    task: Task, samples: Sequence[Sample],
    answers: Mapping[str, Sequence[Generate] | Sequence[Ask]],
    thoughts: Sequence[Generate], cache: Cache,
) -> Texts:  # fmt: skip
    """What was drawn, or is given, as it is scored."""
    ids = [s.sample_id for s in samples]
    known = {name: {i: column[i] for i in ids} for name, column in (task.given or {}).items()}
    for name, requests in answers.items():
        if all(r in cache for r in requests):
            read = _replied if name in task.servers else _generated
            known[name] = dict(zip(ids, read(task, samples, requests, cache), strict=True))
    if not all(r in cache for r in thoughts):
        return Texts(known, None)
    read = scorer_notes if task.models.trained else str.strip
    decode = task.models.reasoner.tokenizer.decode
    notes = [tuple(read(decode(d.tokens)) for d in cache.generated(r)) for r in thoughts]
    if task.config.reasoning.draws > 1:
        check_some_text(samples[0].tag, notes)
    return Texts(known, dict(zip(ids, notes, strict=True)))


def _generated(
    task: Task, samples: Sequence[Sample], requests: Sequence[Generate], cache: Cache
) -> list[Answer]:
    """The answers to samples that a model of this machine drew."""
    own_law = is_own_law(task.config.sampling)
    return [
        join_draws([spoken_answer(d, s, r.model.tokenizer, own_law) for d in cache.generated(r)])
        for s, r in zip(samples, requests, strict=True)
    ]


def _replied(
    task: Task, samples: Sequence[Sample], requests: Sequence[Ask], cache: Cache
) -> list[Answer]:
    """The answers to samples that a server gave."""
    draws, room = task.config.sampling.draws, room_of(task.config)
    own = (requests[k * draws : (k + 1) * draws] for k in range(len(samples)))
    return [
        join_draws([answer_of(cache.replied(r), s, task.models.scorer, room) for r in some])
        for s, some in zip(samples, own, strict=True)
    ]


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

"""Answers as they are scored: collected, drawn here, or golden, all by the same rule."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from remid_jax.data.characters import name_in
from remid_jax.data.responses import Collected, read_answer, why_silent
from remid_jax.data.samples import Sample
from remid_jax.data.speech import (
    EDGES,
    THOUGHT,
    USER_TURN,
    find_speech,
    speech_of,
    spoken_tokens,
)
from remid_jax.data.texts import strip_edges
from remid_jax.errors import UserError
from remid_jax.inference.sampling import Sampled
from remid_jax.models.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Response:
    """A response to score.

    Attributes:
      tokens: token ids that follow the prompt.
      skip: leading tokens that are read but not counted (0 but for `span='reference'`).
    """

    tokens: tuple[int, ...]
    skip: int = 0

    @property
    def counted(self) -> int:
        """Number of tokens that are counted."""
        return len(self.tokens) - self.skip


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered, or noted.

    Attributes:
      text: of an answer, what was spoken; empty where there is nothing to score.
      tokens: its token ids; empty where it came as text.
      tokenizer: fingerprint of the tokenizer the ids belong to.
      stopped: whether it ended by itself rather than at the limit.
      log_prob: log p_θ of its tokens in nats, the end of turn not counted; None where it came as
        text, was drawn from another law than the model's own (see `is_own_law`), or begins after
        other tokens that are not scored.
      failure: why there is nothing to score, where that is known.
      cuts: what was cut from the text, see `speech.CUTS`.
      finish: a server's reason to end the answer, or an empty text.
      unused: further draws for the same context, which are not used.
    """

    text: str
    tokens: tuple[int, ...] = ()
    tokenizer: str = ""
    stopped: bool = True
    log_prob: float | None = None
    failure: str = ""
    cuts: tuple[str, ...] = ()
    finish: str = ""
    unused: int = 0

    def details(self) -> dict[str, Any]:
        """What a response file says of an answer beside its text, see `responses.DETAILS`."""
        parts = {
            "tokens": list(self.tokens),
            "tokenizer": self.tokenizer,
            "failed": self.failure,
            "finish_reason": self.finish,
        }
        return {key: value for key, value in parts.items() if value}


def answer_of(collected: Collected, tokenizer: Tokenizer) -> Answer:
    """A collected answer; its token ids count where they are this tokenizer's and its text's."""
    ids = collected.tokens if collected.tokenizer == tokenizer.fingerprint else ()
    if ids and not _fits(ids, collected.text, tokenizer):
        ids = ()
    return Answer(
        collected.text, ids, tokenizer.fingerprint if ids else "", failure=collected.failure,
        cuts=collected.cuts, finish=collected.finish, unused=collected.unused,
    )  # fmt: skip


def _fits(ids: tuple[int, ...], text: str, tokenizer: Tokenizer) -> bool:
    """Whether ids are those of a text, with no special token among them."""
    if max(ids) >= tokenizer.backend.get_vocab_size():
        return False
    read = tokenizer.decode(ids)
    whole = tokenizer.backend.decode(list(ids), skip_special_tokens=False) == read
    return whole and read[slice(*strip_edges(read, 0, len(read)))] == text


def golden_answer(sample: Sample) -> Answer:
    """The golden response by the rule of all answers."""
    found = read_answer(sample.golden, sample)
    return Answer(found.text, failure=found.failure)


def golden_answers(samples: Iterable[Sample]) -> dict[str, Answer]:
    """Sample id -> its golden response."""
    return {s.sample_id: golden_answer(s) for s in samples}


def spoken_answer(drawn: Sampled, sample: Sample, tokenizer: Tokenizer, own_law: bool) -> Answer:
    """A drawn answer without what was not spoken, cut between tokens and never encoded again.

    Args:
      drawn: tokens and their log-probabilities.
      sample: its context.
      tokenizer: of the model that drew.
      own_law: whether it was drawn from the model's own law.
    """
    text = tokenizer.decode(drawn.tokens)
    names = name_in(sample.character), sample.user_name
    speech = find_speech(text, *names, opened_thought=tokenizer.opens_thought)
    first, last = spoken_tokens(drawn.tokens, text, speech, tokenizer.decode)
    cuts = tuple(kind for kind in speech.cuts if kind != EDGES)
    failure = "" if last > first else why_silent(text, cuts)
    if THOUGHT in cuts and failure and not drawn.stopped:
        failure += "; config.sampling.max_tokens ended it"
    return Answer(
        speech_of(text, speech), drawn.tokens[first:last], tokenizer.fingerprint,
        stopped=drawn.stopped or USER_TURN in cuts, cuts=cuts, failure=failure,
        log_prob=math.fsum(drawn.log_probs[:last]) if own_law and first == 0 else None,
    )  # fmt: skip


def to_response(tokenizer: Tokenizer, answer: Answer, span: str = "response") -> Response:
    """The tokens of a response, and which of them are scored.

    Args:
      tokenizer: the scorer's.
      answer: generated token ids are taken as they are where they belong to this tokenizer.
      span: `response` scores exactly the response's tokens. `reference` scores what the published
        code does: it counts as context an empty assistant turn and a generation prompt, and scores
        as many tokens fewer at the beginning and template tokens more at the end.

    Raises:
      UserError: the template renders a chat with an answer in another way than its prompt.
    """
    if span == "response":
        own = answer.tokens and answer.tokenizer == tokenizer.fingerprint
        return Response(answer.tokens if own else tuple(tokenizer.encode(answer.text)))
    question = [{"role": "user", "content": "."}]
    prompt = tokenizer.encode_chat(question)

    def answered(text: str) -> list[int]:
        ids = tokenizer.encode_chat([*question, {"role": "assistant", "content": text}])
        if ids[: len(prompt)] != prompt:
            raise UserError(
                "span 'reference' needs a chat template that only appends; use 'response'"
            )
        return ids

    skip = len(answered("")) - len(prompt)
    return Response(tuple(answered(answer.text)[len(prompt) :]), skip)

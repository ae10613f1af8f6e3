"""Answers as they are scored: collected, drawn here, or golden, all by the same rule."""

import dataclasses
import math
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
from remid_jax.models.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What a model drew, as it is stored.

    Attributes:
      tokens: token ids.
      stopped: whether it ended by itself rather than at the limit.
      log_probs: log p_θ of each token in nats where they are drawn from the model's own law, or
        None.
    """

    tokens: tuple[int, ...]
    stopped: bool
    log_probs: tuple[float, ...] | None = None


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


def spoken_answer(drawn: Drawn, sample: Sample, tokenizer: Tokenizer) -> Answer:
    """A drawn answer without what was not spoken, cut between tokens and never encoded again."""
    text = tokenizer.decode(drawn.tokens)
    names = name_in(sample.character), sample.user_name
    speech = find_speech(text, *names, opened_thought=tokenizer.opens_thought)
    first, last = spoken_tokens(drawn.tokens, text, speech, tokenizer.decode)
    cuts = tuple(kind for kind in speech.cuts if kind != EDGES)
    own = drawn.log_probs is not None and first == 0
    failure = "" if last > first else why_silent(text, cuts)
    if THOUGHT in cuts and failure and not drawn.stopped:
        failure += "; config.sampling.max_tokens ended it"
    return Answer(
        speech_of(text, speech), drawn.tokens[first:last], tokenizer.fingerprint,
        stopped=drawn.stopped or USER_TURN in cuts, cuts=cuts, failure=failure,
        log_prob=math.fsum(drawn.log_probs[:last]) if own else None,
    )  # fmt: skip

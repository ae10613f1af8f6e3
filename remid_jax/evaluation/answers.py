"""Answers as they are scored: collected, drawn here, or golden, all by the same rule."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from remid_jax.data.own_words import copied_from
from remid_jax.data.responses import Answer, read_answer, why_silent
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
from remid_jax.information.pairs import ECHO, GOLDEN, UNSHIFTED
from remid_jax.models.tokenizer import Tokenizer
from remid_jax.models.tokenizer_offsets import token_offsets


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


Column = Sequence[Response | None]  # an answer a sample; None: nothing to score


def blocks_of(
    responses: Mapping[str, Column], further: Mapping[str, Sequence[Column]]
) -> dict[tuple[str, int], Column]:
    """(name, draw) -> answers, in the order of a matrix's columns: all first draws stand first."""
    first = {(name, 0): column for name, column in responses.items()}
    return first | {
        (name, k): column for name, some in further.items() for k, column in enumerate(some, 1)
    }


def own_answers(blocks: Mapping[tuple[str, int], Column]) -> list[list[Response | None]]:
    """[N], for each sample its own answers: of all blocks, and of `SHUFFLED`, last."""
    golden = blocks[GOLDEN, 0]
    shuffled = [*golden[1:], golden[0]]
    return [list(own) for own in zip(*blocks.values(), shuffled, strict=True)]


def copied_in(
    response: Response, sample: Sample, tokenizer: Tokenizer, limits: Sequence[Mapping[str, int]]
) -> list[np.ndarray]:
    """For each of the limits of a copied run, which counted tokens are copied from the context.

    Args:
      response: as it is scored.
      sample: its context.
      tokenizer: the scorer's.
      limits: keywords of `copied_tokens`.
    """
    text = tokenizer.decode(response.tokens)
    offsets = token_offsets(tokenizer, response.tokens, text)
    return [copied_from(sample, text, offsets, **some)[response.skip :] for some in limits]


def with_own_tokens(answer: Answer, tokenizer: Tokenizer) -> Answer:
    """A collected answer; its token ids stay where they are this tokenizer's and its text's."""
    ids = answer.tokens if answer.tokenizer == tokenizer.fingerprint else ()
    if ids and not _fits(ids, answer.text, tokenizer):
        ids = ()
    return dataclasses.replace(answer, tokens=ids, tokenizer=tokenizer.fingerprint if ids else "")


def _fits(ids: tuple[int, ...], text: str, tokenizer: Tokenizer) -> bool:
    """Whether ids are those of a text, with no special token among them."""
    if max(ids) >= tokenizer.backend.get_vocab_size():
        return False
    read = tokenizer.decode(ids)
    whole = tokenizer.backend.decode(list(ids), skip_special_tokens=False) == read
    return whole and read[slice(*strip_edges(read, 0, len(read)))] == text


def golden_answers(samples: Iterable[Sample]) -> dict[str, Answer]:
    """Sample id -> its golden response, by the rule of all answers."""
    return {s.sample_id: _golden_of(s, s) for s in samples}


def reference_answers(
    subsets: Mapping[str, Sequence[Sample]], home: Sequence[Sample]
) -> dict[str, dict[str, Answer]]:
    """Name -> sample id -> response, of the reference rows that the golden responses do not hold.

    Args:
      subsets: tag -> chosen samples, the in-distribution ones first.
      home: all in-distribution samples, of which `pair_id` names one.
    """
    counterparts = {s.sample_id: s for s in home}
    first, *shifted = subsets.values()
    partner = {s.sample_id: s for s in first}
    partner |= {s.sample_id: counterparts.get(s.pair_id) for part in shifted for s in part}
    samples = [s for part in subsets.values() for s in part]
    rows = {ECHO: {s.sample_id: _echo(s) for s in samples}}
    named = (partner[s.sample_id] for part in shifted for s in part)
    if any(s is not None and s.golden for s in named):
        own = {s.sample_id: s for s in samples}
        rows[UNSHIFTED] = {i: _golden_of(s, own[i]) for i, s in partner.items()}
    return rows


def _echo(sample: Sample) -> Answer:
    said = sample.dialogue[-1][1]
    return Answer(said[slice(*strip_edges(said, 0, len(said)))])


def _golden_of(sample: Sample | None, asked: Sample) -> Answer:
    """The golden response of a sample, as the answer to it or to another one."""
    if sample is None:
        return Answer(failure="no in-distribution sample is its counterpart")
    if not sample.golden:
        whose = "the sample" if sample is asked else f"its counterpart {sample.sample_id!r}"
        return Answer(failure=f"{whose} has no golden response")
    return read_answer(sample.golden, sample)


def spoken_answer(drawn: Sampled, sample: Sample, tokenizer: Tokenizer, own_law: bool) -> Answer:
    """A drawn answer without what was not spoken, cut between tokens and never encoded again.

    Args:
      drawn: tokens and their log-probabilities.
      sample: its context.
      tokenizer: of the model that drew.
      own_law: whether it was drawn from the model's own law.
    """
    text = tokenizer.decode(drawn.tokens)
    speech = find_speech(text, *sample.speakers, opened_thought=tokenizer.opens_thought)
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

"""Pair matrices of one subset: golden and all evaluated responses under every context."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from remid_jax.benchmark import prompts
from remid_jax.benchmark.samples import Sample
from remid_jax.diagnosis.generation import Answer, Trunks
from remid_jax.diagnosis.store import Store, key_of
from remid_jax.errors import UserError
from remid_jax.inference.likelihood import Response, score_responses
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.tokenizer import Tokenizer

GOLDEN = "golden"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Block:
    """One policy's pair matrices in one subset.

    Attributes:
      scores: [N, N] float64, log q(y_j | x_i, r_i) in nats; NaN where not scored.
      plain: the same without reasoning, log q(y_j | x_i).
      lengths: [N] scored tokens of each response.
      where: [N] bool, contexts whose response can be used.
    """

    scores: np.ndarray
    plain: np.ndarray
    lengths: np.ndarray
    where: np.ndarray

    def shifted(self, by: int = 1) -> "Block":
        """The block in which context i is given the response of context i + `by` (mod N)."""
        return Block(
            np.roll(self.scores, -by, axis=1),
            np.roll(self.plain, -by, axis=1),
            np.roll(self.lengths, -by),
            self.where & np.roll(self.where, -by),
        )


def to_response(tokenizer: Tokenizer, answer: Answer, span: str = "response") -> Response:
    """The tokens of a response, and which of them are scored.

    Args:
      tokenizer: the policy's.
      answer: generated token ids are taken as they are where they belong to this tokenizer.
      span: `response` scores exactly the response's tokens. `reference` scores what the published
        code does: it counts as context an empty assistant turn and a generation prompt, and scores
        as many tokens fewer at the beginning and template tokens more at the end.

    Raises:
      UserError: the template renders a chat with an answer in another way than its prompt.
    """
    if span == "response":
        own = answer.tokens and answer.tokenizer == tokenizer.identity
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


def score_subset(
    model: LanguageModel,
    trunks: Trunks,
    store: Store,
    samples: Sequence[Sample],
    thoughts: Mapping[str, str] | None,
    responses: Sequence[Response | None],
    wanted: np.ndarray,
    advance: Callable[[float], None],
) -> np.ndarray:
    """log q(y_j | x_i[, r_i]) of the wanted pairs; each context's row is stored when finished.

    Args:
      model: the policy.
      trunks: its cached contexts.
      store: finished rows.
      samples: N contexts.
      thoughts: sample id -> r, or None for no reasoning.
      responses: M responses; None is never scored.
      wanted: [N, M] bool.
      advance: called with the tokens of each finished row (see `row_cost`).

    Returns:
      [N, M] float64 sums in nats, NaN where not wanted.
    """
    digests = [None if r is None else key_of(r.tokens, r.skip) for r in responses]
    matrix = np.full(wanted.shape, np.nan)
    for i, sample in enumerate(samples):
        thought = None if thoughts is None else thoughts[sample.sample_id]
        chat = prompts.policy_messages(sample, thought)
        key = key_of("row", model.identity, model.tokenizer.encode_chat(chat))
        stored = store.get_arrays("rows", key)
        known = {} if stored is None else dict(zip(stored["digest"], stored["sum"], strict=True))
        columns = [j for j in np.flatnonzero(wanted[i]) if digests[j] is not None]
        missing = {digests[j]: responses[j] for j in columns if digests[j] not in known}
        if missing:
            try:
                (prefix,) = trunks.prefixes(sample, [chat])
                values = score_responses(model, prefix, list(missing.values()))
            except UserError as e:
                raise UserError(f"sample {sample.sample_id!r}: {e}") from None
            for (digest, response), value in zip(missing.items(), values, strict=True):
                known[digest] = value[response.skip : -1].sum()
            arrays = {"digest": np.array(list(known)), "sum": np.array(list(known.values()))}
            store.put_arrays("rows", key, arrays)
        for j in columns:
            matrix[i, j] = known[digests[j]]
        advance(row_cost(responses, wanted[i]))
    return matrix


def row_cost(responses: Sequence[Response | None], wanted: np.ndarray) -> float:
    """Response tokens of one row: the unit of progress."""
    return float(sum(len(r.tokens) for r, w in zip(responses, wanted, strict=True) if w and r))

"""Pair matrices of one subset: golden and all evaluated responses under every context."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from remid_jax.errors import UserError
from remid_jax.evaluation.answers import Answer
from remid_jax.evaluation.sharing import shared
from remid_jax.evaluation.store import Store, key_of
from remid_jax.inference.engine import Engine, PromptError, row_flops
from remid_jax.models.tokenizer import Tokenizer

GOLDEN = "golden"
Place = tuple[int, int]  # block, row


@dataclasses.dataclass(frozen=True)
class Response:
    """A response to score.

    Attributes:
      tokens: token ids that follow the prompt.
      skip: leading tokens that are read but not scored (0 but for `span='reference'`).
    """

    tokens: tuple[int, ...]
    skip: int = 0

    @property
    def scored(self) -> int:
        """Number of tokens that are scored."""
        return len(self.tokens) - self.skip


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


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a pair matrix, of which some are stored and the others are still to be scored.

    Attributes:
      prompts: N token lists; names: what each is about, for messages; cuts: see `Engine`.
      responses: the distinct responses; columns: [M], which of them a column is, -1 for none.
      wanted: [N, M] bool; missing: [N, distinct] bool, what is not stored.
      known: [N, distinct] float64 sums in nats, NaN where missing or not wanted.
      flops: cost of each row's missing pairs.
      digests: of the distinct responses.
    """

    prompts: Sequence[Sequence[int]]
    names: Sequence[str]
    cuts: Sequence[Sequence[int]]
    responses: list[Response]
    columns: np.ndarray
    wanted: np.ndarray
    missing: np.ndarray
    known: np.ndarray
    flops: list[float]
    digests: list[str]

    def spread(self, known: np.ndarray) -> np.ndarray:
        """Sums of the distinct responses [N, distinct] as [N, M], NaN where not wanted."""
        columns = np.concatenate([known, np.full((len(known), 1), np.nan)], 1)[:, self.columns]
        return np.where(self.wanted, columns, np.nan)


def find_rows(
    engine: Engine,
    store: Store,
    names: Sequence[str],
    prompts: Sequence[Sequence[int]],
    cuts: Sequence[Sequence[int]],
    responses: Sequence[Response | None],
    wanted: np.ndarray,
) -> Rows:
    """Looks up what is stored of a pair matrix, and what the rest costs.

    Args:
      engine: the policy.
      store: finished rows.
      names: N names of contexts, for messages.
      prompts: N token lists.
      cuts: N lists of beginnings that prompts share; see `Engine`.
      responses: M responses; None is never scored.
      wanted: [N, M] bool.
    """
    distinct = {_digest(r): r for r in responses if r is not None}
    place = {digest: k for k, digest in enumerate(distinct)}
    columns = np.array([-1 if r is None else place[_digest(r)] for r in responses], int)
    known = np.full((len(prompts), len(distinct)), np.nan)
    missing = np.zeros(known.shape, bool)
    for i, prompt in enumerate(prompts):
        for digest, value in _stored_row(engine, store, prompt).items():
            if digest in place:
                known[i, place[digest]] = value
        asked_for = columns[np.flatnonzero(wanted[i])]
        missing[i, asked_for[asked_for >= 0]] = True
    missing &= np.isnan(known)
    kept = list(distinct.values())
    flops = [
        row_flops(engine.config, len(prompt), [len(kept[k].tokens) for k in np.flatnonzero(row)],
                  shared=cut[-1] if cut else 0) if row.any() else 0.0
        for prompt, cut, row in zip(prompts, cuts, missing, strict=True)
    ]  # fmt: skip
    return Rows(prompts, names, cuts, kept, columns, wanted, missing, known, flops, list(distinct))


def score_rows(
    engine: Engine, store: Store, blocks: Sequence[Rows], advance: Callable[[float], None]
) -> list[np.ndarray]:
    """log q(y_j | x_i[, r_i]) of the wanted pairs; each context's row is stored when finished.

    Other processes on the same store take part. Rows whose prompts begin alike are one piece of
    work, whatever block they are of; the costliest comes first, so that what needs most memory
    fails early and what is left never turns out longer than it looked.

    Args:
      engine: the policy.
      store: finished rows.
      blocks: of `find_rows`.
      advance: called with the operations of finished rows.

    Returns:
      For each block [N, M] float64 sums in nats, NaN where not wanted.

    Raises:
      UserError: naming the context that cannot be scored.
    """
    known = [b.known.copy() for b in blocks]

    def read(piece: list[Place]) -> bool:
        """Fills in what is stored of a piece; whether that is all."""
        for k, i in piece:
            rows = blocks[k]
            row = _stored_row(engine, store, rows.prompts[i])
            for j in np.flatnonzero(rows.missing[i]):
                known[k][i, j] = row.get(rows.digests[j], np.nan)
        return not any(np.isnan(known[k][i, blocks[k].missing[i]]).any() for k, i in piece)

    def name(piece: list[Place]) -> str:
        # By what it begins with, not by what is missing: whoever comes later sees it taken.
        k, i = piece[0]
        return key_of("rows", engine.fingerprint, _beginning(blocks[k], i))

    def make(piece: list[Place]) -> None:
        for k in sorted({k for k, _ in piece}):
            chosen = [i for b, i in piece if b == k]
            missing = blocks[k].missing[chosen] & np.isnan(known[k][chosen])
            _score_piece(engine, store, blocks[k], chosen, missing)

    for piece in shared(_pieces(blocks), store.claims, name, read, make):
        advance(sum(blocks[k].flops[i] for k, i in piece))
    return [b.spread(values) for b, values in zip(blocks, known, strict=True)]


def _pieces(blocks: Sequence[Rows]) -> list[list[Place]]:
    """Rows with something to score, those of one beginning together; the costliest first."""
    groups: dict[tuple[int, ...], list[Place]] = {}
    for k, rows in enumerate(blocks):
        for i in np.flatnonzero(rows.missing.any(1)):
            groups.setdefault(_beginning(rows, i), []).append((k, int(i)))
    return sorted(groups.values(), key=lambda g: (-max(blocks[k].flops[i] for k, i in g), g))


def _beginning(rows: Rows, i: int) -> tuple[int, ...]:
    """What a row's prompt has in common with others, or all of it."""
    prompt, cuts = rows.prompts[i], rows.cuts[i]
    return tuple(prompt[: cuts[0]]) if cuts else tuple(prompt)


def _score_piece(
    engine: Engine, store: Store, rows: Rows, chosen: Sequence[int], missing: np.ndarray
) -> None:
    """Scores what is missing [chosen, distinct] of some rows; stores each when it is finished."""
    prompts, cuts = [rows.prompts[i] for i in chosen], [rows.cuts[i] for i in chosen]
    tokens, skip = [r.tokens for r in rows.responses], [r.skip for r in rows.responses]
    try:
        for place, sums in engine.log_likelihood(prompts, tokens, missing, skip, cuts):
            found = {rows.digests[j]: float(sums[j]) for j in np.flatnonzero(missing[place])}
            _add_to_row(engine, store, prompts[place], found)
    except PromptError as e:
        raise UserError(f"sample {rows.names[chosen[e.index]]!r}: {e}") from None


def _add_to_row(
    engine: Engine, store: Store, prompt: Sequence[int], found: dict[str, float]
) -> None:
    """Stores sums beside those of other responses, which another process may just add too."""
    key = _row_key(engine, prompt)
    with store.claims.holding(f"row-{key}"):
        row = _stored_row(engine, store, prompt) | found
        arrays = {"digest": np.array(list(row)), "sum": np.array(list(row.values()))}
        store.put_arrays("rows", key, arrays)


def _stored_row(engine: Engine, store: Store, prompt: Sequence[int]) -> dict[str, float]:
    """What is stored of a context's row: digest of a response -> its sum."""
    arrays = store.get_arrays("rows", _row_key(engine, prompt)) or {"digest": [], "sum": []}
    return dict(zip(map(str, arrays["digest"]), map(float, arrays["sum"]), strict=True))


def _digest(response: Response) -> str:
    return key_of(response.tokens, response.skip)


def _row_key(engine: Engine, prompt: Sequence[int]) -> str:
    return key_of("row", engine.fingerprint, prompt)

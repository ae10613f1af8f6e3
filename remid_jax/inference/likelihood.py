"""Pair log-likelihoods: log q(y_j | x_i) for many responses against each cached context."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference.prefix import Prefix, prefill
from remid_jax.models.pretrained import LanguageModel

Array = jax.Array

TOKENS_PER_BATCH = 512  # rows x padded length of one scoring call
HEAD_CHUNK = 256  # positions whose logits stand in memory at once
LENGTH_STEP = 8


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


@dataclasses.dataclass(frozen=True)
class PairLogLikelihoods:
    """Blocks of pair log-likelihoods.

    Attributes:
      sums: [N, M] float64, S[i, j] = log q(y_j | x_i) summed over the response's tokens, in nats;
        NaN where the pair was not wanted.
      end_of_turn: [N, M] float64, log q of the end-of-turn token after the response.
      num_tokens: [M] int, scored tokens of each response.
    """

    sums: np.ndarray
    end_of_turn: np.ndarray
    num_tokens: np.ndarray


def target_log_probs(decoder: Any, hidden: Array, targets: Array) -> Array:
    """log softmax(logits)[target] at each position, a few hundred positions at a time.

    Args:
      decoder: for its head.
      hidden: [P, width] normalised hidden states.
      targets: [P] token ids.

    Returns:
      [P] float32 log-probabilities in nats.
    """

    def chunk(args: tuple[Array, Array]) -> Array:
        h, t = args
        logits = decoder.logits(h)
        picked = jnp.take_along_axis(logits, t[:, None], axis=-1)[:, 0]
        return picked - jax.nn.logsumexp(logits, axis=-1)

    positions = hidden.shape[0]
    size = min(HEAD_CHUNK, positions)
    pad = -positions % size
    hidden = jnp.pad(hidden, ((0, pad), (0, 0))).reshape(-1, size, hidden.shape[1])
    targets = jnp.pad(targets, (0, pad)).reshape(-1, size)
    return jax.lax.map(chunk, (hidden, targets)).reshape(-1)[:positions]


@functools.partial(jax.jit, static_argnames=("graphdef",))
def suffix_log_probs(
    params: Any, keys: Array, values: Array, length: Array, last_hidden: Array, tokens: Array,
    targets: Array, *, graphdef: Any,
) -> Array:  # fmt: skip
    """Token log-probabilities of R responses that continue one cached prompt.

    Args:
      params: decoder parameters.
      keys: [num_layers, T, KV, head_dim], the prompt's cache; values: likewise.
      length: valid positions of the cache.
      last_hidden: [width], the prompt's last hidden state: it predicts the first token.
      tokens: [R, S] responses, padded at the end.
      targets: [R, S + 1]: the response's tokens, then the end-of-turn token, then padding.
      graphdef: of the decoder.

    Returns:
      [R, S + 1] float32, in nats; entries past the targets are meaningless.
    """
    decoder = nnx.merge(graphdef, params)
    with jax.default_matmul_precision("highest"):
        hidden, _ = decoder.extend(tokens, (keys, values), length)
        first = jnp.broadcast_to(last_hidden, (tokens.shape[0], 1, last_hidden.shape[0]))
        hidden = jnp.concatenate([first, hidden], axis=1)
        flat = target_log_probs(decoder, hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1))
    return flat.reshape(targets.shape)


def _padded_length(n: int) -> int:
    """Few distinct lengths with little padding: steps of 8 to 64, of 16 to 128, and so on."""
    step = LENGTH_STEP
    while n > 8 * step:
        step *= 2
    return math.ceil(n / step) * step


def batches(lengths: Sequence[int]) -> list[tuple[int, int, list[int]]]:
    """Groups responses of similar length into batches of about `TOKENS_PER_BATCH` tokens.

    Args:
      lengths: tokens of each response.

    Returns:
      (rows, padded length, indices) triples that cover every response once. The rows follow from
      the padded length, but in the last batch, which is cut to a power of two.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    result = []
    while order:
        size = _padded_length(lengths[order[0]])
        rows = max(1, TOKENS_PER_BATCH // size)
        members, order = order[:rows], order[rows:]
        rows = min(rows, 1 << (len(members) - 1).bit_length())
        result.append((rows, size, members))
    return result


def score_responses(
    model: LanguageModel, prefix: Prefix, responses: Sequence[Response]
) -> list[np.ndarray]:
    """Log-probabilities of every response's tokens after one cached prompt.

    Args:
      model: the language model.
      prefix: the cached prompt.
      responses: what follows it; none empty.

    Returns:
      For each response a float64 array of len(tokens) + 1 values in nats: its tokens, then the
      end-of-turn token.

    Raises:
      UserError: an empty response, prompt and response exceed the context window, or the model
        yields a value that is not finite.
    """
    for r in responses:
        if r.scored <= 0:
            raise UserError("a response has no tokens to score")
    longest = prefix.length + max((len(r.tokens) for r in responses), default=0) + 1
    if longest > model.config.max_positions:
        raise UserError(
            f"prompt and response take {longest} tokens, more than the context window of "
            f"{model.name} ({model.config.max_positions}); see config.limits"
        )
    out: list[np.ndarray] = [np.empty(0)] * len(responses)
    end = model.tokenizer.end_of_turn
    for rows, size, members in batches([len(r.tokens) for r in responses]):
        tokens = np.zeros((rows, size), np.int32)
        targets = np.zeros((rows, size + 1), np.int32)
        for row, i in enumerate(members):
            y = responses[i].tokens
            tokens[row, : len(y)] = y
            targets[row, : len(y) + 1] = (*y, end)
        values = suffix_log_probs(
            model.params, prefix.keys, prefix.values, prefix.length, prefix.last_hidden,
            tokens, targets, graphdef=model.graphdef,
        )  # fmt: skip
        values = np.asarray(values, np.float64)
        for row, i in enumerate(members):
            out[i] = values[row, : len(responses[i].tokens) + 1]
            if not np.isfinite(out[i]).all():
                raise UserError(f"{model.name} gives a log-probability that is not finite")
    return out


def pair_log_likelihoods(
    model: LanguageModel,
    contexts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    pairs: np.ndarray | None = None,
) -> PairLogLikelihoods:
    """S[i, j] = log q(y_j | x_i) for the wanted pairs.

    Each context's cache is computed once, and all its responses are scored against it.

    Args:
      model: q.
      contexts: N prompts as token ids.
      responses: M responses as token ids.
      pairs: [N, M] bool, which pairs are wanted; by default all.

    Returns:
      The blocks, in nats.

    Raises:
      UserError: an empty prompt or response, one too long, or a value that is not finite.
      ValueError: `pairs` has another shape.
    """
    shape = (len(contexts), len(responses))
    wanted = np.ones(shape, bool) if pairs is None else np.asarray(pairs, bool)
    if wanted.shape != shape:
        raise ValueError(f"pairs has shape {wanted.shape}, not {shape}")
    rows = [Response(tuple(y)) for y in responses]
    sums, ends = np.full(shape, np.nan), np.full(shape, np.nan)
    for i, context in enumerate(contexts):
        chosen = np.flatnonzero(wanted[i])
        if not len(chosen):
            continue
        (prefix,) = prefill(model, [context])
        for j, values in zip(
            chosen, score_responses(model, prefix, [rows[j] for j in chosen]), strict=True
        ):
            sums[i, j], ends[i, j] = values[:-1].sum(), values[-1]
    return PairLogLikelihoods(sums, ends, np.array([r.scored for r in rows]))

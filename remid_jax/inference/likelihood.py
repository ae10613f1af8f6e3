"""Pair log-likelihoods: log q(y_j | x_i) for many responses against each cached context."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference.packing import pack
from remid_jax.inference.prefix import Prefix, PrefixCache, branch_points
from remid_jax.inference.sizes import Sizes, Work, share_of, sizes_for
from remid_jax.inference.vocabulary import check_ids, next_log_probs, target_log_probs
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.sharding import ROWS, parts_of_mesh, pinned, to_host, using

Array = jax.Array

MEMORY = 2 * 2**30  # bytes beside the weights, where no budget is given


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


@functools.partial(jax.jit, static_argnames=("graphdef", "window", "head"))
def packed_log_probs(
    params: Any, keys: Array, values: Array, length: Array, tokens: Array, targets: Array,
    offsets: Array, segments: Array, *, graphdef: Any, window: int, head: int,
) -> Array:  # fmt: skip
    """Log-probabilities of what follows each token of packed responses to one cached prompt.

    Args:
      params: decoder parameters.
      keys: [num_layers, T, KV, head_dim], the prompt's cache; values: likewise.
      length: valid positions of the cache.
      tokens: [B]; targets: [B]; offsets: [B]; segments: [B]; window: see `packing.Packed`.
      graphdef: of the decoder.
      head: tokens of the vocabulary whose logits stand in memory at once.

    Returns:
      [B] float32, in nats; meaningless where nothing is packed.
    """
    decoder = nnx.merge(graphdef, params)
    cache = tuple(x.astype(decoder.embedding[...].dtype) for x in (keys, values))
    tokens = pinned(tokens, ROWS)
    with jax.default_matmul_precision("highest"):
        hidden = decoder.extend_packed(tokens, length + offsets, segments, window, cache, length)
        return target_log_probs(decoder, hidden, targets, head)


def score_responses(
    model: LanguageModel,
    prefix: Prefix,
    responses: Sequence[Sequence[int]],
    sizes: Sizes | None = None,
    end_of_turn: bool = True,
    work: Work | None = None,
) -> list[np.ndarray]:
    """Log-probabilities of every response's tokens after one cached prompt.

    Args:
      model: the language model.
      prefix: the cached prompt.
      responses: token ids that follow it; none empty.
      sizes: of the pieces in which the work runs.
      end_of_turn: whether the end-of-turn token after each response is scored too.
      work: counts what is run.

    Returns:
      For each response a float64 array in nats: its tokens, then (if asked for) the end-of-turn
      token.

    Raises:
      UserError: an empty response, an id that the model does not have, prompt and response exceed
        the context window, or the model yields a value that is not finite.
    """
    if not all(len(y) for y in responses):
        raise UserError("a response has no tokens to score")
    for y in responses:
        check_ids(y, model.config.vocab_size, "a response")
    longest = prefix.length + max(map(len, responses), default=0) + 1
    if longest > model.config.max_positions:
        raise UserError(
            f"prompt and response take {longest} tokens, more than the context window of "
            f"{model.name} ({model.config.max_positions}); see config.limits"
        )
    if not responses:
        return []
    sizes = sizes or _sizes(model, MEMORY, prefix.length)
    with using(model.mesh):
        first = next_log_probs(model.params, prefix.last_hidden, graphdef=model.graphdef)
    first = to_host(first)
    out = [np.empty(len(y) + end_of_turn) for y in responses]
    for y, values in zip(responses, out, strict=True):
        values[0] = first[y[0]]
    end = model.tokenizer.end_of_turn if end_of_turn else None
    for call in pack(responses, end, sizes.call):
        with using(model.mesh):
            got = packed_log_probs(
                model.params, prefix.keys, prefix.values, prefix.length, call.tokens, call.targets,
                call.offsets, call.segments, graphdef=model.graphdef, window=call.window,
                head=sizes.head,
            )  # fmt: skip
        got = to_host(got)
        if work is not None:
            work.add(sum(n for *_, n in call.places), len(call.tokens))
        for i, start, n in call.places:
            out[i][1:] = got[start : start + n]
    if not all(np.isfinite(values).all() for values in out):
        raise UserError(f"{model.name} gives a log-probability that is not finite")
    return out


def pair_log_likelihoods(
    model: LanguageModel,
    contexts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    pairs: np.ndarray | None = None,
    memory: int = MEMORY,
) -> PairLogLikelihoods:
    """S[i, j] = log q(y_j | x_i) for the wanted pairs.

    Each context's cache is computed once, and all its responses are scored against it; what
    contexts share at their beginning is computed once too.

    Args:
      model: q.
      contexts: N prompts as token ids.
      responses: M responses as token ids.
      pairs: [N, M] bool, which pairs are wanted; by default all.
      memory: bytes to use beside the weights, of each device.

    Returns:
      The blocks, in nats.

    Raises:
      UserError: an empty prompt or response, one too long or with an id that the model does not
        have, a value that is not finite, or too little memory.
      ValueError: `pairs` has another shape.
    """
    shape = (len(contexts), len(responses))
    wanted = wanted_pairs(shape, pairs)
    sums, ends = np.full(shape, np.nan), np.full(shape, np.nan)
    if wanted.any():
        sizes = _sizes(model, memory, max(map(len, contexts)))
        cache = PrefixCache(model, sizes.cache, sizes.chunk)
        shared = branch_points(contexts)
        for i in np.flatnonzero(wanted.any(1)):
            chosen = np.flatnonzero(wanted[i])
            prefix = cache.prefix(contexts[i], shared[i])
            values = score_responses(model, prefix, [responses[j] for j in chosen], sizes)
            sums[i, chosen] = [v[:-1].sum() for v in values]
            ends[i, chosen] = [v[-1] for v in values]
    return PairLogLikelihoods(sums, ends, np.array([len(y) for y in responses]))


def _sizes(model: LanguageModel, memory: int, longest: int) -> Sizes:
    return sizes_for(share_of(model.config, parts_of_mesh(model.mesh, "tensor")), memory, longest)


def wanted_pairs(shape: tuple[int, int], pairs: np.ndarray | None) -> np.ndarray:
    """`pairs` as a bool array, by default all.

    Raises:
      ValueError: it has another shape.
    """
    wanted = np.ones(shape, bool) if pairs is None else np.asarray(pairs, bool)
    if wanted.shape != shape:
        raise ValueError(f"pairs has shape {wanted.shape}, not {shape}")
    return wanted

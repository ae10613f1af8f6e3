"""Mean hidden states of texts, in batches whose padding changes no row."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.sharding import to_host, using

Array = jax.Array
CHUNKS = (64, 256)  # tokens of one step
TOKENS_PER_STEP = 1024  # rows x chunk: more rows share a step where texts are short
TOKENS_CACHED = 4096  # rows x capacity


@functools.partial(jax.jit, static_argnames=("graphdef",), donate_argnames=("cache",))
def _pool_step(
    params: Any, cache: Any, total: Array, tokens: Array, start: Array, skip: Array,
    lengths: Array, *, graphdef: Any,
) -> tuple[Any, Array]:  # fmt: skip
    """Runs one chunk of R texts and adds up the hidden states of their own tokens.

    Args:
      params: of the decoder.
      cache: keys and values, each [R, num_layers, capacity, KV, head_dim].
      total: [R, width] sums so far, float32.
      tokens: [R, S].
      start: scalar, tokens before the chunk.
      skip: scalar, leading tokens that are read but not added.
      lengths: [R], tokens of each text; what follows is padding.
      graphdef: of the decoder.

    Returns:
      The new cache and sums.
    """
    decoder = nnx.merge(graphdef, params)

    def extend(row: Array, keys: Array, values: Array) -> tuple[Array, Any]:
        hidden, (k, v) = decoder.extend(row[None], (keys, values), start)
        place = (0, start, 0, 0)
        keys = jax.lax.dynamic_update_slice(keys, k[:, 0], place)
        values = jax.lax.dynamic_update_slice(values, v[:, 0], place)
        return hidden[0], (keys, values)

    with jax.default_matmul_precision("highest"):
        hidden, cache = jax.vmap(extend)(tokens, *cache)
    place = start + jnp.arange(tokens.shape[1])
    own = (place >= skip) & (place < lengths[:, None])
    return cache, total + jnp.sum(hidden.astype(jnp.float32), axis=1, where=own[..., None])


def _chunk_and_capacity(length: int) -> tuple[int, int]:
    """Chunk size, and a cache of few sizes: the chunk times a power of two."""
    chunk = CHUNKS[0] if length <= CHUNKS[0] else CHUNKS[1]
    return chunk, chunk << max(0, (length - 1) // chunk).bit_length()


def _rows(chunk: int, capacity: int) -> int:
    return max(1, min(TOKENS_PER_STEP // chunk, TOKENS_CACHED // capacity))


def _pooled(
    model: LanguageModel, texts: Sequence[Sequence[int]], skip: int, chunk: int, capacity: int
) -> np.ndarray:
    """[n, width] mean hidden states of token lists that fit one chunk size and capacity."""
    c, rows = model.config, _rows(chunk, capacity)
    lengths = np.zeros(rows, np.int32)
    lengths[: len(texts)] = [len(t) for t in texts]
    tokens = np.zeros((rows, capacity), np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    shape = (rows, c.num_layers, capacity, c.num_kv_heads, c.head_dim)
    dtype = jax.tree.leaves(model.params)[0].dtype
    cache = jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)
    total = jnp.zeros((rows, c.width), jnp.float32)
    for start in range(0, lengths.max(), chunk):
        part = tokens[:, start : start + chunk]
        with using(model.mesh):
            cache, total = _pool_step(
                model.params, cache, total, part, start, skip, lengths, graphdef=model.graphdef
            )
    return to_host(total)[: len(texts)] / (lengths[: len(texts), None] - skip)


def hidden_features(model: LanguageModel, texts: Sequence[str]) -> np.ndarray:
    """Final hidden states (after the last norm) of each text, averaged over its tokens.

    A text's row depends neither on the other texts nor on padding.

    Args:
      model: any language model.
      texts: none empty; read as they are, without a chat template.

    Returns:
      [n, width] float32.

    Raises:
      UserError: a text has no tokens or does not fit the context window, or a value is not finite.
    """
    start = [] if model.tokenizer.bos is None else [model.tokenizer.bos]
    ids = [start + model.tokenizer.encode(text) for text in texts]
    groups: dict[tuple[int, int], list[int]] = {}
    for i, tokens in enumerate(ids):
        if len(tokens) == len(start):
            raise UserError(f"text {i} has no tokens")
        if len(tokens) > model.config.max_positions:
            raise UserError(
                f"text {i} has {len(tokens)} tokens, more than the context window of {model.name} "
                f"({model.config.max_positions})"
            )
        groups.setdefault(_chunk_and_capacity(len(tokens)), []).append(i)
    out = np.empty((len(ids), model.config.width), np.float32)
    for (chunk, capacity), members in sorted(groups.items()):
        rows = _rows(chunk, capacity)
        members.sort(key=lambda i: len(ids[i]))
        for k in range(0, len(members), rows):
            part = members[k : k + rows]
            out[part] = _pooled(model, [ids[i] for i in part], len(start), chunk, capacity)
    if not np.isfinite(out).all():
        raise UserError(f"{model.name} gives a hidden state that is not finite")
    return out

"""Key-value caches of contexts: computed once, extended by each role's own instruction."""

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
from remid_jax.models.pretrained import LanguageModel

Array = jax.Array

# Prompts run in chunks of these sizes, so a few compiled programs serve every length.
CHUNKS = (256, 64)
CAPACITY_STEP = 256


@dataclasses.dataclass(frozen=True)
class Prefix:
    """The cached keys and values of one prompt.

    Attributes:
      keys: [num_layers, capacity, KV, head_dim]; values: likewise.
      length: how many positions are valid.
      last_hidden: [width], normalised hidden state of the last token.
      tokens: the prompt's token ids.
    """

    keys: Array
    values: Array
    length: int
    last_hidden: Array
    tokens: tuple[int, ...]

    @property
    def capacity(self) -> int:
        """Positions that the buffers hold."""
        return self.keys.shape[1]


def capacity_for(length: int) -> int:
    """The buffer size for prompts of at most `length` tokens: a multiple of `CAPACITY_STEP`."""
    return max(1, math.ceil(length / CAPACITY_STEP)) * CAPACITY_STEP


def common_prefix_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all prompts share.

    >>> common_prefix_length([[1, 2, 3], [1, 2, 4, 5]])
    2
    """
    shortest = min(len(p) for p in prompts)
    first = prompts[0]
    same = (all(p[i] == first[i] for p in prompts) for i in range(shortest))
    return next((i for i, equal in enumerate(same) if not equal), shortest)


@functools.partial(jax.jit, static_argnames=("graphdef",), donate_argnames=("keys", "values"))
def _extend(
    params: Any, keys: Array, values: Array, start: Array, tokens: Array, count: Array, *, graphdef
) -> tuple[Array, Array, Array]:
    """Appends one chunk of tokens [S] (the first `count` are real) at position `start`."""
    decoder = nnx.merge(graphdef, params)
    with jax.default_matmul_precision("highest"):
        hidden, (k, v) = decoder.extend(tokens[None], (keys, values), start)
    place = (0, start, 0, 0)
    keys = jax.lax.dynamic_update_slice(keys, k[:, 0], place)
    values = jax.lax.dynamic_update_slice(values, v[:, 0], place)
    return keys, values, hidden[0, count - 1]


def _buffers(model: LanguageModel, prefix: Prefix | None, capacity: int) -> tuple[Array, Array]:
    c = model.config
    # One chunk of slack: the last chunk's padding is written past the end, then overwritten.
    shape = (c.num_layers, capacity + CHUNKS[-1], c.num_kv_heads, c.head_dim)
    dtype = jax.tree.leaves(model.params)[0].dtype
    empty = jnp.zeros(shape, dtype)
    if prefix is None:
        return empty, jnp.zeros(shape, dtype)
    kept = min(prefix.capacity, shape[1])
    return empty.at[:, :kept].set(prefix.keys[:, :kept]), empty.at[:, :kept].set(
        prefix.values[:, :kept]
    )


def _append(
    model: LanguageModel, prefix: Prefix | None, tokens: Sequence[int], capacity: int
) -> Prefix:
    """A new cache of the prefix (None: of nothing) followed by at least one token."""
    keys, values = _buffers(model, prefix, capacity)
    before, hidden = ((), None) if prefix is None else (prefix.tokens, prefix.last_hidden)
    length, rest = len(before), list(tokens)
    while rest:
        size = next((s for s in CHUNKS if len(rest) >= s), CHUNKS[-1])
        chunk, rest = rest[:size], rest[size:]
        padded = np.array(chunk + [0] * (size - len(chunk)), np.int32)
        keys, values, hidden = _extend(
            model.params, keys, values, length, padded, len(chunk), graphdef=model.graphdef
        )
        length += len(chunk)
    return Prefix(keys, values, length, hidden, (*before, *tokens))


def prefill(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    capacity: int | None = None,
    trunk: Prefix | None = None,
) -> list[Prefix]:
    """Caches several prompts of one context; what they share at the beginning is computed once.

    Args:
      model: the language model.
      prompts: token ids of each prompt, none empty.
      capacity: buffer size, by default `capacity_for` the longest prompt.
      trunk: a cached beginning of all prompts, where it is at hand (see `trunk_of`).

    Returns:
      One `Prefix` a prompt.

    Raises:
      UserError: a prompt is empty or longer than the context window.
      ValueError: `capacity` is less than the longest prompt.
    """
    longest = max(len(p) for p in prompts)
    if min(len(p) for p in prompts) == 0:
        raise UserError("a prompt has no tokens")
    if longest > model.config.max_positions:
        raise UserError(
            f"a prompt has {longest} tokens, more than the context window of {model.name} "
            f"({model.config.max_positions}); see config.limits.too_long"
        )
    capacity = capacity or capacity_for(longest)
    if capacity < longest:
        raise ValueError(f"capacity {capacity} is less than the longest prompt's {longest} tokens")
    if trunk is None and len(prompts) > 1:
        trunk = trunk_of(model, prompts)
    done = 0 if trunk is None else trunk.length
    return [_append(model, trunk, p[done:], capacity) for p in prompts]


def trunk_of(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> Prefix | None:
    """Caches the beginning that several prompts share, short of any prompt's last token.

    Returns:
      The cache, of the smallest capacity that holds it, or None where nothing is shared.
    """
    shared = min(common_prefix_length(prompts), min(len(p) for p in prompts) - 1)
    return _append(model, None, prompts[0][:shared], capacity_for(shared)) if shared else None

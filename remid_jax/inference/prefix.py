"""Key-value caches of prompts: each prefix that prompts share is computed once."""

import dataclasses
import functools
import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference.sizes import CHUNK, CHUNK_STEP, Work, capacity_for, stepped
from remid_jax.inference.vocabulary import check_ids
from remid_jax.models.pretrained import DTYPES, LanguageModel
from remid_jax.models.sharding import ROWS, pinned, using

Array = jax.Array
LEAST_SHARED = 48  # tokens of a common prefix that are worth a cache of their own


@dataclasses.dataclass(frozen=True)
class Prefix:
    """The cached keys and values of one prompt.

    Attributes:
      keys: [num_layers, capacity, KV, head_dim].
      values: likewise.
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

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers on one device."""
        return sum(
            x.itemsize * math.prod(x.sharding.shard_shape(x.shape))
            for x in (self.keys, self.values)
        )


@functools.partial(jax.jit, static_argnames=("graphdef", "capacity"))
def extend_prefix(
    params: Any, keys: Array, values: Array, start: Array, tokens: Array, count: Array, *,
    graphdef: Any, capacity: int,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Runs tokens [S] (the first `count` are real) after the `start` cached ones.

    Args:
      params: decoder parameters.
      keys, values: [num_layers, T, KV, head_dim]; T is 0 where nothing is cached.
      start, count: scalars.
      tokens: [S].
      graphdef: of the decoder.
      capacity: positions of the new buffers, at least start + count.

    Returns:
      New buffers, and the last real token's normalised hidden state [width].
    """
    decoder = nnx.merge(graphdef, params)
    cache = tuple(x.astype(decoder.embedding[...].dtype) for x in (keys, values))
    with jax.default_matmul_precision("highest"):
        hidden, (k, v) = decoder.extend(pinned(tokens, ROWS)[None], cache, start)
    # A chunk of slack: the padding is written past the end, then cut off.
    room = capacity + tokens.shape[0] - keys.shape[1]

    def written(old: Array, new: Array) -> Array:
        old = jnp.pad(old, ((0, 0), (0, max(0, room)), (0, 0), (0, 0)))
        new = new[:, 0].astype(old.dtype)
        new = jax.lax.dynamic_update_slice(old, new, (0, start, 0, 0))[:, :capacity]
        return pinned(new, None, None, "tensor", None)

    return written(keys, k), written(values, v), hidden[0, count - 1]


def common_prefix_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two prompts share.

    >>> common_prefix_length([1, 2, 3], [1, 2, 4, 5])
    2
    """
    n = min(len(a), len(b))
    differ = np.flatnonzero(np.asarray(a[:n]) != np.asarray(b[:n]))
    return int(differ[0]) if len(differ) else n


def branch_points(prompts: Sequence[Sequence[int]], least: int = LEAST_SHARED) -> list[list[int]]:
    """Where each prompt parts from others: the lengths of prefixes that are worth computing once.

    Args:
      prompts: token ids.
      least: fewest tokens from one length to the next.

    Returns:
      For each prompt ascending lengths, all short of its last token.

    >>> branch_points([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6, 7]], least=1)
    [[2, 3], [2, 3], [2]]
    """
    order = sorted(range(len(prompts)), key=lambda i: tuple(prompts[i]))
    ahead = [common_prefix_length(prompts[a], prompts[b]) for a, b in itertools.pairwise(order)]
    points: list[list[int]] = [[] for _ in prompts]
    for place, i in enumerate(order):
        found = set()
        for neighbours in (ahead[place:], ahead[:place][::-1]):  # what is shared only shrinks
            shared = len(prompts[i]) - 1
            for n in neighbours:
                shared = min(shared, n)
                if shared < least:
                    break
                found.add(shared)
        for n in sorted(found):
            if n - (points[i][-1] if points[i] else 0) >= least:
                points[i].append(n)
    return points


class PrefixCache:
    """Caches of shared prefixes, the least recently used let go beyond a number of bytes.

    What a cache holds, bit by bit, follows from the prompt and its prefix lengths alone, never from
    what was asked before: a resumed run gives the numbers of an unbroken one.
    """

    def __init__(
        self,
        model: LanguageModel,
        budget: int,
        chunk: int,
        dtype: str = "",
        work: Work | None = None,
    ):
        """Keeps nothing yet.

        Args:
          model: the language model.
          budget: bytes to keep.
          chunk: tokens that run at once.
          dtype: of the caches; by default the model's.
          work: counts what is run.
        """
        self._model, self._budget, self._chunk, self._work = model, budget, chunk, work
        self._dtype = DTYPES[dtype or model.dtype]
        self._kept: OrderedDict[Any, Prefix] = OrderedDict()

    def prefix(self, prompt: Sequence[int], prefix_lengths: Sequence[int] = ()) -> Prefix:
        """The cache of a prompt; its prefixes of these lengths are kept for other prompts.

        Args:
          prompt: token ids.
          prefix_lengths: ascending, each less than the prompt's; see `branch_points`.

        Raises:
          UserError: the prompt is empty or longer than the context window, or holds an id that the
            model does not have.
        """
        if not prompt:
            raise UserError("a prompt has no tokens")
        check_ids(prompt, self._model.config.vocab_size, "a prompt")
        limit = self._model.config.max_positions
        if len(prompt) > limit:
            raise UserError(
                f"a prompt has {len(prompt)} tokens, more than the context window of "
                f"{self._model.name} ({limit}); see config.limits.too_long"
            )
        prefix, prompt = None, tuple(prompt)
        for i, length in enumerate(prefix_lengths):
            prefix = self._kept_prefix(prompt[:length], tuple(prefix_lengths[:i]), prefix)
        return self._extended(prefix, prompt)

    def _kept_prefix(
        self, tokens: tuple[int, ...], earlier: tuple[int, ...], before: Prefix | None
    ) -> Prefix:
        name = (tokens, earlier)  # other lengths give other last bits
        if name not in self._kept:
            self._kept[name] = self._extended(before, tokens)
            while len(self._kept) > 1 and sum(p.nbytes for p in self._kept.values()) > self._budget:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]

    def _extended(self, prefix: Prefix | None, prompt: tuple[int, ...]) -> Prefix:
        """The cache of a prompt, of which a prefix is cached already (None: nothing is)."""
        model, c = self._model, self._model.config
        if prefix is None:
            nothing = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), self._dtype)
            prefix = Prefix(nothing, nothing, 0, None, ())
        keys, values, length, hidden = prefix.keys, prefix.values, prefix.length, None
        while length < len(prompt):
            part = prompt[length : length + self._chunk]
            padded = np.zeros(min(self._chunk, stepped(len(part), CHUNK_STEP)), np.int32)
            padded[: len(part)] = part
            if self._work is not None:
                self._work.add(len(part), len(padded))
            with using(model.mesh):
                keys, values, hidden = extend_prefix(
                    model.params, keys, values, length, padded, len(part),
                    graphdef=model.graphdef, capacity=capacity_for(length + len(part)),
                )  # fmt: skip
            length += len(part)
        return Prefix(keys, values, length, hidden, prompt)


def prefill(model: LanguageModel, prompt: Sequence[int], chunk: int = CHUNK) -> Prefix:
    """The cache of one prompt; arguments and errors as of `PrefixCache`."""
    return PrefixCache(model, 0, chunk).prefix(prompt)

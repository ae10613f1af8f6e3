"""Prompts and the rows that continue them: one layout for rewards, updates and evaluation.

What the rows of a group share is computed once, forward and backward. A row has a scored part:
golden response, thought or completion; what stands before it in the row is only read.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.errors import UserError
from remid_jax.inference.prefix import common_prefix_length
from remid_jax.inference.sizes import HEAD, stepped
from remid_jax.inference.vocabulary import target_statistics
from remid_jax.models.decoder import Decoder
from remid_jax.models.sharding import ROWS

Array = jax.Array
STEP = 16  # prompts, rows and scored parts are padded to multiples of it, so that programs are few


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Groups:
    """B prompts, each continued by G rows. Lengths are data, never read off the ids.

    Attributes:
      prompts: [B, P] token ids, padded on the right; lengths: [B], at least 1.
      rows: [B, G, S] token ids, padded on the right.
      starts: [B, G], where a row's scored part begins.
      weights: [B, G, K] float32, weight of each scored token; 0 where there is none.
    """

    prompts: Array
    lengths: Array
    rows: Array
    starts: Array
    weights: Array

    @property
    def tokens(self) -> int:
        """Positions that a forward pass runs, padding included."""
        return self.prompts.size + self.rows.size


@dataclasses.dataclass(frozen=True)
class Row:
    """One sequence before it is grouped.

    Attributes:
      prompt: token ids that are only read.
      scored: token ids whose log-probabilities are wanted; none empty.
      weight: of each of them.
    """

    prompt: Sequence[int]
    scored: Sequence[int]
    weight: float = 1.0


def group(
    rows: Sequence[Sequence[Row]], window: int, sizes: tuple[int, int, int] = (0, 0, 0)
) -> Groups:
    """Lays rows out; what all prompts of a group begin with becomes the group's prompt.

    Args:
      rows: B groups of G rows each.
      window: context window of the model in tokens.
      sizes: least P, S and K, so that batches share one program.

    Raises:
      UserError: a row is longer than the window, has nothing to score, or begins unlike the other
        rows of its group.
    """
    laid = [_laid_out(members, window) for members in rows]
    spans = [len(prompt) for prompt, _ in laid]
    read = [[len(before) + len(r.scored) for before, r in parts] for _, parts in laid]
    scored = [[len(r.scored) for _, r in parts] for _, parts in laid]
    width = [
        max(least, stepped(int(np.max(lengths)), STEP))
        for least, lengths in zip(sizes, (spans, read, scored), strict=True)
    ]
    b, g = len(laid), len(laid[0][1])
    prompts = np.zeros((b, width[0]), np.int32)
    tokens = np.zeros((b, g, width[1]), np.int32)
    starts = np.zeros((b, g), np.int32)
    weights = np.zeros((b, g, width[2]), np.float32)
    for i, (prompt, parts) in enumerate(laid):
        prompts[i, : len(prompt)] = prompt
        for k, (before, r) in enumerate(parts):
            whole = (*before, *r.scored)
            tokens[i, k, : len(whole)] = whole
            starts[i, k] = len(before)
            weights[i, k, : len(r.scored)] = r.weight
    return Groups(prompts, np.array(spans, np.int32), tokens, starts, weights)


def _laid_out(members: Sequence[Row], window: int) -> tuple[Sequence[int], list]:
    for r in members:
        if not len(r.scored) or not len(r.prompt):
            raise UserError("a row needs a prompt and at least one token to score")
        total = len(r.prompt) + len(r.scored)
        if total > window:
            raise UserError(f"a row has {total} tokens, more than the context window ({window})")
    first = members[0].prompt
    shared = min([len(first), *(common_prefix_length(first, r.prompt) for r in members[1:])])
    if not shared:
        raise UserError("the rows of a group must begin alike")
    return first[:shared], [(r.prompt[shared:], r) for r in members]


def group_statistics(
    decoder: Decoder,
    groups: Groups,
    *,
    head: int = HEAD,
    key: Array | None = None,
    remat: bool = False,
    entropy: bool = False,
) -> tuple[Array, Array]:
    """Log-probabilities of the scored tokens, and entropies where they are drawn.

    Args:
      decoder: the model, adapters included.
      groups: prompts and rows.
      head: tokens of the vocabulary whose logits stand in memory at once.
      key: for the adapters' dropout; None: none.
      remat: whether layers are computed again for the gradient rather than kept.
      entropy: whether entropies are wanted; else they are 0.

    Returns:
      log q [B, G, K] and entropy [B, G, K], float32, in nats; meaningless where the weight is 0.
    """
    b, g, s = groups.rows.shape
    k = groups.weights.shape[2]
    keys = None if key is None else jax.random.split(key, (b, 2))
    c = decoder.config
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), decoder.embedding[...].dtype)

    def states(prompt: Array, length: Array, rows: Array, keys: Array | None) -> Array:
        before, after = (None, None) if keys is None else (keys[0], keys[1])
        hidden, written = decoder.extend(
            prompt[None], (empty, empty), jnp.int32(0), key=before, remat=remat
        )
        cache = tuple(x[:, 0] for x in written)
        # The last token of a row predicts nothing.
        hidden_rows, _ = decoder.extend(rows[:, :-1], cache, length, key=after, remat=remat)
        last = jnp.broadcast_to(hidden[0, length - 1], (g, 1, c.width))
        return jnp.concatenate([last, hidden_rows], axis=1)  # [G, S, width], of what comes before

    axes = (0, 0, 0, None if keys is None else 0)
    run = jax.vmap(states, axes, spmd_axis_name=ROWS)  # on a mesh each device has its own prompts
    hidden = run(groups.prompts, groups.lengths, groups.rows, keys)
    place = jnp.minimum(groups.starts[..., None] + jnp.arange(k), s - 1)  # [B, G, K]
    hidden = jnp.take_along_axis(hidden, place[..., None], axis=2).reshape(-1, c.width)
    targets = jnp.take_along_axis(groups.rows, place, axis=2).reshape(-1)
    found = target_statistics(decoder, hidden, targets, head, entropy)
    return tuple(x.reshape(b, g, k) for x in found)


def parts_of(groups: Any, count: int) -> Any:
    """Any pytree of [B, ...] arrays as [count, B / count, ...]: micro-batches for a scan.

    Micro-batch i has the rows i, i + count, i + 2 count, ...: where devices hold neighbouring rows,
    each of them has its share of every micro-batch.
    """

    def one(x: Array) -> Array:
        return jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1)

    return jax.tree.map(one, groups)

"""Prompts and the rows that continue them: one layout for rewards, updates and evaluation.

What the rows of a group share is computed once, forward and backward.
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
STEP = 16  # prompts, rows and scored parts are padded to multiples of it: few programs


@dataclasses.dataclass(frozen=True)
class Example:
    """One sequence before it is grouped.

    Attributes:
      prompt: token ids that are only read; at least one.
      scored: token ids whose log-probabilities are wanted; at least one.
      weight: of each scored token.
    """

    prompt: Sequence[int]
    scored: Sequence[int]
    weight: float = 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GroupedBatch:
    """B shared prompts, each continued by G rows. Lengths are data, never read off the ids.

    Attributes:
      prompts: [B, P] token ids, padded on the right.
      lengths: [B] tokens of each prompt, at least 1.
      rows: [B, G, S] token ids, padded on the right.
      starts: [B, G], where a row's scored part begins.
      weights: [B, G, K] float32, weight of each scored token; 0 where there is none.
    """

    prompts: Array
    lengths: Array
    rows: Array
    starts: Array
    weights: Array


def group_examples(
    groups: Sequence[Sequence[Example]], window: int, sizes: tuple[int, int, int] = (0, 0, 0)
) -> GroupedBatch:
    """Lays examples out; what all prompts of a group begin with becomes the group's prompt.

    Args:
      groups: B groups of G examples each.
      window: context window of the model in tokens.
      sizes: least P, S and K, so that batches share one program.

    Raises:
      UserError: an example is longer than the window, has nothing to score, or begins unlike the
        others of its group.
    """
    shared = [_shared_tokens(members, window) for members in groups]
    scored = [[len(e.scored) for e in members] for members in groups]
    read = [
        [len(e.prompt) + len(e.scored) - n for e in members]
        for n, members in zip(shared, groups, strict=True)
    ]
    longest = (stepped(int(np.max(lengths)), STEP) for lengths in (shared, read, scored))
    p, s, k = map(max, sizes, longest)
    b, g = len(groups), len(groups[0])
    prompts, rows = np.zeros((b, p), np.int32), np.zeros((b, g, s), np.int32)
    starts, weights = np.zeros((b, g), np.int32), np.zeros((b, g, k), np.float32)
    for i, (n, members) in enumerate(zip(shared, groups, strict=True)):
        prompts[i, :n] = members[0].prompt[:n]
        for j, e in enumerate(members):
            rows[i, j, : read[i][j]] = (*e.prompt[n:], *e.scored)
            starts[i, j] = len(e.prompt) - n
            weights[i, j, : len(e.scored)] = e.weight
    return GroupedBatch(prompts, np.array(shared, np.int32), rows, starts, weights)


def _shared_tokens(members: Sequence[Example], window: int) -> int:
    """How many tokens all prompts of a group begin with."""
    for e in members:
        if not len(e.scored) or not len(e.prompt):
            raise UserError("a row needs a prompt and at least one token to score")
        total = len(e.prompt) + len(e.scored)
        if total > window:
            raise UserError(f"a row has {total} tokens, more than the context window ({window})")
    first = members[0].prompt
    shared = min([len(first), *(common_prefix_length(first, e.prompt) for e in members[1:])])
    if not shared:
        raise UserError("the rows of a group must begin alike")
    return shared


def prompt_states(
    decoder: Decoder, prompt: Array, length: Array, *, key: Array | None = None, remat: bool = False
) -> tuple[tuple[Array, Array], Array]:
    """Keys and values of a prompt [P], and the hidden state of its last token [width]."""
    c = decoder.config
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), decoder.embedding[...].dtype)
    start = jnp.int32(0)
    hidden, (k, v) = decoder.extend(prompt[None], (empty, empty), start, key=key, remat=remat)
    return (k[:, 0], v[:, 0]), hidden[0, length - 1]


def group_statistics(
    decoder: Decoder, batch: GroupedBatch, *, head: int = HEAD, key: Array | None = None,
    remat: bool = False, entropy: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """Log-probabilities of the scored tokens, and entropies of the distributions they come from.

    Args:
      decoder: adapters included.
      batch: prompts and rows.
      head: vocabulary tokens whose logits are in memory at once.
      key: of the adapters' dropout; None: no dropout.
      remat: whether layers are recomputed for the gradient instead of kept.
      entropy: whether entropies are wanted; otherwise they are 0.

    Returns:
      log q [B, G, K] and entropy [B, G, K], float32, in nats; meaningless where the weight is 0.
    """
    b, g, s = batch.rows.shape
    k, width = batch.weights.shape[2], decoder.config.width
    keys = None if key is None else jax.random.split(key, (b, 2))

    def states(prompt: Array, length: Array, rows: Array, keys: Array | None) -> Array:
        before, after = (None, None) if keys is None else (keys[0], keys[1])
        cache, last = prompt_states(decoder, prompt, length, key=before, remat=remat)
        # The last token of a row predicts nothing.
        hidden, _ = decoder.extend(rows[:, :-1], cache, length, key=after, remat=remat)
        last = jnp.broadcast_to(last, (g, 1, width))
        return jnp.concatenate([last, hidden], axis=1)  # [G, S, width], of what comes before

    axes = (0, 0, 0, None if keys is None else 0)
    run = jax.vmap(states, axes, spmd_axis_name=ROWS)  # on a mesh each device has its own prompts
    hidden = run(batch.prompts, batch.lengths, batch.rows, keys)
    place = jnp.minimum(batch.starts[..., None] + jnp.arange(k), s - 1)  # [B, G, K]
    hidden = jnp.take_along_axis(hidden, place[..., None], axis=2).reshape(-1, width)
    targets = jnp.take_along_axis(batch.rows, place, axis=2).reshape(-1)
    found = target_statistics(decoder, hidden, targets, head, entropy)
    return tuple(x.reshape(b, g, k) for x in found)


def micro_batches_of(batch: Any, count: int) -> Any:
    """A pytree of [B, ...] arrays as [count, B / count, ...], for a scan over micro-batches.

    Micro-batch i has the rows i, i + count, ...: devices that hold neighbouring rows share each.
    """
    return jax.tree.map(
        lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1), batch
    )

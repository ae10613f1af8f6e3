"""Completions drawn for training: prompts are run once, then G rows continue each."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from remid_jax.inference import decoding
from remid_jax.inference.sizes import stepped
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.sharding import gathered, whole_everywhere
from remid_jax.training.groups import STEP, Row

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rollout:
    """G completions of each of B prompts.

    Attributes:
      tokens: [B, G, M] token ids, without what ended them.
      log_probs: [B, G, M], of them and of what ended them, under the model that drew, in nats.
      counts: [B, G], tokens of each; stopped: [B, G] bool, by the end-of-turn token.
    """

    tokens: Array
    log_probs: Array
    counts: Array
    stopped: Array


@functools.partial(
    jax.jit, static_argnames=("graphdef", "sampling", "draws", "end", "split", "gather")
)
def rollout(
    params: Any, prompts: Array, lengths: Array, key: Array, *, graphdef: Any,
    sampling: SamplingConfig, draws: int, end: int, split: bool, gather: bool = True,
) -> Rollout:  # fmt: skip
    """Draws completions.

    Args:
      params: decoder parameters, adapters included.
      prompts: [B, P] token ids, padded on the right; lengths: [B].
      key: of the draws.
      graphdef: of the decoder.
      sampling: how to draw; its seed is in the key.
      draws: G.
      end: the token that ends a completion.
      split: whether layers run split (see `Decoder.run_split_layers`).
      gather: whether weights that are spread over `fsdp` are gathered once, and not at each token.
    """
    if gather:
        params = gathered(params)
    decoder = nnx.merge(graphdef, params)
    c, b = decoder.config, prompts.shape[0]
    n = b * draws
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), decoder.embedding[...].dtype)

    def prefill(prompt: Array, length: Array) -> tuple[Array, Array, Array]:
        hidden, (k, v) = decoder.extend(prompt[None], (empty, empty), jnp.int32(0))
        return k[:, 0], v[:, 0], hidden[0, length - 1]

    with jax.default_matmul_precision("highest"):
        keys, values, hidden = jax.vmap(prefill)(prompts, lengths)
    rows = decoding.DecodeBatch(
        keys=keys,
        values=values,
        valid=jnp.arange(prompts.shape[1]) < lengths[:, None],
        lengths=lengths,
        random=jax.random.split(key, n),
        limits=jnp.full(n, sampling.max_tokens, jnp.int32),
    )
    seen = jnp.zeros((b, c.vocab_size), bool)
    real = rows.valid.astype(jnp.int32)
    seen = jax.vmap(lambda s, p, r: s.at[p].max(r.astype(bool)))(seen, prompts, real)
    state = decoding.init_state(
        keys, jnp.repeat(hidden, draws, axis=0), jnp.repeat(seen, draws, axis=0),
        jnp.zeros(n, bool), size=sampling.max_tokens, split=split,
    )  # fmt: skip
    static = dataclasses.replace(sampling, seed=0, stop_strings=(), max_tokens=1)
    state = decoding.decode(
        params, rows, state, jnp.int32(sampling.max_tokens), graphdef=graphdef, config=static,
        stop_ids=(end,),
    )  # fmt: skip
    grouped = (
        x.reshape(b, draws, *x.shape[1:])
        for x in (state.tokens, state.log_probs, state.counts, state.stopped)
    )
    return whole_everywhere(Rollout(*grouped))


def padded(prompts: Sequence[Sequence[int]], least: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ids [B, P] padded on the right, P a multiple of `STEP` and at least `least`; lengths [B]."""
    lengths = np.array([len(p) for p in prompts], np.int32)
    ids = np.zeros((len(prompts), max(least, stepped(int(lengths.max()), STEP))), np.int32)
    for line, prompt in zip(ids, prompts, strict=True):
        line[: len(prompt)] = prompt
    return ids, lengths


def completions(drawn: Rollout, end: int) -> list[list[tuple[int, ...]]]:
    """The drawn token lists, B of G each; `end` is part of those that it ended."""
    tokens, counts, stopped = (np.asarray(x) for x in (drawn.tokens, drawn.counts, drawn.stopped))
    return [
        [
            (*ids[:n].tolist(), *((end,) if over else ()))
            for ids, n, over in zip(*group, strict=True)
        ]
        for group in zip(tokens, counts, stopped, strict=True)
    ]


def completion_rows(
    prompts: Sequence[Sequence[int]], drawn: list[list[tuple[int, ...]]]
) -> list[list[Row]]:
    """Completions as rows whose every token is scored."""
    return [[Row(p, c) for c in group] for p, group in zip(prompts, drawn, strict=True)]

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
from remid_jax.training.groups import STEP, Example, prompt_states

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rollout:
    """G completions of each of B prompts.

    Attributes:
      tokens: [B, G, M] token ids, without what ended them.
      log_probs: [B, G, M], of them and of what ended them, under the model that drew, in nats.
      counts: [B, G] tokens of each.
      stopped: [B, G] bool, whether the end-of-turn token ended it.
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
    """Draws G = `draws` completions of each prompt.

    Args:
      params: decoder parameters, adapters included.
      prompts, lengths: as of `padded`.
      sampling: how to draw; `key` replaces its seed.
      end: the token that ends a completion.
      split: whether layers run split (see `Decoder.run_split_layers`).
      gather: whether weights that are spread over `fsdp` are gathered once, not at each token.
    """
    if gather:
        params = gathered(params)
    decoder = nnx.merge(graphdef, params)
    b, n = prompts.shape[0], prompts.shape[0] * draws
    with jax.default_matmul_precision("highest"):
        prefill = jax.vmap(functools.partial(prompt_states, decoder))
        (keys, values), hidden = prefill(prompts, lengths)
    valid = jnp.arange(prompts.shape[1]) < lengths[:, None]
    rows = decoding.DecodeBatch(
        keys=keys, values=values, valid=valid, lengths=lengths, random=jax.random.split(key, n),
        limits=jnp.full(n, sampling.max_tokens, jnp.int32),
    )  # fmt: skip
    unseen = jnp.zeros(decoder.config.vocab_size, bool)
    seen = jax.vmap(lambda ids, real: unseen.at[ids].max(real))(prompts, valid)
    state = decoding.init_state(
        keys, jnp.repeat(hidden, draws, axis=0), jnp.repeat(seen, draws, axis=0),
        jnp.zeros(n, bool), size=sampling.max_tokens, split=split,
    )  # fmt: skip
    static = dataclasses.replace(sampling, seed=0, stop_strings=(), max_tokens=1)
    state = decoding.decode(
        params, rows, state, jnp.int32(sampling.max_tokens), graphdef=graphdef, config=static,
        stop_ids=(end,),
    )  # fmt: skip
    drawn = Rollout(state.tokens, state.log_probs, state.counts, state.stopped)
    return whole_everywhere(jax.tree.map(lambda x: x.reshape(b, draws, *x.shape[1:]), drawn))


def padded(prompts: Sequence[Sequence[int]], least: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ids [B, P] padded on the right, P a multiple of `STEP` and at least `least`; lengths [B]."""
    lengths = np.array([len(p) for p in prompts], np.int32)
    ids = np.zeros((len(prompts), max(least, stepped(int(lengths.max()), STEP))), np.int32)
    for line, prompt in zip(ids, prompts, strict=True):
        line[: len(prompt)] = prompt
    return ids, lengths


def completions(drawn: Rollout, end: int) -> list[list[tuple[int, ...]]]:
    """The drawn token lists, B of G each; `end` is part of those that it ended."""
    whole = jax.tree.map(np.asarray, drawn)
    return [
        [
            (*ids[:n].tolist(), *((end,) if stopped else ()))
            for ids, n, stopped in zip(*group, strict=True)
        ]
        for group in zip(whole.tokens, whole.counts, whole.stopped, strict=True)
    ]


def completion_examples(
    prompts: Sequence[Sequence[int]], drawn: list[list[tuple[int, ...]]]
) -> list[list[Example]]:
    """Completions as examples whose every token is scored."""
    return [[Example(p, c) for c in group] for p, group in zip(prompts, drawn, strict=True)]

"""The compiled loop that continues cached prompts token by token."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from remid_jax.inference.token_sampling import SamplingConfig, choose
from remid_jax.models.attention import decode_attention
from remid_jax.models.sharding import ROWS, pinned

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeBatch:
    """What stays the same while B = P·G rows are decoded, G for each of P prompts."""

    keys: Array  # [P, num_layers, T, KV, d], of the prompts
    values: Array  # likewise
    valid: Array  # [P, T] bool, which of T are filled
    lengths: Array  # [P], tokens of each prompt
    random: Array  # [B] random keys
    limits: Array  # [B], most tokens of each row


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeState:
    """How far B rows are."""

    t: Array  # scalar, tokens so far
    hidden: Array  # [B, width], of the last token
    # Keys and values of generated tokens, [B, KV, M, d] each: a list over layers where they run
    # split, else stacked before B.
    own: Any
    seen: Array  # [B, V] bool, tokens of prompt and response
    tokens: Array  # [B, M]
    log_probs: Array  # [B, M], under the unmodified model; the stop token's stands after the others
    counts: Array  # [B], tokens of each row
    done: Array  # [B] bool
    stopped: Array  # [B] bool, by a stop token


@functools.partial(jax.jit, static_argnames=("size", "split"))
def init_state(
    keys: Array, hidden: Array, seen: Array, done: Array, *, size: int, split: bool
) -> DecodeState:
    """The state before the first token; the prompts' keys give shape and type alone.

    Args:
      keys, hidden, seen: see `DecodeBatch` and `DecodeState`.
      done: [B] bool, rows that are padding.
      size: M, most tokens.
      split: whether layers run split (see `Decoder.run_split_layers`).
    """
    b, (_, layers, _, kv, d) = hidden.shape[0], keys.shape
    one = jnp.zeros((b, kv, size, d), keys.dtype)
    every = pinned(jnp.zeros((layers, *one.shape), keys.dtype), None, ROWS, "tensor", None, None)
    return DecodeState(
        t=jnp.int32(0), hidden=hidden, own=[(one, one)] * layers if split else (every, every),
        seen=seen, tokens=jnp.zeros((b, size), jnp.int32),
        log_probs=jnp.zeros((b, size), jnp.float32), counts=jnp.zeros(b, jnp.int32), done=done,
        stopped=jnp.zeros(b, bool),
    )  # fmt: skip


@functools.partial(
    jax.jit, static_argnames=("graphdef", "config", "stop_ids"), donate_argnames=("state",)
)
def decode(
    params: Any, batch: DecodeBatch, state: DecodeState, until: Array, *, graphdef: Any,
    config: SamplingConfig, stop_ids: tuple[int, ...],
) -> DecodeState:  # fmt: skip
    """Continues until all rows are done, or have `until` tokens.

    Args:
      params, graphdef: of the decoder.
      batch: the prompts.
      state: how far the rows are; its buffers are donated.
      until: scalar, at most M.
      config: how to draw; seed and limits are in `batch`.
      stop_ids: tokens that end a row.
    """
    decoder = nnx.merge(graphdef, params)
    split = isinstance(state.own, list)
    state = dataclasses.replace(state, hidden=pinned(state.hidden, ROWS, None))
    # Heads before positions, so that no step transposes the cache.
    prefix: Any = tuple(
        pinned(x, ROWS, None, None, "tensor", None).transpose(1, 0, 3, 2, 4)
        for x in (batch.keys, batch.values)
    )
    if split:
        prefix = list(zip(*(list(x) for x in prefix), strict=True))
    layers = decoder.split_layers() if split else None
    b, group = state.hidden.shape[0], state.hidden.shape[0] // batch.lengths.shape[0]
    lengths = jnp.repeat(batch.lengths, group)
    stops = jnp.array(stop_ids, jnp.int32)

    def step(s: DecodeState) -> DecodeState:
        logits = decoder.logits(s.hidden)
        keys = jax.vmap(jax.random.fold_in, (0, None))(batch.random, s.t)
        token = choose(logits, s.seen, keys, config)
        log_prob = jnp.take_along_axis(logits, token[:, None], 1)[:, 0]
        log_prob = log_prob - jax.nn.logsumexp(logits, axis=-1)
        ended = ~s.done & jnp.isin(token, stops)
        done = s.done | ended
        counts = s.counts + (~done).astype(jnp.int32)

        def attend(q: Array, k: Array, v: Array, cache: Any) -> tuple[Array, Any]:
            (pk, pv), (own_k, own_v) = cache
            place = (0, 0, s.t, 0)
            own_k, own_v = (
                jax.lax.dynamic_update_slice(old, new.swapaxes(1, 2).astype(old.dtype), place)
                for old, new in ((own_k, k), (own_v, v))
            )
            read = (x.astype(k.dtype) for x in (pk, pv))
            own = (x.astype(k.dtype) for x in (own_k, own_v))
            out = decode_attention(q[:, 0], *read, batch.valid, *own, s.t)
            return out[:, None], (own_k, own_v)

        x, positions = decoder.embed(token)[:, None], (lengths + s.t)[:, None]
        if split:
            caches = list(zip(prefix, s.own, strict=True))
            x, own = decoder.run_split_layers(layers, x, positions, attend, caches)
        else:
            x, own = decoder.run_layers(x, positions, attend, (prefix, s.own))
        return DecodeState(
            t=s.t + 1,
            hidden=decoder.normalise(x)[:, 0],
            own=own,
            seen=s.seen.at[jnp.arange(b), token].set(True),
            tokens=s.tokens.at[:, s.t].set(jnp.where(done, 0, token)),
            log_probs=s.log_probs.at[:, s.t].set(jnp.where(s.done, 0.0, log_prob)),
            counts=counts,
            done=done | (counts >= batch.limits),
            stopped=s.stopped | ended,
        )

    with jax.default_matmul_precision("highest"):
        return jax.lax.while_loop(lambda s: (s.t < until) & ~s.done.all(), step, state)

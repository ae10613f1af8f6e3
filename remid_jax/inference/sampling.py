"""Batched sampling with a key-value cache: one compiled loop for each pair of buffer sizes."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference.prefix import Prefix, capacity_for, prefill
from remid_jax.models.attention import decode_attention
from remid_jax.models.pretrained import LanguageModel

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How responses are drawn.

    Attributes:
      max_tokens: at most so many tokens, the stop token not counted.
      temperature: 0 is greedy.
      top_p: nucleus: the fewest tokens whose probability reaches this, in (0, 1].
      repetition_penalty: logits of tokens already in prompt or response are divided (positive ones)
        or multiplied (negative ones) by this; 1 is off.
      seed: of the draws; each row's draws also depend on its prompt, not on its place.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        finite = math.isfinite(self.temperature) and math.isfinite(self.repetition_penalty)
        allowed = self.temperature >= 0 and 0 < self.top_p <= 1 and self.repetition_penalty > 0
        if not (finite and allowed):
            raise UserError(
                "sampling needs temperature >= 0, 0 < top_p <= 1 and repetition_penalty > 0, got "
                f"{self.temperature}, {self.top_p}, {self.repetition_penalty}"
            )


@dataclasses.dataclass(frozen=True)
class Sampled:
    """One drawn response.

    Attributes:
      tokens: its token ids, without the stop token; may be empty.
      log_probs: log q of each under the unmodified model, in nats.
      stopped: whether a stop token ended it, rather than the limit.
    """

    tokens: tuple[int, ...]
    log_probs: np.ndarray
    stopped: bool


def penalise_repetition(logits: Array, seen: Array, penalty: float) -> Array:
    """Divides positive and multiplies negative logits of `seen` tokens by `penalty`.

    Args:
      logits: [..., V]; seen: [..., V] bool.
    """
    changed = jnp.where(logits > 0, logits / penalty, logits * penalty)
    return jnp.where(seen, changed, logits)


def nucleus(logits: Array, top_p: float) -> Array:
    """Sets logits outside the smallest set of probability >= `top_p` to -inf. [..., V] -> same."""
    ordered = jnp.sort(logits, axis=-1, descending=True)
    before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1) - jax.nn.softmax(
        ordered, axis=-1
    )
    cut = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= cut, logits, -jnp.inf)


def _choose(logits: Array, keys: Array, config: SamplingConfig) -> Array:
    if config.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / config.temperature
    if config.top_p < 1:
        logits = nucleus(logits, config.top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("graphdef", "config", "stop_ids"))
def _decode(
    params: Any, keys: Array, values: Array, lengths: Array, hidden: Array, seen: Array,
    rows: Array, *, graphdef: Any, config: SamplingConfig, stop_ids: tuple[int, ...],
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Runs the loop for B rows.

    Args:
      keys: [B, num_layers, T, KV, d]; values: likewise; lengths: [B].
      hidden: [B, width] last hidden states; seen: [B, V]; rows: [B] uint32 row identities.

    Returns:
      tokens [B, M], log_probs [B, M], counts [B], stopped [B].
    """
    decoder = nnx.merge(graphdef, params)
    c = decoder.config
    b, m = keys.shape[0], config.max_tokens
    valid = jnp.arange(keys.shape[2]) < lengths[:, None]
    row_keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), rows)
    stops = jnp.array(stop_ids, jnp.int32)
    own = jnp.zeros((c.num_layers, b, c.num_kv_heads, m, c.head_dim), keys.dtype)
    # [B, layers, T, KV, d] -> [layers, B, KV, T, d], once, as `decode_attention` reads it.
    prefix_k, prefix_v = (x.transpose(1, 0, 3, 2, 4) for x in (keys, values))

    def step(carry: Any) -> Any:
        t, hidden, own_k, own_v, seen, tokens, log_probs, counts, done, stopped = carry
        logits = decoder.logits(hidden)
        shaped = logits
        if config.repetition_penalty != 1:
            shaped = penalise_repetition(logits, seen, config.repetition_penalty)
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, t)
        token = _choose(shaped, step_keys, config)
        log_prob = jnp.take_along_axis(logits, token[:, None], 1)[:, 0]
        log_prob = log_prob - jax.nn.logsumexp(logits, axis=-1)
        ended = ~done & jnp.isin(token, stops)
        stopped, done = stopped | ended, done | ended
        tokens = tokens.at[:, t].set(jnp.where(done, 0, token))
        log_probs = log_probs.at[:, t].set(jnp.where(done, 0.0, log_prob))
        counts = counts + (~done).astype(jnp.int32)
        seen = seen.at[jnp.arange(b), token].set(True)

        def attend(q: Array, k: Array, v: Array, cache: Any) -> tuple[Array, Any]:
            pk, pv, k_all, v_all = cache
            place = (0, 0, t, 0)
            k_all = jax.lax.dynamic_update_slice(k_all, k.swapaxes(1, 2), place)
            v_all = jax.lax.dynamic_update_slice(v_all, v.swapaxes(1, 2), place)
            out = decode_attention(q[:, 0], pk, pv, valid, k_all, v_all, t)
            return out[:, None], (k_all, v_all)

        caches = (prefix_k, prefix_v, own_k, own_v)
        positions = (lengths + t)[:, None]
        x, (own_k, own_v) = decoder.run_layers(
            decoder.embed(token)[:, None], positions, attend, caches
        )
        hidden = decoder.normalise(x)[:, 0]
        return t + 1, hidden, own_k, own_v, seen, tokens, log_probs, counts, done, stopped

    def running(carry: Any) -> Array:
        return (carry[0] < m) & ~carry[8].all()

    start = (
        jnp.int32(0), hidden, own, own, seen,
        jnp.zeros((b, m), jnp.int32), jnp.zeros((b, m), jnp.float32), jnp.zeros(b, jnp.int32),
        lengths == 0, jnp.zeros(b, bool),
    )  # fmt: skip
    with jax.default_matmul_precision("highest"):
        end = jax.lax.while_loop(running, step, start)
    return end[5], end[6], end[7], end[9]


def _row_identity(tokens: Sequence[int]) -> int:
    digest = hashlib.sha256(np.asarray(tokens, np.int32).tobytes()).digest()
    return int.from_bytes(digest[:4], "little")


def sample_from(
    model: LanguageModel, prefixes: Sequence[Prefix], config: SamplingConfig, batch_rows: int = 16
) -> list[Sampled]:
    """Continues cached prompts.

    Args:
      model: the language model.
      prefixes: the cached prompts, all of one capacity.
      config: how to draw.
      batch_rows: rows of one compiled loop.

    Returns:
      One response a prompt, in order; it does not depend on the other rows.

    Raises:
      UserError: prompt and response exceed the context window.
      ValueError: the caches have different capacities.
    """
    if len({p.capacity for p in prefixes}) > 1:
        raise ValueError("prefixes of one call must have one capacity")
    longest = max((p.length for p in prefixes), default=0) + config.max_tokens
    if longest > model.config.max_positions:
        raise UserError(
            f"prompt and max_tokens take {longest} tokens, more than the context window of "
            f"{model.name} ({model.config.max_positions})"
        )
    out: list[Sampled] = []
    for a in range(0, len(prefixes), batch_rows):
        out += _sample_batch(model, prefixes[a : a + batch_rows], config, batch_rows)
    return out


def _sample_batch(
    model: LanguageModel, prefixes: Sequence[Prefix], config: SamplingConfig, rows: int
) -> list[Sampled]:
    padding = rows - len(prefixes)  # empty rows: their length is 0, so they start as done
    seen = np.zeros((rows, model.config.vocab_size), bool)
    for i, p in enumerate(prefixes):
        seen[i, list(p.tokens)] = True
    filled = [*prefixes, *[prefixes[0]] * padding]
    tokens, log_probs, counts, stopped = _decode(
        model.params,
        jnp.stack([p.keys for p in filled]),
        jnp.stack([p.values for p in filled]),
        jnp.array([p.length for p in prefixes] + [0] * padding, jnp.int32),
        jnp.stack([p.last_hidden for p in filled]),
        jnp.asarray(seen),
        jnp.array([_row_identity(p.tokens) for p in filled], jnp.uint32),
        graphdef=model.graphdef, config=config, stop_ids=model.tokenizer.stop_ids,
    )  # fmt: skip
    arrays = [np.asarray(x) for x in (tokens, log_probs, counts, stopped)]
    return [
        Sampled(tuple(int(t) for t in ids[:n]), lp[:n].astype(np.float64), bool(s))
        for ids, lp, n, s in list(zip(*arrays, strict=True))[: len(prefixes)]
    ]


def sample(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    config: SamplingConfig,
    batch_rows: int = 16,
) -> list[Sampled]:
    """Prefills prompts and continues them; see `sample_from`."""
    if not prompts:
        return []
    capacity = capacity_for(max(len(p) for p in prompts))
    out: list[Sampled] = []
    for a in range(0, len(prompts), batch_rows):
        part = [prefill(model, [p], capacity)[0] for p in prompts[a : a + batch_rows]]
        out += sample_from(model, part, config, batch_rows)
    return out

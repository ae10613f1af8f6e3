"""Rotary positions and grouped-query attention over a cached prefix."""

import jax
import jax.numpy as jnp

Array = jax.Array


def rotary(
    x: Array, positions: Array, theta: float, divisors: tuple[float, ...] | None = None
) -> Array:
    """Rotates pairs (i, i + head_dim/2) of `x` by position-dependent angles (rotate-half order).

    Args:
      x: [..., tokens, heads, head_dim].
      positions: [..., tokens], integer positions.
      theta: base of the frequencies.
      divisors: head_dim/2 numbers by which the frequencies are divided (longer contexts), or None.

    Returns:
      The rotated array, same shape and dtype as `x`.
    """
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if divisors is not None:
        frequency = frequency / jnp.asarray(divisors, jnp.float32)
    angle = positions.astype(jnp.float32)[..., None, None] * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def _grouped(q: Array, num_kv: int) -> Array:
    """[..., S, H, d] -> [..., KV, G * S, d]: the queries of one key head side by side."""
    *lead, s, h, d = q.shape
    q = q.reshape(*lead, s, num_kv, h // num_kv, d)
    return jnp.moveaxis(q, -4, -2).reshape(*lead, num_kv, h // num_kv * s, d)


def _ungrouped(x: Array, s: int) -> Array:
    """Inverse of `_grouped`: [..., KV, G * S, d] -> [..., S, H, d]."""
    *lead, kv, gs, d = x.shape
    x = jnp.moveaxis(x.reshape(*lead, kv, gs // s, s, d), -2, -4)
    return x.reshape(*lead, s, kv * (gs // s), d)


def _weights(prefix: Array, own: Array) -> tuple[Array, Array, Array]:
    """Unnormalised softmax weights over the union of two score arrays, and their sum, in float32.

    The second always has a finite entry in each row (a token sees itself), so no row is empty.
    Dividing the output by the sum instead of the weights spares a pass over them.

    Args:
      prefix: [..., a] scores; own: [..., b] scores.

    Returns:
      exp(prefix - top), exp(own - top), and the sum of both over the last axis, kept.
    """
    top = own.max(-1, keepdims=True)
    top = jnp.maximum(prefix.max(-1, keepdims=True, initial=-jnp.inf), top)
    p, o = jnp.exp(prefix - top), jnp.exp(own - top)
    return p, o, p.sum(-1, keepdims=True) + o.sum(-1, keepdims=True)


def shared_prefix_attention(
    q: Array, k: Array, v: Array, prefix_k: Array, prefix_v: Array, prefix_length: Array
) -> Array:
    """Causal attention of R rows to one common prefix and to their own earlier tokens.

    The prefix keys are neither copied nor broadcast for each row.

    Args:
      q: [R, S, H, d].
      k: [R, S, KV, d], the rows' own keys; v: likewise.
      prefix_k: [T, KV, d], of which the first `prefix_length` are valid; prefix_v: likewise.
      prefix_length: scalar.

    Returns:
      [R, S, H, d].
    """
    r, s, h, d = q.shape
    kv = k.shape[-2]
    g = h // kv
    q = _grouped(q, kv) * d**-0.5  # [R, KV, G*S, d]
    flat = jnp.moveaxis(q, 0, 1).reshape(kv, r * g * s, d)
    before = jnp.einsum("kmd,tkd->kmt", flat, prefix_k, preferred_element_type=jnp.float32)
    before = jnp.where(jnp.arange(prefix_k.shape[0]) < prefix_length, before, -jnp.inf)
    own = jnp.einsum("rkmd,rtkd->krmt", q, k, preferred_element_type=jnp.float32)
    causal = jnp.tile(jnp.tril(jnp.ones((s, s), bool)), (g, 1))
    own = jnp.where(causal, own, -jnp.inf).reshape(kv, r * g * s, s)
    p, o, total = _weights(before, own)
    out = jnp.einsum("kmt,tkd->kmd", p.astype(v.dtype), prefix_v)
    o = o.astype(v.dtype).reshape(kv, r, g * s, s)
    out = out + jnp.einsum("krmt,rtkd->krmd", o, v).reshape(out.shape)
    out = (out / total).astype(v.dtype).reshape(kv, r, g * s, d)
    return _ungrouped(jnp.moveaxis(out, 1, 0), s)


def decode_attention(
    q: Array, prefix_k: Array, prefix_v: Array, prefix_valid: Array, k: Array, v: Array, t: Array
) -> Array:
    """Attention of one new token a row to the row's prefix and to its generated tokens 0..t.

    Heads lead the cache here, so that no step transposes it.

    Args:
      q: [B, H, d].
      prefix_k: [B, KV, T, d]; prefix_v: likewise; prefix_valid: [B, T] bool.
      k: [B, KV, M, d] generated keys, entry t already written; v: likewise.
      t: scalar, index of the new token.

    Returns:
      [B, H, d].
    """
    b, h, d = q.shape
    kv = k.shape[1]
    grouped = q.reshape(b, kv, h // kv, d) * d**-0.5
    before = jnp.einsum("bkgd,bktd->bkgt", grouped, prefix_k, preferred_element_type=jnp.float32)
    before = jnp.where(prefix_valid[:, None, None, :], before, -jnp.inf)
    own = jnp.einsum("bkgd,bktd->bkgt", grouped, k, preferred_element_type=jnp.float32)
    own = jnp.where(jnp.arange(k.shape[2]) <= t, own, -jnp.inf)
    p, o, total = _weights(before, own)
    out = jnp.einsum("bkgt,bktd->bkgd", p.astype(v.dtype), prefix_v)
    out = out + jnp.einsum("bkgt,bktd->bkgd", o.astype(v.dtype), v)
    return (out / total).astype(v.dtype).reshape(b, h, d)

"""Rotary positions and grouped-query attention over a cached prefix."""

import functools

import jax
import jax.numpy as jnp

from remid_jax.models.products import product

Array = jax.Array

QUERY_BLOCK = 128  # least queries of one block of causal attention
QUERY_BLOCKS = 4  # most blocks: each is code of its own, and so many spare 3/8 of the products
PACKED_BLOCK = 64  # queries of one block where responses are packed
CACHED = 12 * 2**20  # bytes of scores that the caches of a CPU hold, as measured on one


def rotary(
    x: Array, positions: Array, theta: float, divisors: tuple[float, ...] | None = None
) -> Array:
    """Rotates pairs (i, i + head_dim/2) of `x` by position-dependent angles (rotate-half order).

    Args:
      x: [..., tokens, heads, head_dim].
      positions: [..., tokens], integers.
      theta: base of the frequencies.
      divisors: head_dim/2 numbers by which the frequencies are divided (longer contexts), or None.
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
    """[N, S, H, d] -> [KV, N, G·S, d]: the queries of one key head side by side."""
    n, s, h, d = q.shape
    q = q.reshape(n, s, num_kv, h // num_kv, d).transpose(2, 0, 3, 1, 4)
    return q.reshape(num_kv, n, h // num_kv * s, d)


def _ungrouped(x: Array, s: int) -> Array:
    """Inverse of `_grouped`: [KV, N, G·S, d] -> [N, S, H, d]."""
    kv, n, gs, d = x.shape
    x = x.reshape(kv, n, gs // s, s, d).transpose(1, 3, 0, 2, 4)
    return x.reshape(n, s, kv * (gs // s), d)


def _weights(prefix: Array, own: Array) -> tuple[Array, Array, Array]:
    """Softmax over the union of two scores: the weights of each, and the sum to divide them by."""
    # Each row of `own` has a finite entry: a token sees itself.
    top = own.max(-1, keepdims=True)
    top = jnp.maximum(prefix.max(-1, keepdims=True, initial=-jnp.inf), top)
    top = jax.lax.stop_gradient(top)  # it cancels: a gradient through it would be work for 0
    p, o = jnp.exp(prefix - top), jnp.exp(own - top)
    return p, o, p.sum(-1, keepdims=True) + o.sum(-1, keepdims=True)


def _attend(
    q: Array, k: Array, v: Array, seen: Array, prefix_k: Array, prefix_v: Array, before: Array,
    in_turns: bool = False,
) -> Array:  # fmt: skip
    """Attention of the queries of N blocks to a common prefix and to each block's own keys.

    The prefix is not broadcast: the queries of all blocks stand in one matrix.

    Args:
      q: [KV, N, M, d], already scaled.
      k, v: [KV, N, K, d].
      seen: [N, M, K] bool, which of its block's keys a query sees; at least one each.
      prefix_k, prefix_v: [T, KV, d].
      before: scalar, how many of T are valid.
      in_turns: whether, on a CPU without a mesh, key heads run one after the other where caches
        do not hold the scores of all; slower under a gradient, which keeps these.
    """
    one_head = functools.partial(_one_head, seen=seen, before=before)
    heads = (q, k, v, jnp.moveaxis(prefix_k, 1, 0), jnp.moveaxis(prefix_v, 1, 0))
    unsharded_cpu = jax.default_backend() == "cpu" and jax.sharding.get_abstract_mesh().empty
    scores = q.size // q.shape[-1] * (k.shape[2] + len(prefix_k))
    if in_turns and unsharded_cpu and 4 * scores > CACHED:
        return jax.lax.map(lambda one: one_head(*one), heads)
    return jax.vmap(one_head)(*heads)


def _one_head(
    q: Array, k: Array, v: Array, prefix_k: Array, prefix_v: Array, seen: Array, before: Array
) -> Array:
    """`_attend` of one key head: q [N, M, d], k and v [N, K, d], the prefix's [T, d]."""
    n, m, _ = q.shape
    own = product("nmd,nsd->nms", q, k)
    own = jnp.where(seen, own, -jnp.inf)
    if prefix_k.shape[0] == 0:
        o = jnp.exp(own - jax.lax.stop_gradient(own.max(-1, keepdims=True)))
        return product("nms,nsd->nmd", o, v) / o.sum(-1, keepdims=True)
    old = product("md,td->mt", q.reshape(n * m, -1), prefix_k)
    old = jnp.where(jnp.arange(prefix_k.shape[0]) < before, old, -jnp.inf)
    p, o, total = _weights(old.reshape(n, m, -1), own)
    out = product("mt,td->md", p.reshape(n * m, -1), prefix_v).reshape(q.shape)
    return (out + product("nms,nsd->nmd", o, v)) / total


def query_block(tokens: int) -> int:
    """Queries of one block of causal attention over so many tokens.

    >>> [query_block(n) for n in (100, 512, 513, 4096)]
    [128, 128, 256, 1024]
    """
    return QUERY_BLOCK * max(1, -(-tokens // (QUERY_BLOCK * QUERY_BLOCKS)))


def causal_attention(
    q: Array, k: Array, v: Array, prefix_k: Array, prefix_v: Array, prefix_length: Array,
    remat: bool = False,
) -> Array:  # fmt: skip
    """Causal attention of R rows to one common prefix and to their own earlier tokens.

    Queries run in static blocks whose keys end where the block ends, so that about half of the
    masked products are never computed.

    Args:
      q: [R, S, H, d], of which the result has the shape.
      k, v: [R, S, KV, d], the rows' own.
      prefix_k, prefix_v: [T, KV, d], of which the first `prefix_length` (a scalar) are valid.
      remat: whether rows run one after the other and a gradient computes their scores again, so
        that those of one row stand in memory at once.
    """
    s, kv, d = q.shape[1], k.shape[2], k.shape[3]
    if prefix_k.shape[0] == 0 and has_fused_attention(k.dtype, d):
        # It keeps no scores, with or without `remat`.
        return fused_attention(q.astype(k.dtype), k, v)
    if remat:

        @jax.checkpoint
        def one(row: tuple[Array, Array, Array]) -> Array:
            q, k, v = (x[None] for x in row)
            return causal_attention(q, k, v, prefix_k, prefix_v, prefix_length)[0]

        return jax.lax.map(one, (q, k, v))
    group = q.shape[2] // kv
    k, v = (jnp.moveaxis(x, 2, 0) for x in (k, v))  # [KV, R, S, d]
    blocks = []
    size = query_block(s)
    for a in range(0, s, size):
        b = min(a + size, s)
        block = _grouped(q[:, a:b], kv) * d**-0.5
        seen = jnp.arange(b) <= jnp.arange(a, b)[:, None]
        seen = jnp.broadcast_to(jnp.tile(seen, (group, 1)), (q.shape[0], group * (b - a), b))
        out = _attend(block, k[:, :, :b], v[:, :, :b], seen, prefix_k, prefix_v, prefix_length)
        blocks.append(_ungrouped(out, b - a))
    return jnp.concatenate(blocks, axis=1)


def has_fused_attention(dtype: jnp.dtype, head_dim: int) -> bool:
    """Whether the device has causal attention as one kernel: cuDNN's, in half precision."""
    half = dtype in (jnp.bfloat16, jnp.float16)
    return jax.default_backend() == "gpu" and half and head_dim <= 128 and head_dim % 8 == 0


def fused_attention(q: Array, k: Array, v: Array, implementation: str = "cudnn") -> Array:
    """Causal attention of rows [R, S, H, d] to themselves; `causal_attention` without a prefix."""
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)


def packed_attention(
    q: Array, k: Array, v: Array, segments: Array, window: int,
    prefix_k: Array, prefix_v: Array, prefix_length: Array,
) -> Array:  # fmt: skip
    """Attention of responses that stand one after the other, each to the prefix and to itself.

    A block of queries needs the keys of its own block and of the `window` blocks before it.

    Args:
      q: [B, H, d], as the result; B is at most `PACKED_BLOCK` or a multiple of it.
      k, v: [B, KV, d].
      segments: [B], which response each token belongs to, ascending.
      window: most block boundaries that lie within a response.
      prefix_k, prefix_v: [T, KV, d], of which the first `prefix_length` (a scalar) are valid.
    """
    size, kv, d = k.shape
    block = min(size, PACKED_BLOCK)
    n, group = size // block, q.shape[1] // kv
    blocked = _grouped(q.reshape(n, block, *q.shape[1:]), kv) * d**-0.5  # [KV, N, G·S, d]
    place = jnp.arange(n)[:, None] * block + jnp.arange(-window * block, block)
    inside, place = place >= 0, jnp.maximum(place, 0)  # [N, (window + 1)·S]
    k, v = (jnp.moveaxis(x[place], 2, 0) for x in (k, v))
    own = jnp.arange(size).reshape(n, block, 1)
    seen = inside[:, None] & (place[:, None] <= own)
    seen &= segments[place][:, None] == segments.reshape(n, block, 1)
    seen = jnp.tile(seen, (1, group, 1))
    out = _attend(blocked, k, v, seen, prefix_k, prefix_v, prefix_length, in_turns=True)
    return _ungrouped(out, block).reshape(q.shape)


def decode_attention(
    q: Array, prefix_k: Array, prefix_v: Array, prefix_valid: Array, k: Array, v: Array, t: Array
) -> Array:
    """Attention of one new token a row to its group's prefix and to its generated tokens 0..t.

    Rows of a group share one prompt's cache, not copied; heads lead, so that no step transposes.

    Args:
      q: [P·G, H, d], as the result; G rows for each of P prompts.
      prefix_k, prefix_v: [P, KV, T, d].
      prefix_valid: [P, T] bool.
      k, v: [P·G, KV, M, d], of generated tokens, entry t already written.
      t: scalar, index of the new token.
    """
    (b, h, d), (p, kv) = q.shape, prefix_k.shape[:2]
    rows, group = b // p, h // kv
    q = q.reshape(b, kv, group, d) * d**-0.5

    def by_prompt(x: Array) -> Array:  # [P·G, KV, group, ...] -> [P, KV, G·group, ...]
        x = jnp.swapaxes(x.reshape(p, rows, kv, group, x.shape[-1]), 1, 2)
        return x.reshape(p, kv, rows * group, x.shape[-1])

    def by_row(x: Array) -> Array:
        x = jnp.swapaxes(x.reshape(p, kv, rows, group, x.shape[-1]), 1, 2)
        return x.reshape(b, kv, group, x.shape[-1])

    before = product("pkmd,pktd->pkmt", by_prompt(q), prefix_k)
    before = by_row(jnp.where(prefix_valid[:, None, None, :], before, -jnp.inf))
    own = product("bkgd,bktd->bkgt", q, k)
    own = jnp.where(jnp.arange(k.shape[2]) <= t, own, -jnp.inf)
    w, o, total = _weights(before, own)
    out = by_row(product("pkmt,pktd->pkmd", by_prompt(w), prefix_v))
    out = out + product("bkgt,bktd->bkgd", o, v)
    return (out / total).reshape(b, h, d)

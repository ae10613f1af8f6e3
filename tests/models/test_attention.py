"""The forms of attention against the plain formula in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.models import attention
from remid_jax.models.attention import (
    causal_attention,
    decode_attention,
    fused_attention,
    has_fused_attention,
    packed_attention,
    rotary,
)


def one_query(q, k, v):
    """[H, d] query over [T, KV, d] keys and values it may all see."""
    group = q.shape[0] // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    score = np.einsum("hd,thd->ht", q, k) / np.sqrt(q.shape[-1])
    weight = np.exp(score - score.max(-1, keepdims=True))
    return np.einsum("ht,thd->hd", weight / weight.sum(-1, keepdims=True), v)


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("heads, kv", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("rows, length, size, valid", [(1, 7, 5, 3), (3, 4, 5, 5), (2, 6, 0, 0)])
def test_causal(heads, kv, rows, length, size, valid):
    q, k, v = (random(i, rows, length, n, 8) for i, n in enumerate((heads, kv, kv)))
    pk, pv = random(3, size, kv, 8), random(4, size, kv, 8)
    got = causal_attention(q, k, v, jnp.asarray(pk), jnp.asarray(pv), jnp.int32(valid))
    for r in range(rows):
        for s in range(length):
            keys = np.concatenate([pk[:valid], k[r, : s + 1]])
            values = np.concatenate([pv[:valid], v[r, : s + 1]])
            np.testing.assert_allclose(got[r, s], one_query(q[r, s], keys, values), atol=2e-6)


def test_many_rows_equal_single_rows():
    length, rows = 16, 64
    q, k, v = (random(i, rows, length, n, 8) for i, n in enumerate((4, 2, 2)))
    pk, pv = random(3, 20, 2, 8), random(4, 20, 2, 8)
    got = causal_attention(q, k, v, pk, pv, 11)
    for r in (0, 1, rows // 2 - 1, rows // 2, rows - 1):
        own = slice(r, r + 1)
        alone = causal_attention(q[own], k[own], v[own], pk, pv, 11)
        np.testing.assert_allclose(got[own], alone, atol=2e-6)


def test_what_stands_past_the_valid_prefix_is_never_read():
    q, k, v = (random(i, 2, 3, n, 8) for i, n in enumerate((4, 2, 2)))
    pk, pv = random(3, 9, 2, 8), random(4, 9, 2, 8)
    before = causal_attention(q, k, v, pk, pv, 4)
    pk[4:], pv[4:] = 1e4, 1e4
    np.testing.assert_array_equal(causal_attention(q, k, v, pk, pv, 4), before)


@pytest.mark.parametrize("block", [3, 8, 64])
def test_blocks_of_queries_change_nothing(monkeypatch, block):
    q, k, v = (random(i, 2, 20, n, 8) for i, n in enumerate((4, 2, 2)))
    pk, pv = random(3, 9, 2, 8), random(4, 9, 2, 8)
    expected = causal_attention(q, k, v, pk, pv, 4)
    monkeypatch.setattr(attention, "QUERY_BLOCK", block)
    np.testing.assert_allclose(causal_attention(q, k, v, pk, pv, 4), expected, atol=2e-6)


@pytest.mark.parametrize("heads, kv", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("block, window", [(4, 2), (4, 3), (8, 1), (12, 0), (64, 0)])
def test_packed(monkeypatch, heads, kv, block, window):
    monkeypatch.setattr(attention, "PACKED_BLOCK", block)
    lengths, valid = [3, 9, 1, 7, 2], 5  # and two places of padding
    segments = np.repeat(np.arange(6), [*lengths, 2])
    q, k, v = (random(i, 24, n, 8) for i, n in enumerate((heads, kv, kv)))
    pk, pv = random(3, 7, kv, 8), random(4, 7, kv, 8)
    got = packed_attention(q, k, v, jnp.asarray(segments), window, pk, pv, valid)
    for place in range(22):
        own = np.flatnonzero((segments == segments[place]) & (np.arange(24) <= place))
        keys = np.concatenate([pk[:valid], k[own]])
        values = np.concatenate([pv[:valid], v[own]])
        np.testing.assert_allclose(got[place], one_query(q[place], keys, values), atol=2e-6)
    assert np.isfinite(got).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("prefix", [0, 7])
def test_heads_in_turns_are_heads_at_once(monkeypatch, dtype, prefix):
    q = jnp.asarray(random(0, 24, 4, 8))
    k, v = (jnp.asarray(random(i, 24, 2, 8), dtype) for i in (1, 2))
    pk, pv = (jnp.asarray(random(i, prefix, 2, 8), dtype) for i in (3, 4))
    segments, maps = jnp.repeat(jnp.arange(2), 12), []
    run = functools.partial(packed_attention, q, k, v, segments, 0, pk, pv, min(prefix, 5))
    once = run()
    monkeypatch.setattr(attention, "CACHED", 0)
    real = jax.lax.map
    monkeypatch.setattr(jax.lax, "map", lambda *of: maps.append(of) or real(*of))
    np.testing.assert_allclose(run(), once, atol=2e-6)
    assert len(maps) == 1


def test_half_precision_accumulates_in_single():
    q, k, v = (random(i, 1, 40, n, 8) for i, n in enumerate((4, 2, 2)))
    pk, pv = random(3, 30, 2, 8), random(4, 30, 2, 8)
    half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v, pk, pv)]
    rounded = [np.asarray(x.astype(jnp.float32)) for x in half]
    got = causal_attention(*half, 30)
    np.testing.assert_allclose(got.astype(jnp.float32), causal_attention(*rounded, 30), atol=0.03)


def test_the_fused_form_of_accelerators_is_the_same_function():
    """cuDNN's needs a GPU; the same call runs in XLA here, with the same scale and grouping."""
    q, k, v = (random(i, 2, 20, n, 8) for i, n in enumerate((4, 2, 2)))
    empty = np.zeros((0, 2, 8), np.float32)
    np.testing.assert_allclose(
        fused_attention(q, k, v, "xla"), causal_attention(q, k, v, empty, empty, 0), atol=2e-6
    )
    assert not has_fused_attention(jnp.bfloat16, 64)  # on CPU


@pytest.mark.parametrize("rows", [1, 3])
def test_decode_of_groups_on_one_prompt(rows):
    """G rows of a prompt give what they give with a copy of its cache each."""
    lengths, t = [6, 2], 3
    q = random(0, 2 * rows, 4, 8)
    pk, pv = random(1, 2, 2, 6, 8), random(2, 2, 2, 6, 8)
    k, v = random(3, 2 * rows, 2, 5, 8), random(4, 2 * rows, 2, 5, 8)
    valid = np.arange(6) < np.array(lengths)[:, None]
    got = decode_attention(q, pk, pv, valid, k, v, t)
    copied = (np.repeat(x, rows, axis=0) for x in (pk, pv, valid))
    np.testing.assert_allclose(got, decode_attention(q, *copied, k, v, t), atol=2e-6)


@pytest.mark.parametrize("t", [0, 2, 4])
def test_decode(t):
    lengths = [6, 1, 3]
    q = random(0, 3, 4, 8)
    pk, pv = random(1, 3, 2, 6, 8), random(2, 3, 2, 6, 8)
    k, v = random(3, 3, 2, 5, 8), random(4, 3, 2, 5, 8)
    valid = np.arange(6) < np.array(lengths)[:, None]
    got = decode_attention(q, pk, pv, valid, k, v, t)
    for b, n in enumerate(lengths):
        keys = np.concatenate([pk[b, :, :n], k[b, :, : t + 1]], axis=1).swapaxes(0, 1)
        values = np.concatenate([pv[b, :, :n], v[b, :, : t + 1]], axis=1).swapaxes(0, 1)
        np.testing.assert_allclose(got[b], one_query(q[b], keys, values), atol=2e-6)


def test_rotary_turns_pairs_and_keeps_relative_positions():
    x, y = random(0, 1, 1, 8), random(1, 1, 1, 8)
    at = lambda z, p: np.asarray(rotary(jnp.asarray(z), jnp.array([p]), 100.0))[0, 0]  # noqa: E731
    np.testing.assert_allclose(at(x, 0), x[0, 0], atol=1e-6)
    angle = 3 * 100.0 ** (-np.arange(4) / 4)
    pair = (x[0, 0, :4] + 1j * x[0, 0, 4:]) * np.exp(1j * angle)
    np.testing.assert_allclose(at(x, 3), [*pair.real, *pair.imag], atol=1e-5)
    np.testing.assert_allclose(at(x, 9) @ at(y, 4), at(x, 105) @ at(y, 100), atol=1e-4)

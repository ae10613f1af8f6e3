"""The two attention forms against the plain formula in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.models.attention import (
    decode_attention,
    rotary,
    shared_prefix_attention,
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
def test_shared_prefix(heads, kv, rows, length, size, valid):
    q, k, v = (random(i, rows, length, n, 8) for i, n in enumerate((heads, kv, kv)))
    pk, pv = random(3, size, kv, 8), random(4, size, kv, 8)
    got = shared_prefix_attention(q, k, v, jnp.asarray(pk), jnp.asarray(pv), jnp.int32(valid))
    for r in range(rows):
        for s in range(length):
            keys = np.concatenate([pk[:valid], k[r, : s + 1]])
            values = np.concatenate([pv[:valid], v[r, : s + 1]])
            np.testing.assert_allclose(got[r, s], one_query(q[r, s], keys, values), atol=2e-6)


def test_many_rows_equal_single_rows():
    length, rows = 16, 64
    q, k, v = (random(i, rows, length, n, 8) for i, n in enumerate((4, 2, 2)))
    pk, pv = random(3, 20, 2, 8), random(4, 20, 2, 8)
    got = shared_prefix_attention(q, k, v, pk, pv, 11)
    for r in (0, 1, rows // 2 - 1, rows // 2, rows - 1):
        own = slice(r, r + 1)
        alone = shared_prefix_attention(q[own], k[own], v[own], pk, pv, 11)
        np.testing.assert_allclose(got[own], alone, atol=2e-6)


def test_what_stands_past_the_valid_prefix_is_never_read():
    q, k, v = (random(i, 2, 3, n, 8) for i, n in enumerate((4, 2, 2)))
    pk, pv = random(3, 9, 2, 8), random(4, 9, 2, 8)
    before = shared_prefix_attention(q, k, v, pk, pv, 4)
    pk[4:], pv[4:] = 1e4, 1e4
    np.testing.assert_array_equal(shared_prefix_attention(q, k, v, pk, pv, 4), before)


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

"""A freshly drawn decoder, and its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from remid_jax.models.decoder import Decoder, DecoderConfig, rms_norm

CONFIG = DecoderConfig(
    vocab_size=20, num_layers=3, width=16, num_heads=4, num_kv_heads=2, head_dim=4, mlp_width=24,
    max_positions=64, rope_theta=1e4, norm_eps=1e-5, tie_embeddings=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def decoder():
    return Decoder(CONFIG, nnx.Rngs(0))


def test_layers_are_stacked_and_drawn_apart(decoder):
    query = np.asarray(decoder.layers.query[...])
    assert query.shape == (3, 16, 16)
    assert abs(query.std() - 0.25) < 0.03  # width ** -0.5
    assert not np.allclose(query[0], query[1]) and not np.allclose(query[1], query[2])
    again = Decoder(CONFIG, nnx.Rngs(0))
    np.testing.assert_array_equal(query, again.layers.query[...])
    other = Decoder(CONFIG, nnx.Rngs(1))
    assert not np.allclose(query, other.layers.query[...])


def test_later_tokens_and_other_rows_change_nothing(decoder):
    empty = jnp.zeros((3, 0, 2, 4))
    tokens = np.arange(14).reshape(2, 7)
    before, (keys, values) = decoder.extend(tokens, (empty, empty), 0)
    assert before.shape == (2, 7, 16) and keys.shape == values.shape == (3, 2, 7, 2, 4)
    changed = tokens.copy()
    changed[0, 4:], changed[1] = 19, 18
    after, _ = decoder.extend(changed, (empty, empty), 0)
    np.testing.assert_allclose(after[0, :4], before[0, :4], atol=1e-6)
    assert np.abs(after[0, 4:] - before[0, 4:]).max(-1).min() > 1e-3
    assert np.abs(after[1] - before[1]).max() > 1e-3


def test_gradients_are_finite_and_reach_every_weight(decoder):
    graphdef, params = nnx.split(decoder)

    def loss(params):
        model = nnx.merge(graphdef, params)
        hidden, _ = model.extend(np.arange(6)[None], (jnp.zeros((3, 0, 2, 4)),) * 2, 0)
        return jnp.mean(jax.nn.logsumexp(model.logits(hidden), -1) - model.logits(hidden)[..., 3])

    for path, gradient in jax.tree.leaves_with_path(jax.grad(loss)(params)):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, path


def test_rms_norm():
    x, scale = np.array([[3.0, -4.0], [0.0, 0.0]], np.float32), np.array([2.0, 1.0], np.float32)
    root = np.sqrt(12.5 + 0.5)
    expected = [[6 / root, -4 / root], [0, 0]]
    np.testing.assert_allclose(rms_norm(x, scale, 0.5), expected, rtol=1e-6)
    half = rms_norm(jnp.asarray(x, jnp.bfloat16), scale, 0.5)
    assert half.dtype == jnp.bfloat16

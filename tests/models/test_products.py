"""Half precision: what products are given is rounded, and nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.models import products
from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.models.lora import LoraConfig, LoraParam
from remid_jax.models.products import product
from remid_jax.models.slices import scan_layers, slice_in_dim

CONFIG = DecoderConfig(
    vocab_size=20, num_layers=3, width=16, num_heads=4, num_kv_heads=2, head_dim=4, mlp_width=24,
    max_positions=64, rope_theta=1e4, norm_eps=1e-5, tie_embeddings=False, attention_bias=True,
    qk_norm=True,
)  # fmt: skip
SHAPES = {
    "...i,io->...o": ((2, 5, 8), (8, 6)),
    "...d,vd->...v": ((5, 8), (9, 8)),
    "kmd,tkd->kmt": ((3, 4, 8), (7, 3, 8)),
    "pkmt,pktd->pkmd": ((2, 3, 4, 5), (2, 3, 5, 8)),
}


def random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def rounded(x):
    return x.astype(jnp.bfloat16).astype(jnp.float32)


@pytest.mark.parametrize("spec", SHAPES)
def test_product_and_gradients_are_those_of_rounded_inputs(spec):
    x, y = (random(i, *shape) for i, shape in enumerate(SHAPES[spec]))
    out, back = jax.vjp(lambda x, y: product(spec, x, y), x, y.astype(jnp.bfloat16))
    plain = lambda x, y: jnp.einsum(spec, x, y, precision="highest")  # noqa: E731
    expected, plain_back = jax.vjp(plain, rounded(x), rounded(y))
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, expected, atol=1e-5)
    gradient = random(2, *out.shape)
    of_x, of_y = back(gradient)
    expected_x, expected_y = plain_back(rounded(gradient))
    assert of_x.dtype == jnp.float32  # not rounded: norms and residuals go on from it
    np.testing.assert_allclose(of_x, expected_x, atol=1e-5)
    np.testing.assert_array_equal(of_y, expected_y.astype(jnp.bfloat16))


def equations(jaxpr):
    """All equations of a jaxpr, those of inner ones included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.skipif(not products._HAS_HALF_PRODUCTS, reason="jaxlib has none on CPU")
@pytest.mark.parametrize("remat", [False, True])
def test_every_product_of_half_precision_sums_in_single(remat):
    """Forward and back, with an adapter: the types that any backend is given."""
    decoder = Decoder(CONFIG, nnx.Rngs(0), LoraConfig(rank=2, dropout=0.1))
    graphdef, adapter, base = nnx.split(decoder, LoraParam, ...)
    base = jax.tree.map(lambda w: w.astype(jnp.bfloat16), base)
    prefix = (random(1, 3, 5, 2, 4).astype(jnp.bfloat16),) * 2

    def loss(adapter):
        model = nnx.merge(graphdef, adapter, base)
        hidden, kept = model.extend(
            np.arange(12).reshape(2, 6), prefix, 4, jax.random.key(0), remat
        )
        assert hidden.dtype == jnp.float32 and kept[0].dtype == kept[1].dtype == jnp.bfloat16
        return jnp.sum(jax.nn.log_softmax(model.logits(hidden))[..., 3])

    found = [
        e for e in equations(jax.make_jaxpr(jax.grad(loss))(adapter).jaxpr)
        if e.primitive.name == "dot_general"
    ]  # fmt: skip
    assert len(found) > 40
    for e in found:
        assert {x.aval.dtype.name for x in e.invars} == {"bfloat16"}, e
        assert e.outvars[0].aval.dtype == jnp.float32, e
    gradient = jax.grad(loss)(adapter)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    assert sum(float(jnp.abs(g).sum()) for g in jax.tree.leaves(gradient)) > 0


def test_rounded_weights_score_as_single_ones_do(make_model):
    """Beside the rounding of weights themselves, less than that of what stands between products."""
    full = make_model(seed=3)
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), full.params)
    same = jax.tree.map(lambda w: w.astype(jnp.float32), half)
    draw = np.random.default_rng(1).integers
    contexts, responses = ([draw(1, 48, n).tolist() for n in ns] for ns in ((30, 60), (20, 40)))
    got, expected = (
        pair_log_likelihoods(dataclasses.replace(full, params=p, dtype=name), contexts, responses)
        for p, name in ((half, "bfloat16"), (same, "float32"))
    )
    apart = np.abs(got.sums - expected.sums) / got.num_tokens
    assert 0 < apart.max() < 2e-3


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_slices_and_their_gradients(dtype):
    x = random(0, 6, 5).astype(dtype)
    for axis, start in ((0, 3), (1, 2)):
        take = lambda x, a=axis, s=start: slice_in_dim(x, jnp.int32(s), 2, a)  # noqa: E731
        expected, back = jax.vjp(
            lambda x, a=axis, s=start: jax.lax.slice_in_dim(x, s, s + 2, axis=a), x
        )
        got, own_back = jax.vjp(take, x)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(own_back(2 * expected)[0], back(2 * expected)[0])


@pytest.mark.parametrize("remat", [False, True])
def test_layers_of_either_precision_run_in_order(remat):
    half, full = random(0, 4, 3).astype(jnp.bfloat16), random(1, 4, 3)

    def run(half, full):
        def step(x, layer):
            x = jnp.sin(x * 2 + layer[0].astype(jnp.float32)) * layer[1]
            return x, x.sum()

        return scan_layers(step, jnp.ones(3), (half, full), remat)

    x, sums = jnp.ones(3), []
    for a, b in zip(half, full, strict=True):
        x = jnp.sin(x * 2 + a.astype(jnp.float32)) * b
        sums.append(x.sum())
    np.testing.assert_allclose(run(half, full)[0], x, rtol=1e-6)
    np.testing.assert_allclose(run(half, full)[1], jnp.stack(sums), rtol=1e-6)
    of_half, of_full = jax.grad(lambda *w: run(*w)[0].sum(), (0, 1))(half, full)
    expected = jax.grad(lambda *w: run(*w)[0].sum(), (0, 1))(half.astype(jnp.float32), full)
    np.testing.assert_allclose(of_full, expected[1], rtol=1e-6)
    np.testing.assert_allclose(of_half.astype(jnp.float32), expected[0], rtol=1e-2)


def test_a_loop_over_layers_never_converts_the_whole_stack():
    """What made bfloat16 slower than float32 on a processor: seen in the compiled program."""
    stacked = random(0, 7, 32, 32).astype(jnp.bfloat16)
    step = lambda x, w: (x + product("...i,io->...o", x, w), None)  # noqa: E731
    run = jax.jit(lambda x, w: scan_layers(step, x, w, False)[0])
    text = run.lower(random(1, 64, 32), stacked).compile().as_text()
    assert "bf16[7,32,32]" in text and "f32[7,32,32]" not in text

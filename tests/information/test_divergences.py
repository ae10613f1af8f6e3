"""Entropies and divergences against loops in plain NumPy, and their identities."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.information import divergences as dv

LOG2 = math.log(2)
PAIRS = (dv.kl, dv.jensen_shannon, dv.total_variation)
many = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 10**6)


def law_of(rng, *shape, zeros=0.3, axis=-1):
    """Random laws along an axis, with some exact zeros but never a row of them."""
    p = rng.gamma(0.7, size=shape) * (rng.random(shape) > zeros)
    p = p + (p.sum(axis=axis, keepdims=True) == 0)
    return p / p.sum(axis=axis, keepdims=True)


def x64():
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def plain_kl(p, q):
    total = 0.0
    for a, b in zip(np.ravel(p), np.ravel(q), strict=True):
        if a > 0:
            total += math.inf if b == 0 else a * math.log(a / b)
    return total


def plain(name, p, q):
    middle = (np.asarray(p) + np.asarray(q)) / 2
    if name == "kl":
        return plain_kl(p, q)
    if name == "jensen_shannon":
        return (plain_kl(p, middle) + plain_kl(q, middle)) / 2
    return sum(abs(a - b) for a, b in zip(np.ravel(p), np.ravel(q), strict=True)) / 2


@many
@given(n=st.sampled_from([1, 2, 6]), seed=seeds)
def test_divergences_equal_their_formulas(n, seed):
    rng = np.random.default_rng(seed)
    p, q = law_of(rng, n), law_of(rng, n)
    with x64():
        for function in PAIRS:
            expected = plain(function.__name__, p, q)
            assert float(function(p, q)) == pytest.approx(expected, abs=1e-13)
        expected = -sum(a * math.log(a) for a in p if a > 0)
        assert float(dv.entropy(p)) == pytest.approx(expected, abs=1e-13)
    single = p.astype(np.float32), q.astype(np.float32)
    js = dv.jensen_shannon(*single)
    assert js.dtype == jnp.float32
    assert float(js) == pytest.approx(plain("jensen_shannon", p, q), abs=1e-5)


@many
@given(shape=st.sampled_from([(1, 3), (3, 2), (4, 4)]), seed=seeds)
def test_mutual_information_of_a_channel(shape, seed):
    x, y = shape
    rng = np.random.default_rng(seed)
    law, channel = law_of(rng, x, zeros=0.5), law_of(rng, x, y, zeros=0.5)
    output = [sum(law[i] * channel[i, j] for i in range(x)) for j in range(y)]
    joint = law[:, None] * channel
    with x64():
        np.testing.assert_allclose(dv.output_law(law, channel), output, atol=1e-15)
        value = float(dv.mutual_information(law, channel))
        entropies = dv.entropy(law) + dv.entropy(np.array(output)) - dv.entropy(joint, axis=(0, 1))
    # A context of probability 0 has no say, whatever its row holds.
    loops = sum(law[i] * plain_kl(channel[i], output) for i in range(x) if law[i] > 0)
    assert value == pytest.approx(loops, abs=1e-13)
    assert value == pytest.approx(float(entropies), abs=1e-12)


@many
@given(shape=st.sampled_from([(2, 3, 2), (1, 4, 3)]), seed=seeds)
def test_chain_rule_sums_to_the_joint_divergence(shape, seed):
    rng = np.random.default_rng(seed)
    p, q = (law_of(rng, math.prod(shape)).reshape(shape) for _ in range(2))
    with x64():
        whole = float(dv.jensen_shannon(p, q, axis=(0, 1, 2)))
        average = np.zeros(3)
        for order in itertools.permutations(range(3)):
            shares = np.asarray(dv.chain_rule_js(p, q, order))
            assert shares.sum() == pytest.approx(whole, abs=1e-12)
            assert shares.min() > -1e-12
            first = tuple(i for i in range(3) if i != order[0])
            marginal = plain("jensen_shannon", p.sum(first), q.sum(first))
            assert shares[order[0]] == pytest.approx(marginal, abs=1e-12)
            average += shares / 6
        np.testing.assert_allclose(dv.factor_js(p, q), average, atol=1e-13)


def test_second_share_is_conditional_information_about_the_coin():
    rng = np.random.default_rng(4)
    p, q = (law_of(rng, 12, zeros=0).reshape(3, 4) for _ in range(2))
    conditional = 0.0
    for u in range(3):  # I(B;C|U) = Σ_u p(u) JS weighted by the coin's odds given u
        a, b = p[u] / 2, q[u] / 2
        mass = (a + b).sum()
        conditional += plain_kl(a, (a + b) * a.sum() / mass) + plain_kl(b, (a + b) * b.sum() / mass)
    with x64():
        assert float(dv.chain_rule_js(p, q, (0, 1))[1]) == pytest.approx(conditional, abs=1e-13)


def test_a_single_shifted_factor_takes_all_and_dependence_shares():
    u, v, w = (law_of(np.random.default_rng(i), 3, zeros=0) for i in range(3))
    p, q = np.einsum("i,j->ij", u, v), np.einsum("i,j->ij", u, w)
    with x64():
        js = plain("jensen_shannon", v, w)
        np.testing.assert_allclose(dv.factor_js(p, q), [0, js], atol=1e-13)
        # Equal marginals with another coupling: alone no factor differs, and each explains half.
        p, q = np.eye(2) / 2, np.eye(2)[::-1] / 2
        np.testing.assert_allclose(dv.chain_rule_js(p, q, (0, 1)), [0, LOG2], atol=1e-15)
        np.testing.assert_allclose(dv.factor_js(p, q), [LOG2 / 2] * 2, atol=1e-15)


@many
@given(n=st.sampled_from([2, 3, 7]), seed=seeds)
def test_inequalities(n, seed):
    rng = np.random.default_rng(seed)
    p, q, r = (law_of(rng, n) for _ in range(3))
    with x64():
        js, tv, kl = (float(f(p, q)) for f in (dv.jensen_shannon, dv.total_variation, dv.kl))
        assert -1e-15 <= js <= LOG2 + 1e-15 and 0 <= tv <= 1 + 1e-15
        assert tv**2 <= 2 * js + 1e-12 and js <= LOG2 * tv + 1e-12
        assert 2 * tv**2 <= kl + 1e-12
        assert js == pytest.approx(float(dv.jensen_shannon(q, p)), abs=1e-14)
        distance = lambda a, b: math.sqrt(max(0.0, float(dv.jensen_shannon(a, b))))  # noqa: E731
        assert distance(p, q) <= distance(p, r) + distance(r, q) + 1e-7
        channel = law_of(rng, n, 3)
        outputs = dv.output_law(p, channel), dv.output_law(q, channel)
        assert float(dv.jensen_shannon(*outputs)) <= js + 1e-12  # data processing
        assert -1e-12 <= float(dv.mutual_information(p, channel)) <= math.log(min(n, 3)) + 1e-12


def test_extremes():
    p, q = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    assert float(dv.kl(p, q)) == math.inf and float(dv.kl(p, p)) == 0
    assert float(dv.kl(p, jnp.array([0.5, 0.5]))) == pytest.approx(LOG2)
    assert float(dv.jensen_shannon(p, q)) == pytest.approx(LOG2)
    assert float(dv.total_variation(p, q)) == 1
    assert float(dv.entropy(p)) == 0
    assert float(dv.entropy(jnp.full(8, 0.125))) == pytest.approx(math.log(8))


def test_gradients_are_finite_at_zeros_and_right_elsewhere():
    p, q = jnp.array([0.5, 0.5, 0.0, 0.0]), jnp.array([0.0, 0.3, 0.7, 0.0])
    for function in (dv.jensen_shannon, dv.total_variation):
        for argument in (0, 1):
            assert np.isfinite(jax.grad(function, argument)(p, q)).all()
    for argument in (0, 1):
        assert np.isfinite(jax.grad(dv.kl, argument)(q, jnp.full(4, 0.25))).all()
    assert np.isfinite(jax.grad(dv.entropy)(p)).all()
    with x64():
        p, q = jnp.array([0.2, 0.3, 0.5]), jnp.array([0.6, 0.3, 0.1])
        np.testing.assert_allclose(jax.grad(dv.entropy)(p), -np.log(p) - 1, rtol=1e-12)
        np.testing.assert_allclose(jax.grad(dv.kl)(p, q), np.log(p / q) + 1, rtol=1e-12)
        np.testing.assert_allclose(jax.grad(dv.kl, 1)(p, q), -p / q, rtol=1e-12)
        by_hand = np.log(2 * p / (p + q)) / 2
        np.testing.assert_allclose(jax.grad(dv.jensen_shannon)(p, q), by_hand, atol=1e-12)


@pytest.mark.parametrize("function", PAIRS)
def test_batches_axes_and_transformations(function):
    rng = np.random.default_rng(7)
    p, q = (law_of(rng, 5, 4, zeros=0).astype(np.float32) for _ in range(2))
    rows = [float(function(a, b)) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(function(p, q), rows, rtol=1e-6)
    np.testing.assert_allclose(function(p.T, q.T, axis=0), rows, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(p, q), rows, rtol=1e-6)
    joint = [x.reshape(5, 2, 2) for x in (p, q)]
    np.testing.assert_allclose(function(*joint, axis=(1, 2)), rows, rtol=1e-6)
    np.testing.assert_allclose(function(p, q[0]), [float(function(a, q[0])) for a in p], rtol=1e-6)


def test_a_context_of_probability_zero_has_no_say():
    law, channel = jnp.array([1.0, 0.0]), jnp.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    assert float(dv.mutual_information(law, channel)) == 0
    for argument in (0, 1):
        assert np.isfinite(jax.grad(dv.mutual_information, argument)(law, channel)).all()


def test_batches_of_channels():
    rng = np.random.default_rng(8)
    laws, channels = law_of(rng, 6, 3), law_of(rng, 6, 3, 4)
    expected = [dv.mutual_information(a, b) for a, b in zip(laws, channels, strict=True)]
    np.testing.assert_allclose(dv.mutual_information(laws, channels), expected, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(dv.mutual_information)(laws, channels), expected, atol=1e-6)
    p, q = law_of(rng, 2, 3, axis=(0, 1)), law_of(rng, 2, 3, axis=(0, 1))
    batched = jax.jit(jax.vmap(dv.factor_js))(p[None], q[None])[0]
    np.testing.assert_allclose(batched, dv.factor_js(p, q), atol=1e-6)


@pytest.mark.parametrize("function", PAIRS)
def test_bad_laws_are_named_with_shape_and_place(function):
    good, bad = np.full((2, 2), 0.5), np.array([[0.5, 0.5], [0.9, 0.3]])
    with pytest.raises(ValueError, match=r"p of shape \(2, 2\): row \(1,\) sums to 1.2"):
        function(bad, good)
    with pytest.raises(ValueError, match=r"q of shape \(2, 2\): row \(1,\) sums to 1.2"):
        function(good, bad)
    with pytest.raises(ValueError, match=r"p of shape \(2,\) holds the negative -0.5 at \(1,\)"):
        function(np.array([1.5, -0.5]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"q of shape \(2,\) holds nan at \(0,\)"):
        function(np.array([0.5, 0.5]), np.array([math.nan, 1]))


def test_bad_channels_and_orders():
    with pytest.raises(ValueError, match=r"law of shape \(2,\): all sums to 0.8"):
        dv.mutual_information(np.array([0.5, 0.3]), np.eye(2))
    with pytest.raises(ValueError, match=r"channel of shape \(2, 2\): row \(1,\) sums to 2"):
        dv.output_law(np.array([0.5, 0.5]), np.array([[0.0, 1.0], [1.0, 1.0]]))
    with pytest.raises(ValueError, match=r"p of shape \(2, 2\): all sums to 2"):
        dv.chain_rule_js(np.eye(2), np.eye(2) / 2, (0, 1))
    with pytest.raises(ValueError, match=r"one shape, got \(2, 2\) and \(1, 4\)"):
        dv.chain_rule_js(np.eye(2) / 2, np.full((1, 4), 0.25), (0, 1))
    for order in ((0, 0), (0,), (0, 1, 2)):
        with pytest.raises(ValueError, match="order"):
            dv.chain_rule_js(np.eye(2) / 2, np.eye(2) / 2, order)
    with pytest.raises(ValueError, match="p of shape"):
        dv.entropy(np.array([0.5, 0.6]))


def test_sizes_that_do_not_agree_are_refused():
    two, three = np.full(2, 0.5), np.full(3, 1 / 3)
    for function in (dv.kl, dv.jensen_shannon, dv.total_variation):
        with pytest.raises(ValueError, match=r"p and q must agree along axis -1"):
            function(two, three)
    with pytest.raises(ValueError, match=r"law .* and channel .* do not agree"):
        dv.mutual_information(two, np.full((3, 2), 0.5))

"""The representation divergence against spectra in NumPy, discrete laws and its null."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.information import representation as rp
from remid_jax.information.divergences import jensen_shannon

LOG2 = math.log(2)


def x64():
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def plain_entropy(x):
    """S(ρ) from the outer products of the rows, one at a time, by singular values."""
    d = x.shape[1]
    rho = np.zeros((d, d))
    for row in x.astype(np.float64):
        z = row / math.sqrt(sum(v * v for v in row))
        rho += np.outer(z, z) / len(x)
    return -sum(v * math.log(v) for v in np.linalg.svd(rho, compute_uv=False) if v > 1e-15)


def plain_jsd(a, b):
    return plain_entropy(np.concatenate([a, b])) - (plain_entropy(a) + plain_entropy(b)) / 2


def empirical_js(a, b, k):
    p, q = (np.bincount(x, minlength=k) / len(x) for x in (a, b))
    return float(jensen_shannon(p, q))


@pytest.mark.parametrize(("n", "d"), [(12, 3), (5, 9), (4, 8), (6, 6)])
def test_equals_its_formula_in_either_space(n, d):
    a, b = np.random.default_rng(n).normal(size=(2, n, d)) + 0.3
    with x64():
        assert float(rp.von_neumann_entropy(a)) == pytest.approx(plain_entropy(a), abs=1e-12)
        assert float(rp.representation_jsd(a, b)) == pytest.approx(plain_jsd(a, b), abs=1e-12)
        scaled = a * np.arange(1, n + 1)[:, None]  # only directions count
        assert float(rp.representation_jsd(scaled, b)) == pytest.approx(plain_jsd(a, b), abs=1e-12)
    value = rp.representation_jsd(a, b)
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(plain_jsd(a, b), abs=2e-6)
    assert rp._density(jnp.asarray(a)).shape == (min(n, d),) * 2  # the smaller of the two spaces
    test = rp.representation_jsd_test(a, b, permutations=3)
    assert test.value == pytest.approx(plain_jsd(a, b), abs=2e-6)
    assert test.n == n and test.corrected == test.value - test.floor


def test_extremes():
    a = np.random.default_rng(0).normal(size=(20, 6))
    assert float(rp.representation_jsd(a, a[::-1])) == pytest.approx(0, abs=1e-6)
    left, right = np.pad(a, ((0, 0), (0, 6))), np.pad(a, ((0, 0), (6, 0)))
    assert float(rp.representation_jsd(left, right)) == pytest.approx(LOG2, abs=1e-6)
    assert float(rp.von_neumann_entropy(np.eye(7))) == pytest.approx(math.log(7), abs=1e-6)
    assert float(rp.von_neumann_entropy(np.ones((4, 3)))) == pytest.approx(0, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([3, 10]))
def test_one_hot_features_give_the_discrete_divergence_and_no_features_give_more(seed, k):
    rng = np.random.default_rng(seed)
    a, b = rng.choice(k, (2, 8), p=rng.dirichlet(np.ones(k)))
    js = empirical_js(a, b, k)
    assert float(rp.representation_jsd(np.eye(k)[a], np.eye(k)[b])) == pytest.approx(js, abs=1e-5)
    features = rng.normal(size=(k, 4)) + 0.5
    assert float(rp.representation_jsd(features[a], features[b])) <= js + 1e-5


def test_the_floor_is_high_where_vectors_are_few_and_falls_with_n():
    draw = np.random.default_rng(1).normal(size=(2, 90, 256))
    few = rp.representation_jsd_test(*draw, permutations=30)
    assert few.floor > 0.3  # both sets follow one law
    assert abs(few.corrected) < 0.02
    draw = np.random.default_rng(2).normal(size=(2, 500, 8))
    many = rp.representation_jsd_test(*draw, permutations=10)
    assert 0 < many.floor < 0.01


def test_p_values_are_uniform_without_a_shift_and_small_with_one():
    rng = np.random.default_rng(3)
    null = [
        rp.representation_jsd_test(*rng.normal(size=(2, 15, 4)), permutations=39, seed=i).p_value
        for i in range(120)
    ]
    assert min(null) >= 1 / 40 and max(null) <= 1
    assert 0.42 < np.mean(null) < 0.60  # s.e. .026
    assert 0.01 <= np.mean(np.array(null) <= 0.1) <= 0.18  # s.e. .027
    a, b = rng.normal(size=(2, 30, 4))
    shift = np.array([2.0, 0, 0, 0])
    shifted = rp.representation_jsd_test(a + shift, b + shift[::-1], permutations=99)
    assert shifted.p_value == 0.01 and shifted.corrected > 0.03


def test_the_sign_of_a_vector_is_not_seen():
    a = np.random.default_rng(8).normal(size=(30, 5)) + 1
    assert float(rp.representation_jsd(a, -a)) == pytest.approx(0, abs=1e-6)


def test_pairs_are_exchanged_within():
    rng = np.random.default_rng(4)
    a = rng.normal(size=(40, 8)) + 1
    b = a + 0.05 * rng.normal(size=(40, 8)) + 0.2 * np.eye(8)[0]
    free = rp.representation_jsd_test(a, b, permutations=99)
    within = rp.representation_jsd_test(a, b, permutations=99, paired=True)
    assert free.value == within.value and free.corrected < 0  # the free null forgets the pairs
    assert within.floor < 0.1 * free.floor
    assert within.p_value <= 0.02 < free.p_value
    same = rp.representation_jsd_test(a, a, permutations=19, paired=True)
    assert same.p_value == 1 and same.floor == pytest.approx(0, abs=1e-6)
    for row in range(40):  # each relabelling keeps one of each pair on each side
        order = np.asarray(rp._relabelled(jax.random.key(row), 5, True))
        assert sorted(order) == list(range(10)) and set(order[:5] % 5) == set(range(5))
        assert ((order[:5] - order[5:]) % 5 == 0).all()


def test_the_null_is_the_divergence_of_relabelled_sets(monkeypatch):
    a, b = np.random.default_rng(5).normal(size=(2, 6, 10))
    whole = rp.representation_jsd_test(a, b, permutations=7, seed=3)
    pooled = np.concatenate([a, b])
    values = []
    for key in jax.random.split(jax.random.key(3), 7):
        rows = pooled[np.asarray(rp._relabelled(key, 6, False))]
        values.append(plain_jsd(rows[:6], rows[6:]))
    assert whole.floor == pytest.approx(np.mean(values), abs=1e-6)
    assert whole.p_value == (1 + sum(v >= whole.value for v in values)) / 8
    monkeypatch.setattr(rp, "BATCH_ENTRIES", 2 * pooled.size)
    parts = rp.representation_jsd_test(a, b, permutations=7, seed=3)
    assert parts.floor == pytest.approx(whole.floor, abs=1e-7)
    assert parts.p_value == whole.p_value


def test_transformations():
    batch = np.random.default_rng(6).normal(size=(3, 2, 5, 4)).astype(np.float32)
    expected = [rp.representation_jsd(a, b) for a, b in batch]
    together = jax.jit(jax.vmap(rp.representation_jsd))(batch[:, 0], batch[:, 1])
    np.testing.assert_allclose(together, expected, atol=1e-6)
    a, b = (jnp.asarray(np.repeat(x, 2, 0)) for x in batch[0])  # many equal eigenvalues
    gradient = jax.grad(rp.representation_jsd)(a, b)
    assert np.isfinite(gradient).all() and np.abs(gradient).sum() > 1e-3
    with x64():
        a, b = batch[0].astype(np.float64)
        gradient = jax.grad(rp.representation_jsd)(a, b)
        step = 1e-6 * np.eye(20)[7].reshape(5, 4)
        slope = (plain_jsd(a + step, b) - plain_jsd(a - step, b)) / 2e-6
        assert float(gradient[1, 3]) == pytest.approx(slope, abs=1e-7)


def test_equal_size_keeps_the_smaller_and_orders_the_larger():
    a, b = np.arange(20.0).reshape(10, 2), np.ones((4, 2))
    drawn, kept = rp.equal_size(a, b, seed=1)
    assert (kept == b).all() and drawn.shape == (4, 2)
    assert (np.diff(drawn[:, 0]) > 0).all() and set(drawn[:, 0]) <= set(a[:, 0])
    firsts = {rp.equal_size(a, b, seed=s)[0][0, 0] for s in range(20)}
    assert len(firsts) > 2
    assert rp.equal_size(b, a, seed=1)[1].tolist() == drawn.tolist()


def test_bad_input():
    a = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"\(4, 3\) and|\(4, 3\), \(5, 3\).*equal_size"):
        rp.representation_jsd(a, np.ones((5, 3)))
    with pytest.raises(ValueError, match=r"equal width, got shapes \(4, 3\), \(4, 2\)"):
        rp.representation_jsd_test(a, np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"b of shape \(4, 3\): row 2 is zero"):
        rp.representation_jsd(a, a * [[1], [1], [0], [1]])
    hole = a.copy()
    hole[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"a of shape \(4, 3\) holds nan at \(3, 1\)"):
        rp.representation_jsd(hole, a)
    with pytest.raises(ValueError, match=r"n >= 2.*got shape \(3,\)"):
        rp.von_neumann_entropy(a[0])
    with pytest.raises(ValueError, match="permutations"):
        rp.representation_jsd_test(a, a, permutations=0)

"""The Gaussian vCLUB against loops, closed forms for Gaussians, and faults in its input."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from remid_jax.information import gaussian_club as gc
from remid_jax.information.mutual_information import club

RHO, D = 0.7, 2
LAUTUM_AND_MUTUAL = D * RHO**2 / (1 - RHO**2)  # 1.92 nats
MUTUAL = -D / 2 * math.log(1 - RHO**2)  # 0.67 nats


def correlated(n, seed, rho=RHO):
    x, noise = np.random.default_rng(seed).normal(size=(2, n, D))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


@pytest.fixture(scope="module")
def fitted():
    x, y = correlated(4000, 0)
    return gc.fit_gaussian(5 * x - 2, 3 * y + 1, steps=800, width=32)


def exact_q():
    """The true q(y | x) = N(ρx, 1 − ρ²) as scores, without any network."""
    x, y = correlated(2000, 1)
    mean = jnp.asarray(RHO * x, float)[:, None]
    variance = jnp.full((1, 1, D), math.log(1 - RHO**2))
    return gc.gaussian_log_density(mean, variance, jnp.asarray(y, float)[None])


def plain_scores(model, x, y):
    """log q pair by pair, in the units of y."""
    network = nnx.merge(model.graphdef, model.params)
    z = ((x - model.x_scale[0]) / model.x_scale[1]).astype(np.float32)
    mean, log_variance = (np.asarray(v, np.float64) for v in network(jnp.asarray(z)))
    mean = mean * model.y_scale[1] + model.y_scale[0]
    deviation = np.exp(log_variance / 2) * model.y_scale[1]
    scores = np.zeros((len(x), len(y)))
    for i in range(len(x)):
        for j in range(len(y)):
            for d in range(y.shape[1]):
                s = deviation[i, d]
                scores[i, j] -= (y[j, d] - mean[i, d]) ** 2 / (2 * s * s)
                scores[i, j] -= math.log(s * math.sqrt(2 * math.pi))
    return scores


def test_log_density_is_scipys_and_integrates_to_one():
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    mean, log_variance, y = rng.normal(size=(3, 4, 5))
    expected = norm.logpdf(y, mean, np.exp(log_variance / 2)).sum(-1)
    single = [jnp.asarray(v, jnp.float32) for v in (mean, log_variance, y)]
    np.testing.assert_allclose(gc.gaussian_log_density(*single), expected, rtol=1e-4, atol=1e-4)
    for argument in range(3):
        gradient = jax.grad(lambda *a: gc.gaussian_log_density(*a).sum(), argument)(*single)
        assert np.isfinite(gradient).all() and np.abs(gradient).sum() > 0


def test_exact_q_gives_mutual_and_lautum_information():
    assert float(club(exact_q())) == pytest.approx(LAUTUM_AND_MUTUAL, abs=0.15)


def test_a_good_fit_gives_nearly_the_same(fitted):
    x, y = correlated(2000, 1)
    value = float(gc.gaussian_club(fitted, 5 * x - 2, 3 * y + 1))
    assert value == pytest.approx(LAUTUM_AND_MUTUAL, abs=0.25)
    # The same data, so the errors of the sample cancel: what is left is the error of the fit.
    assert value == pytest.approx(float(club(exact_q())), abs=0.15)
    assert value > MUTUAL + 0.5
    scores = gc.gaussian_pair_scores(fitted, 5 * x - 2, 3 * y + 1)
    entropy = D / 2 * math.log(2 * math.pi * math.e * (1 - RHO**2)) + D * math.log(3)
    assert -float(jnp.mean(jnp.diagonal(scores))) == pytest.approx(entropy, abs=0.08)


def test_independent_features_give_about_zero():
    x, y = correlated(4000, 2, rho=0.0)
    model = gc.fit_gaussian(x[:2000], y[:2000], steps=300, width=16)
    assert float(gc.gaussian_club(model, x[2000:], y[2000:])) == pytest.approx(0, abs=0.05)


def test_variance_that_depends_on_x_is_learnt():
    rng = np.random.default_rng(3)
    x = rng.choice([-1.0, 1.0], (3000, 1))
    y = np.exp(x) * rng.normal(size=(3000, 1))  # mean 0 whatever x
    model = gc.fit_gaussian(x, y, steps=500, width=16)
    network = nnx.merge(model.graphdef, model.params)
    ends = jnp.array([[-1.0], [1.0]])
    low, high = np.asarray(network(ends)[1])[:, 0]
    assert (high - low) / 2 == pytest.approx(2, abs=0.2)  # s.d. e and 1/e
    assert float(gc.gaussian_club(model, x[:500], y[:500])) > 0.5


def test_scores_equal_loops_and_blocks_do_not_matter(fitted):
    x, y = correlated(37, 4)  # not a multiple of the block
    scores = gc.gaussian_pair_scores(fitted, x, y)
    expected = plain_scores(fitted, x, y)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-3)
    off = expected[~np.eye(37, dtype=bool)].mean()
    by_hand = np.trace(expected) / 37 - off
    assert float(gc.gaussian_club(fitted, x, y)) == pytest.approx(by_hand, abs=1e-3)
    keep = np.arange(37) % 3 > 0
    masked = gc.gaussian_club(fitted, x, y, where=keep)
    part = gc.gaussian_club(fitted, x[keep], y[keep])
    assert float(masked) == pytest.approx(float(part), abs=1e-4)
    np.testing.assert_allclose(
        scores[:5, :5], gc.gaussian_pair_scores(fitted, x[:5], y[:5]), rtol=1e-5, atol=1e-5
    )


def test_units_of_the_features_do_not_change_the_value():
    x, y = correlated(600, 5)
    plain = gc.fit_gaussian(x[:300], y[:300], steps=100, width=16)
    scaled = gc.fit_gaussian(x[:300] * 1000 + 7, y[:300] * 0.01 - 3, steps=100, width=16)
    value = float(gc.gaussian_club(plain, x[300:], y[300:]))
    same = float(gc.gaussian_club(scaled, x[300:] * 1000 + 7, y[300:] * 0.01 - 3))
    assert same == pytest.approx(value, abs=1e-2)


def test_fits_repeat_and_the_loss_falls():
    x, y = correlated(500, 6)
    a, b, c = (gc.fit_gaussian(x, y, steps=60, width=16, seed=s) for s in (1, 1, 2))
    assert (a.losses == b.losses).all() and (a.losses != c.losses).any()
    assert a.losses[-20:].mean() < a.losses[:5].mean() - 0.2


def test_constant_features_stay_finite():
    x, y = correlated(200, 7)
    x, y = np.pad(x, ((0, 0), (0, 1))), np.pad(y, ((0, 0), (0, 1)), constant_values=4.0)
    model = gc.fit_gaussian(x, y, steps=100, width=8)
    assert np.isfinite(model.losses).all()
    assert np.isfinite(float(gc.gaussian_club(model, x, y)))


def test_x64():
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        x, y = correlated(100, 8)
        model = gc.fit_gaussian(x, y, steps=5, width=8)
        assert gc.gaussian_club(model, x, y).dtype == jnp.float64


def test_bad_input(fitted):
    x, y = correlated(10, 9)
    hole = y.copy()
    hole[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"y of shape \(10, 2\) holds nan at \(4, 1\)"):
        gc.fit_gaussian(x, hole)
    with pytest.raises(ValueError, match=r"pair up, got shapes \(10, 2\) and \(9, 2\)"):
        gc.fit_gaussian(x, y[:9])
    with pytest.raises(ValueError, match="steps and batch"):
        gc.fit_gaussian(x, y, steps=0)
    with pytest.raises(ValueError, match=r"x must be .* 2 features\], got shape \(10, 1\)"):
        gc.gaussian_club(fitted, x[:, :1], y)
    with pytest.raises(ValueError, match=r"x must be .* got shape \(10,\)"):
        gc.fit_gaussian(x[:, 0], y)

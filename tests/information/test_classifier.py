"""The classifier divergence against known laws, and its cross-fitting in detail."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.information import classifier as cl

LOG2 = math.log(2)


def gaussian_js(shift):
    """D_JS of N(0, 1) and N(shift, 1) by a fine sum."""
    x = np.linspace(-9, 9 + shift, 40_001)
    p, q = (np.exp(-((x - m) ** 2) / 2) for m in (0, shift))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return float((p * np.log(p / middle) + q * np.log(q / middle)).sum() / 2)


def plain_fit(z, sign, share, penalty):
    """The same objective by SciPy."""
    from scipy.optimize import minimize

    mean = share @ z
    ridge = penalty * (share @ ((z - mean) ** 2).sum(1))

    def objective(theta):
        loss = np.logaddexp(0, -sign * (z @ theta[:-1] + theta[-1]))
        return share @ loss + ridge * (theta[:-1] @ theta[:-1]) / 2

    return minimize(objective, np.zeros(z.shape[1] + 1), tol=1e-12).x


def test_the_fit_is_the_optimum_and_skips_rows_without_weight():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 3))
    sign = np.where(rng.random(40) + 0.3 * z[:, 0] > 0.5, 1.0, -1.0)
    share = np.where(np.arange(40) < 30, rng.random(40), 0)
    share = share / share.sum()
    args = [jnp.asarray(v, jnp.float32) for v in (z, sign, share)]
    for penalty in (0.01, 1.0):
        weights, offset = cl._fit(*args, jnp.float32(penalty))
        expected = plain_fit(z[:30], sign[:30], share[:30], penalty)
        np.testing.assert_allclose([*weights, offset], expected, atol=2e-4)
        weights, offset = cl._fit(args[0] + 5, *args[1:], jnp.float32(penalty))
        np.testing.assert_allclose(weights, expected[:-1], atol=1e-3)  # the offset is free


def test_value_is_near_the_divergence_and_below_it_on_average():
    rng, truth = np.random.default_rng(1), gaussian_js(1.0)
    draws = rng.normal(size=(30, 2, 80, 1))
    runs = [cl.classifier_js(a, b + 1, seed=i) for i, (a, b) in enumerate(draws)]
    values, errors = np.array([r.value for r in runs]), np.array([r.standard_error for r in runs])
    assert truth - 0.03 < values.mean() < truth + 0.005
    assert 0.6 < errors.mean() / values.std(ddof=1) < 1.5
    big = rng.normal(size=(2, 2000, 1))
    one = cl.classifier_js(big[0], big[1] + 1)
    assert abs(one.value - truth) < 3 * one.standard_error < 0.03
    assert one.freedom == 3999 and len(one.penalties) == 5


def test_no_shift_reads_about_zero_and_is_not_clipped():
    rng = np.random.default_rng(2)
    values = [cl.classifier_js(*rng.normal(size=(2, 40, 30)), seed=i).value for i in range(20)]
    assert min(values) < 0 and -0.05 < np.mean(values) < 0.01


def test_apart_gives_log_two_also_where_features_outnumber_vectors():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 30, 100)) * 0.1
    apart = cl.classifier_js(a + 1, b - 1)
    assert apart.value == pytest.approx(LOG2, abs=0.01)
    assert apart.value <= LOG2


def test_unequal_sizes_are_weighted_as_a_fair_coin():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(3000, 1)), rng.normal(size=(300, 1)) + 1
    result = cl.classifier_js(a, b)
    assert abs(result.value - gaussian_js(1.0)) < 3 * result.standard_error
    swapped = cl.classifier_js(-a, -b)
    assert swapped.value == pytest.approx(result.value, abs=1e-4)


def test_coordinates_keep_distances():
    x = np.random.default_rng(5).normal(size=(7, 20)).astype(np.float32) + 3
    z = np.asarray(cl._coordinates(jnp.asarray(x)))
    assert z.shape == (7, 7)
    distances = lambda v: np.linalg.norm(v[:, None] - v[None], axis=-1)  # noqa: E731
    ratio = distances(z)[0, 1:] / distances(x)[0, 1:]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_a_group_is_never_split_and_is_one_unit_of_error():
    rng = np.random.default_rng(6)
    # Twelve clusters, each with a place of its own, in one set each: without groups a classifier
    # learns the places; across clusters there is nothing to learn.
    place = rng.normal(size=(12, 40)) * 3
    of_a, of_b = np.repeat(np.arange(6), 10), np.repeat(np.arange(6, 12), 10)
    a, b = (place[g] + 0.1 * rng.normal(size=(60, 40)) for g in (of_a, of_b))
    split = cl.classifier_js(a, b)
    whole = cl.classifier_js(a, b, groups=(of_a, of_b), folds=3, seed=1)
    assert split.value > 0.6 and whole.value < 0.2
    assert whole.freedom == 11 and whole.standard_error > 3 * split.standard_error
    fold, group = cl._folds(60, 60, (of_a, of_b), 3, 1)
    for g in range(12):
        assert len(set(fold[group == g])) == 1
    assert np.bincount(fold).tolist() == [40, 40, 40]


def test_held_out_rows_are_not_seen():
    # Labels that no feature predicts, with a feature that names each row: a classifier that saw
    # its own row would be sure of it.
    a, b = np.split(np.eye(60), 2)
    result = cl.classifier_js(a, b, penalties=(1e-4,))
    assert result.value < 0.01


def test_standard_error_by_hand():
    losses, group = np.array([0.1, 0.3, 0.6, 0.8, 0.7]), np.array([0, 1, 0, 2, 2])
    value, error, freedom = cl._summary(losses, 2, group)
    assert value == pytest.approx(LOG2 - (0.2 + 0.7) / 2) and freedom == 2
    sums = [-0.1 / 4 - 0.1 / 6, 0.1 / 4, 0.1 / 6 + 0]
    assert error == pytest.approx(math.sqrt(1.5 * sum(s * s for s in sums)))


def test_results_repeat_and_depend_on_the_seed_alone():
    a, b = np.random.default_rng(7).normal(size=(2, 40, 3))
    assert cl.classifier_js(a, b, seed=1) == cl.classifier_js(a, b, seed=1)
    assert cl.classifier_js(a, b, seed=1).value != cl.classifier_js(a, b, seed=2).value


def test_x64():
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        a, b = np.random.default_rng(8).normal(size=(2, 50, 3))
        exact = cl.classifier_js(a, b + 1, penalties=(0.01,))
    single = cl.classifier_js(a, b + 1, penalties=(0.01,))
    assert single.value == pytest.approx(exact.value, abs=1e-4)


def test_bad_input():
    a = np.random.default_rng(9).normal(size=(6, 2))
    with pytest.raises(ValueError, match=r"equal width, got shapes \(6, 2\), \(6, 3\)"):
        cl.classifier_js(a, np.ones((6, 3)))
    with pytest.raises(ValueError, match=r"b of shape \(6, 2\) holds inf at \(0, 1\)"):
        cl.classifier_js(a, np.where(a == a[0, 1], np.inf, a))
    with pytest.raises(ValueError, match="folds must be at least 3"):
        cl.classifier_js(a, a, folds=2)
    with pytest.raises(ValueError, match="a fills only 4 of 5 folds"):
        cl.classifier_js(a[:4], a)
    with pytest.raises(ValueError, match=r"groups of b must have shape \(6,\), got \(5,\)"):
        cl.classifier_js(a, a, groups=(np.arange(6), np.arange(5)))
    with pytest.raises(ValueError, match="penalties"):
        cl.classifier_js(a, a, penalties=())

"""Every estimator against loops in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.information import mutual_information as mi


def scores_of(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-50, 5, (n, n)).astype(np.float32)


def plain_club(s, weights):
    n = len(s)
    total = sum(weights[i, j] * s[i, j] for i in range(n) for j in range(n))
    return np.mean([s[i, i] for i in range(n)]) - total / weights.sum()


def plain_infonce(s, include_self):
    n = len(s)
    values = []
    for i in range(n):
        others = [s[j, i] for j in range(n) if include_self or j != i]
        values.append(s[i, i] - np.log(np.mean(np.exp(np.array(others) - s[i, i]))) - s[i, i])
    return np.mean(values)


@settings(max_examples=15, deadline=None)
@given(n=st.sampled_from([2, 3, 7]), seed=st.integers(0, 10**6))
def test_estimators_equal_their_formulas(n, seed):
    s = scores_of(n, seed)
    exact = s.astype(np.float64)
    assert mi.club(s) == pytest.approx(plain_club(exact, mi.all_negatives(n)), abs=1e-3)
    assert mi.infonce(s) == pytest.approx(plain_infonce(exact, True), abs=1e-3)
    assert mi.leave_one_out(s) == pytest.approx(plain_infonce(exact, False), abs=1e-3)


def test_the_columns_are_what_infonce_normalises():
    # Each response is compared with itself under other contexts: a column, not a row.
    s = np.array([[0.0, -1.0], [-3.0, -2.0]], np.float32)
    of = lambda *entries: np.log(np.mean(np.exp(entries)))  # noqa: E731
    column = (0 - of(0, -3) + -2 - of(-1, -2)) / 2
    assert mi.infonce(s) == pytest.approx(column, abs=1e-6)
    assert mi.infonce(s) != pytest.approx(float(mi.infonce(s.T)), abs=1e-2)


@pytest.mark.parametrize("name", list(mi.ESTIMATORS))
def test_masked_equals_indexed(name):
    estimator = mi.ESTIMATORS[name]
    s, lengths = scores_of(7, 3), np.arange(3, 10)
    keep = np.array([True, False, True, True, False, True, True])
    s_with_holes = s.copy()
    s_with_holes[~keep] = np.nan
    s_with_holes[:, ~keep] = np.nan
    part = s[np.ix_(keep, keep)]
    assert estimator(s, where=keep) == pytest.approx(float(estimator(part)), abs=1e-4)
    assert estimator(s_with_holes, where=keep) == pytest.approx(float(estimator(part)), abs=1e-4)
    by_token = estimator(part / lengths[keep])
    assert estimator(s, lengths=lengths, where=keep) == pytest.approx(float(by_token), abs=1e-4)


@pytest.mark.parametrize("name", list(mi.ESTIMATORS))
def test_jit_vmap_and_gradient(name):
    estimator = mi.ESTIMATORS[name]
    batch = np.stack([scores_of(5, k) for k in range(3)])
    together = jax.jit(jax.vmap(estimator))(batch)
    np.testing.assert_allclose(together, [estimator(s) for s in batch], rtol=1e-5)
    gradient = jax.grad(lambda s: estimator(s))(jnp.asarray(batch[0]))
    assert np.isfinite(gradient).all() and np.abs(gradient).sum() > 0.5


def test_infonce_is_at_most_log_n():
    for seed in range(20):
        s = scores_of(6, seed)
        assert mi.infonce(s) <= np.log(6) + 1e-5


def test_x64():
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        s = scores_of(4, 1).astype(np.float64)
        value = mi.club(s)
        assert value.dtype == jnp.float64
        assert float(value) == pytest.approx(plain_club(s, mi.all_negatives(4)), abs=1e-12)


def test_cyclic_negatives_use_rows_and_columns_equally():
    weights = mi.cyclic_negatives(7, 3)
    assert (weights.sum(0) == 3).all() and (weights.sum(1) == 3).all()
    assert np.diagonal(weights).sum() == 0
    assert (mi.cyclic_negatives(5, 4) == mi.all_negatives(5)).all()
    for count in (0, 7):
        with pytest.raises(ValueError, match="cyclic"):
            mi.cyclic_negatives(7, count)


def test_random_negatives_are_uniform_off_the_diagonal():
    weights = mi.random_negatives(4, 120_000, seed=5)
    assert np.diagonal(weights).sum() == 0 and weights.sum() == 120_000
    off = weights[~np.eye(4, dtype=bool)]
    assert np.abs(off / 10_000 - 1).max() < 0.05
    assert (mi.random_negatives(4, 50, 1) != mi.random_negatives(4, 50, 2)).any()


def test_club_weights_pairs_and_ignores_unscored_ones():
    s = scores_of(5, 9)
    weights = mi.random_negatives(5, 6, seed=0)
    holes = np.where((weights > 0) | np.eye(5, dtype=bool), s, np.nan)
    assert mi.club(holes, negatives=weights) == pytest.approx(plain_club(s, weights), abs=1e-4)


def test_effective_emid_retained_and_baseline():
    assert mi.effective(3.0, 5.0) == -2.0
    assert mi.emid(-2.0, -7.0) == 5.0  # the model lost 5 nats more out of distribution
    assert mi.retained(3.0, 6.0) == 0.5
    model, golden = np.array([-10.0, -30.0, -8.0]), np.array([-20.0, -30.0, -1.0])
    gap = mi.likelihood_baseline(
        model, np.array([5, 10, 2]), golden, np.array([10, 10, 1]), where=np.array([1, 1, 0])
    )
    assert gap == pytest.approx(((-2 + 2) + (-3 + 3)) / 2)
    gap = mi.likelihood_baseline(model, np.array([5, 10, 2]), golden, np.array([5, 10, 1]))
    assert gap == pytest.approx((2 + 0 - 3) / 3)


def test_estimator_by_name():
    assert mi.estimator("leave_one_out") is mi.leave_one_out
    with pytest.raises(ValueError, match=r"unknown estimator 'infonse'.*'infonce'"):
        mi.estimator("infonse")
    with pytest.raises(ValueError, match="unknown estimator 3"):
        mi.estimator(3)


@pytest.mark.parametrize("name", list(mi.ESTIMATORS))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_scores_are_named_before_anything_runs(name, value):
    estimator = mi.estimator(name)
    s = scores_of(4, 0)
    s[2, 1] = value
    with pytest.raises(ValueError, match=r"scores of shape \(4, 4\) holds \S+ at \(2, 1\)"):
        estimator(s)
    with pytest.raises(ValueError, match=r"shape \(3, 4\)"):
        estimator(s[:3])
    with pytest.raises(ValueError, match="at least 2 contexts"):
        estimator(s[:1, :1])
    with pytest.raises(ValueError, match="square"):
        estimator(np.float32(1.0))
    # What is masked is not read, and under jit values are not known.
    assert np.isfinite(estimator(s, where=np.array([True, False, True, True])))
    jax.block_until_ready(jax.jit(estimator)(s))
    with pytest.raises(ValueError, match=r"shape \(3, 4\)"):
        jax.jit(estimator)(s[:3])


@pytest.mark.parametrize("name", list(mi.ESTIMATORS))
def test_masks_and_lengths_are_checked(name):
    estimator, s = mi.estimator(name), scores_of(3, 1)
    with pytest.raises(ValueError, match="keeps 1"):
        estimator(s, where=np.array([False, True, False]))
    with pytest.raises(ValueError, match=r"shape \(3,\), one a context, got \(2,\)"):
        estimator(s, where=np.array([True, True]))
    with pytest.raises(ValueError, match=r"lengths of shape \(3,\) hold 0 at 1"):
        estimator(s, lengths=np.array([4, 0, 2]))
    keep = np.array([True, False, True])
    assert np.isfinite(estimator(s, lengths=np.array([4, 0, 2]), where=keep))
    with pytest.raises(ValueError, match="lengths must have shape"):
        estimator(s, lengths=np.array([4, 2]))


def test_weights_of_negatives_are_checked():
    s = scores_of(3, 2)
    weights = mi.cyclic_negatives(3, 1)
    negative = weights.copy()
    negative[1, 0] = -1
    own = weights + np.eye(3)
    for wrong, message in (
        (negative, r"hold -1.0 at \(1, 0\)"),
        (own, r"hold 1.0 at \(0, 0\)"),
        (np.zeros((3, 3)), "no pair"),
        (weights[:2], r"shape \(3, 3\), got \(2, 3\)"),
        (np.where(weights > 0, np.nan, 0), "nan at"),
    ):
        with pytest.raises(ValueError, match=message):
            mi.club(s, negatives=wrong)
    only = np.zeros((3, 3))
    only[0, 1] = 1
    with pytest.raises(ValueError, match="no pair"):
        mi.club(s, negatives=only, where=np.array([True, False, True]))


@pytest.mark.parametrize("name", list(mi.ESTIMATORS))
def test_gradients_do_not_see_holes(name):
    s, keep = scores_of(4, 5), np.array([True, True, False, True])
    s[2], s[:, 2] = np.nan, np.nan
    gradient = jax.grad(lambda x: mi.estimator(name)(x, where=keep))(jnp.asarray(s))
    assert np.isfinite(gradient).all()
    assert (gradient[2] == 0).all() and (gradient[:, 2] == 0).all()


def test_whole_scores_do_not_truncate_weights():
    scores = np.arange(9).reshape(3, 3)
    halves = mi.all_negatives(3) / 2
    assert mi.club(scores, negatives=halves) == pytest.approx(plain_club(scores, halves))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((np.array([np.nan, 1, 1]), 1), r"model_diagonal of shape \(3,\) holds nan at \(0,\)"),
        ((np.ones(1), 1), r"must all have shape \[N\]"),
        ((np.ones(3), 0), r"lengths of shape \(3,\) hold 0"),
    ],
)
def test_bad_baselines(change, message):
    values, length = change
    with pytest.raises(ValueError, match=message):
        mi.likelihood_baseline(values, np.full(3, length), np.ones(3), np.ones(3))

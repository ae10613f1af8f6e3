"""Errors, shares and refusals of the information profile, against plain loops and scipy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from remid_jax.information.precision import double_precision
from remid_jax.information.profile import factor_gaps, profile_information
from remid_jax.information.profile_shares import (
    FactorUncertainty,
    Share,
    factor_uncertainty,
    has_collapsed,
    lost,
    share,
    share_change,
)


@pytest.fixture(scope="module", autouse=True)
def in_double_precision():
    with double_precision():
        yield


def swaps_of(seed, n=9, count=2):
    """Scores of n contexts whose sources differ, with weights of which two are 0."""
    rng = np.random.default_rng(seed)
    own, swapped = rng.normal(-40, 3, n), rng.normal(-44, 4, (n, count))
    sources = np.array([rng.permutation(np.delete(np.arange(n), i))[:count] for i in range(n)])
    weights = rng.uniform(0.3, 1, n)
    weights[[1, 5]] = 0
    return own, swapped, weights, sources


def plain_information(own, swapped, weights, sources, keep, deleted=None):
    terms = []
    for i in np.flatnonzero(keep & (weights > 0)):
        left = [k for k, j in enumerate(sources[i]) if j != deleted]
        if i != deleted and left:
            terms.append(weights[i] * np.mean([own[i] - swapped[i, k] for k in left]))
    return np.mean(terms)


@pytest.mark.parametrize("seed, count", itertools.product(range(3), (1, 2, 4)))
def test_the_jackknife_deletes_rows_and_sources(seed, count):
    swaps, keep = swaps_of(seed, count=count), np.arange(9) != 3
    rows = [i for i in range(9) if keep[i] and swaps[2][i] > 0]
    without = [plain_information(*swaps, keep, i) for i in rows]
    error = np.sqrt((len(rows) - 1) * np.var(without))
    swaps[0][3], swaps[1][5], swaps[3][5] = np.nan, np.nan, -1  # not read
    value, found = jax.jit(profile_information)(*swaps, keep)
    assert value == pytest.approx(plain_information(*swaps, keep), abs=1e-12)
    assert found == pytest.approx(error, abs=1e-12)
    gaps = factor_gaps(*swaps[:3], keep)
    assert np.flatnonzero(~np.isnan(gaps)).tolist() == rows
    assert value == pytest.approx(float(jnp.nanmean(gaps)), abs=1e-12)
    assert abs(found - np.nanstd(gaps, ddof=1) / np.sqrt(len(rows))) > 1e-3  # sources tell


def test_a_source_of_all_rows_leaves_no_error():
    own, swapped = swaps_of(0, count=1)[:2]
    only = np.where(np.arange(9) == 8, 0, 8)[:, None]
    value, error = profile_information(own, swapped, np.ones(9), only)
    assert np.isfinite(value) and np.isnan(error)
    assert np.isnan(factor_gaps(own, swapped, np.zeros(9))).all()


def paired(seed, n=10, mean=2.0):
    rng = np.random.default_rng(seed)
    golden = rng.normal(mean, 1.5, n)
    return 0.4 * golden + rng.normal(0.3, 1, n), golden


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([2, 3, 5, 12]), st.sampled_from([0.5, 0.8, 0.95, 0.99])
)
def test_fiellers_limits_are_where_the_test_just_rejects(seed, n, level):
    model, golden = paired(seed, n)
    found = share(model, golden, level)
    t = stats.t.ppf(0.5 + level / 2, n - 1)
    error = stats.sem(golden)
    assert bool(found.shown) == (golden.mean() > 0 and (t * error / golden.mean()) ** 2 < 1)
    assert found.value == pytest.approx(model.mean() / golden.mean(), abs=1e-12)
    if found.shown:
        assert found.low < found.value < found.high
        for limit in (float(found.low), float(found.high)):
            form = model - limit * golden
            assert abs(form.mean()) == pytest.approx(t * stats.sem(form), rel=1e-7, abs=1e-10)
    less = lost(model, golden)
    expected = stats.ttest_rel(golden, model)
    assert less.p == pytest.approx(expected.pvalue, abs=1e-12)
    assert less.value / less.se == pytest.approx(expected.statistic, rel=1e-10)


def test_p_values_far_out_keep_their_digits():
    model, golden = paired(5, 12)
    for more in (20.0, 200.0):
        expected = stats.ttest_rel(golden + more, model).pvalue
        assert expected < 1e-9
        assert lost(model, golden + more).p == pytest.approx(expected, rel=1e-7, abs=0)


def test_the_rule_of_refusal():
    model, golden = paired(0)
    assert [float(x) for x in share(golden, golden)] == [1, 1, 1, 1]
    below = share(model, -golden)
    assert below.value < 0 and not below.shown and np.isnan([below.low, below.high]).all()
    spread = golden - golden.mean()
    edge = stats.t.ppf(0.975, 9) * stats.sem(golden)  # the mean at which g is 1
    assert share(model, spread + 1.001 * edge).shown
    assert not share(model, spread + 0.999 * edge).shown
    nothing = share(model, np.zeros(10))
    assert np.isnan(nothing.value) and not nothing.shown
    assert [float(x) for x in lost(golden, golden)] == [0, 0, 1]
    assert [float(x) for x in lost(np.zeros(4), np.full(4, 1.5))] == [1.5, 0, 0]


def test_the_change_of_shares():
    home, shifted = Share(0.9, 0.6, 1.3, True), Share(0.2, -0.1, 0.6, True)
    change = share_change(home, shifted)
    expected = [0.7, 0.7 - np.hypot(0.3, 0.4), 0.7 + np.hypot(0.4, 0.3), 1]
    np.testing.assert_allclose(change, expected, atol=1e-12)
    hidden = Share(0.2, np.nan, np.nan, False)
    for pair in ((home, hidden), (hidden, home)):
        change = share_change(*pair)
        assert not change.shown and np.isnan([change.low, change.high]).all()
        assert abs(change.value) == pytest.approx(0.7)


@pytest.mark.parametrize("keep", [None, np.arange(8) % 4 != 2])
def test_factor_uncertainty_is_a_jackknife_of_the_ratio(keep):
    gaps, swapped = paired(3, 8)[0], -paired(4, 8, 30.0)[1]
    used = np.flatnonzero(np.ones(8) if keep is None else keep)
    ratio = lambda rows: gaps[rows].sum() / -swapped[rows].sum()  # noqa: E731
    without = np.array([ratio(used[used != i]) for i in used])
    error = np.sqrt((len(used) - 1) * without.var())
    found = factor_uncertainty(gaps, swapped, 0.9, keep)
    t = stats.t.ppf(0.95, len(used) - 1)
    value = ratio(used)
    np.testing.assert_allclose(found, [value, value - t * error, value + t * error], atol=1e-12)


def test_collapse():
    home = FactorUncertainty(0.5, 0.4, 0.6)
    for value, half, expected in (
        (0.0, 0.1, True),
        (0.0, 0.2, False),  # not sure
        (0.1, 0.05 - 0.0101, True),  # upper limit .1 + √(.04² + .03²) = .15
        (0.1, 0.05 - 0.0099, False),
        (-0.2, 0.1, True),
        (0.27, 0.001, False),  # golden's own drops
    ):
        shifted = FactorUncertainty(value, value - half, value + half)
        assert bool(has_collapsed(home, shifted)) is expected, (value, half)
    unsure = FactorUncertainty(0.5, -0.01, 1.01)
    assert not has_collapsed(unsure, FactorUncertainty(-9.0, -9.1, -8.9))


ESTIMATES = {
    "share": lambda a, b, keep: share(a, b, where=keep),
    "lost": lambda a, b, keep: lost(a, b, keep),
    "uncertainty": lambda a, b, keep: factor_uncertainty(a, -jnp.square(b), where=keep),
}


@pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=ESTIMATES)
def test_masks_are_subsets_and_maps_are_loops(estimate):
    keep, (model, golden) = np.arange(12) % 5 != 1, paired(1, 12)
    holes = [np.where(keep, x, np.nan) for x in (model, golden)]
    subset = estimate(model[keep], golden[keep], None)
    for found in (estimate(*holes, keep), jax.jit(estimate)(*holes, keep)):
        np.testing.assert_allclose(found, subset, atol=1e-12)
    pairs = [paired(seed, 12) for seed in range(4)]
    masks = [np.roll(keep, k) & (np.arange(12) > k) for k in range(4)]  # of other sizes, too
    batch = [np.stack(side) for side in zip(*pairs, strict=True)]
    mapped = jax.jit(jax.vmap(estimate))(*batch, np.stack(masks))
    loop = [estimate(*pair, mask) for pair, mask in zip(pairs, masks, strict=True)]
    np.testing.assert_allclose(np.array(mapped), np.array(loop).T, atol=1e-12)


def test_masks_and_maps_of_information():
    keep, swaps = np.arange(12) % 5 != 1, swaps_of(2, 12, 3)
    inside, ring = np.flatnonzero(keep), np.arange(1, 4)
    swaps[3][inside] = inside[(np.arange(len(inside))[:, None] + ring) % len(inside)]
    place = np.cumsum(keep) - 1
    subset = profile_information(*(x[keep] for x in swaps[:3]), place[swaps[3][keep]])
    whole = profile_information(*swaps, keep)
    np.testing.assert_allclose(whole, subset, atol=1e-12)
    batch = [np.stack(x) for x in zip(*(swaps_of(seed) for seed in range(3)), strict=True)]
    mapped = jax.vmap(profile_information)(*batch)
    loop = [profile_information(*swaps_of(seed)) for seed in range(3)]
    np.testing.assert_allclose(np.array(mapped), np.array(loop).T, atol=1e-12)


def test_gradients_are_finite_even_where_nothing_spreads():
    model, golden = paired(2)
    keep = np.arange(10) != 4
    holes = jnp.where(keep, golden, jnp.nan)
    for one in (jnp.where(keep, model, jnp.nan), holes):
        gradient = jax.grad(lambda x: sum(share(x, holes, where=keep)[:3]))(one)
        assert np.isfinite(gradient).all() and gradient[4] == 0
        assert np.isfinite(jax.grad(lambda x: lost(x, holes, where=keep).se)(one)).all()
    own, swapped, weights, sources = swaps_of(1)
    gradient = jax.grad(lambda x: profile_information(x, swapped, weights, sources).value)(own)
    np.testing.assert_allclose(gradient, weights / 7, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_precision_is_that_of_the_scores(dtype):
    own, swapped, weights, sources = swaps_of(0)
    gaps = factor_gaps(own.astype(dtype), swapped.astype(dtype), weights)
    found = profile_information(own.astype(dtype), swapped.astype(dtype), weights, sources)
    model, golden = (x.astype(dtype) for x in paired(0))
    rest = share(model, golden)[:3], lost(model, golden), factor_uncertainty(model, -abs(golden))
    assert {x.dtype for x in jax.tree.leaves((gaps, found, rest))} == {np.dtype(dtype)}
    np.testing.assert_allclose(share(model, golden), share(*paired(0)), rtol=2e-5)
    np.testing.assert_allclose(lost(model, golden), lost(*paired(0)), rtol=2e-5)


def test_bad_input_is_named():
    own, swapped, weights, sources = swaps_of(0)
    model, golden = paired(0)
    hole, few = np.where(np.arange(10) == 7, np.nan, model), np.arange(10) == 0
    good = Share(0.9, 0.6, 1.3, True)
    for call, message in (
        (lambda: factor_gaps(own[:-1], swapped, weights), r"do not agree: shapes \(8,\), \(9, 2\)"),
        (lambda: factor_gaps(own, swapped, 2 * weights), r"weights .* lie between 0 and 1"),
        (lambda: factor_gaps(own * np.inf, swapped, weights), r"own of shape \(9,\) holds -inf"),
        (lambda: factor_gaps(own, swapped * np.nan, weights), r"swapped .* nan at \(0, 0\)"),
        (lambda: factor_gaps(own, swapped, weights, [True]), r"where must have shape \(9,\)"),
        (lambda: profile_information(own, swapped, weights, sources + 0.5), "integer type"),
        (lambda: profile_information(own, swapped, weights, sources[:, 0]), r"shape \(9, 2\)"),
        (lambda: profile_information(own, swapped, weights, sources * 0), "0 at .* no other"),
        (lambda: profile_information(own, swapped, weights, sources - 9), "no other context"),
        (lambda: profile_information(own, swapped, 0 * weights, sources), "leave 0 contexts"),
        (lambda: share(model, golden[:9]), r"model and golden must both have shape \[n\]"),
        (lambda: share(hole, golden), r"model of shape \(10,\) holds nan at \(7,\)"),
        (lambda: share(model, golden, 95), "level holds 95"),
        (lambda: share(model, golden, where=few), "where of shape .* keeps 1: .* needs 2"),
        (lambda: lost(model[:1], golden[:1]), r"model of shape \(1,\): an estimate needs 2"),
        (lambda: lost(model, hole), "golden of shape"),
        (lambda: share_change(good, 0.5), "shifted must be a Share, got 0.5"),
        (lambda: share_change(good, good._replace(low=np.nan)), "shifted.low holds nan"),
        (lambda: share_change(good, good._replace(shown=2)), "shifted.shown holds 2"),
        (lambda: share_change(good, good._replace(high=[1.0])), "shifted must have fields of one"),
        (lambda: factor_uncertainty(model, golden + 9), "all_swapped .* must not be above 0"),
        (lambda: factor_uncertainty(model, 0 * golden), "all_swapped must be below 0 in 2"),
        (lambda: factor_uncertainty(model[:2], golden[:2]), "needs 3 contexts"),
        (lambda: has_collapsed(good, good), "home must be a FactorUncertainty"),
        (
            lambda: has_collapsed(*[FactorUncertainty(0.1, np.nan, 0.2)] * 2),
            "home.low holds nan",
        ),
    ):
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
            call()

"""Tests against enumeration, their false alarms, and the confidence set of the worst."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.information.mutual_information import all_negatives, club, cyclic_negatives
from remid_jax.information.significance import (
    contributions,
    holm,
    independence_test,
    sign_flip_test,
    worst_set,
)


def matrix(n, seed=0, lift=0.0):
    return np.random.default_rng(seed).normal(-80, 6, (n, n)) + lift * np.eye(n)


def test_contributions_are_own_minus_mean_of_the_column():
    s = matrix(7)
    loop = [s[i, i] - np.mean([s[j, i] for j in range(7) if j != i]) for i in range(7)]
    np.testing.assert_allclose(contributions(s), loop, rtol=1e-4)
    assert np.mean(contributions(s)) == pytest.approx(float(club(s)), abs=1e-4)


@pytest.mark.parametrize("weights", ["all", "cyclic", "uneven"])
def test_the_mean_contribution_is_club(weights):
    s, n = matrix(8, 1), 8
    uneven = np.random.default_rng(2).integers(0, 3, (n, n)) * all_negatives(n)
    w = {"all": None, "cyclic": cyclic_negatives(n, 3), "uneven": uneven}[weights]
    lengths = np.arange(5, 5 + n)
    where = np.array([True] * 5 + [False] + [True] * 2)
    h = contributions(s, lengths, where, w)
    expected = club(s, lengths=lengths, negatives=w, where=where)
    assert float(jnp.mean(h, where=jnp.asarray(where))) == pytest.approx(float(expected), abs=1e-4)


def test_masked_contributions_equal_indexed_ones():
    s, where = matrix(6, 3), np.array([True, False, True, True, False, True])
    broken = np.where(where[:, None] & where, s, np.nan)
    h = np.asarray(contributions(broken, where=where))
    np.testing.assert_allclose(h[where], contributions(s[np.ix_(where, where)]), rtol=1e-5)
    assert np.isnan(h[~where]).all()


def test_exchanging_two_models_answers_exchanges_their_contributions():
    a, b = matrix(6, 4), matrix(6, 5)
    first, second = contributions(a), contributions(b)
    a[:, 2], b[:, 2] = b[:, 2].copy(), a[:, 2].copy()
    swapped = np.arange(6) == 2
    np.testing.assert_array_equal(contributions(a), np.where(swapped, second, first))
    np.testing.assert_array_equal(contributions(b), np.where(swapped, first, second))


def test_contributions_transform():
    s = jnp.asarray(matrix(5, 6), jnp.float32)
    where = jnp.array([True, True, False, True, True])
    np.testing.assert_allclose(jax.jit(contributions)(s), contributions(s), rtol=1e-5)
    both = jax.vmap(contributions)(jnp.stack([s, 2 * s]))
    np.testing.assert_allclose(both[1], 2 * both[0], rtol=1e-5)
    broken = jnp.where(where[:, None] & where[None, :], s, jnp.nan)
    total = lambda x: jnp.sum(contributions(x, where=where), where=where)  # noqa: E731
    gradient = jax.grad(total)(broken)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(np.diagonal(gradient), where, rtol=1e-6)


def test_bad_blocks_are_refused_with_their_place():
    s = matrix(4)
    s[1, 2] = np.nan
    for test in (contributions, independence_test):
        with pytest.raises(ValueError, match=r"shape \(4, 4\) holds nan at \(1, 2\)"):
            test(s)
        with pytest.raises(ValueError, match=r"square .* got shape \(4, 3\)"):
            test(s[:, :3])
        with pytest.raises(ValueError, match="keeps 1"):
            test(s, where=np.arange(4) == 0)
    with pytest.raises(ValueError, match=r"differences of shape \(2,\) holds nan at \(1,\)"):
        sign_flip_test([0.0, np.nan])
    with pytest.raises(ValueError, match=r"groups must have shape \(2,\), got \(3,\)"):
        sign_flip_test([0.0, 1.0], groups=[0, 1, 2])
    with pytest.raises(ValueError, match=r"shape \(2,\) hold 1.5 at 1"):
        holm([0.1, 1.5])
    with pytest.raises(ValueError, match=r"errors of shape \(2, 3\)"):
        worst_set([1, 2], np.ones((2, 3)), 5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=8), st.data())
def test_sign_flips_are_enumerated_and_clusters_flip_together(values, data):
    # Integers: many ties, and every sum is exact.
    groups = data.draw(st.lists(st.integers(0, 4), min_size=len(values), max_size=len(values)))
    for g, given_groups in ((range(len(values)), None), (groups, groups)):
        units = sorted(set(g))
        hits = 0
        for signs in itertools.product((-1, 1), repeat=len(units)):
            sign = dict(zip(units, signs, strict=True))
            total = sum(sign[k] * v for k, v in zip(g, values, strict=True))
            hits += abs(total) >= abs(sum(values))
        assert sign_flip_test(values, groups=given_groups) == hits / 2 ** len(units)


def test_random_flips_agree_with_all_of_them():
    x = np.random.default_rng(7).normal(0.5, 1, 14)
    exact = sign_flip_test(x)
    longer = sign_flip_test(np.append(x, 1e-9), flips=40_000)  # 15 units, the same question
    assert 0.02 < exact < 0.5
    assert longer == pytest.approx(exact, abs=4 * np.sqrt(exact / 40_000))
    assert sign_flip_test(np.ones(30), flips=99) == 0.01  # never 0: +1 correction
    assert sign_flip_test(np.append(x, 0.1), seed=1) == sign_flip_test(np.append(x, 0.1), seed=1)


def false_alarms(p_values):
    return np.mean(np.array(p_values) <= 0.05)


def test_sign_flips_of_skewed_models_keep_their_level():
    # Two models with answers from one skewed law: exchangeable, far from normal.
    rng = np.random.default_rng(8)
    p = []
    for _ in range(400):
        a, b = (rng.exponential(size=(10, 10)) for _ in range(2))
        p.append(sign_flip_test(contributions(a) - contributions(b)))
    assert 0.02 <= false_alarms(p) <= 0.08
    lifted = [
        contributions(matrix(10, k, 14.0)) - contributions(matrix(10, 99 + k)) for k in range(50)
    ]
    assert np.mean([sign_flip_test(d) <= 0.05 for d in lifted]) > 0.8


def test_flipping_clustered_differences_one_by_one_would_raise_false_alarms():
    rng = np.random.default_rng(9)
    groups = np.repeat(np.arange(10), 5)
    draws = [rng.normal(size=10)[groups] + 0.3 * rng.normal(size=50) for _ in range(300)]
    together = [sign_flip_test(d, groups=groups) for d in draws]
    alone = [sign_flip_test(d, flips=400) for d in draws]
    assert 0.02 <= false_alarms(together) <= 0.08
    assert false_alarms(alone) > 0.2


def test_independence_counts_permutations():
    s, n = matrix(5, 10, 4.0), 5
    means = [
        club(s[:, list(order)]) for order in itertools.permutations(range(n))
    ]  # the statistic itself, not its shortcut
    exact = np.mean(np.array(means) >= float(club(s)) - 1e-4)
    p = independence_test(s, permutations=20_000)
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000) + 1e-4)
    assert independence_test(5 * np.eye(12), permutations=99) == 0.01  # never 0: +1 correction
    where = np.array([True] * 5 + [False] * 2)
    wide = np.full((7, 7), np.nan)
    wide[:5, :5] = s
    assert independence_test(wide, where=where) == independence_test(s)
    lengths = np.full(5, 4)
    assert independence_test(s, lengths=lengths) == independence_test(s)


def test_independence_keeps_its_level_and_sees_dependence():
    alarms = [independence_test(matrix(8, k), permutations=199, seed=k) for k in range(400)]
    assert 0.02 <= false_alarms(alarms) <= 0.08
    seen = [independence_test(matrix(16, k, 6.0), permutations=199) for k in range(60)]
    assert false_alarms(seen) > 0.9
    parrot = np.repeat(np.random.default_rng(1).normal(-80, 6, (9, 1)), 9, axis=1)
    assert independence_test(parrot) == 1  # one text for all: nothing depends on the context


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=0, max_size=8))
def test_holm_is_the_stepwise_procedure(p):
    adjusted = holm(p)
    known = sorted((v, i) for i, v in enumerate(p) if v is not None)
    for alpha in (0.01, 0.05, 0.3, 0.7):
        rejected = set()
        for k, (v, i) in enumerate(known):
            if v * (len(known) - k) > alpha:
                break
            rejected.add(i)
        assert rejected == {i for i in range(len(p)) if adjusted[i] <= alpha}
    assert all(np.isnan(adjusted[i]) == (v is None) for i, v in enumerate(p))
    with pytest.raises(ValueError, match="hold nan at 0"):  # a test that gave no p-value is None
        holm([np.nan, *p])


K, FREEDOM = 11, 15


@pytest.mark.parametrize("truth", [np.zeros(K), np.r_[0.5, 0.5, np.zeros(K - 2)], -np.arange(K)])
@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_the_worst_set_holds_the_true_worst(truth, shared):
    """Estimated errors; independent shifts, and ones that share their anchors."""
    rng = np.random.default_rng(10)
    draws, held, sizes = 600, np.zeros(K), 0
    for _ in range(draws):
        noise = np.sqrt(1 - shared) * rng.normal(size=(FREEDOM + 1, K))
        x = np.asarray(truth, float) + 4 * (
            noise + np.sqrt(shared) * rng.normal(size=(FREEDOM + 1, 1))
        )
        gaps = x[:, :, None] - x[:, None, :]
        errors = gaps.std(axis=0, ddof=1) / np.sqrt(FREEDOM + 1)
        chosen = worst_set(x.mean(axis=0), errors, FREEDOM)
        assert chosen[np.argmax(x.mean(axis=0))]
        held += chosen
        sizes += chosen.sum()
    worst = np.asarray(truth) == np.max(truth)
    assert (held[worst] / draws >= 0.95 - 0.018).all()  # two s.d. of 600 draws
    if np.ptp(truth) > 5:
        assert sizes / draws < 5  # clearly smaller ones are left out


def test_the_largest_of_equal_values_is_biased_upwards():
    x = np.random.default_rng(11).normal(size=(4000, K))
    assert x.max(axis=1).mean() == pytest.approx(1.59, abs=0.05)
    assert worst_set([3.0], np.zeros((1, 1)), 5).tolist() == [True]
    assert worst_set([1.0, 1.0, 0.5], np.zeros((3, 3)), 5).tolist() == [True, True, False]

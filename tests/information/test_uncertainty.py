"""The jackknife against its formula, clusters, and what the intervals cover."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.information.mutual_information import club
from remid_jax.information.uncertainty import (
    clustered_negatives,
    clusters,
    combined_error,
    delete_one,
    jackknife,
    jackknife_error,
    replicate_error,
    t_interval,
    t_test,
)


def test_of_a_mean_is_the_standard_error_of_the_mean():
    x = np.random.default_rng(0).normal(size=40)
    value, error, freedom = jackknife(lambda m: jnp.mean(jnp.asarray(x), where=m), np.arange(40))
    assert value == pytest.approx(x.mean(), abs=1e-6)
    assert error == pytest.approx(x.std(ddof=1) / np.sqrt(40), rel=1e-4)
    assert freedom == 39


def test_of_club_deletes_row_and_column():
    s = np.random.default_rng(1).normal(size=(6, 6))
    value, error, _ = jackknife(lambda m: club(jnp.asarray(s), where=m), np.arange(6))

    def plain(keep):
        part = s[np.ix_(keep, keep)]
        off = part[~np.eye(len(keep), dtype=bool)]
        return np.diagonal(part).mean() - off.mean()

    deleted = np.array([plain([i for i in range(6) if i != k]) for k in range(6)])
    assert value == pytest.approx(plain(list(range(6))), abs=1e-5)
    expected = np.sqrt(5 / 6 * ((deleted - deleted.mean()) ** 2).sum())
    assert error == pytest.approx(expected, rel=1e-4)


def test_clusters_are_deleted_together_and_negative_groups_never_used():
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0])
    groups = np.array([0, 0, 1, 1, 2, 2, -1])
    value, error, freedom = jackknife(lambda m: jnp.mean(jnp.asarray(x), where=m), groups)
    means = np.array([1.5, 3.5, 5.5])
    assert value == pytest.approx(3.5) and freedom == 2
    assert error == pytest.approx(means.std(ddof=1) / np.sqrt(3), rel=1e-5)


def test_several_statistics_at_once():
    x = np.arange(5.0)
    both = lambda m: jnp.stack([jnp.mean(jnp.asarray(x), where=m)] * 2) * jnp.array([1.0, 10.0])  # noqa: E731
    value, error, _ = jackknife(both, np.arange(5))
    np.testing.assert_allclose(value, [2, 20])
    assert error[1] == pytest.approx(10 * float(error[0]), rel=1e-5)


def test_needs_three_groups():
    with pytest.raises(ValueError, match="at least 3 groups, got 2"):
        jackknife(lambda m: jnp.sum(m), np.array([0, 0, 1, -1]))
    with pytest.raises(ValueError, match=r"replicates of shape \(2,\).*3 groups"):
        jackknife_error(np.ones(2))


def test_a_statistic_without_a_value_leaves_the_others_theirs():
    replicates = np.array([[2.5, np.nan], [2.0, 1.0], [1.5, 2.0]])
    error, freedom = replicate_error(replicates)
    assert error[0] == jackknife_error(replicates[:, 0])[0] and np.isnan(error[1]) and freedom == 2
    with pytest.raises(ValueError, match=r"replicates of shape \(3, 2\) holds nan at \(0, 1\)"):
        jackknife_error(replicates)


def test_replicates_of_two_statistics_give_the_error_of_their_difference():
    rng = np.random.default_rng(4)
    a = rng.normal(size=30)
    b = a + rng.normal(0, 0.1, 30)  # nearly the same: the difference is far better known
    _, of_a = delete_one(lambda m: jnp.mean(jnp.asarray(a), where=m), np.arange(30))
    _, of_b = delete_one(lambda m: jnp.mean(jnp.asarray(b), where=m), np.arange(30))
    error, freedom = jackknife_error(of_b - of_a)
    assert error == pytest.approx((b - a).std(ddof=1) / np.sqrt(30), rel=1e-3)
    assert freedom == 29 and error < 0.2 * jackknife_error(of_a)[0]


def linked(labels, i, j) -> bool:
    """Whether a chain of contexts that share a label leads from i to j."""
    reached, edge = {i}, [i]
    while edge:
        k = edge.pop()
        new = {m for m in range(len(labels[0])) if any(c[m] == c[k] for c in labels)} - reached
        reached |= new
        edge += new
    return j in reached


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9).flatmap(
        lambda n: st.lists(
            st.lists(st.sampled_from("abcdef"), min_size=n, max_size=n), min_size=1, max_size=3
        )
    )
)
def test_clusters_hold_exactly_what_is_linked(labels):
    groups = clusters(*labels)
    n = len(labels[0])
    assert list(dict.fromkeys(groups.tolist())) == list(range(groups.max() + 1))
    for i in range(n):
        for j in range(n):
            assert (groups[i] == groups[j]) == linked(labels, i, j)


def test_clusters_refuse_labels_of_different_length():
    with pytest.raises(ValueError, match=r"one length, got \[2, 3\]"):
        clusters("ab", "abc")
    with pytest.raises(ValueError, match="one or more"):
        clusters()


def test_clustered_negatives_are_all_pairs_of_different_clusters():
    groups = np.array([0, 1, 0, -1, 2])
    expected = np.zeros((5, 5))
    for i in range(5):
        for j in range(5):
            expected[i, j] = groups[i] != groups[j] and min(groups[i], groups[j]) >= 0
    np.testing.assert_array_equal(clustered_negatives(groups), expected)
    with pytest.raises(ValueError, match=r"groups of shape \(3,\): no pair"):
        clustered_negatives(np.array([1, 1, -1]))


def test_pairs_within_a_cluster_bias_club_and_pairs_between_do_not():
    # S_ij = −(y_j − x_i)² / 2; x = c + e and y = x + noise, with c shared by a cluster of 4.
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(8), 4)
    draws, means = 300, {"all": [], "between": []}
    for _ in range(draws):
        x = rng.normal(size=8)[groups] * 2 + rng.normal(size=32)
        y = x + rng.normal(size=32)
        s = -((y[None, :] - x[:, None]) ** 2) / 2
        means["all"].append(club(s))
        means["between"].append(club(s, negatives=clustered_negatives(groups)))
    truth = 5.0  # Cov(x, y) = Var x = 4 + 1
    all_pairs, between = (np.array(v) for v in means.values())
    assert abs(between.mean() - truth) < 4 * between.std() / np.sqrt(draws)
    # 3 of 31 negatives come from the own cluster and share its variance 4.
    assert truth - all_pairs.mean() > 0.2
    assert all_pairs.mean() == pytest.approx(truth - 4 * 3 / 31, abs=0.15)


def test_interval_covers_the_mean_of_small_samples():
    rng = np.random.default_rng(2)
    draws, n = 400, 8
    inside = 0
    for _ in range(draws):
        x = rng.normal(size=n)
        low, high = t_interval(x.mean(), x.std(ddof=1) / np.sqrt(n), n - 1)
        inside += low <= 0 <= high
    assert 0.92 <= inside / draws <= 0.98


def test_clustered_interval_covers_and_the_plain_one_does_not():
    rng = np.random.default_rng(3)
    groups, draws, inside = np.repeat(np.arange(8), 4), 300, np.zeros(2)
    for _ in range(draws):
        x = rng.normal(size=8)[groups] + rng.normal(size=32)
        means = np.array([x[groups == g].mean() for g in range(8)])  # equal sizes: jackknife = s.e.
        for k, (error, freedom) in enumerate(
            [(means.std(ddof=1) / np.sqrt(8), 7), (x.std(ddof=1) / np.sqrt(32), 31)]
        ):
            low, high = t_interval(x.mean(), error, freedom)
            inside[k] += low <= 0 <= high
    assert 0.92 <= inside[0] / draws <= 0.98
    assert inside[1] / draws < 0.85


@settings(max_examples=50, deadline=None)
@given(st.floats(-5, 5), st.floats(0.1, 3), st.integers(2, 60), st.floats(0.5, 0.99))
def test_the_test_rejects_where_the_interval_leaves_zero_out(value, error, freedom, level):
    low, high = t_interval(value, error, freedom, level)
    p = t_test(value, error, freedom)
    if min(abs(low), abs(high)) > 1e-9:
        assert (p < 1 - level) == (not low <= 0 <= high)


def test_test_without_spread_and_bad_input():
    assert t_test(0.0, 0.0, 4) == 1 and t_test(0.3, 0.0, 4) == 0
    with pytest.raises(ValueError, match="holds nan"):
        t_test(float("nan"), 1.0, 4)
    with pytest.raises(ValueError, match="must not be negative"):
        t_test(1.0, -1.0, 4)


def test_welch():
    error, freedom = combined_error(1.0, 9, 1.0, 9)
    assert error == pytest.approx(np.sqrt(2)) and freedom == pytest.approx(18)
    assert combined_error(0.0, 4, 0.0, 7) == (0.0, 4.0)

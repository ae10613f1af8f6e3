"""The jackknife against its formula, and what its intervals cover."""

import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.information.mutual_information import club
from remid_jax.information.uncertainty import combined_error, jackknife, t_interval


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


def test_interval_covers_the_mean_of_small_samples():
    rng = np.random.default_rng(2)
    draws, n = 400, 8
    inside = 0
    for _ in range(draws):
        x = rng.normal(size=n)
        low, high = t_interval(x.mean(), x.std(ddof=1) / np.sqrt(n), n - 1)
        inside += low <= 0 <= high
    assert 0.92 <= inside / draws <= 0.98


def test_welch():
    error, freedom = combined_error(1.0, 9, 1.0, 9)
    assert error == pytest.approx(np.sqrt(2)) and freedom == pytest.approx(18)
    assert combined_error(0.0, 4, 0.0, 7) == (0.0, 4.0)

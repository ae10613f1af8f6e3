"""Draws follow their law, and sums by counting equal sums of the pair matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.information.group_sums import club_replicates, group_sums
from remid_jax.worlds import channels
from remid_jax.worlds.draws import draw, pair_matrix, sums_from_counts
from remid_jax.worlds.exact import scored_information
from remid_jax.worlds.families import random_world

pytestmark = pytest.mark.usefixtures("in_double_precision")


@pytest.fixture
def world():
    return random_world(jax.random.key(0), "dependent", 0.5, (3, 4, 2, 5))


@pytest.fixture
def log_q(world):
    return channels.logit_noise(jax.random.key(1), world.channel, 0.5)


@pytest.mark.parametrize("clusters", [0, 2000])
def test_contexts_and_responses_follow_their_law(clusters, world):
    d = draw(jax.random.key(2), world.mechanisms_P, world.channel, world.model, 40_000, clusters)
    seen = np.bincount(d.x, minlength=24) / 40_000
    # Clusters of 20 contexts share a character: fewer independent draws.
    assert np.abs(seen - np.ravel(world.P)).max() < (0.01 if not clusters else 0.03)
    for y, rows in ((d.golden, world.channel), (d.model, world.model)):
        joint = np.bincount(d.x * 5 + y, minlength=120).reshape(24, 5) / 40_000
        assert np.abs(joint - seen[:, None] * rows).max() < 0.01
    character = np.asarray(d.x) // 2 % 4
    per_group = [len(set(character[np.asarray(d.group) == g])) for g in range(5)]
    assert (max(per_group) == 1) and len(set(np.asarray(d.group))) == (clusters or 40_000)


@pytest.mark.parametrize("clusters", [0, 4])
def test_sums_by_counting_equal_sums_of_the_matrix(clusters, world, log_q):
    d = draw(jax.random.key(3), world.mechanisms_Q, world.channel, world.model, 12, clusters)
    count = clusters or 12
    ours = sums_from_counts(log_q, d.x, d.model, d.group, count)
    dense = group_sums(pair_matrix(log_q, d.x, d.model), d.group, count)
    for a, b in zip(ours, dense, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("clusters", [0, 8])
def test_club_of_draws_is_unbiased_for_its_population_value(clusters, world, log_q):
    truth = scored_information(world.P.ravel(), world.model, log_q)["club"]

    def once(key):
        d = draw(key, world.mechanisms_P, world.channel, world.model, 32, clusters)
        sums = sums_from_counts(log_q, d.x, d.model, d.group, clusters or 32)
        return club_replicates(sums)[0]

    values = jax.jit(jax.vmap(once))(jax.random.split(jax.random.key(4), 4000))
    error = jnp.std(values) / np.sqrt(4000)
    assert abs(values.mean() - truth) < 4 * error
    assert error < 0.02


def test_faults_are_channels_and_do_what_they_say(world):
    for name, make in channels.FAULTS.items():
        rows = make(world.channel, world.P)
        assert rows.shape == world.channel.shape, name
        np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-12, err_msg=name)
        assert (rows >= 0).all()
    grid = (3, 4, 2, 5)
    blind = channels.ignores(world.channel, world.P, "character").reshape(grid)
    assert np.ptp(blind, axis=1).max() == 0 and np.ptp(blind, axis=0).max() > 0.01
    pair = world.P.sum(1)
    given = (world.P[..., None] * world.channel.reshape(grid)).sum(1) / pair[..., None]
    np.testing.assert_allclose(blind[:, 0], given, atol=1e-12)
    other = channels.wrong(world.channel, world.P.shape).reshape(grid)
    np.testing.assert_array_equal(other[:, 0], world.channel.reshape(grid)[:, 1])
    sharp = channels.cold(world.channel, 0.5)
    np.testing.assert_allclose(
        sharp, world.channel**2 / (world.channel**2).sum(-1, keepdims=True), atol=1e-12
    )
    assert set(np.unique(channels.greedy(world.channel))) == {0, 1}
    with pytest.raises(ValueError, match="unknown factor 'persona'"):
        channels.wrong(world.channel, world.P.shape, "persona")


def test_bad_requests(world):
    with pytest.raises(ValueError, match="10 contexts cannot be split into 4"):
        draw(jax.random.key(0), world.mechanisms_P, world.channel, world.model, 10, 4)
    with pytest.raises(ValueError, match=r"unknown family 'cascad' .did you mean 'cascade'"):
        random_world(jax.random.key(0), "cascad")

"""What every study draws: worlds, samples of N contexts, and estimates with jackknife errors."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from remid_jax.information.group_sums import club_replicates
from remid_jax.information.uncertainty import jackknife_error
from remid_jax.worlds import channels
from remid_jax.worlds.distributions import World
from remid_jax.worlds.draws import Draw, draw, sums_from_counts
from remid_jax.worlds.families import SIZES, Sizes, random_world

Array = jax.Array
SHARPNESS = 3.0  # of the true channels: I(X;Y) of about 1.2 nats with 10 responses


def each_key(*static: str) -> Callable[[Callable], Callable]:
    """A function of one key becomes a compiled one of many, whose results are stacked.

    Args:
      static: names of arguments that are no arrays.
    """

    def mapped(function: Callable) -> Callable:
        @functools.partial(jax.jit, static_argnames=static)
        @functools.wraps(function)
        def call(keys: Array, *args: Any) -> Any:
            return jax.lax.map(lambda key: function(key, *args), keys)

        return call

    return mapped


def world_and_estimator(
    key: Array, family: str, strength: Any, logit_noise: Any, sizes: Sizes = SIZES
) -> tuple[World, Array]:
    """A random world and log q [X, Y], off by normal noise of s.d. `logit_noise` in the logits."""
    first, second = jax.random.split(key)
    world = random_world(first, family, strength, sizes, SHARPNESS)
    return world, channels.logit_noise(second, world.channel, logit_noise)


def dependent_worlds(
    seed: int, count: int, strength: float, logit_noise: float, sizes: Sizes = SIZES
) -> Iterator[tuple[Array, World, Array]]:
    """(key, world, log q) of each of `count` worlds with dependent factors."""
    for w in range(count):
        key = jax.random.fold_in(jax.random.key(seed), w)
        yield key, *world_and_estimator(key, "dependent", strength, logit_noise, sizes)


def samples(key: Array, world: World, n: int, clusters: int = 0) -> tuple[Draw, Draw]:
    """n contexts with responses in distribution, and n out of it."""
    first, second = jax.random.split(key)
    return (
        draw(first, world.mechanisms_P, world.channel, world.model, n, clusters),
        draw(second, world.mechanisms_Q, world.channel, world.model, n, clusters),
    )


def club_sides(log_q: Array, d: Draw, num_groups: int) -> list[tuple[Array, Array]]:
    """All-pairs vCLUB of model and of golden responses: values and delete-one replicates [G]."""
    return [
        club_replicates(sums_from_counts(log_q, d.x, y, d.group, num_groups))
        for y in (d.model, d.golden)
    ]


def effective_club(log_q: Array, d: Draw, num_groups: int) -> tuple[Array, Array]:
    """EMI by all-pairs vCLUB and its delete-one replicates [G]."""
    return jax.tree.map(jnp.subtract, *club_sides(log_q, d, num_groups))


def baseline(log_q: Array, d: Draw, num_groups: int) -> tuple[Array, Array]:
    """Mean log q of the model's minus of golden responses, and its replicates [G]."""
    gap = log_q[d.x, d.model] - log_q[d.x, d.golden]
    by_group = jnp.zeros(num_groups, gap.dtype).at[d.group].add(gap)
    size = jnp.zeros(num_groups, gap.dtype).at[d.group].add(1)
    return gap.mean(), (gap.sum() - by_group) / (gap.shape[0] - size)


def estimate(value: Array, replicates: Array) -> tuple[Array, Array]:
    """A value and the jackknife's standard error."""
    return value, jackknife_error(replicates)[0]


def random_pairs(key: Array, n: int, count: int) -> tuple[Array, Array]:
    """Indices [count] of contexts i and of others j ≠ i, drawn with replacement."""
    first, second = jax.random.split(key)
    i = jax.random.randint(first, (count,), 0, n)
    return i, (i + jax.random.randint(second, (count,), 1, n)) % n

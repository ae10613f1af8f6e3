"""What every study draws: worlds, samples of N contexts, and estimates with jackknife errors."""

from typing import NamedTuple

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


class Estimate(NamedTuple):
    """A value and its standard error, nats."""

    value: Array
    error: Array


def world_and_estimator(
    key: Array,
    family: str,
    strength: Array | float,
    logit_noise: Array | float,
    sizes: Sizes = SIZES,
    sharpness: float = SHARPNESS,
) -> tuple[World, Array]:
    """A random world and log q [X, Y], off by normal noise of s.d. `logit_noise` in the logits."""
    first, second = jax.random.split(key)
    world = random_world(first, family, strength, sizes, sharpness)
    return world, channels.logit_noise(second, world.channel, logit_noise)


def samples(key: Array, world: World, n: int, clusters: int = 0) -> tuple[Draw, Draw]:
    """n contexts with responses in distribution, and n out of it."""
    keys = jax.random.split(key)
    laws = (world.mechanisms_P, world.mechanisms_Q)
    return tuple(
        draw(k, law, world.channel, world.model, n, clusters)
        for k, law in zip(keys, laws, strict=True)
    )


def club_sides(log_q: Array, d: Draw, num_groups: int) -> list[tuple[Array, Array]]:
    """All-pairs vCLUB of model and of golden responses, each with its delete-one replicates [G]."""
    return [
        club_replicates(sums_from_counts(log_q, d.x, y, d.group, num_groups))
        for y in (d.model, d.golden)
    ]


def effective_club(log_q: Array, d: Draw, num_groups: int) -> tuple[Array, Array]:
    """EMI by all-pairs vCLUB and its delete-one replicates [G]."""
    return gap(*club_sides(log_q, d, num_groups))


def gap(model: tuple[Array, Array], golden: tuple[Array, Array]) -> tuple[Array, Array]:
    """The model's value and replicates less those of golden responses."""
    return model[0] - golden[0], model[1] - golden[1]


def baseline(log_q: Array, d: Draw, num_groups: int) -> tuple[Array, Array]:
    """Mean log q of the model's minus of golden responses, and its replicates [G]."""
    gap = log_q[d.x, d.model] - log_q[d.x, d.golden]
    by_group = jnp.zeros(num_groups, gap.dtype).at[d.group].add(gap)
    size = jnp.zeros(num_groups, gap.dtype).at[d.group].add(1)
    return gap.mean(), (gap.sum() - by_group) / (gap.shape[0] - size)


def estimate(value: Array, replicates: Array) -> Estimate:
    """A value with the jackknife's standard error."""
    return Estimate(value, jackknife_error(replicates)[0])


def difference(P: Estimate, Q: Estimate) -> Estimate:
    """P − Q of independent samples."""
    return Estimate(P.value - Q.value, jnp.hypot(P.error, Q.error))


def welch(error_a: Array, error_b: Array, freedom: float) -> Array:
    """Welch's degrees of freedom for two standard errors with `freedom` each."""
    a, b = jnp.square(error_a), jnp.square(error_b)
    return jnp.square(a + b) / ((jnp.square(a) + jnp.square(b)) / freedom)

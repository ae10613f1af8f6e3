"""Channels of evaluated models with a known fault, and estimators q that are off by noise.

A channel is an array of rows p(y|x), [U·C·D, Y]; x in C order of (user, character, dialogue). What
is no distribution, out of range or of another shape is a ValueError.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from remid_jax.factor_names import FACTORS
from remid_jax.information import checks
from remid_jax.information.arguments import real, shown

Array = jax.Array
SHARPENED = 0.3  # temperature of the default `cold` model: p ∝ p^(1/0.3)
TEMPERATURE = checks.Rule(lambda t: (t >= 1e-4) & (t <= 1e4), "must lie between 1e-4 and 1e4")
SCALE = checks.Rule(lambda s: (s >= 0) & (s <= 1e4), "must lie between 0 and 1e4")


def _rows(channel: Any, name: str) -> Array:
    channel = real(channel, name)
    if channel.ndim != 2:
        raise ValueError(f"{name} must be rows [X, Y], got shape {channel.shape}")
    checks.distribution(channel, -1, name)
    return channel


@checks.arguments(channel=_rows, noise=checks.SHARE)
def noisy(channel: Array, noise: float | Array = 0.3) -> Array:
    """(1 − ε) p(y|x) + ε/|Y|: at times the response has nothing to do with the context."""
    return (1 - noise) * channel + noise / channel.shape[-1]


@checks.arguments(channel=_rows, temperature=TEMPERATURE)
def cold(channel: Array, temperature: float | Array = SHARPENED) -> Array:
    """p(y|x)^(1/T), normalised: the right responses, sampled too sharply."""
    return jax.nn.softmax(jnp.log(jnp.maximum(channel, 1e-300)) / temperature, axis=-1)


@checks.arguments(channel=_rows)
def greedy(channel: Array) -> Array:
    """Always the most likely response."""
    channel = jnp.asarray(channel)
    return jax.nn.one_hot(jnp.argmax(channel, -1), channel.shape[-1], dtype=channel.dtype)


@checks.arguments(channel=_rows)
def ignores(channel: Array, distribution: Array, factor: str) -> Array:
    """p(y|x without one factor) under a distribution [U, C, D]; uniform over it without mass."""
    axis, p = _axis(factor), real(distribution, "distribution")
    checks.distribution(p, None, "distribution")
    _check_sizes(channel, p.shape)
    grid = channel.reshape(*p.shape, -1)
    total = p.sum(axis, keepdims=True)
    weight = jnp.where(total > 0, p / jnp.where(total > 0, total, 1), 1 / p.shape[axis])
    blind = jnp.sum(weight[..., None] * grid, axis=axis, keepdims=True)
    return jnp.broadcast_to(blind, grid.shape).reshape(channel.shape)


@checks.arguments(channel=_rows)
def wrong(channel: Array, sizes: tuple[int, int, int], factor: str = "character") -> Array:
    """Responds as if one factor were the next of its values: p(y|u, c+1, d)."""
    if not isinstance(sizes, tuple | list) or len(sizes) != len(FACTORS):
        raise ValueError(f"sizes must be those of the 3 factors, got {shown(sizes)}")
    sizes = tuple(
        checks.count_of(size, f"sizes of the {z}") for size, z in zip(sizes, FACTORS, strict=True)
    )
    _check_sizes(channel, sizes)
    grid = channel.reshape(*sizes, -1)
    return jnp.roll(grid, -1, axis=_axis(factor)).reshape(channel.shape)


def _check_sizes(channel: Array, sizes: tuple[int, ...]) -> None:
    if len(sizes) != len(FACTORS) or math.prod(sizes) != channel.shape[0]:
        raise ValueError(
            f"sizes {sizes} of contexts [U, C, D] and channel of shape {channel.shape} do not agree"
        )


def _axis(factor: str) -> int:
    if not isinstance(factor, str) or factor not in FACTORS:
        raise ValueError(f"unknown factor {shown(factor)}; choose among {', '.join(FACTORS)}")
    return FACTORS.index(factor)


FAULTS: dict[str, Callable[..., Any]] = {
    "truth": lambda channel, p: channel,
    "noisy": lambda channel, p: noisy(channel),
    "cold": lambda channel, p: cold(channel),
    "greedy": lambda channel, p: greedy(channel),
    **{f"ignores {factor}": functools.partial(ignores, factor=factor) for factor in FACTORS},
    "wrong character": lambda channel, p: wrong(channel, p.shape),
}
"""Name -> (channel [X, Y], distribution [U, C, D]) -> channel of the faulty model."""


@checks.arguments(key=checks.random_key, channel=_rows, strength=SCALE)
def logit_noise(key: Array, channel: Array, strength: float | Array) -> Array:
    """An estimator q whose logits are off by normal noise: log q = log p + s·ε − log Z, [X, Y].

    Args:
      key: of `jax.random`.
      channel: [X, Y] rows p(y|x) > 0.
      strength: standard deviation s of the logits' error, nats; 0 is the exact q.
    """
    channel = jnp.asarray(channel)
    checks.entries(channel, "channel", checks.POSITIVE, on_device=True)
    error = jax.random.normal(key, channel.shape, channel.dtype)
    return jax.nn.log_softmax(jnp.log(channel) + strength * error, axis=-1)

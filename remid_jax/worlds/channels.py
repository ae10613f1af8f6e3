"""Channels of evaluated models with a known fault, and misfit estimators q.

A channel is an array of rows p(y|x), [U·C·D, Y]; x in C order of (user, character, dialogue).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from remid_jax.information.arguments import real, shown
from remid_jax.information.checking import (
    check_distribution,
    check_each,
    check_key,
    check_number,
    count_of,
)
from remid_jax.worlds.laws import FACTORS

Array = jax.Array
WEAKENED = 0.3  # exponent of the default `cold` model: p ∝ p^(1/0.3)


def noisy(channel: Array, noise: float | Array = 0.3) -> Array:
    """(1 − ε) p(y|x) + ε/|Y|: at times the response has nothing to do with the context.

    Raises:
      ValueError: a row is no distribution, or the noise does not lie between 0 and 1.
    """
    channel = _rows(channel)
    check_number(noise, "noise", lambda e: (e >= 0) & (e <= 1), "must lie between 0 and 1")
    return (1 - noise) * channel + noise / channel.shape[-1]


def cold(channel: Array, temperature: float | Array = WEAKENED) -> Array:
    """p(y|x)^(1/T), normalised: the right responses, sampled too sharply.

    Raises:
      ValueError: a row is no distribution, or the temperature is not from 1e-4 to 1e4.
    """
    channel = _rows(channel)
    right = lambda t: (t >= 1e-4) & (t <= 1e4)  # noqa: E731
    check_number(temperature, "temperature", right, "must lie between 1e-4 and 1e4")
    return jax.nn.softmax(jnp.log(jnp.maximum(channel, 1e-300)) / temperature, axis=-1)


def greedy(channel: Array) -> Array:
    """Always the most likely response.

    Raises:
      ValueError: a row is no distribution.
    """
    channel = jnp.asarray(_rows(channel))
    return jax.nn.one_hot(jnp.argmax(channel, -1), channel.shape[-1], dtype=channel.dtype)


def ignores(channel: Array, law: Array, factor: str) -> Array:
    """p(y|x without one factor) under a law [U, C, D]; uniform over it where there is no mass.

    Raises:
      ValueError: an unknown factor, a law or row that is no distribution, or shapes that do not
        agree.
    """
    axis = _axis(factor)
    channel, law = _rows(channel), real(law, "law")
    check_distribution(law, None, "law")
    _check_sizes(channel, law.shape)
    grid = channel.reshape(*law.shape, -1)
    total = law.sum(axis, keepdims=True)
    weight = jnp.where(total > 0, law / jnp.where(total > 0, total, 1), 1 / law.shape[axis])
    blind = jnp.sum(weight[..., None] * grid, axis=axis, keepdims=True)
    return jnp.broadcast_to(blind, grid.shape).reshape(channel.shape)


def wrong(channel: Array, sizes: tuple[int, int, int], factor: str = "character") -> Array:
    """Responds as if one factor were the next of its values: p(y|u, c+1, d).

    Raises:
      ValueError: an unknown factor, a row that is no distribution, or sizes that do not agree.
    """
    channel = _rows(channel)
    if not isinstance(sizes, tuple | list) or len(sizes) != len(FACTORS):
        raise ValueError(f"sizes must be those of the 3 factors, got {shown(sizes)}")
    sizes = tuple(
        count_of(size, f"sizes of the {z}") for size, z in zip(sizes, FACTORS, strict=True)
    )
    _check_sizes(channel, sizes)
    grid = channel.reshape(*sizes, -1)
    return jnp.roll(grid, -1, axis=_axis(factor)).reshape(channel.shape)


def _rows(channel: Any) -> Array:
    """Rows [X, Y] of a channel, once they are checked."""
    channel = real(channel, "channel")
    if channel.ndim != 2:
        raise ValueError(f"channel must be rows [X, Y], got shape {channel.shape}")
    check_distribution(channel, -1, "channel")
    return channel


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
    "truth": lambda channel, law: channel,
    "noisy": lambda channel, law: noisy(channel),
    "cold": lambda channel, law: cold(channel),
    "greedy": lambda channel, law: greedy(channel),
    "ignores user": lambda channel, law: ignores(channel, law, "user"),
    "ignores character": lambda channel, law: ignores(channel, law, "character"),
    "ignores dialogue": lambda channel, law: ignores(channel, law, "dialogue"),
    "wrong character": lambda channel, law: wrong(channel, law.shape),
}
"""Name -> (channel [X, Y], law [U, C, D]) -> channel of the faulty model."""


def misfit(key: Array, channel: Array, strength: float | Array) -> Array:
    """An estimator q whose logits are off by normal noise: log q = log p + s·ε − log Z, [X, Y].

    Args:
      key: of `jax.random`; channel: [X, Y] rows p(y|x) > 0.
      strength: standard deviation s of the logits' error, nats; 0 is the exact q.

    Raises:
      ValueError: no key, a row that is no distribution or holds 0, or a strength that is not from 0
        to 1e4 nats.
    """
    check_key(key)
    channel = jnp.asarray(_rows(channel))
    check_each(channel, lambda p: p > 0, "must be positive", "channel", on_device=True)
    right = lambda s: (s >= 0) & (s <= 1e4)  # noqa: E731
    check_number(strength, "strength", right, "must lie between 0 and 1e4")
    error = jax.random.normal(key, channel.shape, channel.dtype)
    return jax.nn.log_softmax(jnp.log(channel) + strength * error, axis=-1)

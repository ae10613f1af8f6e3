"""Random worlds in families that differ in what shifts and how, with graded strength.

All of a family's worlds have the same sizes, so that thousands are drawn by one `vmap`. What is no
distribution, out of range or of another shape is a ValueError.
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
from remid_jax.information.divergences import output_law
from remid_jax.worlds import channels
from remid_jax.worlds.distributions import (
    Mechanisms,
    World,
    check_channel,
    joint_distribution,
    mechanisms_of,
)

Array = jax.Array
Sizes = tuple[int, int, int, int]
SIZES: Sizes = (4, 4, 4, 10)  # users, characters, dialogues, responses
Pair = tuple[Mechanisms, Mechanisms]


def _sizes(sizes: Any, name: str, least: int = 1) -> Sizes:
    names = ("users", "characters", "dialogues", "responses")
    if not isinstance(sizes, tuple | list) or len(sizes) != len(names):
        raise ValueError(f"{name} must be those of {', '.join(names)}, got {shown(sizes)}")
    leasts = (least,) * 3 + (1,)
    counts = tuple(
        checks.count_of(n, f"{name}, {part}", k)
        for n, part, k in zip(sizes, names, leasts, strict=True)
    )
    checks.count_of(math.prod(counts), f"the product of {name}", most=checks.MOST_LISTED)
    return counts


FAMILIES: dict[str, Callable[[Array, Sizes, Any], Pair]] = {}
"""Name -> (key, sizes, strength from 0 to 1) -> mechanisms of P and of Q."""


def _family(name: str, least: int = 1) -> Callable[[Callable], Callable]:
    """Enters a family whose factors have at least `least` values."""
    sizes = functools.partial(_sizes, least=least)
    checked = checks.arguments(key=checks.random_key, strength=checks.SHARE, sizes=sizes)

    def enter(make: Callable[..., Pair]) -> Callable[..., Pair]:
        return FAMILIES.setdefault(name, checked(make))

    return enter


def _simplex(key: Array, shape: tuple[int, ...], peak: float = 1.0) -> Array:
    """Random distributions along the last axis: uniform on the simplex at peak 1, uneven above."""
    weights = jax.random.exponential(key, shape) ** peak
    return weights / weights.sum(-1, keepdims=True)


def _mix(a: Array, b: Array, strength: Any) -> Array:
    return (1 - strength) * a + strength * b


def _dependent(key: Array, sizes: Sizes) -> Mechanisms:
    u, c, d = sizes[:3]
    keys = jax.random.split(key, 3)
    return _simplex(keys[0], (u,)), _simplex(keys[1], (u, c)), _simplex(keys[2], (u, c, d))


def _product(key: Array, sizes: Sizes) -> Mechanisms:
    user, character, dialogue = _dependent(key, sizes)
    return (
        user,
        jnp.broadcast_to(character[:1], character.shape),
        jnp.broadcast_to(dialogue[:1, :1], dialogue.shape),
    )


def _moved(first: Mechanisms, second: Mechanisms, strength: Any) -> Pair:
    return first, tuple(_mix(a, b, strength) for a, b in zip(first, second, strict=True))


@_family("product")
def product(key: Array, sizes: Sizes, strength: Any) -> Pair:
    """Independent factors; all three shift."""
    return _moved(*(_product(k, sizes) for k in jax.random.split(key)), strength)


@_family("dependent")
def dependent(key: Array, sizes: Sizes, strength: Any) -> Pair:
    """Dependent factors; all three mechanisms shift."""
    return _moved(*(_dependent(k, sizes) for k in jax.random.split(key)), strength)


@_family("same-marginals")
def same_marginals(key: Array, sizes: Sizes, strength: Any) -> Pair:
    """P and Q share each factor's marginal and differ in the coupling alone."""
    keys = jax.random.split(key, 4)
    P = _product(keys[0], sizes)
    joint = joint_distribution(P)
    direction = jax.random.normal(keys[1], joint.shape)
    for others in ((1, 2), (0, 2), (0, 1)):  # leaves the marginals as they are
        count = joint.size / joint.shape[({0, 1, 2} - set(others)).pop()]
        direction = direction - direction.sum(others, keepdims=True) / count
    # The longest step that keeps all probabilities positive.
    step = jnp.min(jnp.where(direction < 0, joint / jnp.maximum(-direction, 1e-12), jnp.inf))
    return mechanisms_of(joint), mechanisms_of(jnp.maximum(joint + strength * step * direction, 0))


@_family("one-factor-shift")
def one_factor(key: Array, sizes: Sizes, strength: Any) -> Pair:
    """Dependent factors; one mechanism, at random, shifts."""
    draw, choose = jax.random.split(key)
    P, Q = dependent(draw, sizes, strength)
    chosen = jax.random.randint(choose, (), 0, 3)
    return P, tuple(jnp.where(chosen == k, q, p) for k, (p, q) in enumerate(zip(P, Q, strict=True)))


@_family("cascade")
def cascade(key: Array, sizes: Sizes, strength: Any) -> Pair:
    """Only p(u) shifts, but character and dialogue follow the user closely, so all marginals do."""
    keys = jax.random.split(key, 2)
    u, c, d = sizes[:3]
    user, _, dialogue = _dependent(keys[0], sizes)
    follow = jax.nn.one_hot(jnp.arange(u) % c, c)
    character = _mix(jnp.full((u, c), 1 / c), follow, 0.9)
    follow = jnp.broadcast_to(jax.nn.one_hot(jnp.arange(c) % d, d), (u, c, d))
    moved = _mix(user, _simplex(keys[1], (u,), 3.0), strength)
    rest = (character, _mix(dialogue, follow, 0.9))
    return (user, *rest), (moved, *rest)


@_family("hypothesis-satisfying", least=2)
def hypothesis_satisfying(key: Array, sizes: Sizes, strength: Any) -> Pair:
    """X_{−z}|X_z is shared for every z, as the printed bound assumes."""
    # That leaves one kind of shift: each factor tells the block a context lies in (the first or the
    # second half of its values), and P and Q weigh the blocks differently.
    keys = jax.random.split(key, 4)
    parts = []
    for k, n in zip(keys[:3], sizes[:3], strict=True):
        half = (jnp.arange(n) >= n // 2).astype(jnp.result_type(float))
        inside = _simplex(k, (n,))
        within = jnp.stack([inside * (1 - half), inside * half])
        parts.append(within / within.sum(-1, keepdims=True))
    blocks = jnp.einsum("bu,bc,bd->bucd", *parts)
    first, second = _simplex(keys[3], (2, 2))
    moved = _mix(first, second, strength)
    return tuple(mechanisms_of(jnp.einsum("b,bucd->ucd", w, blocks)) for w in (first, moved))


@_family("disjoint", least=2)
def disjoint(key: Array, sizes: Sizes, strength: Any) -> Pair:
    """P uses the first half of each factor's values; Q moves to the second half, wholly at 1."""

    def half(m: Array, second: bool) -> Array:
        n = m.shape[-1]
        kept = jnp.where((jnp.arange(n) >= n // 2) == second, m, 0)
        return kept / jnp.sum(kept, -1, keepdims=True)

    P, Q = (_dependent(k, sizes) for k in jax.random.split(key))
    return _moved(tuple(half(m, False) for m in P), tuple(half(m, True) for m in Q), strength)


SHARPNESS = checks.Rule(lambda s: (s >= 0) & (s <= 1e4), "must lie between 0 and 1e4")


@checks.arguments(key=checks.random_key, sizes=_sizes, sharpness=SHARPNESS)
def role_play_channel(key: Array, sizes: Sizes, sharpness: Any = 2.0) -> Array:
    """A random true channel in which user, character, dialogue and their interaction matter.

    log p(y|x) ∝ s·(a_u + b_c + g_d + h_ucd), all standard normal per response: [U·C·D, Y] > 0.
    """
    u, c, d, y = sizes
    shapes = ((u, 1, 1, y), (1, c, 1, y), (1, 1, d, y), (u, c, d, y))
    keys = jax.random.split(key, 4)
    effects = sum(jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True))
    logits = jnp.broadcast_to(effects, (u, c, d, y)) / 2
    return jax.nn.softmax(sharpness * logits, axis=-1).reshape(-1, y)


@checks.arguments(key=checks.random_key)
def random_model(key: Array, channel: Array, distribution: Array) -> Array:
    """A model of random faults: noise, coldness, blindness to factors, and values it does not know.

    There it answers at times as if without a context, so its loss depends on what is frequent.
    """
    channel, p = real(channel, "channel"), real(distribution, "distribution")
    checks.distribution(p, None, "distribution")
    check_channel(channel, p.size, "channel")
    if p.ndim != 3:
        raise ValueError(f"distribution must have axes [U, C, D], got shape {p.shape}")
    keys = jax.random.split(key, 4)
    temperature = jax.random.uniform(keys[0], (), minval=0.5, maxval=1.2)
    weights = jax.random.exponential(keys[1], (4,)) * jnp.array([4.0, 1.0, 1.0, 1.0])
    weights = weights / weights.sum()
    blind = [channels.ignores(channel, p, z) for z in FACTORS]
    mixed = weights[0] * channels.cold(channel, temperature)
    mixed = mixed + sum(w * b for w, b in zip(weights[1:], blind, strict=True))
    known = _knowledge(keys[2], p.shape).reshape(-1, 1)
    mixed = known * mixed + (1 - known) * output_law(p.ravel(), channel)
    return channels.noisy(mixed, jax.random.uniform(keys[3], (), minval=0.02, maxval=0.4))


def _knowledge(key: Array, shape: tuple[int, ...]) -> Array:
    """How well a model knows each context: the product over its factors' values, [U, C, D]."""
    levels = jnp.ones((), jnp.result_type(float))
    for z, size in enumerate(shape):
        level = jax.random.uniform(jax.random.fold_in(key, z), (size,)) ** 0.5
        levels = levels * level.reshape([size if k == z else 1 for k in range(3)])
    return levels


@checks.arguments(key=checks.random_key)
def random_world(
    key: Array, family: str, strength: Any = 1.0, sizes: Sizes = SIZES, sharpness: Any = 2.0
) -> World:
    """A random world; pure in `key`, `strength` and `sharpness`, so vmap-able over them.

    Args:
      key: of `jax.random`.
      family: one of `FAMILIES`.
      strength: 0 (no shift) to 1 (as far as the family goes).
      sizes: users, characters, dialogues, responses.
      sharpness: scale of the true channel's logits; information grows with it.
    """
    make = checks.look_up("family", family, FAMILIES)
    keys = jax.random.split(key, 3)
    P, Q = make(keys[0], sizes, strength)
    channel = role_play_channel(keys[1], sizes, sharpness)
    return World(P, Q, channel, random_model(keys[2], channel, joint_distribution(P)))

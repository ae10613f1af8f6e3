"""Does the estimated Shapley attribution name the shifted factor, and else keep silent?

In each world one factor moves to values that P never uses and that the model knows to a random
degree: at worst it answers there as if it knew no context.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.information.attribution import attribute
from remid_jax.information.divergences import output_law
from remid_jax.report.tables import new_table, print_whole
from remid_jax.worlds import channels
from remid_jax.worlds.distributions import (
    Mechanisms,
    World,
    joint_distribution,
    mechanisms_of,
    mixed_distributions,
)
from remid_jax.worlds.draws import draw
from remid_jax.worlds.exact import quantities
from remid_jax.worlds.families import FAMILIES, SIZES, role_play_channel

from . import sampling

Array = jax.Array


def pieces(config: ConfigDict) -> dict[str, Callable[[], Any]]:
    """One piece for each logit_noise of q."""
    return {
        f"shapley logit_noise={m}": functools.partial(_piece, config, m)
        for m in config.shapley.logit_noises
    }


def _piece(config: ConfigDict, logit_noise: float) -> dict[str, Any]:
    c = config.shapley
    keys = jax.random.split(jax.random.key(config.seed + 4), c.worlds)
    found = _draws(keys, jnp.asarray(logit_noise, jnp.float32), c.contexts)
    value, error, factor, exact, shares = (np.asarray(a) for a in found)
    verdicts = []
    for k in range(c.worlds):
        named = attribute(value[k], error[k], c.contexts - 1).named
        emid = value[k][0, 0, 0] - value[k][1, 1, 1]
        noise = 4 * np.hypot(error[k][0, 0, 0], error[k][1, 1, 1])
        right, wrong = named == factor[k], named not in (None, factor[k])
        clear, exact_clear = abs(emid) > noise, abs(exact[k]) > noise
        verdicts.append({
            "clear": clear, "named_right": clear and right, "named_wrong": clear and wrong,
            "exact_clear": exact_clear, "exact_named_right": exact_clear and right,
            "faint": not clear, "faint_silent": not clear and named is None,
            "faint_named_wrong": not clear and wrong,
        })  # fmt: skip
    return {
        "logit_noise": logit_noise,
        "worlds": c.worlds,
        **{name: int(sum(v[name] for v in verdicts)) for name in verdicts[0]},
        "sd_of_exact_emid": float(exact.std()),
        "largest_exact_share_of_unshifted": float(
            np.abs(shares[np.arange(3)[None] != factor[:, None]]).max()
        ),
    }


def show(results: list[dict[str, Any]]) -> None:
    """Prints the table."""
    print_whole(new_table(
        "(iv) Shapley attribution in worlds where one factor shifts",
        ("logit_noise", "worlds", "|EMID| > 4 s.e.", "named right", "wrong", "else", "silent",
         "wrong",
         "exact |EMID| > 4 s.e.", "named right"),
        [
            [r[k] for k in (
                "logit_noise", "worlds", "clear", "named_right", "named_wrong", "faint",
                "faint_silent",
                "faint_named_wrong", "exact_clear", "exact_named_right",
            )]
            for r in results
        ],
    ))  # fmt: skip


def _one_factor_moves(key: Array, factor: Array) -> tuple[Mechanisms, Mechanisms]:
    """Dependent factors; the given one moves from the first half of its values to the second."""
    keys = jax.random.split(key)
    common, _ = FAMILIES["dependent"](keys[0], SIZES, 0.0)
    first, second = FAMILIES["disjoint"](keys[1], SIZES, 1.0)
    return tuple(
        tuple(
            jnp.where(factor == k, m, c) for k, (m, c) in enumerate(zip(moved, common, strict=True))
        )
        for moved in (first, second)
    )


def _ignorant_of_new_values(key: Array, channel: Array, law: Array, factor: Array) -> Array:
    model = channels.noisy(channel, 0.1)
    values = jnp.stack(jnp.unravel_index(jnp.arange(law.size), law.shape))[factor]
    new = values >= jnp.asarray(law.shape)[factor] // 2
    lost = jnp.where(new, jax.random.uniform(key), 0)[:, None]
    return (1 - lost) * model + lost * output_law(law.ravel(), channel)


@functools.partial(jax.jit, static_argnames="n")
def _draws(keys: Array, logit_noise: Array, n: int) -> tuple[Array, ...]:
    """Estimated EMI and error of the cells [worlds, 2, 2, 2]; factor, exact EMID and shares."""

    def once(key: Array) -> tuple[Array, ...]:
        parts = jax.random.split(key, 6)
        factor = jax.random.randint(parts[0], (), 0, 3)
        P, Q = _one_factor_moves(parts[1], factor)
        channel = role_play_channel(parts[2], SIZES, sampling.SHARPNESS)
        law = joint_distribution(P)
        model = _ignorant_of_new_values(parts[3], channel, law, factor)
        log_q = channels.logit_noise(parts[4], channel, logit_noise)
        cells = mixed_distributions(P, Q).reshape(8, *law.shape)

        def cell(part: tuple[Array, Array]) -> sampling.Estimate:
            d = draw(part[1], mechanisms_of(part[0]), channel, model, n)
            return sampling.estimate(*sampling.effective_club(log_q, d, n))

        found = jax.lax.map(cell, (cells, jax.random.split(parts[5], 8)))
        exact = quantities(World(P, Q, channel, model))
        shape = (2, 2, 2)
        return (
            found.value.reshape(shape), found.error.reshape(shape), factor, exact["emid"],
            exact["shapley_user_character_dialogue"],
        )  # fmt: skip

    return jax.lax.map(once, keys)

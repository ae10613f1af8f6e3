"""Does the estimated Shapley attribution name the shifted factor, and else keep silent?

In each world one factor moves to values that P never uses and that the model knows to a random
degree: at worst it answers there as if it knew no context.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.information.attribution import attribute
from remid_jax.information.divergences import output_law
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
from .pieces import Records, Study, print_records

Array = jax.Array


def _measure(config: ConfigDict, logit_noise: float) -> dict[str, Any]:
    c = config.shapley
    keys = jax.random.split(jax.random.key(config.seed + 4), c.worlds)
    found = _draws(keys, jnp.asarray(logit_noise, jnp.float32), c.contexts)
    value, error, factor, exact, shares = (np.asarray(a) for a in found)
    verdicts = (attribute(v, e, c.contexts - 1).named for v, e in zip(value, error, strict=True))
    named = np.array([-1 if k is None else k for k in verdicts])
    right, wrong = named == factor, (named >= 0) & (named != factor)
    emid = value[:, 0, 0, 0] - value[:, 1, 1, 1]
    noise = 4 * np.hypot(error[:, 0, 0, 0], error[:, 1, 1, 1])
    clear, exact_clear = np.abs(emid) > noise, np.abs(exact) > noise
    counted = {
        "clear": clear,
        "named_right": clear & right,
        "named_wrong": clear & wrong,
        "exact_clear": exact_clear,
        "exact_named_right": exact_clear & right,
        "faint": ~clear,
        "faint_silent": ~clear & (named < 0),
        "faint_named_wrong": ~clear & wrong,
    }
    return {
        "worlds": c.worlds,
        **{name: int(of_worlds.sum()) for name, of_worlds in counted.items()},
        "sd_of_exact_emid": float(exact.std()),
        "largest_exact_share_of_unshifted": float(
            np.abs(shares[np.arange(3)[None] != factor[:, None]]).max()
        ),
    }


def _show(results: Records) -> None:
    print_records(
        "(iv) Shapley attribution in worlds where one factor shifts",
        (("logit_noise", "{logit_noise}"), ("worlds", "{worlds}"),
         ("|EMID| > 4 s.e.", "{clear}"), ("named right", "{named_right}"),
         ("wrong", "{named_wrong}"), ("else", "{faint}"), ("silent", "{faint_silent}"),
         ("wrong", "{faint_named_wrong}"), ("exact |EMID| > 4 s.e.", "{exact_clear}"),
         ("named right", "{exact_named_right}")),
        results,
    )  # fmt: skip


def _one_factor_moves(key: Array, factor: Array) -> tuple[Mechanisms, Mechanisms]:
    """Dependent factors; the given one moves from the first half of its values to the second."""
    keys = jax.random.split(key)
    common, _ = FAMILIES["dependent"](keys[0], SIZES, 0.0)
    both = FAMILIES["disjoint"](keys[1], SIZES, 1.0)
    return tuple(
        tuple(jnp.where(factor == k, moved[k], common[k]) for k in range(3)) for moved in both
    )


def _ignorant_of_new_values(key: Array, channel: Array, law: Array, factor: Array) -> Array:
    model = channels.noisy(channel, 0.1)
    values = jnp.stack(jnp.unravel_index(jnp.arange(law.size), law.shape))[factor]
    new = values >= jnp.asarray(law.shape)[factor] // 2
    lost = jnp.where(new, jax.random.uniform(key), 0)[:, None]
    return (1 - lost) * model + lost * output_law(law.ravel(), channel)


@sampling.each_key("n")
def _draws(key: Array, logit_noise: Array, n: int) -> tuple[Array, ...]:
    """Estimated EMI and error of the cells [2, 2, 2]; factor, exact EMID and its shares."""
    parts = jax.random.split(key, 6)
    factor = jax.random.randint(parts[0], (), 0, 3)
    P, Q = _one_factor_moves(parts[1], factor)
    channel = role_play_channel(parts[2], SIZES, sampling.SHARPNESS)
    law = joint_distribution(P)
    model = _ignorant_of_new_values(parts[3], channel, law, factor)
    log_q = channels.logit_noise(parts[4], channel, logit_noise)
    cells = mixed_distributions(P, Q).reshape(8, *law.shape)

    def cell(part: tuple[Array, Array]) -> tuple[Array, Array]:
        d = draw(part[1], mechanisms_of(part[0]), channel, model, n)
        return sampling.estimate(*sampling.effective_club(log_q, d, n))

    found = jax.lax.map(cell, (cells, jax.random.split(parts[5], 8)))
    exact = quantities(World(P, Q, channel, model))
    shares = exact["shapley_user_character_dialogue"]
    return *(v.reshape(2, 2, 2) for v in found), factor, exact["emid"], shares


STUDY = Study(
    "shapley logit_noise={logit_noise}",
    _measure,
    lambda c: {"logit_noise": c.shapley.logit_noises},
    _show,
)

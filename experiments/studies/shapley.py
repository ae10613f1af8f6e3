"""Does the estimated Shapley attribution name the shifted factor, and else keep silent?"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.studies import sampling
from remid_jax.information.attribution import attribute
from remid_jax.worlds import channels
from remid_jax.worlds.draws import draw
from remid_jax.worlds.exact import quantities
from remid_jax.worlds.families import SIZES, one_factor, random_model, role_play_channel
from remid_jax.worlds.laws import World, mechanisms_of, mixed_laws

Array = jax.Array
SHARPNESS = 3.0


def pieces(config: ConfigDict) -> dict[str, Callable[[], Any]]:
    """One piece for each misfit of q."""
    return {
        f"shapley misfit={m}": functools.partial(_piece, config, m) for m in config.shapley.misfits
    }


def _piece(config: ConfigDict, misfit: float) -> dict[str, Any]:
    c = config.shapley
    keys = jax.random.split(jax.random.key(config.seed + 4), c.worlds)
    found = _draws(keys, jnp.asarray(misfit, jnp.float32), c.contexts)
    value, error, factor, exact, shares = (np.asarray(a) for a in found)
    counts = dict.fromkeys(("clear", "named_right", "named_wrong", "exact_clear",
                            "exact_named_right", "faint", "faint_named_wrong"), 0)  # fmt: skip
    covered = 0
    for k in range(c.worlds):
        a = attribute(value[k], error[k], c.contexts - 1)
        emid = value[k][0, 0, 0] - value[k][1, 1, 1]
        spread = np.hypot(error[k][0, 0, 0], error[k][1, 1, 1])
        clear = abs(emid) > 4 * spread
        right, wrong = a.named == factor[k], a.named not in (None, factor[k])
        counts["clear"] += clear
        counts["named_right"] += clear and right
        counts["named_wrong"] += clear and wrong
        counts["faint"] += not clear
        counts["faint_named_wrong"] += (not clear) and wrong
        counts["exact_clear"] += abs(exact[k]) > 4 * spread
        counts["exact_named_right"] += (abs(exact[k]) > 4 * spread) and right
        others = np.arange(3) != factor[k]
        covered += bool((a.low[others] <= 0).all() and (a.high[others] >= 0).all())
    return {
        "misfit": misfit,
        "n_a_cell": c.contexts,
        "worlds": c.worlds,
        **{k: int(v) for k, v in counts.items()},
        "unshifted_factors_hold_zero": covered / c.worlds,
        "sd_of_exact_emid": float(exact.std()),
        "largest_exact_share_of_unshifted": float(
            np.abs(shares[np.arange(3)[None] != factor[:, None]]).max()
        ),
    }


@functools.partial(jax.jit, static_argnames="n")
def _draws(keys: Array, misfit: Array, n: int) -> tuple[Array, ...]:
    """Estimated EMI and error of the cells [worlds, 2, 2, 2]; factor, exact EMID and shares."""

    def once(key: Array) -> tuple[Array, ...]:
        parts = jax.random.split(key, 6)
        factor = jax.random.randint(parts[0], (), 0, 3)
        P, Q = one_factor(parts[1], SIZES, 1.0, factor)
        channel = role_play_channel(parts[2], SIZES, SHARPNESS)
        law = P[0][:, None, None] * P[1][:, :, None] * P[2]
        model = random_model(parts[3], channel, law)
        log_q = channels.misfit(parts[4], channel, misfit)
        cells = mixed_laws(P, Q).reshape(8, *law.shape)

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

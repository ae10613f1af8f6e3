"""Which column sees which fault of a model, and does factor-wise information name the factor?"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.special import stdtr

from remid_jax.information.cross_information import factor_terms
from remid_jax.information.significance import holm
from remid_jax.report.tables import new_table, print_whole
from remid_jax.worlds import channels
from remid_jax.worlds.distributions import FACTORS, World
from remid_jax.worlds.draws import draw
from remid_jax.worlds.families import Sizes

from . import sampling

Array = jax.Array
SIZES: Sizes = (6, 6, 6, 16)
K = 8  # contexts of a factor-wise comparison, the own one included
COLUMNS = ("r_emi", "baseline", *(f"factor_{z}" for z in FACTORS))
NAMED = {f"ignores {z}": z for z in FACTORS} | {"wrong character": "character"}


def pieces(config: ConfigDict) -> dict[str, Callable[[], Any]]:
    """One piece for each faulty channel."""
    return {f"fault {name}": functools.partial(_piece, config, name) for name in channels.FAULTS}


def _piece(config: ConfigDict, fault: str) -> dict[str, Any]:
    c = config.faults
    values, errors = [], []
    for w in range(c.worlds):
        key = jax.random.fold_in(jax.random.key(config.seed + 3), w)
        world, log_q = sampling.world_and_estimator(key, "dependent", 0.0, c.logit_noise, SIZES)
        model = channels.FAULTS[fault](world.channel, world.P)
        keys = jax.random.split(jax.random.fold_in(key, 1), c.draws // c.worlds)
        found = _draws(keys, world, model, log_q, c.contexts)
        values.append(np.asarray(found.value, np.float64))
        errors.append(np.asarray(found.error, np.float64))
    value, error = np.concatenate(values), np.concatenate(errors)  # [draws, columns]
    t = value / error
    p = 2 * stdtr(c.contexts - 1, -np.abs(t))
    adjusted = np.stack([holm(row) for row in p])
    flagged = adjusted < 0.05
    lowest = np.argmin(t[:, 2:], axis=1)
    significant = flagged[:, 2:].any(1) & (t[np.arange(len(t)), 2 + lowest] < 0)
    named = [None, None]  # the lowest factor is the faulty one; and it is significant
    if factor := NAMED.get(fault):
        right = lowest == FACTORS.index(factor)
        named = [float(right.mean()), float((significant & right).mean())]
    # Answers that q finds likelier than golden ones are no praise: sharper sampling, or echoes.
    warned = ((adjusted[:, :2] < 0.05) & (t[:, :2] > 0)).any(1)
    return {
        "fault": fault,
        "n": c.contexts,
        "draws": len(t),
        "mean": dict(zip(COLUMNS, value.mean(0).tolist(), strict=True)),
        "power": dict(zip(COLUMNS, flagged.mean(0).tolist(), strict=True)),
        "flagged_by_any": float(flagged.any(1).mean()),
        "names_factor": named[0],
        "names_factor_with_verdict": named[1],
        "warned_of_sharpness": float(warned.mean()),
    }  # fmt: skip


@functools.partial(jax.jit, static_argnames="n")
def _draws(keys: Array, world: World, model: Array, log_q: Array, n: int) -> sampling.Estimate:
    """Values and standard errors of the columns, [draws, columns]."""

    def once(key: Array) -> sampling.Estimate:
        first, second = jax.random.split(key)
        d = draw(first, world.mechanisms_P, world.channel, model, n)
        club = sampling.estimate(*sampling.effective_club(log_q, d, n))
        gap = sampling.estimate(*sampling.baseline(log_q, d, n))
        swapped = _swapped_contexts(second, world, d.x)
        terms = [
            factor_terms(log_q[x, d.model[:, None]]) - factor_terms(log_q[x, d.golden[:, None]])
            for x in swapped
        ]
        factors = [
            (t.mean(), jnp.std(t, ddof=1) / jnp.sqrt(jnp.asarray(n, t.dtype))) for t in terms
        ]
        return sampling.Estimate(*map(jnp.stack, zip(club, gap, *factors, strict=True)))

    return jax.lax.map(once, keys)


def _swapped_contexts(key: Array, world: World, x: Array) -> list[Array]:
    """For each factor: contexts [N, K], the own one first, then with that factor drawn anew."""
    sizes = world.P.shape
    parts = jnp.stack(jnp.unravel_index(x, sizes))
    found = []
    for z in range(3):
        marginal = world.P.sum(tuple(k for k in range(3) if k != z))
        drawn = jax.random.categorical(
            jax.random.fold_in(key, z), jnp.log(marginal), shape=(x.shape[0], K - 1)
        )
        column = jnp.concatenate([parts[z][:, None], drawn], axis=1)
        grid = [column if k == z else jnp.broadcast_to(parts[k][:, None], column.shape)
                for k in range(3)]  # fmt: skip
        found.append((grid[0] * sizes[1] + grid[1]) * sizes[2] + grid[2])
    return found


def show(results: list[dict[str, Any]]) -> None:
    """Prints the table."""
    print_whole(new_table(
        "(v) share of draws in which a column flags the fault (Holm, 5 %)",
        ("fault", "N", *COLUMNS, "any", "names factor", "warned"),
        [
            (r["fault"], r["n"], *(f"{r['power'][k]:.2f}" for k in COLUMNS),
             f"{r['flagged_by_any']:.3f}",
             "" if r["names_factor"] is None else f"{r['names_factor']:.3f}",
             f"{r['warned_of_sharpness']:.2f}")
            for r in results
        ],
    ))  # fmt: skip

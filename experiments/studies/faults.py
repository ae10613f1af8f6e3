"""Which column sees which fault of a model, and does factor-wise information name the factor?"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.special import stdtr

from remid_jax.information.cross_information import factor_terms
from remid_jax.information.significance import holm
from remid_jax.worlds import channels
from remid_jax.worlds.distributions import FACTORS, World
from remid_jax.worlds.draws import draw
from remid_jax.worlds.families import Sizes

from . import sampling
from .pieces import Records, Study, print_records

Array = jax.Array
SIZES: Sizes = (6, 6, 6, 16)
K = 8  # contexts of a factor-wise comparison, the own one included
COLUMNS = ("r_emi", "baseline", *(f"factor_{z}" for z in FACTORS))
NAMED = {f"ignores {z}": z for z in FACTORS} | {"wrong character": "character"}


def _measure(config: ConfigDict, fault: str) -> dict[str, Any]:
    c = config.faults
    found = []  # values and errors [draws, columns] of each world
    worlds = sampling.dependent_worlds(config.seed + 3, c.worlds, 0.0, c.logit_noise, SIZES)
    for key, world, log_q in worlds:
        model = channels.FAULTS[fault](world.channel, world.P)
        keys = jax.random.split(jax.random.fold_in(key, 1), c.draws // c.worlds)
        found.append(_draws(keys, world, model, log_q, c.contexts))
    value, error = (np.concatenate(part).astype(np.float64) for part in zip(*found, strict=True))
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
        "n": c.contexts,
        "draws": len(t),
        "mean": dict(zip(COLUMNS, value.mean(0).tolist(), strict=True)),
        "power": dict(zip(COLUMNS, flagged.mean(0).tolist(), strict=True)),
        "flagged_by_any": float(flagged.any(1).mean()),
        "names_factor": named[0],
        "names_factor_with_verdict": named[1],
        "warned_of_sharpness": float(warned.mean()),
    }


@sampling.each_key("n")
def _draws(key: Array, world: World, model: Array, log_q: Array, n: int) -> tuple[Array, ...]:
    """Values and standard errors of the columns, [columns] each."""
    first, second = jax.random.split(key)
    d = draw(first, world.mechanisms_P, world.channel, model, n)
    club = sampling.estimate(*sampling.effective_club(log_q, d, n))
    gap = sampling.estimate(*sampling.baseline(log_q, d, n))
    terms = [
        factor_terms(log_q[x, d.model[:, None]]) - factor_terms(log_q[x, d.golden[:, None]])
        for x in _swapped_contexts(second, world, d.x)
    ]
    factors = [(t.mean(), jnp.std(t, ddof=1) / jnp.sqrt(jnp.asarray(n, t.dtype))) for t in terms]
    return tuple(map(jnp.stack, zip(club, gap, *factors, strict=True)))


def _swapped_contexts(key: Array, world: World, x: Array) -> list[Array]:
    """For each factor: contexts [N, K], the own one first, then with that factor drawn anew."""
    sizes = world.P.shape
    parts = [part[:, None] for part in jnp.unravel_index(x, sizes)]
    found = []
    for z, part in enumerate(parts):
        marginal = world.P.sum(tuple(k for k in range(3) if k != z))
        drawn = jax.random.categorical(
            jax.random.fold_in(key, z), jnp.log(marginal), shape=(x.shape[0], K - 1)
        )
        u, c, d = (*parts[:z], jnp.concatenate([part, drawn], axis=1), *parts[z + 1 :])
        found.append((u * sizes[1] + c) * sizes[2] + d)
    return found


def _show(results: Records) -> None:
    print_records(
        "(v) share of draws in which a column flags the fault (Holm, 5 %)",
        (("fault", "{fault}"), ("N", "{n}"), *((k, f"{{power[{k}]:.2f}}") for k in COLUMNS),
         ("any", "{flagged_by_any:.3f}"), ("names factor", "{names_factor:.3f}"),
         ("warned", "{warned_of_sharpness:.2f}")),
        results,
    )  # fmt: skip


STUDY = Study("fault {fault}", _measure, lambda c: {"fault": channels.FAULTS}, _show)

"""Do nominal 95 % intervals hold the population value of the functional they are named for?"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.special import stdtrit

from remid_jax.information.cross_information import context_sets, cross_information_replicates
from remid_jax.worlds.distributions import World
from remid_jax.worlds.draws import draw_contexts, pair_matrix, respond
from remid_jax.worlds.exact import quantities, scored_information
from remid_jax.worlds.families import Sizes

from . import sampling

Array = jax.Array
SIZES: Sizes = (4, 12, 4, 10)  # 12 characters, so that 8 and 16 clusters of them differ
K = 8  # contexts of cross-information
DRAWS = 64  # context sets a response


def pieces(config: ConfigDict) -> dict[str, Callable[[], Any]]:
    """One piece for each N and number of clusters."""
    return {
        f"coverage N={n} clusters={g}": functools.partial(_piece, config, n, g)
        for n in config.coverage.contexts
        for g in config.coverage.clusters
    }


def _piece(config: ConfigDict, n: int, clusters: int) -> dict[str, Any]:
    c = config.coverage
    inside: dict[str, list[np.ndarray]] = {}
    exact_inside, widths = [], []
    for w in range(c.worlds):
        key = jax.random.fold_in(jax.random.key(config.seed), w)
        world, log_q = sampling.world_and_estimator(key, "dependent", 0.7, c.misfit, SIZES)
        truth = jax.tree.map(float, _population(key, world, log_q))
        # 8 clusters cannot give 8 contexts of different clusters on average: iid alone.
        sets = None if clusters else context_sets(n, K, draws=DRAWS, seed=w)
        keys = jax.random.split(jax.random.fold_in(key, n + clusters), c.draws // c.worlds)
        found = _estimates(keys, world, log_q, sets, n, clusters)
        for name, (value, error, freedom) in found.items():
            value, error, freedom = (np.asarray(a) for a in (value, error, freedom))
            half = stdtrit(freedom, 0.975) * error
            inside.setdefault(name, []).append(np.abs(value - truth[name]) <= half)
            if name == "r_emid":
                exact_inside.append(np.abs(value - truth["exact_emid"]) <= half)
                widths.append(half)
    return {
        "n": n,
        "clusters": clusters,
        "draws": int(np.size(inside["r_emid"])),
        "coverage": {k: float(np.mean(v)) for k, v in inside.items()},
        "lowest_of_worlds": {k: float(min(map(np.mean, v))) for k, v in inside.items()},
        "exact_emid_inside": float(np.mean(exact_inside)),
        "half_width_r_emid": float(np.mean(widths)),
    }


@jax.jit
def _population(key: Array, world: World, log_q: Array) -> dict[str, Array]:
    """Population values of the functionals, and exact EMID beside them."""
    exact = quantities(world)
    values = {}
    for name, law in (("P", world.P.ravel()), ("Q", world.Q.ravel())):
        model = scored_information(law, world.model, log_q)
        golden = scored_information(law, world.channel, log_q)
        values[f"r_emi_{name}"] = model["club"] - golden["club"]
        values[f"retained_{name}"] = model["club"] / golden["club"]
        values[f"baseline_{name}"] = model["log_likelihood"] - golden["log_likelihood"]
    mechanisms = (world.mechanisms_P, world.mechanisms_Q)
    cross = [
        _cross_population(key, m, world.model, log_q)
        - _cross_population(key, m, world.channel, log_q)
        for m in mechanisms
    ]
    return {
        "r_emi": values["r_emi_P"],
        "r_emid": values["r_emi_P"] - values["r_emi_Q"],
        "retained": values["retained_P"],
        "baseline": values["baseline_P"],
        "baseline_shift": values["baseline_P"] - values["baseline_Q"],
        "cross_information_emid": cross[0] - cross[1],
        "exact_emid": exact["emid"],
    }


def _cross_population(key: Array, mechanisms: Any, rows: Array, log_q: Array) -> Array:
    """CI with K contexts by 400,000 independent draws: its error is a tenth of the estimator's."""
    draws = 400_000
    keys = jax.random.split(key)
    x = draw_contexts(keys[0], mechanisms, draws * K).x.reshape(draws, K)
    y = respond(keys[1], rows, x[:, 0])
    scores = log_q[x, y[:, None]]
    return jnp.mean(scores[:, 0] - jax.nn.logsumexp(scores, axis=1) + jnp.log(K))


@functools.partial(jax.jit, static_argnames=("n", "clusters"))
def _estimates(
    keys: Array, world: World, log_q: Array, sets: Array | None, n: int, clusters: int
) -> dict[str, tuple[Array, Array, Array]]:
    """Each statistic's values, standard errors and degrees of freedom, [draws] each."""
    groups = clusters or n

    def once(key: Array) -> dict[str, tuple[Array, Array, Array]]:
        both = sampling.samples(key, world, n, clusters)
        free = jnp.asarray(groups - 1.0)
        club = [sampling.effective_club(log_q, d, groups) for d in both]
        gaps = [sampling.baseline(log_q, d, groups) for d in both]
        model, golden = sampling.club_sides(log_q, both[0], groups)
        kept = (model[0] / golden[0], model[1] / golden[1])
        one = {"r_emi": club[0], "retained": kept, "baseline": gaps[0]}
        two = {"r_emid": club, "baseline_shift": gaps}
        if sets is not None:
            two["cross_information_emid"] = [_cross(log_q, d, sets, n) for d in both]
        found = {k: (*sampling.estimate(*v), free) for k, v in one.items()}
        for name, pair in two.items():
            P, Q = (sampling.estimate(*v) for v in pair)
            found[name] = (*sampling.difference(P, Q), sampling.welch(P.error, Q.error, free))
        return found

    return jax.lax.map(once, keys)


def _cross(log_q: Array, d: Any, sets: Array, n: int) -> tuple[Array, Array]:
    sides = [
        cross_information_replicates(pair_matrix(log_q, d.x, y), sets, jnp.arange(n), n)
        for y in (d.model, d.golden)
    ]
    return sides[0][0] - sides[1][0], sides[0][1] - sides[1][1]

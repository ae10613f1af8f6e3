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
from remid_jax.report.tables import new_table, print_whole
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
    exact_inside = []
    for w in range(c.worlds):
        key = jax.random.fold_in(jax.random.key(config.seed), w)
        world, log_q = sampling.world_and_estimator(key, "dependent", 0.7, c.logit_noise, SIZES)
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
    return {
        "n": n,
        "clusters": clusters,
        "draws": int(np.size(inside["r_emid"])),
        "coverage": {k: float(np.mean(v)) for k, v in inside.items()},
        "lowest_of_worlds": {k: float(min(map(np.mean, v))) for k, v in inside.items()},
        "exact_emid_inside": float(np.mean(exact_inside)),
    }


@jax.jit
def _population(key: Array, world: World, log_q: Array) -> dict[str, Array]:
    """Population values of the functionals, and exact EMID beside them."""
    sides = (world.model, world.channel)
    P, Q = (
        [scored_information(law.ravel(), rows, log_q) for rows in sides]
        for law in (world.P, world.Q)
    )
    cross = [
        [_cross_population(key, mechanisms, rows, log_q) for rows in sides]
        for mechanisms in (world.mechanisms_P, world.mechanisms_Q)
    ]

    def gap(law: list[Any], name: str) -> Array:
        return law[0][name] - law[1][name]

    return {
        "r_emi": gap(P, "club"),
        "r_emid": gap(P, "club") - gap(Q, "club"),
        "retained": P[0]["club"] / P[1]["club"],
        "baseline": gap(P, "log_likelihood"),
        "baseline_shift": gap(P, "log_likelihood") - gap(Q, "log_likelihood"),
        "cross_information_emid": (cross[0][0] - cross[0][1]) - (cross[1][0] - cross[1][1]),
        "exact_emid": quantities(world)["emid"],
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
    return sampling.gap(
        *(
            cross_information_replicates(pair_matrix(log_q, d.x, y), sets, jnp.arange(n), n)
            for y in (d.model, d.golden)
        )
    )


def show(results: list[dict[str, Any]]) -> None:
    """Prints the table."""
    names = list(results[0]["coverage"])
    print_whole(new_table(
        "(i) share of 95 % intervals that hold the population value (lowest of the worlds)",
        ("N", "clusters", "draws", *names, "exact EMID"),
        [
            (r["n"], r["clusters"] or "iid", r["draws"],
             *(f"{r['coverage'][k]:.3f} ({r['lowest_of_worlds'][k]:.2f})"
               if k in r["coverage"] else "" for k in names),
             f"{r['exact_emid_inside']:.3f}")
            for r in results
        ],
    ))  # fmt: skip

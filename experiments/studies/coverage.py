"""Do nominal 95 % intervals hold the population value of the functional they are named for?"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.special import stdtrit

from remid_jax.information.cross_information import context_sets, cross_information_replicates
from remid_jax.worlds.distributions import World
from remid_jax.worlds.draws import Draw, draw_contexts, pair_matrix, respond
from remid_jax.worlds.exact import quantities, scored_information
from remid_jax.worlds.families import Sizes

from . import sampling
from .pieces import Records, Study, print_records

Array = jax.Array
SIZES: Sizes = (4, 12, 4, 10)  # 12 characters, so that 8 and 16 clusters of them differ
K = 8  # contexts of cross-information
DRAWS = 64  # context sets a response


def _measure(config: ConfigDict, n: int, clusters: int) -> dict[str, Any]:
    c = config.coverage
    inside: dict[str, list[np.ndarray]] = {}
    worlds = sampling.dependent_worlds(config.seed, c.worlds, 0.7, c.logit_noise, SIZES)
    for w, (key, world, log_q) in enumerate(worlds):
        truth = jax.tree.map(float, _population(key, world, log_q))
        # 8 clusters cannot give 8 contexts of different clusters on average: iid alone.
        sets = None if clusters else context_sets(n, K, draws=DRAWS, seed=w)
        keys = jax.random.split(jax.random.fold_in(key, n + clusters), c.draws // c.worlds)
        found = _estimates(keys, world, log_q, sets, n, clusters)
        for name, statistic in {**found, "exact_emid": found["r_emid"]}.items():
            value, error, freedom = map(np.asarray, statistic)
            half = stdtrit(freedom, 0.975) * error
            inside.setdefault(name, []).append(np.abs(value - truth[name]) <= half)
    exact_inside = inside.pop("exact_emid")
    return {
        "draws": int(np.size(inside["r_emid"])),
        "coverage": {k: float(np.mean(v)) for k, v in inside.items()},
        "lowest_of_worlds": {k: float(min(map(np.mean, v))) for k, v in inside.items()},
        "exact_emid_inside": float(np.mean(exact_inside)),
    }


@jax.jit
def _population(key: Array, world: World, log_q: Array) -> dict[str, Array]:
    """Population values of the functionals, and exact EMID beside them."""
    P, Q = (
        [
            scored_information(joint.ravel(), rows, log_q)
            | {"cross": _cross_population(key, mechanisms, rows, log_q)}
            for rows in (world.model, world.channel)
        ]
        for joint, mechanisms in ((world.P, world.mechanisms_P), (world.Q, world.mechanisms_Q))
    )
    gap, shifted = (jax.tree.map(jnp.subtract, *law) for law in (P, Q))
    return {
        "r_emi": gap["club"],
        "r_emid": gap["club"] - shifted["club"],
        "retained": P[0]["club"] / P[1]["club"],
        "baseline": gap["log_likelihood"],
        "baseline_shift": gap["log_likelihood"] - shifted["log_likelihood"],
        "cross_information_emid": gap["cross"] - shifted["cross"],
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


@sampling.each_key("n", "clusters")
def _estimates(
    key: Array, world: World, log_q: Array, sets: Array | None, n: int, clusters: int
) -> dict[str, tuple[Array, Array, Array]]:
    """Each statistic's value, standard error and degrees of freedom."""
    groups = clusters or n
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
    for name, (P, Q) in two.items():
        found[name] = _difference(sampling.estimate(*P), sampling.estimate(*Q), free)
    return found


def _cross(log_q: Array, d: Draw, sets: Array, n: int) -> tuple[Array, Array]:
    model, golden = (
        cross_information_replicates(pair_matrix(log_q, d.x, y), sets, jnp.arange(n), n)
        for y in (d.model, d.golden)
    )
    return jax.tree.map(jnp.subtract, model, golden)


def _difference(P: tuple[Array, Array], Q: tuple[Array, Array], free: Array) -> tuple[Array, ...]:
    """P − Q of independent samples, with Welch's degrees of freedom."""
    a, b = jnp.square(P[1]), jnp.square(Q[1])
    welch = jnp.square(a + b) / ((jnp.square(a) + jnp.square(b)) / free)
    return P[0] - Q[0], jnp.hypot(P[1], Q[1]), welch


def _show(results: Records) -> None:
    print_records(
        "(i) share of 95 % intervals that hold the population value (lowest of the worlds)",
        (("N", "{n}"), ("clusters", "{clusters}"), ("draws", "{draws}"),
         *((k, f"{{coverage[{k}]:.3f}} ({{lowest_of_worlds[{k}]:.2f}})")
           for k in results[0]["coverage"]),
         ("exact EMID", "{exact_emid_inside:.3f}")),
        [{**r, "clusters": r["clusters"] or "iid"} for r in results],
    )  # fmt: skip


STUDY = Study(
    "coverage N={n} clusters={clusters}",
    _measure,
    lambda c: {"n": c.coverage.contexts, "clusters": c.coverage.clusters},
    _show,
)

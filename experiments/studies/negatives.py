"""How much noise comes from choosing negatives, with the data fixed and in all?

A response's surface form (its length, its wording) adds to log q(y|x) what no context changes. It
carries no information, but random negatives pick up its spread. On text it is most of the spread:
s.d. of 33 nats between responses and 4.4 for what context and response make together, on the
golden IDTest responses of configs/quickstart.py.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.information.mutual_information import cyclic_negatives
from remid_jax.report.tables import new_table, print_whole
from remid_jax.worlds.draws import Draw, pair_matrix

from . import sampling

Array = jax.Array


def pieces(config: ConfigDict) -> dict[str, Callable[[], Any]]:
    """One piece for each spread of the responses' surface forms."""
    return {
        f"negatives surface={s}": functools.partial(_piece, config, s)
        for s in config.negatives.surfaces
    }


def _piece(config: ConfigDict, surface: float) -> dict[str, Any]:
    c = config.negatives
    n, shifts = c.contexts, c.shifts
    weights = jnp.asarray(cyclic_negatives(n, shifts))
    rows: dict[str, list[np.ndarray]] = {"random": [], "cyclic": [], "all": []}
    for w in range(c.data_sets):
        key = jax.random.fold_in(jax.random.key(config.seed + 1), w % c.worlds)
        world, log_q = sampling.world_and_estimator(key, "dependent", 0.7, c.logit_noise)
        d, _ = sampling.samples(jax.random.fold_in(key, 10_000 + w), world, n)
        keys = jax.random.split(jax.random.fold_in(key, 20_000 + w), c.choices)
        forms = surface * jax.random.normal(jax.random.fold_in(key, 30_000 + w), (2, n))
        found = _choices(keys, log_q, d, forms, weights, n * shifts)
        for name in rows:
            rows[name].append(np.asarray(found[name]))
    values = {k: np.stack(v) for k, v in rows.items()}  # [data sets, choices]
    choice = {k: float(np.sqrt(v.var(axis=1, ddof=1).mean())) for k, v in values.items()}
    # Within a world; data sets of one world differ by their draws alone.
    worlds = np.arange(c.data_sets) % c.worlds
    total = {
        k: float(np.sqrt(np.mean([v[worlds == w].var(ddof=1) for w in range(c.worlds)])))
        for k, v in values.items()
    }
    return {
        "n": n,
        "surface_sd": surface,
        "pairs_a_side": n * shifts,
        "data_sets": c.data_sets,
        "choices": c.choices,
        "sd_from_choice": choice,
        "sd_total": total,
        "ratio_cyclic_to_random": choice["cyclic"] / choice["random"],
    }


@functools.partial(jax.jit, static_argnames="pairs")
def _choices(
    keys: Array, log_q: Array, d: Draw, forms: Array, weights: Array, pairs: int
) -> dict[str, Array]:
    """R-EMI of one data set under many choices of negatives: [choices] each."""
    n = d.x.shape[0]
    responses = (d.model, d.golden)
    model, golden = (
        pair_matrix(log_q, d.x, y) + form for y, form in zip(responses, forms, strict=True)
    )
    diagonal = jnp.mean(jnp.diagonal(model) - jnp.diagonal(golden))
    everything = sampling.effective_club(log_q, d, n)[0]

    def random_mean(key: Array, scores: Array) -> Array:
        first, second = jax.random.split(key)
        i = jax.random.randint(first, (pairs,), 0, n)
        j = (i + jax.random.randint(second, (pairs,), 1, n)) % n
        return scores[i, j].mean()

    def once(key: Array) -> dict[str, Array]:
        one, two, three = jax.random.split(key, 3)
        drawn = random_mean(one, model) - random_mean(two, golden)  # each side by itself
        order = jax.random.permutation(three, n)
        balanced = jnp.sum(weights * (model - golden)[order][:, order]) / pairs
        return {"random": diagonal - drawn, "cyclic": diagonal - balanced, "all": everything}

    return jax.lax.map(once, keys)


def show(results: list[dict[str, Any]]) -> None:
    """Prints one table for each spread."""
    for r in results:
        print_whole(new_table(
            f"(ii) s.d. of R-EMI, N = {r['n']}, {r['pairs_a_side']} pairs a side, "
            f"surface forms of s.d. {r['surface_sd']:g}; nats",
            ("negatives", "from choosing them", "in all"),
            [(k, f"{v:.4f}", f"{r['sd_total'][k]:.4f}") for k, v in r["sd_from_choice"].items()],
        ))  # fmt: skip
        print(f"cyclic / random, data fixed: {r['ratio_cyclic_to_random']:.2f}")

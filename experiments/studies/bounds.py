"""Are the bounds valid, how tight are they, and does the prediction order shifts?"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.studies import sampling
from remid_jax.information.bound_estimates import BoundBlocks, BoundEstimate, linear_bound_estimate
from remid_jax.information.divergences import jensen_shannon
from remid_jax.information.precision import double_precision
from remid_jax.information.repeated import rank_agreement
from remid_jax.worlds.draws import Draw, respond
from remid_jax.worlds.exact import quantities
from remid_jax.worlds.families import FAMILIES, SIZES, random_world
from remid_jax.worlds.laws import World

Array = jax.Array
FORMS = ("linear", "linear_tv", "linear_js", "mixture", "mixture_tv", "mixture_js", "factor_bound")
PRINTED = "paper_bound"
BATCH = 250  # worlds a call
ROUNDING = 1e-9  # nats: violations beyond it count


def pieces(config: ConfigDict) -> dict[str, Callable[[], Any]]:
    """Three pieces a family: exact bounds, sampled bounds, predictions."""
    studies = (("exact", _exact), ("sampled", _sampled), ("prediction", _prediction))
    return {
        f"{name} {family}": functools.partial(study, config, family)
        for name, study in studies
        for family in FAMILIES
    }


@functools.partial(jax.jit, static_argnames="family")
def _worlds(keys: Array, strengths: Array, family: str) -> World:
    sharpness = jax.vmap(lambda k: jax.random.uniform(k, minval=1.0, maxval=5.0))(keys)
    return jax.vmap(lambda k, s, h: random_world(k, family, s, SIZES, h))(
        keys, strengths, sharpness
    )


_exact_of = jax.jit(jax.vmap(quantities))


def _exact(config: ConfigDict, family: str) -> dict[str, Any]:
    """Violations and tightness over many worlds, in float64."""
    count = -(-config.worlds // len(FAMILIES) // BATCH) * BATCH
    parts = []
    with double_precision():
        keys = jax.random.split(jax.random.key(config.seed), count)
        strengths = jnp.linspace(0.02, 1, count)
        for start in range(0, count, BATCH):
            chosen = slice(start, start + BATCH)
            found = _exact_of(_worlds(keys[chosen], strengths[chosen], family))
            parts.append({k: np.asarray(v) for k, v in found.items()})
    q = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    slack = {f: q[f] - q["emid"] for f in (*FORMS, PRINTED)}
    finite = {f: np.isfinite(q[f]) for f in slack}
    positive = q["emid"] > 1e-4
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "family": family,
            "worlds": count,
            "violations": {f: int((slack[f] < -ROUNDING).sum()) for f in slack},
            "finite": {f: int(finite[f].sum()) for f in slack},
            # How many times closer to EMID, over the finite ones; medians.
            "slack_ratio_to_printed": {
                f: _median(slack[PRINTED][finite[f]] / np.maximum(slack[f][finite[f]], 1e-12))
                for f in FORMS
            },
            "size_ratio_to_printed": {
                f: _median(q[PRINTED][finite[f]] / np.abs(q[f][finite[f]])) for f in FORMS
            },
            "looseness_where_emid_is_positive": {
                f: _median(q[f][positive & finite[f]] / q["emid"][positive & finite[f]])
                for f in slack
            },
            "median_abs_emid": float(np.median(np.abs(q["emid"]))),
        }


def _median(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def _blocks(a: Draw, b: Draw, golden_Q: Array, log_q: Array, log_m: Array) -> BoundBlocks:
    def at(table: Array, x: Array, y: Array) -> Array:
        return table[x][:, y]

    return BoundBlocks(
        log_m[a.x, a.model],
        at(log_m, b.x, a.model),
        at(log_m, b.x, b.model),
        at(log_q, a.x, a.golden),
        log_q[b.x, golden_Q],
        at(log_q, a.x, golden_Q),
    )


def _sampled(config: ConfigDict, family: str) -> dict[str, Any]:
    """Does the upper limit of the sampled linear bound hold exact EMID?"""
    c = config.sampled
    keys = jax.random.split(jax.random.key(config.seed + 1), c.draws)
    value, error, freedom, emid, bound = (
        np.asarray(v, np.float64) for v in _sampled_draws(keys, c.contexts, family)
    )
    upper = BoundEstimate(value, error, freedom).upper_limit(0.95)
    ok = np.isfinite(bound)
    return {
        "family": family,
        "n": c.contexts,
        "draws": c.draws,
        "upper_limit_holds_emid": float(np.mean(upper >= emid)),
        "upper_limit_holds_bound": float(np.mean(upper[ok] >= bound[ok])),
        "mean_error_of_bound": float(np.mean((value - bound)[ok])),
        "mean_upper_minus_emid": float(np.mean(upper - emid)),
    }


@functools.partial(jax.jit, static_argnames=("n", "family"))
def _sampled_draws(keys: Array, n: int, family: str) -> tuple[Array, ...]:
    def once(key: Array) -> tuple[Array, ...]:
        parts = jax.random.split(key, 3)
        # Short of disjoint laws, where the linear bound is infinite.
        strength = jax.random.uniform(parts[0], maxval=0.95)
        world = random_world(parts[1], family, strength, SIZES, sampling.SHARPNESS)
        a, b = sampling.samples(parts[2], world, n)
        blocks = _blocks(a, b, b.golden, jnp.log(world.channel), jnp.log(world.model))
        found = linear_bound_estimate(blocks)
        exact = quantities(world)
        return (*found, exact["emid"], exact["linear"])

    return jax.lax.map(once, keys)


def _prediction(config: ConfigDict, family: str) -> dict[str, Any]:
    """Rank correlation with exact EMID over shifts of one world: the prediction and its rivals."""
    c = config.prediction
    keys = jax.random.split(jax.random.key(config.seed + 2), c.worlds)
    found = {
        k: np.asarray(v, np.float64)
        for k, v in _predicted(keys, c.contexts, c.shifts, c.misfit, family).items()
    }  # [worlds, shifts]
    truth = found.pop("emid")
    correlations = {
        name: np.array([rank_agreement(v, t).spearman for v, t in zip(values, truth, strict=True)])
        for name, values in found.items()
    }
    return {
        "family": family,
        "n": c.contexts,
        "worlds": c.worlds,
        "shifts": c.shifts,
        "misfit": c.misfit,
        "spearman_mean": {k: float(np.nanmean(v)) for k, v in correlations.items()},
        "spearman_se": {
            k: float(np.nanstd(v, ddof=1) / np.sqrt(np.isfinite(v).sum()))
            for k, v in correlations.items()
        },
    }


@functools.partial(jax.jit, static_argnames=("n", "shifts", "family"))
def _predicted(
    keys: Array, n: int, shifts: int, misfit: Array | float, family: str
) -> dict[str, Array]:
    """One P, one model and one q a world, and `shifts` laws Q of graded strength and direction."""

    def once(key: Array) -> dict[str, Array]:
        first, second, third = jax.random.split(key, 3)
        base, log_q = sampling.world_and_estimator(first, family, 0.0, misfit)
        a, _ = sampling.samples(second, base, n)

        def shift(part: tuple[Array, Array]) -> dict[str, Array]:
            moved, drawn, generated = jax.random.split(part[0], 3)
            other = random_world(moved, family, 1.0)
            Q = tuple(
                (1 - part[1]) * p + part[1] * q
                for p, q in zip(base.mechanisms_P, other.mechanisms_Q, strict=True)
            )
            world = World(base.mechanisms_P, Q, base.channel, base.model)
            _, b = sampling.samples(drawn, world, n)
            golden = respond(generated, jnp.exp(log_q), b.x)  # q in place of the golden channel
            predicted = linear_bound_estimate(_blocks(a, b, golden, log_q, log_q))
            exact = quantities(world)
            answers = [jnp.bincount(d.model, length=SIZES[3]) / n for d in (a, b)]
            return {
                "emid": exact["emid"],
                "predict_worst_case": predicted.value,
                "printed bound, exact": exact["paper_bound"],
                "TV of inputs, exact": exact["tv"],
                "linear bound, exact": exact["linear"],
                "JS of the RPM's answers": jensen_shannon(*answers),
            }

        strengths = jnp.linspace(0.1, 0.9, shifts)
        return jax.lax.map(shift, (jax.random.split(third, shifts), strengths))

    return jax.lax.map(once, keys)

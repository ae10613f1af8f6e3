"""Are the bounds valid, how tight are they, and does the prediction order shifts?"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.information.bound_estimates import (
    BoundBlocks,
    BoundEstimate,
    linear_bound_estimate,
    predict_worst_case,
)
from remid_jax.information.bounds import bound
from remid_jax.information.divergences import jensen_shannon
from remid_jax.information.precision import double_precision
from remid_jax.information.repeated import rank_agreement
from remid_jax.worlds.distributions import World
from remid_jax.worlds.draws import Draw, pair_matrix, respond
from remid_jax.worlds.exact import exact_emid, quantities
from remid_jax.worlds.families import FAMILIES, SIZES, random_world

from . import sampling

Array = jax.Array
PRINTED = "paper"  # the formula that all others are compared with
BATCH = 250  # worlds a call, at most
ROUNDING = 1e-9  # nats: violations beyond it count


def pieces(config: ConfigDict) -> dict[str, Callable[[], Any]]:
    """Three pieces a family: exact bounds, sampled bounds, predictions.

    Raises:
      UserError: an unknown bound in `config.bounds`.
    """
    for name in config.bounds:
        try:
            bound(name)
        except ValueError as error:
            raise UserError(f"config.bounds: {error}") from None
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


@functools.partial(jax.jit, static_argnames="names")
def _values(worlds: World, names: tuple[str, ...]) -> dict[str, Array]:
    """Exact EMID and the named bounds, [worlds] each."""

    def once(w: World) -> dict[str, Array]:
        found = {name: bound(name)(w.P, w.Q, w.channel, w.model) for name in names}
        return {**found, "emid": exact_emid(w)}

    return jax.vmap(once)(worlds)


def _exact(config: ConfigDict, family: str) -> dict[str, Any]:
    """Violations and tightness over many worlds, in float64."""
    names = tuple(dict.fromkeys((*config.bounds, PRINTED)))
    wanted = -(-config.worlds // len(FAMILIES))
    batch = min(BATCH, wanted)
    count = -(-wanted // batch) * batch
    parts = []
    with double_precision():
        keys = jax.random.split(jax.random.key(config.seed), count)
        strengths = jnp.linspace(0.02, 1, count)
        for start in range(0, count, batch):
            chosen = slice(start, start + batch)
            found = _values(_worlds(keys[chosen], strengths[chosen], family), names)
            parts.append({k: np.asarray(v) for k, v in found.items()})
    q = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    emid, printed = q.pop("emid"), q[PRINTED]
    rows = {name: _tightness(q[name], emid, printed) for name in names}
    return {
        "family": family,
        "worlds": count,
        "median_abs_emid": float(np.median(np.abs(emid))),
        "bounds": rows,
    }


def _tightness(values: np.ndarray, emid: np.ndarray, printed: np.ndarray) -> dict[str, Any]:
    """Violations, and medians over the worlds in which the bound is finite."""
    finite = np.isfinite(values)
    positive = finite & (emid > 1e-4)
    slack = values - emid
    with np.errstate(divide="ignore", invalid="ignore"):
        closer = (printed - emid) / np.maximum(slack, 1e-12)
        return {
            "violations": int((~(slack >= -ROUNDING)).sum()),  # NaN is one too
            "finite": int(finite.sum()),
            "times_closer_than_printed": _median(closer[finite]),
            "times_smaller_than_printed": _median((printed / np.abs(values))[finite]),
            "times_emid_where_positive": _median((values / emid)[positive]),
        }


def _median(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def _blocks(a: Draw, b: Draw, golden_Q: Array, log_q: Array, log_m: Array) -> BoundBlocks:
    return BoundBlocks(
        log_m[a.x, a.model],
        pair_matrix(log_m, b.x, a.model),
        pair_matrix(log_m, b.x, b.model),
        pair_matrix(log_q, a.x, a.golden),
        log_q[b.x, golden_Q],
        pair_matrix(log_q, a.x, golden_Q),
    )


def _sampled(config: ConfigDict, family: str) -> dict[str, Any]:
    """Does the upper limit of the sampled linear bound hold exact EMID?"""
    c = config.sampled
    keys = jax.random.split(jax.random.key(config.seed + 1), c.draws)
    value, error, freedom, emid, exact = (
        np.asarray(v, np.float64) for v in _sampled_draws(keys, c.contexts, family)
    )
    upper = BoundEstimate(value, error, freedom).upper_limit(0.95)
    ok = np.isfinite(exact)
    return {
        "family": family,
        "n": c.contexts,
        "draws": c.draws,
        "upper_limit_holds_emid": float(np.mean(upper >= emid)),
        "upper_limit_holds_bound": float(np.mean(upper[ok] >= exact[ok])),
        "mean_error_of_bound": float(np.mean((value - exact)[ok])),
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
        name: np.array([_spearman(v, t) for v, t in zip(values, truth, strict=True)])
        for name, values in found.items()
    }
    return {
        "family": family,
        "n": c.contexts,
        "worlds": c.worlds,
        "shifts": c.shifts,
        "misfit": c.misfit,
        **_mean_and_error(correlations),
    }


def _mean_and_error(correlations: dict[str, np.ndarray]) -> dict[str, dict[str, float | None]]:
    """Over the worlds that have one; None where there are fewer than two."""
    known = {k: v[np.isfinite(v)] for k, v in correlations.items()}
    enough = {k: len(v) > 1 for k, v in known.items()}
    return {
        "spearman_mean": {k: float(v.mean()) if enough[k] else None for k, v in known.items()},
        "spearman_se": {
            k: float(v.std(ddof=1) / np.sqrt(len(v))) if enough[k] else None
            for k, v in known.items()
        },
    }


def _spearman(values: np.ndarray, truth: np.ndarray) -> float:
    """NaN where one of them is constant: then there is no order to agree with."""
    if np.ptp(values) == 0 or np.ptp(truth) == 0:
        return np.nan
    return rank_agreement(values, truth).spearman


@functools.partial(jax.jit, static_argnames=("n", "shifts", "family"))
def _predicted(
    keys: Array, n: int, shifts: int, misfit: Array | float, family: str
) -> dict[str, Array]:
    """One P, one model and one q a world, and `shifts` laws Q of graded strength.

    Each Q lies between P and the shifted law of another random world of the family: it shares P's
    support, and need not keep what the family holds fixed between its own P and Q.
    """

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
            predicted = predict_worst_case(_blocks(a, b, golden, log_q, log_q))
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

"""Are the bounds of EMID valid and tight, and does the prediction order shifts?"""

import functools
from pathlib import Path
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
from remid_jax.report.tables import new_table, print_whole
from remid_jax.settings import check_keys
from remid_jax.worlds.distributions import World
from remid_jax.worlds.draws import Draw, pair_matrix, respond
from remid_jax.worlds.exact import exact_emid, quantities
from remid_jax.worlds.families import FAMILIES, SIZES, random_world

from .configurations import packaged_module
from .studies import sampling
from .studies.pieces import Piece, run_studies

Array = jax.Array
PRINTED = "paper"  # the formula that all others are compared with
BATCH = 250  # worlds a call, at most
ROUNDING = 1e-9  # nats: violations beyond it count


def check(config: ConfigDict) -> None:
    """Refuses what cannot be measured, before any work.

    Raises:
      UserError: naming the key.
    """
    check_keys(config, packaged_module("bounds").KEYS)
    for name in config.bounds:
        try:
            bound(name)
        except ValueError as error:
            raise UserError(f"config.bounds: {error}") from None


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures family by family, prints the tables; results are in `workdir/results.json`."""
    check(config)
    print_tables(run_studies(pieces(config), config, workdir))
    print(f"results: {workdir / 'results.json'}")


def pieces(config: ConfigDict) -> dict[str, dict[str, Piece]]:
    """Exact bounds, sampled bounds and predictions: one piece of each for a family."""
    studies = {"exact": _exact, "sampled": _sampled, "prediction": _prediction}
    return {
        name: {f"{name} {f}": functools.partial(study, config, f) for f in FAMILIES}
        for name, study in studies.items()
    }


@functools.partial(jax.jit, static_argnames=("family", "names"))
def _values(keys: Array, strengths: Array, family: str, names: tuple[str, ...]) -> dict[str, Array]:
    """Exact EMID and the named bounds in random worlds, [worlds] each."""

    def once(key: Array, strength: Array) -> dict[str, Array]:
        sharpness = jax.random.uniform(key, minval=1.0, maxval=5.0)
        w = random_world(key, family, strength, SIZES, sharpness)
        found = {name: bound(name)(w.P, w.Q, w.channel, w.model) for name in names}
        return {**found, "emid": exact_emid(w)}

    return jax.vmap(once)(keys, strengths)


def _exact(config: ConfigDict, family: str) -> dict[str, Any]:
    """Violations and tightness over many worlds, in float64."""
    names = tuple(dict.fromkeys((*config.bounds, PRINTED)))
    wanted = -(-config.worlds // len(FAMILIES))
    batch = min(BATCH, wanted)
    count = -(-wanted // batch) * batch
    with double_precision():
        keys = jax.random.split(jax.random.key(config.seed), count)
        strengths = jnp.linspace(0.02, 1, count)
        parts = [
            jax.tree.map(
                np.asarray, _values(keys[a : a + batch], strengths[a : a + batch], family, names)
            )
            for a in range(0, count, batch)
        ]
    q = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    emid = q["emid"]
    return {
        "family": family,
        "worlds": count,
        "median_abs_emid": float(np.median(np.abs(emid))),
        "bounds": {name: _tightness(q[name], emid, q[PRINTED]) for name in names},
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
        for k, v in _predicted(keys, c.contexts, c.shifts, c.logit_noise, family).items()
    }  # [worlds, shifts]
    truth = found.pop("emid")
    correlations = {}
    for name, values in found.items():
        each = [_spearman(v, t) for v, t in zip(values, truth, strict=True)]
        correlations[name] = _mean_and_error(np.array([r for r in each if np.isfinite(r)]))
    return {
        "family": family,
        "n": c.contexts,
        "worlds": c.worlds,
        "shifts": c.shifts,
        "logit_noise": c.logit_noise,
        "spearman_mean": {name: mean for name, (mean, _) in correlations.items()},
        "spearman_se": {name: error for name, (_, error) in correlations.items()},
    }


def _mean_and_error(values: np.ndarray) -> tuple[float | None, float | None]:
    """None where there are fewer than two values."""
    n = len(values)
    return (float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))) if n > 1 else (None, None)


def _spearman(values: np.ndarray, truth: np.ndarray) -> float:
    """NaN where one of them is constant: then there is no order to agree with."""
    constant = np.ptp(values) == 0 or np.ptp(truth) == 0
    return np.nan if constant else rank_agreement(values, truth).spearman


@functools.partial(jax.jit, static_argnames=("n", "shifts", "family"))
def _predicted(
    keys: Array, n: int, shifts: int, logit_noise: Array | float, family: str
) -> dict[str, Array]:
    """One P, one model and one q a world, and `shifts` laws Q of graded strength.

    Each Q lies between P and the shifted law of another random world of the family: it shares P's
    support, and need not keep what the family holds fixed between its own P and Q.
    """

    def once(key: Array) -> dict[str, Array]:
        first, second, third = jax.random.split(key, 3)
        base, log_q = sampling.world_and_estimator(first, family, 0.0, logit_noise)
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


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def print_tables(results: dict[str, list[dict[str, Any]]]) -> None:
    """Prints what each study found."""
    names = list(results["exact"][0]["bounds"])
    for title, cell in (
        ("violations (of so many worlds in which the bound is finite)",
         lambda r: f"{r['violations']} ({r['finite']})"),
        ("how many times closer to EMID than the printed formula, median",
         lambda r: _times(r["times_closer_than_printed"])),
        ("how many times smaller than the printed formula, median",
         lambda r: _times(r["times_smaller_than_printed"])),
        ("bound / EMID, median where EMID > 0",
         lambda r: _times(r["times_emid_where_positive"])),
    ):  # fmt: skip
        rows = [
            (r["family"], r["worlds"], *(cell(r["bounds"][n]) for n in names))
            for r in results["exact"]
        ]
        print_whole(new_table(title, ("family", "worlds", *names), rows))
    print_whole(new_table(
        "upper 95 % limit of the sampled linear bound",
        ("family", "N", "draws", "holds exact EMID", "holds exact bound", "limit − EMID (nats)"),
        [
            (r["family"], r["n"], r["draws"], f"{r['upper_limit_holds_emid']:.3f}",
             f"{r['upper_limit_holds_bound']:.3f}", f"{r['mean_upper_minus_emid']:.3f}")
            for r in results["sampled"]
        ],
    ))  # fmt: skip
    names = list(results["prediction"][0]["spearman_mean"])
    print_whole(new_table(
        "rank correlation with exact EMID over graded shifts of a world (mean ± s.e.)",
        ("family", "worlds", "shifts", *names),
        [
            (r["family"], r["worlds"], r["shifts"],
             *("" if r["spearman_mean"][k] is None
               else f"{r['spearman_mean'][k]:.2f} ± {r['spearman_se'][k]:.2f}" for k in names))
            for r in results["prediction"]
        ],
    ))  # fmt: skip
    print("the printed formula is no guarantee: see `remid_jax.information.bounds.paper_bound`")

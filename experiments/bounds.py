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
from remid_jax.settings import check_keys
from remid_jax.worlds.distributions import World
from remid_jax.worlds.draws import Draw, pair_matrix, respond
from remid_jax.worlds.exact import exact_emid, quantities
from remid_jax.worlds.families import FAMILIES, SIZES, random_world

from .configurations import packaged_module
from .studies import sampling
from .studies.pieces import Records, Study, print_records, run_studies

Array = jax.Array
PRINTED = "paper"  # the formula that all others are compared with
BATCH = 250  # worlds a call, at most
ROUNDING = 1e-9  # nats: violations beyond it count


def check(config: ConfigDict) -> None:
    """Raises a UserError that names the key whose value cannot be measured, before any work."""
    check_keys(config, packaged_module("bounds").KEYS)
    for name in config.bounds:
        try:
            bound(name)
        except ValueError as error:
            raise UserError(f"config.bounds: {error}") from None


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures family by family, prints the tables; results are in `workdir/results.json`."""
    check(config)
    run_studies(STUDIES, config, workdir)
    print("the printed formula is no guarantee: see `remid_jax.information.bounds.paper_bound`")
    print(f"results: {workdir / 'results.json'}")


@functools.partial(jax.jit, static_argnames=("family", "names", "batch"))
def _values(
    keys: Array, strengths: Array, family: str, names: tuple[str, ...], batch: int
) -> dict[str, Array]:
    """Exact EMID and the named bounds in random worlds, [worlds] each."""

    def once(given: tuple[Array, Array]) -> dict[str, Array]:
        key, strength = given
        sharpness = jax.random.uniform(key, minval=1.0, maxval=5.0)
        w = random_world(key, family, strength, SIZES, sharpness)
        found = {name: bound(name)(w.P, w.Q, w.channel, w.model) for name in names}
        return {**found, "emid": exact_emid(w)}

    return jax.lax.map(once, (keys, strengths), batch_size=batch)


def _exact(config: ConfigDict, family: str) -> dict[str, Any]:
    """Violations and tightness over many worlds, in float64."""
    names = tuple(dict.fromkeys((*config.bounds, PRINTED)))
    wanted = -(-config.worlds // len(FAMILIES))
    batch = min(BATCH, wanted)
    count = -(-wanted // batch) * batch
    with double_precision():
        keys = jax.random.split(jax.random.key(config.seed), count)
        found = _values(keys, jnp.linspace(0.02, 1, count), family, names, batch)
        q = jax.tree.map(np.asarray, found)
    emid = q["emid"]
    return {
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
        "n": c.contexts,
        "draws": c.draws,
        "upper_limit_holds_emid": float(np.mean(upper >= emid)),
        "upper_limit_holds_bound": float(np.mean(upper[ok] >= exact[ok])),
        "mean_upper_minus_emid": float(np.mean(upper - emid)),
    }


@sampling.each_key("n", "family")
def _sampled_draws(key: Array, n: int, family: str) -> tuple[Array, ...]:
    parts = jax.random.split(key, 3)
    # Short of disjoint laws, where the linear bound is infinite.
    strength = jax.random.uniform(parts[0], maxval=0.95)
    world = random_world(parts[1], family, strength, SIZES, sampling.SHARPNESS)
    a, b = sampling.samples(parts[2], world, n)
    blocks = _blocks(a, b, b.golden, jnp.log(world.channel), jnp.log(world.model))
    exact = quantities(world)
    return (*linear_bound_estimate(blocks), exact["emid"], exact["linear"])


def _prediction(config: ConfigDict, family: str) -> dict[str, Any]:
    """Rank correlation with exact EMID over shifts of one world: the prediction and its rivals."""
    c = config.prediction
    keys = jax.random.split(jax.random.key(config.seed + 2), c.worlds)
    found = _predicted(keys, c.contexts, c.shifts, c.logit_noise, family)  # [worlds, shifts]
    found = {name: np.asarray(values, np.float64) for name, values in found.items()}
    truth = found.pop("emid")
    correlations = {}
    for name, values in found.items():
        each = np.array([_spearman(v, t) for v, t in zip(values, truth, strict=True)])
        correlations[name] = _mean_and_error(each[np.isfinite(each)])
    return {
        "n": c.contexts,
        "worlds": c.worlds,
        "shifts": c.shifts,
        "logit_noise": c.logit_noise,
        "spearman_mean": {name: mean for name, (mean, _) in correlations.items()},
        "spearman_se": {name: error for name, (_, error) in correlations.items()},
    }


def _mean_and_error(values: np.ndarray) -> tuple[float | None, float | None]:
    n = len(values)
    return (float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))) if n > 1 else (None, None)


def _spearman(values: np.ndarray, truth: np.ndarray) -> float:
    """NaN where one of them is constant: then there is no order to agree with."""
    constant = np.ptp(values) == 0 or np.ptp(truth) == 0
    return np.nan if constant else rank_agreement(values, truth).spearman


@sampling.each_key("n", "shifts", "family")
def _predicted(
    key: Array, n: int, shifts: int, logit_noise: Array | float, family: str
) -> dict[str, Array]:
    """One P, one model and one q a world, and `shifts` laws Q of graded strength.

    Each Q lies between P and the shifted law of another random world of the family: it shares P's
    support, and need not keep what the family holds fixed between its own P and Q.
    """
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


def _show_exact(results: Records) -> None:
    for title, template in (
        ("violations (of so many worlds in which the bound is finite)",
         "{bounds[NAME][violations]} ({bounds[NAME][finite]})"),
        ("how many times closer to EMID than the printed formula, median",
         "{bounds[NAME][times_closer_than_printed]:.3g}"),
        ("how many times smaller than the printed formula, median",
         "{bounds[NAME][times_smaller_than_printed]:.3g}"),
        ("bound / EMID, median where EMID > 0", "{bounds[NAME][times_emid_where_positive]:.3g}"),
    ):  # fmt: skip
        of_bounds = [(name, template.replace("NAME", name)) for name in results[0]["bounds"]]
        print_records(title, (("family", "{family}"), ("worlds", "{worlds}"), *of_bounds), results)


def _show_sampled(results: Records) -> None:
    print_records(
        "upper 95 % limit of the sampled linear bound",
        (("family", "{family}"), ("N", "{n}"), ("draws", "{draws}"),
         ("holds exact EMID", "{upper_limit_holds_emid:.3f}"),
         ("holds exact bound", "{upper_limit_holds_bound:.3f}"),
         ("limit − EMID (nats)", "{mean_upper_minus_emid:.3f}")),
        results,
    )  # fmt: skip


def _show_prediction(results: Records) -> None:
    print_records(
        "rank correlation with exact EMID over graded shifts of a world (mean ± s.e.)",
        (("family", "{family}"), ("worlds", "{worlds}"), ("shifts", "{shifts}"),
         *((k, f"{{spearman_mean[{k}]:.2f}} ± {{spearman_se[{k}]:.2f}}")
           for k in results[0]["spearman_mean"])),
        results,
    )  # fmt: skip


def _families(config: ConfigDict) -> dict[str, Any]:
    return {"family": FAMILIES}


STUDIES = {
    "exact": Study("exact {family}", _exact, _families, _show_exact),
    "sampled": Study("sampled {family}", _sampled, _families, _show_sampled),
    "prediction": Study("prediction {family}", _prediction, _families, _show_prediction),
}

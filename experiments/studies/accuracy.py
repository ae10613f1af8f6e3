"""Bias, s.d. and root-mean-square error of every estimator of R-EMID against exact EMID."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.information.cross_information import calibrate_scale, context_sets
from remid_jax.information.repeated import rank_agreement
from remid_jax.report.tables import new_table, print_whole
from remid_jax.worlds.draws import Draw, pair_matrix
from remid_jax.worlds.exact import quantities

from . import sampling

Array = jax.Array
K = 8
ESTIMATORS = (
    "reference", "club", "infonce", "leave_one_out", "cross_information", "calibrated", "baseline"
)  # fmt: skip


def pieces(config: ConfigDict) -> dict[str, Callable[[], Any]]:
    """One piece for each N and logit_noise of q."""
    return {
        f"accuracy N={n} logit_noise={m}": functools.partial(_piece, config, n, m)
        for n in config.accuracy.contexts
        for m in config.accuracy.logit_noises
    }


def _piece(config: ConfigDict, n: int, logit_noise: float) -> dict[str, Any]:
    c = config.accuracy
    sets = context_sets(n, K, draws=c.sets, seed=0)
    held_out = context_sets(c.calibration_contexts, K, draws=16, seed=1)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed + 2), n), c.draws)
    found = _draws(keys, jnp.asarray(logit_noise, jnp.float32), sets, held_out, n)
    found = {k: np.asarray(v, np.float64) for k, v in found.items()}
    truth = found.pop("exact")
    rows = {}
    for name in ESTIMATORS:
        error = found[name] - truth
        rows[name] = {
            "bias": float(error.mean()),
            "bias_se": float(error.std(ddof=1) / np.sqrt(len(error))),
            "sd": float(error.std(ddof=1)),
            "rmse": float(np.sqrt(np.mean(error**2))),
            "spearman": float(rank_agreement(found[name], truth).spearman),
        }
    shown = slice(0, 200)
    scatter = {k: found[k][shown].round(5).tolist() for k in ("reference", "club")}
    return {
        "n": n,
        "logit_noise": logit_noise,
        "draws": c.draws,
        "sd_of_exact_emid": float(truth.std(ddof=1)),
        "estimators": rows,
        "scatter": {"exact": truth[shown].round(5).tolist(), **scatter},
    }


@functools.partial(jax.jit, static_argnames="n")
def _draws(
    keys: Array, logit_noise: Array, sets: Array, held_out: Array, n: int
) -> dict[str, Array]:
    """Each draw has a world of its own: [draws] estimates and exact values."""

    def once(key: Array) -> dict[str, Array]:
        parts = jax.random.split(key, 5)
        strength = jax.random.uniform(parts[0])
        world, log_q = sampling.world_and_estimator(parts[1], "dependent", strength, logit_noise)
        both = sampling.samples(parts[2], world, n)
        train, _ = sampling.samples(parts[3], world, held_out.shape[0])
        scale = calibrate_scale(pair_matrix(log_q, train.x, train.golden), held_out)
        values = [_effective(k, log_q, d, sets, scale) for k, d in zip(
            jax.random.split(parts[4]), both, strict=True
        )]  # fmt: skip
        emid = {name: values[0][name] - values[1][name] for name in values[0]}
        return {**emid, "exact": quantities(world)["emid"]}

    return jax.lax.map(once, keys)


def _effective(key: Array, log_q: Array, d: Draw, sets: Array, scale: Array) -> dict[str, Array]:
    n = d.x.shape[0]
    keys = jax.random.split(key)
    sides = [
        _values(k, log_q, d.x, y, sets, scale)
        for k, y in zip(keys, (d.model, d.golden), strict=True)
    ]
    found = {name: sides[0][name] - sides[1][name] for name in sides[0]}
    found["club"] = sampling.effective_club(log_q, d, n)[0]
    return found


def _values(
    key: Array, log_q: Array, x: Array, y: Array, sets: Array, scale: Array
) -> dict[str, Array]:
    n = x.shape[0]
    own = log_q[x, y]
    pairs = jax.random.split(key)
    i = jax.random.randint(pairs[0], (1000,), 0, n)
    j = (i + jax.random.randint(pairs[1], (1000,), 1, n)) % n
    # Every response's denominator by counting contexts.
    count = jnp.zeros(log_q.shape[0], log_q.dtype).at[x].add(1)
    total = jax.nn.logsumexp(log_q + jnp.log(count)[:, None], axis=0)[y]
    others = total + jnp.log1p(-jnp.exp(own - total))
    members = jnp.concatenate([jnp.arange(n)[:, None, None].repeat(sets.shape[1], 1), sets], 2)
    scores = log_q[x[members], y[:, None, None]]

    def cross(scale: Array | float) -> Array:
        terms = scale * scores[..., 0] - jax.nn.logsumexp(scale * scores, axis=-1)
        return jnp.mean(terms) + jnp.log(members.shape[-1])

    return {
        "reference": own.mean() - log_q[x[i], y[j]].mean(),
        "infonce": jnp.mean(own - total) + jnp.log(n),
        "leave_one_out": jnp.mean(own - others) + jnp.log(n - 1),
        "cross_information": cross(1.0),
        "calibrated": cross(scale),
        "baseline": own.mean(),
    }


def show(results: list[dict[str, Any]]) -> None:
    """Prints the table."""
    print_whole(new_table(
        "error of R-EMID against exact EMID, nats: bias ± s.e., s.d., r.m.s.e., rank correlation",
        ("N", "logit_noise", "estimator", "bias", "s.d.", "r.m.s.e.", "Spearman"),
        [
            (r["n"], r["logit_noise"], name, f"{e['bias']:.3f} ± {e['bias_se']:.3f}",
             f"{e['sd']:.3f}",
             f"{e['rmse']:.3f}", f"{e['spearman']:.2f}")
            for r in results for name, e in r["estimators"].items()
        ],
    ))  # fmt: skip


def figure(rows: list[dict[str, Any]], folder: Path) -> None:
    """Estimate against truth, the reference's procedure beside ours; needs matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no figure: pip install 'remid_jax[report]' and run again; nothing is recomputed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    middle = [r for r in rows if r["logit_noise"] == sorted({r["logit_noise"] for r in rows})[-1]]
    fig, axes = plt.subplots(1, len(middle), figsize=(4 * len(middle), 4), squeeze=False)
    for axis, row in zip(axes[0], middle, strict=True):
        exact = row["scatter"]["exact"]
        for name, colour in (("reference", "tab:orange"), ("club", "tab:blue")):
            axis.plot(exact, row["scatter"][name], ".", color=colour, label=name, alpha=0.6)
        axis.axline((0, 0), slope=1, color="grey", linewidth=1)
        axis.set(
            title=f"N = {row['n']}, logit_noise {row['logit_noise']}", xlabel="exact EMID (nats)"
        )
    axes[0][0].set_ylabel("estimate (nats)")
    axes[0][0].legend()
    fig.tight_layout()
    fig.savefig(folder / "estimates.png", dpi=120)
    plt.close(fig)
    print(f"figure: {folder / 'estimates.png'}")

"""Bias, s.d. and root-mean-square error of every estimator of R-EMID against exact EMID."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.information.cross_information import calibrate_scale, context_sets
from remid_jax.information.repeated import rank_agreement
from remid_jax.worlds.draws import Draw, pair_matrix
from remid_jax.worlds.exact import quantities

from . import sampling
from .pieces import Records, Study, print_records

Array = jax.Array
K = 8
ESTIMATORS = (
    "reference", "club", "infonce", "leave_one_out", "cross_information", "calibrated", "baseline"
)  # fmt: skip


def _measure(config: ConfigDict, n: int, logit_noise: float) -> dict[str, Any]:
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
        "draws": c.draws,
        "sd_of_exact_emid": float(truth.std(ddof=1)),
        "estimators": rows,
        "scatter": {"exact": truth[shown].round(5).tolist(), **scatter},
    }


@sampling.each_key("n")
def _draws(
    key: Array, logit_noise: Array, sets: Array, held_out: Array, n: int
) -> dict[str, Array]:
    """Estimates and exact EMID of a draw, which has a world of its own."""
    parts = jax.random.split(key, 5)
    strength = jax.random.uniform(parts[0])
    world, log_q = sampling.world_and_estimator(parts[1], "dependent", strength, logit_noise)
    both = sampling.samples(parts[2], world, n)
    train, _ = sampling.samples(parts[3], world, held_out.shape[0])
    scale = calibrate_scale(pair_matrix(log_q, train.x, train.golden), held_out)
    P, Q = (
        _effective(k, log_q, d, sets, scale)
        for k, d in zip(jax.random.split(parts[4]), both, strict=True)
    )
    return {**jax.tree.map(jnp.subtract, P, Q), "exact": quantities(world)["emid"]}


def _effective(key: Array, log_q: Array, d: Draw, sets: Array, scale: Array) -> dict[str, Array]:
    model, golden = (
        _values(k, log_q, d.x, y, sets, scale)
        for k, y in zip(jax.random.split(key), (d.model, d.golden), strict=True)
    )
    club = sampling.effective_club(log_q, d, d.x.shape[0])[0]
    return {**jax.tree.map(jnp.subtract, model, golden), "club": club}


def _values(
    key: Array, log_q: Array, x: Array, y: Array, sets: Array, scale: Array
) -> dict[str, Array]:
    n = x.shape[0]
    own = log_q[x, y]
    i, j = sampling.random_pairs(key, n, 1000)
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


def _show(results: Records) -> None:
    print_records(
        "error of R-EMID against exact EMID, nats: bias ± s.e., s.d., r.m.s.e., rank correlation",
        (("N", "{n}"), ("logit_noise", "{logit_noise}"), ("estimator", "{name}"),
         ("bias", "{bias:.3f} ± {bias_se:.3f}"), ("s.d.", "{sd:.3f}"), ("r.m.s.e.", "{rmse:.3f}"),
         ("Spearman", "{spearman:.2f}")),
        [{**r, "name": name, **e} for r in results for name, e in r["estimators"].items()],
    )  # fmt: skip


STUDY = Study(
    "accuracy N={n} logit_noise={logit_noise}",
    _measure,
    lambda c: {"n": c.accuracy.contexts, "logit_noise": c.accuracy.logit_noises},
    _show,
)


def figure(rows: Records, folder: Path) -> None:
    """Estimate against truth, the reference's procedure beside ours; needs matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no figure: pip install 'remid_jax[report]' and run again; nothing is recomputed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    highest = max(r["logit_noise"] for r in rows)
    shown = [r for r in rows if r["logit_noise"] == highest]
    fig, axes = plt.subplots(1, len(shown), figsize=(4 * len(shown), 4), squeeze=False)
    for axis, row in zip(axes[0], shown, strict=True):
        exact = row["scatter"]["exact"]
        for name, colour in (("reference", "tab:orange"), ("club", "tab:blue")):
            axis.plot(exact, row["scatter"][name], ".", color=colour, label=name, alpha=0.6)
        axis.axline((0, 0), slope=1, color="grey", linewidth=1)
        axis.set(title=f"N = {row['n']}, logit_noise {highest}", xlabel="exact EMID (nats)")
    axes[0][0].set_ylabel("estimate (nats)")
    axes[0][0].legend()
    fig.tight_layout()
    fig.savefig(folder / "estimates.png", dpi=120)
    plt.close(fig)
    print(f"figure: {folder / 'estimates.png'}")

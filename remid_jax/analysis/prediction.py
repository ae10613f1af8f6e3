"""How large R-EMID may get, predicted without golden responses to shifted contexts."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from remid_jax.analysis.contrast import Record, number
from remid_jax.analysis.measures import Estimates
from remid_jax.information.bound_estimates import (
    BoundBlocks,
    PredictionBlocks,
    linear_bound_estimate,
    predict_worst_case,
)
from remid_jax.information.precision import double_precision
from remid_jax.information.repeated import rank_agreement
from remid_jax.information.uncertainty import t_interval

LEAST_PAIRS = 4  # of RPM and subset, for a rank correlation
MOST_EXACT, DRAWN = 7, 9999  # all orders of 7 pairs at most; of more, so many are drawn
Row = Mapping[str, Any]


def prediction_records(
    blocks: Mapping[str, Mapping[str, PredictionBlocks]],
    rows: Sequence[Row],
    estimates: Estimates,
) -> tuple[list[Record], list[Record]]:
    """One record for each RPM and shifted subset, and one of their rank correlation.

    Args:
      blocks: shifted tag -> rpm -> what a prediction is made of; empty: no records at all.
      rows: the records of `estimate_rows`.
      estimates: of all subsets.
    """
    if not blocks:
        return [], []
    measured = {(r["rpm"], r["subset"]): r for r in rows}
    records = []
    for rpm in estimates.rpms:
        for subset in estimates.subsets[1:]:
            found, row = blocks[subset.tag][rpm], measured[rpm, subset.tag]
            level = estimates.settings.confidence
            # Both take contexts one by one, which is wrong of those that share a cluster.
            single = subset.labels is None and estimates.home.labels is None
            records.append({
                "rpm": rpm,
                "subset": subset.tag,
                "shift": subset.shift,
                "n": found.n,
                "n_id": found.n_id,
                **_estimate("predicted", predict_worst_case, found.predicted, level, single),
                **_estimate("bound", linear_bound_estimate, found.bound, level, single),
                "measured": row["r_emid"],
                "measured_low": row["r_emid_low"],
                "measured_high": row["r_emid_high"],
            })  # fmt: skip
    return records, [rank_record(records, estimates.settings.seed)]


def _estimate(
    name: str, estimate: Any, blocks: BoundBlocks | None, level: float, with_error: bool
) -> Record:
    value, error, low, high = (None,) * 4
    if blocks is not None:
        with double_precision():
            found = estimate(BoundBlocks(*(jnp.asarray(b, jnp.float64) for b in blocks)))
            value, error, freedom = map(float, found)
        low, high = t_interval(value, error, freedom, level)
    if not with_error:
        error = low = high = None
    keys = (name, f"{name}_se", f"{name}_low", f"{name}_high")
    return dict(zip(keys, map(number, (value, error, low, high)), strict=True))


def rank_record(records: Sequence[Row], seed: int) -> Record:
    """Spearman's ρ of predicted and measured values over RPM × shifted subset.

    The p-value is that of pairs in random order, two-sided. Pairs that share an RPM or a subset
    depend on each other, which it does not know.

    Args:
      records: with `predicted` and `measured`, each None where there is none.
      seed: of the orders.
    """
    known = [(r["predicted"], r["measured"]) for r in records]
    known = np.array([x for x in known if None not in x], float).reshape(-1, 2)
    record: Record = {"n": len(known), "spearman": None, "p_value": None}
    if len(known) < LEAST_PAIRS or (np.ptp(known, axis=0) == 0).any():
        return record
    rho = rank_agreement(*known.T).spearman
    return {**record, "spearman": rho, "p_value": _p_of_order(*known.T, rho, seed)}


def _p_of_order(a: np.ndarray, b: np.ndarray, rho: float, seed: int) -> float:
    """Share of orders of b whose rank correlation with a is as far from 0."""
    from scipy.stats import rankdata

    n = len(a)
    drawn = n > MOST_EXACT
    if drawn:
        orders = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (DRAWN, 1)), axis=1)
    else:
        orders = np.array(list(itertools.permutations(range(n))))
    first, second = (rankdata(x) - (n + 1) / 2 for x in (a, b))
    each = second[orders] @ first / np.linalg.norm(first) / np.linalg.norm(second)
    hits = np.sum(np.abs(each) >= abs(rho) - 1e-9)
    return float((hits + drawn) / (len(orders) + drawn))

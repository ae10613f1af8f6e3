"""Several answers a context: what their sampling adds to an error, and how many are worth it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.analysis.contrast import Record, number
from remid_jax.analysis.measures import Estimates
from remid_jax.information.pairs import MIN_CONTEXTS, Subset, Swapped, groups_of
from remid_jax.information.repeated import responses_worth_it, variance_parts
from remid_jax.information.uncertainty import replicate_error

KEYS = ("draws_share", "draws_share_se", "draws_worth_it")


def r_emi_draws(estimates: Estimates, subset: Subset, rpm: str) -> Record:
    """`KEYS` of R-EMI, and `draws`, the mean number of answers a context.

    With `repeated_contributions` c_jm of the answers and h_j of the golden ones, c_jm − h_j.
    """
    used, weights = subset.used(rpm), subset.negatives[0]
    blocks = subset.draws.get(rpm)
    there = np.stack([b.where for b in blocks or (subset.rpms[rpm],)], axis=1) & used[:, None]
    record = {"draws": number(there.sum() / used.sum() if used.any() else np.nan)}
    pairs = np.ix_(used, used)
    if not blocks or not (weights.model[pairs].any() and weights.golden[pairs].any()):
        return {**record, **dict.fromkeys(KEYS)}
    mean = subset.rpms[rpm]
    # A draw that a context lacks is no negative, and is not read: the mean stands in its place.
    drawn = (dataclasses.replace(mean, scores=np.where(b.where, b.scores, mean.scores))
             for b in blocks)  # fmt: skip
    each = [estimates.contributions(block, used, weights.model) for block in drawn]
    golden = estimates.contributions(subset.golden, used, weights.golden)
    values = np.full(there.shape, np.nan)
    values[used] = np.stack(each, axis=1) - golden[:, None]
    return record | draws_record(estimates, subset, np.where(there, values, np.nan))


def info_draws(
    estimates: Estimates, subset: Subset, rpm: str, swaps: Swapped, factor: str, used: np.ndarray
) -> Record:
    """`KEYS` of a factor's information on the used contexts [N]."""
    if rpm not in swaps.draws:
        return dict.fromkeys(KEYS)
    values = swaps.weights[factor][:, None] * swaps.draws[rpm][factor]
    return draws_record(estimates, subset, np.where(used[:, None], values, np.nan))


def draws_record(estimates: Estimates, subset: Subset, values: np.ndarray) -> Record:
    """`KEYS` of a mean over contexts of means over their draws.

    The share is σ_r² mean(1/m_i) over the variance of a context's mean, at most 1; its error is
    that of a jackknife over contexts. None below 3 contexts, without two draws of any, and where
    contexts are clustered, which depend.

    Args:
      estimates: for what one more context costs.
      subset: of the contexts.
      values: [N, M] nats, NaN where there is none.
    """
    where = np.isfinite(values)
    present = np.flatnonzero(where.any(axis=1))
    record = dict.fromkeys(KEYS)
    groups = groups_of(where.any(axis=1), subset)
    single = len(np.unique(groups[present])) == len(present)
    if len(present) < MIN_CONTEXTS or where.sum(axis=1).max() < 2 or not single:
        return record
    kept = np.ones((1 + len(present), len(values)), bool)
    kept[1 + np.arange(len(present)), present] = False
    filled = jnp.asarray(np.where(where, values, 0))
    shares, context, response = map(np.asarray, _parts(filled, where & kept[..., None]))
    error, _ = replicate_error(shares[1:])
    record |= {"draws_share": number(min(shares[0], 1)), "draws_share_se": number(error)}
    if estimates.context_cost is not None:
        most = responses_worth_it(float(context[0]), float(response[0]), estimates.context_cost, 1)
        record["draws_worth_it"] = number(most)
    return record


@jax.jit
def _parts(values: jax.Array, where: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Share of the draws, and both variances, for each mask [G, N, M]."""

    def of_one(mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        found = variance_parts(values, mask)
        counts = jnp.sum(mask, axis=1, dtype=values.dtype)
        present = counts > 0
        own = found.response * jnp.mean(1 / jnp.maximum(counts, 1), where=present)
        whole = jnp.square(found.standard_error) * jnp.sum(present, dtype=values.dtype)
        return own / whole, found.context, found.response

    return jax.vmap(of_one)(where)

"""Factor-wise information: which factor of the context an RPM's answers ignore or get wrong."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.analysis.contrast import Record, contrast, number, replicates, with_holm
from remid_jax.analysis.measures import Estimates
from remid_jax.information.cross_information import factor_information
from remid_jax.information.pairs import GOLDEN, Subset, groups_of

ByFactor = Mapping[str, np.ndarray]
Swaps = tuple[ByFactor, Mapping[str, ByFactor]]


def factor_records(estimates: Estimates, swaps: Mapping[str, Swaps]) -> list[Record]:
    """Factor-wise information of each RPM and of golden, a record a subset and factor.

    The jackknife deletes a context both as a row and as a source of swapped factors; `p_holm` is
    adjusted over the factors of a subset. `named` marks the lowest difference of those
    significantly below 0: the factor that the answers ignore, or take for another.

    Args:
      estimates: of all subsets.
      swaps: tag -> (sources, scores). sources: factor -> int [N, K − 1], the sample that a swapped
        factor is taken from, −1 throughout a row without any; scores: RPM (or `golden`) -> factor
        -> [N, K − 1], log q(y_i | x_i with the factor swapped) in nats.
    """
    records = []
    for rpm in estimates.rpms:
        for subset in (s for s in estimates.subsets if s.tag in swaps):
            own = swaps[subset.tag]
            block = [_record(estimates, subset, rpm, factor, own) for factor in own[0]]
            records += _with_named(with_holm(block), 1 - estimates.settings.confidence)
    return records


def _record(estimates: Estimates, subset: Subset, rpm: str, factor: str, swaps: Swaps) -> Record:
    sources, scores = swaps[0][factor], swaps[1]
    used = subset.used(rpm) & (sources[:, 0] >= 0)
    sides = [
        scores[name][factor] - np.diagonal(block.plain)[:, None]
        for name, block in ((rpm, subset.rpms[rpm]), (GOLDEN, subset.golden))
    ]
    both = replicates(
        lambda mask: _values(*sides, sources, used, mask), groups_of(used, subset), (2,)
    )
    difference = contrast([(1.0, both.column(0)), (-1.0, both.column(1))])
    parts = difference.record(estimates.settings.confidence)
    return {
        "rpm": rpm,
        "subset": subset.tag,
        "factor": str(factor),
        "n": int(used.sum()),
        "K": sources.shape[1] + 1,
        "model": number(both.value[0]),
        "golden": number(both.value[1]),
        **{key: parts[key] for key in ("difference", "se", "low", "high", "p_value")},
    }


@jax.jit
def _values(
    model: jax.Array, golden: jax.Array, sources: jax.Array, used: jax.Array, mask: jax.Array
) -> jax.Array:
    """Factor information of model and golden on a mask of contexts [N].

    Args:
      model: [N, K − 1] log-likelihoods minus those under the own context.
      golden: the same of golden.
      sources: [N, K − 1].
      used: [N] bool. A context that is not used as a row remains a source.
      mask: [N] bool.
    """
    kept = jnp.concatenate([mask[:, None], mask[:, None] & (mask | ~used)[sources]], axis=1)
    own = jnp.zeros((len(mask), 1), model.dtype)
    sides = (jnp.concatenate([own, gaps], axis=1) for gaps in (model, golden))
    return jnp.stack([factor_information(side, where=kept) for side in sides])


def _with_named(block: Sequence[Record], level: float) -> list[Record]:
    below = [r for r in block if r["p_holm"] is not None and r["p_holm"] < level]
    below = [r for r in below if r["difference"] < 0]
    # By its t: a large difference that is hardly known does not outweigh a sure one.
    lowest = min(below, key=lambda r: r["difference"] / r["se"], default=None)
    return [{**r, "named": r is lowest} for r in block]

"""What each sample adds to an RPM's R-EMI."""

import itertools

import numpy as np

from remid_jax.analysis.contrast import Record
from remid_jax.analysis.measures import Block, Estimates
from remid_jax.information.attribution import contribution_table
from remid_jax.information.significance import contributions


def contribution_records(estimates: Estimates) -> list[Record]:
    """h_i(model) − h_i(golden) of each sample; their mean is the RPM's R-EMI. See `contributions`.

    Returns:
      Ascending (the largest loss first) within each RPM and subset; none for another estimator
      than club, or where no negative pair of a subset is left.
    """
    settings, records = estimates.settings, []
    places = itertools.product(estimates.rpms, estimates.subsets) if settings.name == "club" else ()
    for rpm, subset in places:
        used, weights = subset.used(rpm), subset.negatives[0]
        pairs = np.ix_(used, used)
        if not (weights.model[pairs].any() and weights.golden[pairs].any()):
            continue

        def terms(block: Block, weights: np.ndarray, used: np.ndarray = used) -> np.ndarray:
            lengths = block.lengths if settings.by_token else None
            return np.asarray(contributions(block.scores, lengths, used, weights))[used]

        model = subset.rpms[rpm]
        nats = terms(model, weights.model) - terms(subset.golden, weights.golden)
        ids = list(itertools.compress(subset.sample_ids, used))
        table = contribution_table(ids, nats, model.lengths[used])
        records += [{"rpm": rpm, "subset": subset.tag, **row} for row in table]
    return records

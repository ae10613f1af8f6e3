"""What each sample adds to an RPM's R-EMI."""

import itertools

import numpy as np

from remid_jax.analysis.contrast import Record
from remid_jax.analysis.measures import Estimates
from remid_jax.information.attribution import contribution_table


def contribution_records(estimates: Estimates) -> list[Record]:
    """h_i(model) − h_i(golden) of each sample, of which R-EMI is the mean, ascending in a subset.

    None for another estimator than club, or where no negative pair of a subset is left.
    """
    records: list[Record] = []
    if estimates.settings.name != "club":
        return records
    for rpm, subset in itertools.product(estimates.rpms, estimates.subsets):
        used, weights = subset.used(rpm), subset.negatives[0]
        pairs = np.ix_(used, used)
        if not (weights.model[pairs].any() and weights.golden[pairs].any()):
            continue
        model = subset.rpms[rpm]
        nats = estimates.contributions(model, used, weights.model)
        nats = nats - estimates.contributions(subset.golden, used, weights.golden)
        ids = list(itertools.compress(subset.sample_ids, used))
        drawn = subset.draws.get(rpm, [model])
        tokens = np.sum([np.where(b.where, b.lengths, 0) for b in drawn], axis=0)
        table = contribution_table(ids, nats, tokens[used])
        records += [{"rpm": rpm, "subset": subset.tag, **row} for row in table]
    return records

"""What each sample adds to an RPM's R-EMI, and what its answer carries of each factor."""

import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np

from remid_jax.analysis.contrast import Record, number
from remid_jax.analysis.measures import Estimates
from remid_jax.analysis.profile import OWN, has_partner, sample_gaps
from remid_jax.factor_names import FACTORS
from remid_jax.information.attribution import contribution_table
from remid_jax.information.pairs import GOLDEN, Subset, Swapped
from remid_jax.information.profile_flags import NAMES


def contribution_records(estimates: Estimates, swaps: Mapping[str, Swapped]) -> list[Record]:
    """One record for each answer of an RPM: its part of R-EMI, and δ of its own words by factor.

    In a subset those that R-EMI is the mean of come first, ascending, then the others, ascending by
    the sum of δ. `nats` is None for them, and throughout for another estimator than club; δ is None
    without a partner, and throughout without `swaps`; then answers outside of R-EMI have no
    record.

    Args:
      estimates: of all subsets.
      swaps: tag -> scores under contexts with a swapped factor.
    """
    records: list[Record] = []
    for rpm, subset in itertools.product(estimates.rpms, estimates.subsets):
        parts, swapped = _parts(estimates, subset, rpm), swaps.get(subset.tag)
        answers = [*parts, *(_others(parts, subset, rpm) if swapped else ())]
        gaps = _gaps(subset, swapped, rpm)
        rows = [{**row, **gaps[row["sample_ID"]]} for row in answers]
        rows.sort(key=_rank)
        records += [{"rpm": rpm, "subset": subset.tag, **row} for row in rows]
    return records


def _parts(estimates: Estimates, subset: Subset, rpm: str) -> list[Record]:
    """h_i(model) − h_i(golden) of each sample, of which R-EMI is the mean."""
    used, weights = subset.used(rpm), subset.negatives[0]
    pairs = np.ix_(used, used)
    if estimates.settings.name != "club":
        return []
    if not (weights.model[pairs].any() and weights.golden[pairs].any()):
        return []
    model = subset.rpms[rpm]
    nats = estimates.contributions(model, used, weights.model)
    nats = nats - estimates.contributions(subset.golden, used, weights.golden)
    ids = list(itertools.compress(subset.sample_ids, used))
    return [dict(row) for row in contribution_table(ids, nats, _tokens(subset, rpm)[used])]


def _others(parts: list[Record], subset: Subset, rpm: str) -> Iterator[Record]:
    """Answers that are no part of R-EMI."""
    known = {row["sample_ID"] for row in parts}
    tokens = _tokens(subset, rpm)
    for i in np.flatnonzero(subset.rpms[rpm].where):
        if (name := subset.sample_ids[i]) not in known:
            yield {"sample_ID": name, "nats": None, "of_mean": None, "tokens": int(tokens[i])}


def _tokens(subset: Subset, rpm: str) -> np.ndarray:
    """[N] scored tokens of all answers to a context."""
    drawn = subset.draws.get(rpm, [subset.rpms[rpm]])
    return np.sum([np.where(b.where, b.lengths, 0) for b in drawn], axis=0)


def _gaps(subset: Subset, swaps: Swapped | None, rpm: str) -> dict[str, Record]:
    """Sample -> δ of own words of the answer and of the golden response, by factor."""
    keys = (*NAMES, *(f"{name}_golden" for name in NAMES))
    found = {name: dict.fromkeys(keys) for name in subset.sample_ids}
    for factor in (f for f in (swaps.sources if swaps else ()) if f in NAMES):
        answered = subset.rpms[rpm].where & has_partner(swaps, factor)
        sides = {str(factor): (rpm, answered)}
        sides[f"{factor}_golden"] = (GOLDEN, answered & subset.golden.where)
        for key, (name, used) in sides.items():
            values = sample_gaps(subset, swaps, name, factor, used)[OWN]
            for sample, value in zip(subset.sample_ids, values, strict=True):
                found[sample][key] = number(value)
    return found


def _rank(row: Record) -> tuple[bool, float]:
    known = row["nats"] is not None
    return not known, row["nats"] if known else math.fsum(row[f] or 0.0 for f in FACTORS)

"""Cross-information of each row, free from the pair matrix where all its pairs are scored."""

import itertools

import numpy as np

from remid_jax.analysis.contrast import Record, Replicates, contrast, count_groups, number
from remid_jax.analysis.measures import Estimates
from remid_jax.information.cross_information import (
    context_sets,
    cross_information_replicates,
    is_saturated,
    saturation,
)
from remid_jax.information.pairs import MIN_CONTEXTS, Block, groups_of

MOST_CONTEXTS = 8  # K where every subset has as many
DRAWS = 64  # context sets a response
COLUMNS = (
    "cross_information", "cross_information_se", "cross_information_K", "saturation",
    "saturation_golden", "saturated",
)  # fmt: skip


def cross_columns(estimates: Estimates) -> dict[tuple[str, str], Record]:
    """(RPM, tag) -> `COLUMNS`, None throughout where not all pairs are scored, or K < 2.

    K is the same in all rows: 8, or fewer where the smallest subset would leave no set of contexts
    once one of them (or a cluster) is deleted.
    """
    counted = {}
    for subset in estimates.subsets if estimates.settings.negatives == "all" else ():
        for rpm in estimates.names:
            groups = groups_of(subset.used(rpm), subset)
            if count_groups(groups) >= MIN_CONTEXTS:
                counted[rpm, subset.tag] = groups
    k = min([MOST_CONTEXTS, *map(_most, counted.values())])
    found = {}
    for subset, rpm in itertools.product(estimates.subsets, estimates.names):
        place = rpm, subset.tag
        found[place] = dict.fromkeys(COLUMNS)
        if place in counted and k >= 2:
            blocks = subset.first_draws(rpm), subset.golden  # logs of means: no mean over draws
            found[place] |= _columns(*blocks, counted[place], k, estimates.settings.seed)
    return found


def _most(groups: np.ndarray) -> int:
    """The largest K: contexts of the own cluster and of a deleted one cannot be taken."""
    sizes = np.sort(np.unique(groups[groups >= 0], return_counts=True)[1])
    return int(min(len(sizes) - 1, sizes[:-2].sum() + 1))


def _columns(model: Block, golden: Block, groups: np.ndarray, k: int, seed: int) -> Record:
    kept = np.flatnonzero(groups >= 0)
    labels, members = np.unique(groups[kept], return_inverse=True)
    sets = context_sets(len(kept), k, draws=DRAWS, seed=seed, groups=members)
    sides = []
    for block in (model, golden):
        # Minus the diagonal in float64: scores are large, and what they differ in is small.
        scores = block.scores[np.ix_(kept, kept)] - np.diagonal(block.scores)[kept]
        try:
            found = cross_information_replicates(scores, sets, members, len(labels))
        except ValueError:  # one cluster so large that no drawn set is without it
            return {}
        sides.append(Replicates(*map(np.asarray, found)))
    difference = contrast([(1.0, sides[0]), (-1.0, sides[1])])
    values = [float(side.value) for side in sides]
    shares = [number(saturation(value, k)) for value in values]
    saturated = any(bool(is_saturated(value, k)) for value in values)
    found = number(difference.value), number(difference.se), k, *shares, saturated
    return dict(zip(COLUMNS, found, strict=True))

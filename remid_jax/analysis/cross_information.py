"""Cross-information of each row, free from the pair matrix where all its pairs are scored."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis.measures import ANCHORS, GOLDEN, Block, Subset, count_groups, groups_of
from remid_jax.analysis.rows import number
from remid_jax.evaluation.config import MIN_CONTEXTS
from remid_jax.information.cross_information import (
    SATURATED,
    context_sets,
    cross_information_replicates,
    is_saturated,
    saturation,
)
from remid_jax.information.uncertainty import jackknife_error

MOST_CONTEXTS = 8  # K where every subset has as many
DRAWS = 64  # context sets a response
COLUMNS = (
    "cross_information", "cross_information_se", "cross_information_K", "saturation",
    "saturation_golden", "saturated",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Side:
    """The contexts that count for a policy in a subset: indices and groups 0..G−1, both [n]."""

    kept: np.ndarray
    groups: np.ndarray

    @property
    def most(self) -> int:
        """The largest K: contexts of the own cluster and of a deleted one cannot be taken."""
        sizes = np.sort(np.bincount(self.groups))
        return int(min(len(sizes) - 1, sizes[:-2].sum() + 1))


def add_cross_information(
    rows: Sequence[dict[str, Any]], subsets: Sequence[Subset], config: ConfigDict
) -> None:
    """Adds `COLUMNS` to each row; None where not all pairs are scored, or K < 2.

    `cross_information` = CI_q(model) − CI_q(golden) in nats with K contexts, averaged over `DRAWS`
    sets a response, and its jackknife standard error. `saturation` and `saturation_golden` are the
    shares of log K that the two have reached; `saturated` says that one of them is above .9, where
    the difference tells nothing. K is the same in all rows: 8, or fewer where the smallest subset
    would leave no set of contexts once one of them (or a cluster) is deleted.

    Args:
      rows: of `estimate_rows`.
      subsets: all of them.
      config: of the diagnosis.
    """
    by_tag = {s.tag: s for s in subsets}
    sides = {
        (p, s.tag): side
        for s in subsets
        for p in s.policies
        if config.estimator.negatives == "all" and (side := _side(s, p)) is not None
    }
    k = min([MOST_CONTEXTS, *(s.most for s in sides.values())])
    for row in rows:
        side = sides.get((row["policy"], row["subset"]))
        row.update(dict.fromkeys(COLUMNS))
        if side is not None and k >= 2:
            subset = by_tag[row["subset"]]
            row.update(_columns(subset.policies[row["policy"]], subset.golden, side, k, config))


def _side(subset: Subset, policy: str) -> _Side | None:
    groups = groups_of(subset.used(policy), subset)
    if count_groups(groups) < MIN_CONTEXTS:
        return None
    kept = np.flatnonzero(groups >= 0)
    return _Side(kept, np.unique(groups[kept], return_inverse=True)[1])


def _columns(
    model: Block, golden: Block, side: _Side, k: int, config: ConfigDict
) -> dict[str, Any]:
    n, g = len(side.kept), int(side.groups.max()) + 1
    sets = context_sets(n, k, draws=DRAWS, seed=config.seed, groups=side.groups)
    square = np.ix_(side.kept, side.kept)
    values, replicates = [], []
    for block in (model, golden):
        # Minus the diagonal in float64: scores are large, and what they differ in is small.
        scores = block.scores[square] - np.diagonal(block.scores)[side.kept]
        try:
            value, without = cross_information_replicates(scores, sets, side.groups, g)
        except ValueError:  # one cluster so large that no drawn set is without it
            return {}
        values.append(float(value))
        replicates.append(without)
    shares = [number(saturation(v, k)) for v in values]
    return {
        "cross_information": number(values[0] - values[1]),
        "cross_information_se": number(jackknife_error(replicates[0] - replicates[1])[0]),
        "cross_information_K": k,
        "saturation": shares[0],
        "saturation_golden": shares[1],
        "saturated": any(bool(is_saturated(v, k)) for v in values),
    }


def saturation_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line that names where cross-information is saturated, or none."""
    k = next((r["cross_information_K"] for r in rows if r["cross_information_K"]), None)
    places = []
    for policy in dict.fromkeys(r["policy"] for r in rows):
        if policy not in ANCHORS or policy == GOLDEN:
            own = [r for r in rows if r["policy"] == policy and r["saturation"] is not None]
            if where := [r["subset"] for r in own if r["saturation"] > SATURATED]:
                places.append(f"{', '.join(where)} ({policy})")
    if places:
        yield (
            f"cross-information is saturated (> {SATURATED:.1g} of log {k}) in "
            f"{'; '.join(places)}: no verdict"
        )

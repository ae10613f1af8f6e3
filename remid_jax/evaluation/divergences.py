"""Divergences of each factor of the contexts from those in distribution, from their features."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis.divergences import divergence_record
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.information.uncertainty import clusters
from remid_jax.progress import progress

Subsets = Mapping[str, Sequence[Sample]]
Labels = Mapping[str, Sequence[str] | None]
FOLDS, LEAST_FOLDS = 5, 3  # of the classifier


def check_divergences(subsets: Subsets, labels: Labels, config: ConfigDict) -> None:
    """Checks that the divergences that are asked for can be had.

    Raises:
      UserError: the contexts form too few clusters.
    """
    if config.divergences.features == "none":
        return
    home, *shifted = subsets
    for tag in shifted:
        if (folds := _folds(_groups(tag, subsets, labels))) < LEAST_FOLDS:
            raise UserError(
                f"config.divergences: the contexts of {tag!r} and {home} form {folds} clusters "
                f"by {config.estimator.clusters}, and the classifier needs {LEAST_FOLDS}; set "
                "config.divergences.features='none' or config.estimator.clusters='none'"
            )


def estimate_divergences(
    subsets: Subsets,
    shift_of: Mapping[str, str],
    labels: Labels,
    features: Mapping[str, Mapping[str, np.ndarray]],
    config: ConfigDict,
) -> list[dict[str, Any]]:
    """Divergences of every factor of every shifted subset from the in-distribution one.

    Labels are exchanged within pairs where a subset varies the samples in distribution one for one,
    and neither pairs nor clusters are split between the classifier's folds.

    Args:
      subsets: tag -> samples, the in-distribution one first.
      shift_of: tag of a shifted subset -> its shift.
      labels: tag -> clusters of its contexts, or None.
      features: tag -> factor -> [n, d]; empty where divergences are off.
      config: `divergences` and `seed`.

    Returns:
      A record a subset and factor, see `analysis.schema`. `rjsd_p` is None where contexts are
      clustered: they cannot be permuted one by one.
    """
    records: list[dict[str, Any]] = []
    if not features:
        return records
    home, *shifted = subsets
    with progress("divergences", sum(len(features[tag]) for tag in shifted)) as advance:
        for tag in shifted:
            groups, paired = _groups(tag, subsets, labels), _is_paired(tag, subsets)
            for factor, away in features[tag].items():
                try:
                    found = divergence_record(
                        features[home][factor], away, groups, paired=paired, folds=_folds(groups),
                        permutations=config.divergences.permutations, seed=config.seed,
                    )  # fmt: skip
                except ValueError as e:
                    raise ValueError(f"{factor} of {tag} (b) and {home} (a): {e}") from None
                if labels[home] is not None:
                    found["rjsd_p"] = None
                about = {"subset": tag, "factor": str(factor)}
                kind = config.divergences.features
                more = {"shift": shift_of[tag], "features": kind, "paired": paired}
                records.append({**about, **found, **more})
                advance(1)
    return records


def _is_paired(tag: str, subsets: Subsets) -> bool:
    """Whether sample i varies in-distribution sample i."""
    first = next(iter(subsets.values()))
    return [s.pair_id for s in subsets[tag]] == [s.sample_id for s in first]


def _groups(tag: str, subsets: Subsets, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """In-distribution contexts and those of a subset that belong together, in one numbering."""
    home = next(iter(subsets))
    n, m = len(subsets[home]), len(subsets[tag])
    columns = [[*range(n), *(range(m) if _is_paired(tag, subsets) else range(n, n + m))]]
    if labels[home] is not None:
        columns.append([*labels[home], *labels[tag]])
    group = clusters(*columns)
    return group[:n], group[n:]


def _folds(groups: tuple[np.ndarray, np.ndarray]) -> int:
    return min(FOLDS, *(len(np.unique(g)) for g in groups))

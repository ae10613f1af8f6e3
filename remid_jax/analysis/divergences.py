"""How far two sets of feature vectors lie from each other, as a record."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from remid_jax.analysis.contrast import Record
from remid_jax.information.classifier import classifier_js
from remid_jax.information.pairs import Subset, common_groups, folds_of, is_paired
from remid_jax.information.representation import equal_size, representation_jsd_test


def divergence_record(
    home: np.ndarray,
    away: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray],
    *,
    paired: bool,
    permutations: int,
    folds: int,
    seed: int,
) -> Record:
    """Two divergences of the features, which bound no drop of information.

    Subsets that barely overlap read near log 2 whatever the model does.

    Args:
      home: [n, d] features in distribution.
      away: [m, d] features of the shifted subset.
      groups: of both, which the classifier's folds do not split and its error deletes together.
      paired: whether row i of `away` varies row i of `home`; then labels are exchanged in pairs.
      permutations: relabellings for the floor and p-value.
      folds: of the classifier.
      seed: of the relabellings, folds, and draws to an equal number.

    Raises:
      ValueError: features that `representation_jsd_test` or `classifier_js` refuse.
    """
    sets = (home, away) if paired else equal_size(home, away, seed)
    spectra = representation_jsd_test(*sets, permutations=permutations, seed=seed, paired=paired)
    judged = classifier_js(home, away, groups=groups, folds=folds, seed=seed)
    return {
        "n": len(away),
        "n_id": len(home),
        "n_rjsd": spectra.n,
        "rjsd": spectra.value,
        "rjsd_floor": spectra.floor,
        "rjsd_corrected": spectra.corrected,
        "rjsd_p": spectra.p_value,
        "classifier_js": judged.value,
        "classifier_js_error": judged.standard_error,
    }


def estimate_divergences(
    subsets: Sequence[Subset],
    features: Mapping[str, Mapping[str, np.ndarray]],
    *,
    permutations: int,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Record]:
    """Divergences of every factor of every shifted subset from the in-distribution one.

    Labels are exchanged within pairs where a subset varies the samples in distribution one for one,
    and neither pairs nor clusters are split between the classifier's folds.

    Args:
      subsets: the in-distribution one first.
      features: tag -> factor -> [N, d].
      permutations: relabellings for the floor and p-value.
      seed: of the relabellings, folds, and draws to an equal number.
      advance: called with 1 after each factor.

    Returns:
      A record a subset and factor, see `schema.TABLES`. `rjsd_p` is None where contexts are
      clustered: they cannot be permuted one by one.
    """
    home, *shifted = subsets
    records = []
    for subset in shifted:
        n, m = (len(s.sample_ids) for s in (home, subset))
        paired = is_paired(subset, home)
        groups = common_groups(paired, n, m, (home.labels, subset.labels))
        how = {"paired": paired, "folds": folds_of(groups), "seed": seed}
        for factor, away in features[subset.tag].items():
            own = features[home.tag][factor]
            found = divergence_record(own, away, groups, permutations=permutations, **how)
            if home.labels is not None:
                found["rjsd_p"] = None
            about = {"subset": subset.tag, "factor": str(factor), "shift": subset.shift}
            records.append({**about, **found, "paired": paired})
            advance(1)
    return records

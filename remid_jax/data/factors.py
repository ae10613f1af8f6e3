"""The factors of a context X = (U, C, D), and samples with one factor of another sample."""

import dataclasses
import enum
from collections.abc import Iterator, Sequence
from typing import Any

from remid_jax.data.samples import Sample
from remid_jax.factor_names import DIALOGUE_PARTS as _PARTS
from remid_jax.factor_names import FACTORS as _FACTORS


class Factor(enum.StrEnum):
    """A factor of the context, or a part of its dialogue, by its name in results."""

    USER = "user"
    CHARACTER = "character"
    DIALOGUE = "dialogue"
    HISTORY = "history"  # of the dialogue: all but the last user turn
    LAST_TURN = "last_turn"
    NAME = "name"  # of the character: made up (`data.names`), not another sample's


FIELDS = {  # of a `Sample` that hold the factors which make up the context
    Factor.USER: "persona",
    Factor.CHARACTER: "character",
    Factor.DIALOGUE: "dialogue",
}
FACTORS = tuple(map(Factor, _FACTORS))
DIALOGUE_PARTS = tuple(map(Factor, _PARTS))


def value_of(sample: Sample, factor: Factor) -> Any:
    """A sample's value of a factor, equal where two samples share it."""
    if factor in FIELDS:
        return getattr(sample, FIELDS[factor])
    return sample.dialogue[:-1] if factor is Factor.HISTORY else sample.dialogue[-1]


def differing(samples: Sequence[Sample], i: int, factor: Factor) -> Iterator[int]:
    """Indices of the samples whose factor differs from sample i's, the next one first (cyclic)."""
    own, n = value_of(samples[i], factor), len(samples)
    for j in range(i + 1, i + n):
        if value_of(samples[j % n], factor) != own:
            yield j % n


def swapped(sample: Sample, other: Sample, factor: Factor) -> Sample:
    """The sample with one factor of another sample; its name and golden response stay."""
    if factor in FIELDS:
        return dataclasses.replace(sample, **{FIELDS[factor]: value_of(other, factor)})
    history, last = (other, sample) if factor is Factor.HISTORY else (sample, other)
    return dataclasses.replace(sample, dialogue=(*history.dialogue[:-1], last.dialogue[-1]))

"""The three factors of a context X = (U, C, D), and samples with one factor of another sample."""

import dataclasses
import enum
from collections.abc import Iterator, Sequence

from remid_jax.data.samples import Sample


class Factor(enum.StrEnum):
    """A factor of the context; its value is the name in configurations, results and tables."""

    USER = "user"
    CHARACTER = "character"
    DIALOGUE = "dialogue"

    @property
    def field(self) -> str:
        """The attribute of a `Sample` that holds the factor."""
        return "persona" if self is Factor.USER else self.value


def differing(samples: Sequence[Sample], i: int, factor: Factor) -> Iterator[int]:
    """Indices of the samples whose factor differs from sample i's, the next one first (cyclic)."""
    own, n = getattr(samples[i], factor.field), len(samples)
    for j in range(i + 1, i + n):
        if getattr(samples[j % n], factor.field) != own:
            yield j % n


def swapped(sample: Sample, other: Sample, factor: Factor) -> Sample:
    """The sample with one factor of another sample; its name and golden response stay."""
    return dataclasses.replace(sample, **{factor.field: getattr(other, factor.field)})

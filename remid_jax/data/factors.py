"""The three factors of a context X = (U, C, D), and samples with one factor of another sample."""

import dataclasses
from collections.abc import Iterator, Sequence

from remid_jax.data.samples import Sample

FACTORS = ("persona", "character", "dialogue")


def differing(samples: Sequence[Sample], i: int, factor: str) -> Iterator[int]:
    """Indices of the samples whose factor differs from sample i's, the next one first (cyclic).

    Args:
      samples: one subset.
      i: index of the sample.
      factor: one of `FACTORS`.
    """
    own, n = getattr(samples[i], factor), len(samples)
    for j in range(i + 1, i + n):
        if getattr(samples[j % n], factor) != own:
            yield j % n


def swapped(sample: Sample, other: Sample, factor: str) -> Sample:
    """The sample with one factor of another sample; its name and golden response stay."""
    return dataclasses.replace(sample, **{factor: getattr(other, factor)})

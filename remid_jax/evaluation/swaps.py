"""Contexts with one factor of another sample: which, and how many.

Each context is scored again with its user persona, its character or its dialogue taken from other
samples of the subset. No reasoning is read, neither under the own context nor under these: a
thought belongs to the context it was written for.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.factors import Factor, differing, swapped
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.models import Model
from remid_jax.evaluation.selection import Selection, fit_sample
from remid_jax.progress import progress


@dataclasses.dataclass(frozen=True)
class Swaps:
    """The contexts of one subset with one factor swapped.

    Attributes:
      sources: factor -> int [N, K − 1], the sample that the factor is taken from; −1 throughout
        the row of a context for which fewer than K − 1 samples have another one.
      contexts: [N], each sample's swapped ones, factor by factor.
      shortened: how many of them lost turns under `drop_oldest_turns`.
    """

    sources: Mapping[str, np.ndarray]
    contexts: tuple[tuple[Sample, ...], ...]
    shortened: int = 0

    @property
    def size(self) -> int:
        """Number of swapped contexts."""
        return sum(len(c) for c in self.contexts)


def plan_swaps(
    selection: Selection, model: Model, config: ConfigDict, longest_given: Mapping[str, int]
) -> dict[str, Swaps]:
    """The swapped contexts of every subset, checked to fit the context window; none when off.

    The K − 1 samples are the next in cyclic order whose factor differs, so that each sample's
    factors are used equally often where all differ.

    Args:
      selection: the chosen contexts, as they fit.
      model: the scorer.
      config: of the diagnosis.
      longest_given: tag -> tokens of the longest response that is already known.

    Raises:
      UserError: a subset has too few contexts, or a swapped context does not fit.
    """
    swaps, plans = config.factors.swaps, {}
    if not swaps:
        return plans
    for tag, samples in selection.subsets.items():
        if swaps > len(samples) - 1:
            raise UserError(
                f"config.factors.swaps is {swaps}, but subset {tag!r} has {len(samples)} contexts; "
                f"set it to at most {len(samples) - 1}, or take more config.limits.contexts"
            )
    total = sum(len(s) for s in selection.subsets.values())
    with progress("lengths of contexts with a swapped factor", total) as advance:
        for tag, samples in selection.subsets.items():
            room = max(longest_given[tag], config.sampling.max_tokens)
            sources = {f: _sources(samples, f, swaps) for f in Factor}
            contexts, dropped = [], 0
            for i, sample in enumerate(samples):
                pairs = [(samples[j], f) for f in Factor for j in sources[f][i] if j >= 0]
                made = [_fitting(swapped(sample, s, f), f, model, config, room) for s, f in pairs]
                contexts.append(tuple(s for s, _ in made))
                dropped += sum(turns > 0 for _, turns in made)
                advance(1)
            plans[tag] = Swaps(sources, tuple(contexts), dropped)
    return plans


def _fitting(
    sample: Sample, factor: Factor, model: Model, config: ConfigDict, room: int
) -> tuple[Sample, int]:
    try:
        return fit_sample(sample, model, config, room)
    except UserError as e:
        raise UserError(f"config.factors.swaps: with the {factor} of another sample, {e}") from None


def _sources(samples: Sequence[Sample], factor: Factor, swaps: int) -> np.ndarray:
    rows = np.full((len(samples), swaps), -1)
    for i in range(len(samples)):
        found = list(itertools.islice(differing(samples, i, factor), swaps))
        if len(found) == swaps:
            rows[i] = found
    return rows

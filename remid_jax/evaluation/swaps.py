"""Contexts with one factor of another sample, or with a made-up name: which, and how many.

No reasoning is read, neither under the own context nor under these: a thought belongs to the
context it was written for.
"""

import dataclasses
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.factors import DIALOGUE_PARTS, FACTORS, Factor, differing, swapped
from remid_jax.data.measures import STOP_WORDS, likely_language
from remid_jax.data.names import renamed
from remid_jax.data.rules import language_of
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.models import Model
from remid_jax.evaluation.selection import Selection, fit_sample
from remid_jax.progress import progress

LATIN = "latin"  # letters that do not tell a language
SWAPPED = (*FACTORS, *DIALOGUE_PARTS)


@dataclasses.dataclass(frozen=True)
class Swaps:
    """The contexts of one subset with one factor swapped.

    Attributes:
      sources: factor -> int [N, K], the samples that the factor is taken from; −1 where a sample
        has fewer than K partners. A made-up name is no other sample's: its source is the sample.
      weights: factor -> [N], the share of a sample's possible partners whose factor differs; of a
        made-up name 1, or 0 where there is none.
      contexts: [N], each sample's swapped ones, factor by factor.
      whole: int [N], the sample whose whole context takes the place of a sample's own; −1 for none.
      shortened: how many of them lost turns under `drop_oldest_turns`.
    """

    sources: Mapping[Factor, np.ndarray]
    weights: Mapping[Factor, np.ndarray]
    contexts: tuple[tuple[Sample, ...], ...]
    whole: np.ndarray
    shortened: int = 0

    @property
    def size(self) -> int:
        """Number of swapped contexts."""
        return sum(len(c) for c in self.contexts)

    def places(self, i: int) -> list[tuple[Factor, int]]:
        """Factor and swap of each of a sample's contexts, in their order."""
        return [(f, k) for f, js in self.sources.items() for k in np.flatnonzero(js[i] >= 0)]

    def wanted(self, blocks: int) -> np.ndarray:
        """[N, blocks·N] bool, the pairs of a matrix that put responses under `whole` contexts."""
        responses = np.flatnonzero(self.whole >= 0)
        found = np.zeros((len(self.whole),) * 2, bool)
        found[self.whole[responses], responses] = True
        return np.tile(found, (1, blocks))


def plan_swaps(
    selection: Selection, model: Model, config: ConfigDict, longest_given: Mapping[str, int]
) -> dict[str, Swaps]:
    """The swapped contexts of every subset, checked to fit the context window; none when off.

    Partners of a sample are of its language and source. A factor is taken from the next of them in
    cyclic order that have another one, so that each sample's is used equally often where all
    differ.

    Args:
      selection: the chosen contexts, as they fit.
      model: the scorer.
      config: of the diagnosis.
      longest_given: tag -> tokens of the longest response that is already known.

    Raises:
      UserError: more swaps than there are other contexts, or a swapped context does not fit.
    """
    swaps, plans = config.profile.swaps, {}
    if not swaps:
        return plans
    for tag, samples in selection.subsets.items():
        if swaps > len(samples) - 1:
            raise UserError(
                f"config.profile.swaps is {swaps}, but subset {tag!r} has {len(samples)} contexts; "
                f"set it to at most {len(samples) - 1}, or take more config.limits.contexts"
            )
    total = sum(len(s) for s in selection.subsets.values())
    with progress("lengths of contexts with a swapped factor", total) as advance:
        for tag, samples in selection.subsets.items():
            room = max(longest_given[tag], config.sampling.max_tokens)
            groups = groups_by_language(samples)
            found = {f: partners(samples, f, swaps, groups) for f in SWAPPED}
            names = [_renamed(s, swaps) if config.profile.name else [] for s in samples]
            if config.profile.name:
                found[Factor.NAME] = _made_up(names, swaps)
            contexts, dropped = [], 0
            for i, sample in enumerate(samples):
                pairs = [(samples[j], f) for f in SWAPPED for j in found[f][0][i] if j >= 0]
                changed = [(swapped(sample, s, f), f) for s, f in pairs]
                changed += [(s, Factor.NAME) for s in names[i]]
                made = [_fitting(s, f, model, config, room) for s, f in changed]
                contexts.append(tuple(s for s, _ in made))
                dropped += sum(turns > 0 for _, turns in made)
                advance(1)
            sources, weights = ({f: both[k] for f, both in found.items()} for k in (0, 1))
            plans[tag] = Swaps(sources, weights, tuple(contexts), whole_contexts(groups), dropped)
    return plans


def _fitting(
    sample: Sample, factor: Factor, model: Model, config: ConfigDict, room: int
) -> tuple[Sample, int]:
    try:
        return fit_sample(sample, model, config, room)
    except UserError as e:
        other = f"the {factor} of another sample"
        with_what = "a made-up name" if factor is Factor.NAME else other
        raise UserError(f"config.profile.swaps: with {with_what}, {e}") from None


def _renamed(sample: Sample, swaps: int) -> list[Sample]:
    """The sample under as many made-up names as there are."""
    found = (renamed(sample, draw) for draw in range(swaps))
    return [r.sample for r in found if r is not None]


def _made_up(names: Sequence[Sequence[Sample]], swaps: int) -> tuple[np.ndarray, np.ndarray]:
    """`sources` [N, K] and `weights` [N] of `Swaps` for the name."""
    counts = np.array([len(some) for some in names])
    own = np.arange(len(names))[:, None]
    return np.where(np.arange(swaps) < counts[:, None], own, -1), (counts > 0).astype(float)


def partners(
    samples: Sequence[Sample], factor: Factor, swaps: int, groups: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """`sources` [N, K] and `weights` [N] of `Swaps` for one factor, within `groups_by_language`.

    A dialogue in another language than the response would be off by more than any factor tells.
    """
    sizes = Counter(groups)
    sources, weights = np.full((len(samples), swaps), -1), np.zeros(len(samples))
    for i in range(len(samples)):
        found = list(partners_of(samples, i, factor, groups))
        weights[i] = len(found) / max(1, sizes[groups[i]] - 1)
        sources[i, : len(found[:swaps])] = found[:swaps]
    return sources, weights


def partners_of(
    samples: Sequence[Sample], i: int, factor: Factor, groups: Sequence[Hashable]
) -> Iterator[int]:
    """The possible partners of sample i for one factor, the next one first (cyclic)."""
    return (j for j in differing(samples, i, factor) if groups[j] == groups[i])


def whole_contexts(groups: Sequence[Hashable]) -> np.ndarray:
    """`whole` of `Swaps`: the next sample in cyclic order of the same group."""
    n = len(groups)
    others = ([(i + k) % n for k in range(1, n)] for i in range(n))
    found = (next((j for j in js if groups[j] == groups[i]), -1) for i, js in enumerate(others))
    return np.array(list(found), int)


def groups_by_language(samples: Sequence[Sample]) -> list[Hashable]:
    """Language and source of each sample, as far as they are known."""
    texts = ["\n".join((*(text for _, text in s.dialogue), s.golden)) for s in samples]
    languages = [
        language_of(s) or likely_language(text) for s, text in zip(samples, texts, strict=True)
    ]
    told = Counter(language for language in languages if language in STOP_WORDS)
    common = told.most_common(1)[0][0] if told else LATIN  # of a text too short to tell
    return [
        (common if language == LATIN else language, str(s.extra.get("source")))
        for s, language in zip(samples, languages, strict=True)
    ]

"""Does a model find the golden response less likely with one factor of another sample?"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from remid_jax.data import prompts, shifts
from remid_jax.data.checks import Violation, language_of
from remid_jax.data.factors import FACTORS, differing, swapped
from remid_jax.data.reading import Benchmark
from remid_jax.data.samples import Sample
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.models.pretrained import LanguageModel
from remid_jax.progress import progress

LEAST_SHARE = 0.8  # of the samples, for each factor


@dataclasses.dataclass(frozen=True)
class Effect:
    """What replacing one factor did to one sample's golden response.

    Attributes:
      sample_id: the sample.
      tag: its subset.
      factor: one of `FACTORS`.
      drop: log q(golden | x) - log q(golden | x with the factor replaced), in nats.
    """

    sample_id: str
    tag: str
    factor: str
    drop: float

    @property
    def matters(self) -> bool:
        """Whether the replacement lowers the log-likelihood."""
        return self.drop > 0


def english_subsets(benchmark: Benchmark) -> dict[str, list[Sample]]:
    """The English samples of each subset beside IDTrain that has any."""
    chosen = {
        tag: [s for s in benchmark.subsets[tag] if language_of(s) == "en"]
        for tag in benchmark.subsets
        if tag != shifts.ID_TRAIN
    }
    return {tag: samples for tag, samples in chosen.items() if samples}


def replaced(samples: Sequence[Sample], i: int, factor: str) -> Sample | None:
    """Sample i with one factor of the next sample (cyclic) where that factor differs.

    Args:
      samples: one subset.
      i: index of the sample.
      factor: one of `FACTORS`.

    Returns:
      The changed sample, or None where all samples have the same factor.
    """
    j = next(differing(samples, i, factor), None)
    return None if j is None else swapped(samples[i], samples[j], factor)


def sample_effects(model: LanguageModel, samples: Sequence[Sample], i: int) -> list[Effect]:
    """The effect of each factor on sample i of a subset; factors without a substitute are left out.

    Args:
      model: q.
      samples: the subset's English samples.
      i: index of the sample.

    Returns:
      At most one effect a factor, in the order of `FACTORS`.
    """
    sample = samples[i]
    changed = {f: r for f in FACTORS if (r := replaced(samples, i, f)) is not None}
    contexts = [
        model.tokenizer.encode_chat(prompts.reply_messages(s)) for s in (sample, *changed.values())
    ]
    golden = model.tokenizer.encode(sample.golden)
    own, *others = pair_log_likelihoods(model, contexts, [golden]).sums[:, 0]
    return [
        Effect(sample.sample_id, sample.tag, factor, float(own - other))
        for factor, other in zip(changed, others, strict=True)
    ]


def factor_effects(
    model: LanguageModel, subsets: Mapping[str, Sequence[Sample]], limit: int | None = None
) -> Iterator[list[Effect]]:
    """The effects of all factors, with progress on standard error.

    Args:
      model: q.
      subsets: tag -> samples.
      limit: so many samples of each subset; substitutes may come from all of it.

    Yields:
      The effects in one subset after another, each as soon as it is done.
    """
    sizes = {t: len(s) if limit is None else min(limit, len(s)) for t, s in subsets.items()}
    with progress("factors that matter", sum(sizes.values())) as advance:
        for tag, samples in subsets.items():
            effects = []
            for i in range(sizes[tag]):
                effects += sample_effects(model, samples, i)
                advance(1)
            yield effects


def _count(effects: Iterable[Effect]) -> tuple[int, int]:
    found = [e.matters for e in effects]
    return sum(found), len(found)


def row(name: str, effects: Sequence[Effect] | None = None) -> str:
    """A table's line: the share of samples in which each factor matters, or the column heads."""
    cells = []
    for factor in FACTORS:
        yes, n = _count(e for e in effects or () if e.factor == factor)
        share = f"{yes}/{n} = {yes / n:.0%}" if n else "none"
        cells.append(f"{factor if effects is None else share:>18}")
    return f"{name:<22}{''.join(cells)}"


def summary(effects: Sequence[Effect]) -> list[str]:
    """Lines with the overall shares, and with the median drop of each factor."""
    lines = [row("all", effects)]
    for factor in FACTORS:
        drops = [e.drop for e in effects if e.factor == factor]
        if drops:
            lines.append(f"{factor}: median drop {np.median(drops):.1f} nats per response")
    return lines


def weak_factors(effects: Sequence[Effect], least: float = LEAST_SHARE) -> Iterator[Violation]:
    """Yields a violation for each factor that matters in too small a share of the samples."""
    for factor in FACTORS:
        chosen = [e for e in effects if e.factor == factor]
        yes, n = _count(chosen)
        if n and yes < least * n:
            against = ", ".join(e.sample_id for e in chosen if not e.matters)
            yield Violation(
                "all English test samples",
                factor,
                f"matters in {yes} of {n} ({yes / n:.0%}), want {least:.0%}; not in {against}",
            )

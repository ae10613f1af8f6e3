"""Which samples a diagnosis looks at."""

from collections.abc import Iterable, Sequence

from remid_jax.benchmark import shifts
from remid_jax.benchmark.reading import Benchmark
from remid_jax.benchmark.samples import Sample
from remid_jax.errors import UserError


def choose_contexts(
    benchmark: Benchmark, names: Iterable[str], contexts: int = 0
) -> dict[str, tuple[Sample, ...]]:
    """The contexts that a diagnosis with the same shifts and `limits.contexts` looks at.

    Args:
      benchmark: the samples.
      names: shifts or OOD subset tags; IDTest always belongs.
      contexts: number for each subset, 0 for all. Where subsets vary IDTest samples (`pair_id`),
        the first IDTest samples in file order and their variants: the bundled file alternates
        languages, and even distances would take more of one. Otherwise at even distances.

    Returns:
      tag -> samples, IDTest first; chosen subsets that the benchmark lacks are left out.

    Raises:
      UserError: unknown shift, or the benchmark lacks IDTest or all chosen subsets.
    """
    wanted = (shifts.ID_TEST, *shifts.resolve_shifts(names))
    present = [tag for tag in wanted if tag in benchmark.subsets]
    if shifts.ID_TEST not in present:
        raise UserError(f"benchmark {benchmark.name}: has no subset IDTest to compare with")
    if len(present) == 1:
        raise UserError(f"benchmark {benchmark.name}: has none of {', '.join(wanted[1:])}")
    chosen: dict[str, tuple[Sample, ...]] = {}
    first = benchmark.subsets[shifts.ID_TEST]
    if contexts and any(_variants(benchmark.subsets[tag]) for tag in present[1:]):
        chosen[shifts.ID_TEST] = first[:contexts]
    else:
        chosen[shifts.ID_TEST] = _take(first, contexts, ())
    anchors = [s.sample_id for s in chosen[shifts.ID_TEST]]
    for tag in present[1:]:
        chosen[tag] = _take(benchmark.subsets[tag], contexts, anchors)
    return chosen


def _variants(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Anchor id -> its one variant; empty where not every sample varies an anchor of its own."""
    variants = {s.pair_id: s for s in samples if s.pair_id is not None}
    return variants if len(variants) == len(samples) else {}


def _take(samples: Sequence[Sample], limit: int, anchors: Sequence[str]) -> tuple[Sample, ...]:
    partners = _variants(samples)
    complete = anchors and set(anchors) <= set(partners)
    # Without a limit nothing may be left out, so pairs must cover the whole subset.
    if complete and (limit or len(partners) == len(anchors)):
        return tuple(partners[a] for a in anchors)
    n = min(limit, len(samples)) if limit else len(samples)
    return tuple(samples[i * len(samples) // n] for i in range(n))

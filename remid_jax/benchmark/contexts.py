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
      contexts: number for each subset, 0 for all. IDTest samples are taken at even distances in
        file order; of a subset that varies IDTest samples, the variants of those taken.

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
    for tag in present:
        anchors = [s.sample_id for s in chosen.get(shifts.ID_TEST, ())]
        chosen[tag] = _take(benchmark.subsets[tag], contexts, anchors)
    return chosen


def _take(samples: Sequence[Sample], limit: int, anchors: Sequence[str]) -> tuple[Sample, ...]:
    partners = {s.pair_id: s for s in samples if s.pair_id is not None}
    complete = len(partners) == len(samples) and anchors and set(anchors) <= set(partners)
    # Without a limit nothing may be left out, so pairs must cover the whole subset.
    if complete and (limit or len(partners) == len(anchors)):
        return tuple(partners[a] for a in anchors)
    n = min(limit, len(samples)) if limit else len(samples)
    return tuple(samples[i * len(samples) // n] for i in range(n))

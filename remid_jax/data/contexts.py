"""Which samples a diagnosis looks at."""

from collections.abc import Iterable, Sequence

from remid_jax.data.reading import Benchmark
from remid_jax.data.samples import Sample
from remid_jax.data.shifts import SHIFTS, resolve_shifts
from remid_jax.errors import UserError, nearest


def choose_contexts(
    benchmark: Benchmark, names: Iterable[str], contexts: int = 0
) -> dict[str, tuple[Sample, ...]]:
    """The contexts that a diagnosis with the same shifts and `limits.contexts` looks at.

    Args:
      benchmark: the samples.
      names: shifts or subset tags; the in-distribution subset always belongs.
      contexts: number for each subset, 0 for all. Where subsets vary in-distribution samples
        (`pair_id`), the first of these in file order and their variants: the bundled file
        alternates languages, and even distances would take more of one. Otherwise at even
        distances.

    Returns:
      tag -> samples, the in-distribution subset first; chosen subsets that the benchmark lacks are
      left out, see `absent_subsets`.

    Raises:
      UserError: unknown shift, or the benchmark lacks the in-distribution subset or all chosen
        ones.
    """
    home = benchmark.in_distribution
    wanted = resolve_shifts(names, benchmark.shift_of, home)
    present = [tag for tag in wanted if tag in benchmark.subsets]
    if home not in benchmark.subsets:
        hint = nearest(home, benchmark.subsets)
        raise UserError(
            f"benchmark {benchmark.name}: has no subset {home}{hint} to compare with; name the "
            "in-distribution tag in config.in_distribution"
        )
    if not present:
        there = [f"{t} ({s})" for t, s in benchmark.shift_of.items() if t in benchmark.subsets]
        raise UserError(
            f"benchmark {benchmark.name}: has none of {', '.join(wanted or names)}; it has "
            f"{', '.join(there) or 'no shifted subset'}: set config.shifts"
        )
    chosen: dict[str, tuple[Sample, ...]] = {}
    first = benchmark.subsets[home]
    if contexts and any(_variants(benchmark.subsets[tag]) for tag in present):
        chosen[home] = first[:contexts]
    else:
        chosen[home] = _take(first, contexts, ())
    anchors = [s.sample_id for s in chosen[home]]
    for tag in present:
        chosen[tag] = _take(benchmark.subsets[tag], contexts, anchors)
    return chosen


def absent_subsets(benchmark: Benchmark, names: Iterable[str]) -> tuple[str, ...]:
    """What of the chosen shifts and subsets the benchmark lacks."""
    names, known = list(names), benchmark.shift_of
    wanted = resolve_shifts(names, known, benchmark.in_distribution)
    none_at_all = (n for n in names if n in SHIFTS and n not in known.values())
    return (*(tag for tag in wanted if tag not in benchmark.subsets), *none_at_all)


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

"""Which samples a diagnosis looks at."""

from collections.abc import Iterable, Sequence

from remid_jax.data.reading import Benchmark
from remid_jax.data.samples import Sample
from remid_jax.data.shifts import SHIFTS
from remid_jax.errors import UserError, nearest


def choose_contexts(
    benchmark: Benchmark, names: Iterable[str], contexts: int = 0, at_home: int = 0
) -> dict[str, tuple[Sample, ...]]:
    """Tag -> samples of a diagnosis, the in-distribution subset first.

    Args:
      benchmark: the samples.
      names: shifts or subset tags; the in-distribution subset always belongs.
      contexts: number for each subset, 0 for all: the first in-distribution samples and their
        variants where subsets vary these (`pair_id`), otherwise samples at even distances.
      at_home: number for the in-distribution subset where that is more; it is not paired then.

    Raises:
      UserError: unknown shift or none, or the benchmark lacks the in-distribution subset or all
        chosen ones.
    """
    names, home, subsets = list(names), benchmark.in_distribution, benchmark.subsets
    wanted = _resolve(benchmark, names)
    present = [tag for tag in wanted if tag in subsets]
    if home not in subsets:
        raise UserError(
            f"benchmark {benchmark.name}: has no subset {home}{nearest(home, subsets)} to compare "
            "with; name the in-distribution tag in config.in_distribution"
        )
    if not present:
        there = [f"{t} ({s})" for t, s in benchmark.shift_of.items() if t in subsets]
        remedy = f"{', '.join(there)}: set config.shifts"
        if not there:
            remedy = "no shifted subset: add samples with another subset_tag"
        raise UserError(
            f"benchmark {benchmark.name}: has none of {', '.join(wanted or names)}; it has {remedy}"
        )
    if contexts and any(_variants(subsets[tag]) for tag in present):
        first = subsets[home][:contexts]
    else:
        first = _take(subsets[home], contexts, ())
    ids = [s.sample_id for s in first]
    if contexts and at_home > contexts:
        others = [s for s in subsets[home] if s.sample_id not in ids]
        first = (*first, *_take(others, min(at_home - contexts, len(others)), ()))
    return {home: first, **{tag: _take(subsets[tag], contexts, ids) for tag in present}}


def absent_subsets(benchmark: Benchmark, names: Iterable[str]) -> tuple[str, ...]:
    """The chosen shifts and subsets that the benchmark lacks."""
    names, known = list(names), benchmark.shift_of
    unused = (n for n in names if n in SHIFTS and n not in known.values())
    return (*(t for t in _resolve(benchmark, names) if t not in benchmark.subsets), *unused)


def _resolve(benchmark: Benchmark, names: Sequence[str]) -> list[str]:
    """The shifted tags that shifts and tags name, in the benchmark's order."""
    known, home = benchmark.shift_of, benchmark.in_distribution
    every = dict.fromkeys((*SHIFTS, *known.values(), home, *known))
    for name in names:
        if name not in every:
            hint = nearest(name, every)
            raise UserError(f"unknown shift {name!r}{hint}; choose among {', '.join(every)}")
    chosen = [tag for tag, shift in known.items() if tag in names or shift in names]
    if not chosen and set(names) <= {home}:
        raise UserError("no shift was chosen: name at least one in config.shifts")
    return chosen


def _variants(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Id of the counterpart -> sample; empty where not every sample has one of its own."""
    variants = {s.pair_id: s for s in samples if s.pair_id is not None}
    return variants if len(variants) == len(samples) else {}


def _take(samples: Sequence[Sample], limit: int, counterparts: Sequence[str]) -> tuple[Sample, ...]:
    variants = _variants(samples)
    complete = counterparts and set(counterparts) <= set(variants)
    # Without a limit nothing may be left out, so pairs must cover the whole subset.
    if complete and (limit or len(variants) == len(counterparts)):
        return tuple(variants[i] for i in counterparts)
    n = min(limit, len(samples)) if limit else len(samples)
    return tuple(samples[i * len(samples) // n] for i in range(n))

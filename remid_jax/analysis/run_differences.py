"""Two runs against each other on the same contexts, paired by sample: what a change has changed.

Differences are those of the second run minus those of the first. Both must have been judged by the
same q and estimator, or their nats do not compare; the callers see to that.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from remid_jax.analysis.contrast import (
    Contrast,
    Record,
    Replicates,
    contrast,
    count_groups,
    number,
    with_holm,
)
from remid_jax.analysis.measures import COLUMNS, Estimates
from remid_jax.analysis.profile import by_cluster
from remid_jax.factor_names import FACTORS
from remid_jax.information.pairs import (
    MIN_CONTEXTS,
    Block,
    EstimatorSettings,
    Negatives,
    Subset,
    groups_of,
    is_paired,
)
from remid_jax.information.profile_flags import NAMES
from remid_jax.information.profile_shares import lost, share

SAME = 0.1  # nats by which δ of one golden response may differ between runs with the same partners
UNKNOWN, NOTHING = (np.nan, np.nan), Contrast(np.nan, np.nan, 0)
Gaps = Mapping[tuple[str, str, str], Mapping[str, Any]]
Names = tuple[str, str]


class Finished(NamedTuple):
    """What is compared of a run.

    Attributes:
      subsets: tag -> pair matrices, in distribution first.
      settings: how they are estimated.
      gaps: (RPM, tag, sample id) -> its record of contributions.jsonl.
    """

    subsets: Mapping[str, Subset]
    settings: EstimatorSettings
    gaps: Gaps

    @property
    def home(self) -> Subset:
        """The subset in distribution."""
        return next(iter(self.subsets.values()))


def count_contexts(first: Finished, second: Finished) -> list[Record]:
    """For each subset of either run, its contexts in the first, in the second, and in both."""
    tags = dict.fromkeys((*first.subsets, *second.subsets))
    records = []
    for tag in tags:
        ids = [
            set(r.subsets[tag].sample_ids) if tag in r.subsets else set() for r in (first, second)
        ]
        common = len(ids[0] & ids[1])
        sizes = dict(zip(("first", "second"), map(len, ids), strict=True))
        records.append({"subset": tag, **sizes, "common": common})
    return records


def compare_runs(first: Finished, second: Finished, names: Sequence[Names]) -> list[Record]:
    """Differences of every measure between an RPM of the first run and one of the second.

    Of each subset that both have, on the contexts that both have with answers that can be used, in
    `COLUMNS`, R-EMID, and info and share of each factor. A context whose golden response has
    another δ in the second run was given another partner there; it is `left_out` of the profile.
    `p_holm` adjusts the tests of one measure of two RPMs: over subsets, and over user, character
    and dialogue together, or over the two parts of the dialogue.

    Args:
      first: the run that is compared with; second: the one that is asked about.
      names: of an RPM in the first and one in the second.

    Returns:
      Records of `first` and `second` (names of RPMs), `subset`, `shift`, `measure`, `factor`, `n`,
      `left_out`, `value_first`, `value_second`, and the keys of `Contrast.record`; None for what
      cannot be estimated, with the `reason`.
    """
    tags = [tag for tag in first.subsets if tag in second.subsets]
    records = []
    for a, b in names:
        found = [r for tag in tags for r in _of_subset(first, second, tag, (a, b))]
        families = itertools.groupby(sorted(found, key=_family), _family)
        records += [r for _, rows in families for r in with_holm(list(rows))]
    return records


def _family(record: Record) -> tuple[int, bool]:
    """Which tests are adjusted together: of one measure, the dialogue's parts by themselves."""
    order = (*COLUMNS, "r_emid", "share", "info")
    return order.index(record["measure"]), record["factor"] not in (None, *FACTORS)


def _of_subset(first: Finished, second: Finished, tag: str, names: Names) -> Iterator[Record]:
    both = _on_common(first.subsets[tag], second.subsets[tag])
    place = {"first": names[0], "second": names[1], "subset": tag, "shift": both[0].shift}
    found = [
        *_levels(first, second, both, names),
        *([_r_emid(first, second, tag, names)] if tag != first.home.tag else ()),
        *_profile(first, second, both, names),
    ]
    for record in found:
        n, known = record["n"], record["difference"] is not None
        why = record.pop("reason", None) or f"no estimate from n = {n}"
        yield {**place, **record, "reason": None if known else why}


def _on_common(a: Subset, b: Subset, ids: Sequence[str] | None = None) -> tuple[Subset, Subset]:
    """Both subsets on the chosen contexts alone, in one order; by default on all that both have."""
    kept = set(b.sample_ids)
    ids = [i for i in a.sample_ids if i in kept] if ids is None else ids
    return _taken(a, ids), _taken(b, ids)


def _taken(subset: Subset, ids: Sequence[str]) -> Subset:
    where = {name: i for i, name in enumerate(subset.sample_ids)}
    at = np.array([where[i] for i in ids], int)
    pairs = np.ix_(at, at)

    def block(b: Block) -> Block:
        return Block(b.scores[pairs], b.plain[pairs], b.lengths[at], b.where[at])

    def few(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
        return None if values is None else tuple(values[i] for i in at)

    return Subset(
        tag=subset.tag,
        sample_ids=tuple(ids),
        pair_ids=few(subset.pair_ids),
        languages=few(subset.languages),
        golden=block(subset.golden),
        rpms={name: block(b) for name, b in subset.rpms.items()},
        negatives=tuple(Negatives(w.model[pairs], w.golden[pairs]) for w in subset.negatives),
        labels=few(subset.labels),
        shift=subset.shift,
    )


def _replicates(run: Finished, subset: Subset, rpm: str, groups: np.ndarray) -> Replicates:
    return Estimates([subset], run.settings).replicates(subset, rpm, groups)


def _used(subsets: Sequence[Subset], names: Sequence[str]) -> np.ndarray:
    return np.all([s.used(name) for s, name in zip(subsets, names, strict=True)], axis=0)


def _levels(
    first: Finished, second: Finished, both: tuple[Subset, Subset], names: Names
) -> Iterator[Record]:
    """Differences of the values of `COLUMNS`."""
    groups = groups_of(_used(both, names), *both)
    sides = [
        _replicates(run, subset, name, groups)
        for run, subset, name in zip((first, second), both, names, strict=True)
    ]
    for k, measure in enumerate(COLUMNS):
        a, b = (side.column(k) for side in sides)
        change = contrast([(-1.0, a), (1.0, b)])
        values = float(a.value), float(b.value)
        yield _record(measure, int((groups >= 0).sum()), values, change, first.settings)


def _r_emid(first: Finished, second: Finished, tag: str, names: Names) -> Record:
    """The difference of R-EMID, of paired subsets on contexts used in all four places."""
    home, shifted = _homes_and_shifted(first, second, tag)
    families, values, n = [], np.zeros(2), 0
    joint = is_paired(shifted[0], home[0]) and is_paired(shifted[1], home[1])
    parts = [(home, 1.0), (shifted, -1.0)]
    all_used = [_used(both, names) for both, _ in parts]
    if joint:
        all_used = [np.logical_and(*all_used)] * 2
    for (both, sign), used in zip(parts, all_used, strict=True):
        groups = groups_of(used, *(home + shifted if joint else both))
        sides = [
            _replicates(run, subset, name, groups).column(0)
            for run, subset, name in zip((first, second), both, names, strict=True)
        ]
        families.append([(-sign, sides[0]), (sign, sides[1])])
        values += [sign * float(side.value) for side in sides]
        n = int(used.sum())
    change = contrast([*itertools.chain(*families)]) if joint else contrast(*families)
    return _record("r_emid", n, tuple(values.tolist()), change, first.settings)


def _homes_and_shifted(
    first: Finished, second: Finished, tag: str
) -> tuple[tuple[Subset, Subset], tuple[Subset, Subset]]:
    """The subset in distribution and a shifted one, of both runs, on contexts that both have.

    Where samples vary counterparts, those are taken that stand in all four with their counterpart.
    """
    homes, shifted = (first.home, second.home), (first.subsets[tag], second.subsets[tag])
    if not any(is_paired(s, h) for s, h in zip(shifted, homes, strict=True)):
        return _on_common(*homes), _on_common(*shifted)
    known, there = (set(a.sample_ids) & set(b.sample_ids) for a, b in (shifted, homes))
    ids = zip(shifted[0].sample_ids, shifted[0].pair_ids, strict=True)
    kept = [(own, other) for own, other in ids if own in known and other in there]
    own, others = ([pair[k] for pair in kept] for k in (0, 1))
    return _on_common(*homes, others), _on_common(*shifted, own)


def _profile(
    first: Finished, second: Finished, both: tuple[Subset, Subset], names: Names
) -> Iterator[Record]:
    """Differences of info and share, of every factor that has δ in both runs."""
    for factor in NAMES:
        sides = [
            _column(run.gaps, name, both[0], factor)
            for run, name in zip((first, second), names, strict=True)
        ]
        golden = [
            _column(run.gaps, name, both[0], f"{factor}_golden")
            for run, name in zip((first, second), names, strict=True)
        ]
        used = np.isfinite(sides).all(axis=0)
        if not used.any():
            continue
        answered = used.sum()
        has_golden = all(s.has_golden for s in both)
        if has_golden:
            used &= np.abs(golden[0] - golden[1]) <= SAME  # never where one is NaN
        rows = np.stack([*sides, golden[0] if has_golden else np.zeros(len(used))])
        left = {"factor": factor, "left_out": int(answered - used.sum())}
        for record in _of_factor(rows, used, both, has_golden, first.settings):
            yield {**record, **left}


def _column(gaps: Gaps, rpm: str, subset: Subset, key: str) -> np.ndarray:
    """[N] δ of a subset's contexts, NaN where there is none."""
    found = (gaps.get((rpm, subset.tag, i), {}).get(key) for i in subset.sample_ids)
    return np.array([np.nan if x is None else x for x in found], float)


def _of_factor(
    rows: np.ndarray, used: np.ndarray, both: tuple[Subset, Subset], has_golden: bool,
    settings: EstimatorSettings,
) -> Iterator[Record]:  # fmt: skip
    """The records of info and share, from δ [3, N] of both answers and of golden."""
    n = int(used.sum())
    if count_groups(groups_of(used, *both)) < MIN_CONTEXTS:
        for measure in ("info", "share") if has_golden else ("info",):
            yield _record(measure, n, UNKNOWN, NOTHING, settings)
        return
    (a, b, golden), there = by_cluster(rows, used, *both)
    more, error, _ = lost(a, b, there)
    change = Contrast(float(more), float(error), int(there.sum()) - 1)
    values = tuple(rows[:2, used].mean(axis=1).tolist())
    info = _record("info", n, values, change, settings)
    yield info
    if has_golden:
        yield _share_record(info, (a, b, golden), there, settings)


def _share_record(
    info: Record, sides: tuple[np.ndarray, ...], there: np.ndarray, settings: EstimatorSettings
) -> Record:
    """The difference of shares, whose test is that of `info`: golden's mean is below both."""
    (a, b, golden), level = sides, settings.confidence
    record = _record("share", info["n"], UNKNOWN, NOTHING, settings)
    record["p_value"] = info["p_value"]  # also of shares that are not shown: Holm counts them all
    gap = share(b - a, golden, level, there)
    if not gap.shown:
        return {**record, "reason": f"golden answers show too little of it at n = {info['n']}"}
    first, second = (number(share(x, golden, level, there).value) for x in (a, b))
    low, high = float(gap.low), float(gap.high)
    found = {"difference": float(gap.value), "low": low, "high": high}
    found["within_noise"] = low <= 0 <= high
    return {**record, "value_first": first, "value_second": second, **found}


def _record(
    measure: str, n: int, values: tuple[float, float], change: Contrast, settings: EstimatorSettings
) -> Record:
    return {
        "measure": measure,
        "factor": None,
        "n": n,
        "left_out": 0,
        "value_first": number(values[0]),
        "value_second": number(values[1]),
        **change.record(settings.confidence),
    }

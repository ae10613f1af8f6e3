"""Whether measures and a judge order RPMs and shifts alike, with what the contexts leave open."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from remid_jax.analysis.contrast import Contrast, Record, number
from remid_jax.analysis.measures import COLUMNS, Estimates
from remid_jax.analysis.profile import OWN, has_partner, sample_gaps
from remid_jax.information.judgments import correlation
from remid_jax.information.pairs import GOLDEN, MIN_CONTEXTS, Subset, Swapped, groups_of, is_paired
from remid_jax.information.profile_flags import FACTORS
from remid_jax.information.uncertainty import combined_error, replicate_error

LEAST_CELLS = 4  # RPMs × subsets; a correlation of fewer tells nothing
MOST = 0.999  # a larger correlation of replicates counts as this one: its transform is infinite
LEVELS = ("r_emi", "baseline", "lost")  # beside the judge's value in each subset
DROP = "r_emid"  # beside how far the judge's value drops from in distribution
KINDS = ("pearson", "spearman")
Cell = tuple[str, str]  # tag, RPM
Values = Mapping[Cell, np.ndarray]  # [N] values of a judge, NaN where unknown


class Cells(NamedTuple):
    """A value for each cell of some subsets, and the same without each group of contexts."""

    value: Mapping[Cell, float]
    without: Sequence[Mapping[Cell, float]]


class Family(NamedTuple):
    """Subsets whose contexts are deleted together.

    Attributes:
      tags: of the subsets.
      measures: measure -> its cells.
      judged: those of the judge.
    """

    tags: frozenset[str]
    measures: Mapping[str, Cells]
    judged: Cells


def correlation_records(
    judge: str, values: Values, estimates: Estimates, swaps: Mapping[str, Swapped]
) -> list[Record]:
    """Correlations of a judge's values with R-EMI, R-EMID, the profile's loss and the baseline.

    Over the cells RPM × subset (R-EMID: shifted ones, with the drop of the judge's value). A
    context is deleted together with its counterparts, and from all RPMs at once, since their cells
    depend on each other through it; intervals are jackknifed on Fisher's scale. They are about
    these RPMs and shifts with other contexts, and noise within cells pulls a correlation to 0.

    Args:
      judge: its name.
      values: what it says of each RPM's answers.
      estimates: of all subsets.
      swaps: tag -> scores under contexts with a swapped factor.
    """
    families = []
    for subsets in families_of(estimates):
        groups, tags = _groups(subsets, estimates, values), frozenset(s.tag for s in subsets)
        own = {cell: x for cell, x in values.items() if cell[0] in tags}
        measures = _measured(subsets, groups, estimates, swaps)
        families.append(Family(tags, measures, _means(own, groups)))
    return [
        {"judge": judge, "measure": name, **_correlated(name, families, estimates)}
        for name in (*LEVELS, DROP)
    ]


def families_of(estimates: Estimates) -> list[list[Subset]]:
    """The subsets that are paired with the one in distribution, and each other one by itself."""
    home = estimates.home
    paired = [s for s in estimates.subsets if s is home or is_paired(s, home)]
    return [paired, *([s] for s in estimates.subsets if s not in paired)]


def _groups(family: Sequence[Subset], estimates: Estimates, values: Values) -> np.ndarray:
    """[N] groups of the contexts that an estimate or a judgment of the family uses."""
    used = [s.used(rpm) for s in family for rpm in estimates.rpms]
    tags = {s.tag for s in family}
    used += [np.isfinite(x) for (tag, _), x in values.items() if tag in tags]
    return groups_of(np.any(used, axis=0), *family)


def _measured(
    family: Sequence[Subset], groups: np.ndarray, estimates: Estimates, swaps: Mapping[str, Swapped]
) -> dict[str, Cells]:
    """Each measure of the evaluated models."""
    cells = [(s, rpm) for s in family for rpm in estimates.rpms]
    labels = np.unique(groups[groups >= 0])
    found = {}
    for name in ("r_emi", "baseline") if len(labels) >= MIN_CONTEXTS else ():
        column = COLUMNS.index(name)
        each = {
            (s.tag, rpm): estimates.replicates(s, rpm, groups).column(column) for s, rpm in cells
        }
        found[name] = Cells(
            {cell: float(r.value) for cell, r in each.items()},
            [{cell: float(r.without[k]) for cell, r in each.items()} for k in range(len(labels))],
        )
    lost = {(s.tag, rpm): _lost(s, swaps[s.tag], rpm) for s, rpm in cells if s.tag in swaps}
    return {**found, "lost": _means(lost, groups)}


def _lost(subset: Subset, swaps: Swapped, rpm: str) -> np.ndarray:
    """[N] mean over user, character and dialogue of golden's δ − the answer's; NaN where unknown.

    A mean, since what is lost of one factor at a time does not add up.
    """
    gaps = []
    for factor in FACTORS:
        if factor not in swaps.sources:
            return np.full(len(subset.sample_ids), np.nan)
        used = subset.answered(rpm) & has_partner(swaps, factor)
        golden, own = (sample_gaps(subset, swaps, x, factor, used)[OWN] for x in (GOLDEN, rpm))
        gaps.append(np.where(used, golden - own, np.nan))
    return np.mean(gaps, axis=0)


def _means(values: Values, groups: np.ndarray) -> Cells:
    """The mean of each cell's values [N]."""

    def means(kept: np.ndarray) -> dict[Cell, float]:
        known = {cell: x[kept & np.isfinite(x)] for cell, x in values.items()}
        return {cell: float(x.mean()) if len(x) else np.nan for cell, x in known.items()}

    labels = np.unique(groups[groups >= 0])
    return Cells(means(groups >= 0), [means((groups >= 0) & (groups != g)) for g in labels])


def _drops(values: Mapping[Cell, float], home: str) -> dict[Cell, float]:
    """What the values of shifted cells are below those in distribution."""
    return {
        (tag, rpm): values.get((home, rpm), np.nan) - x
        for (tag, rpm), x in values.items()
        if tag != home
    }


def _correlated(name: str, families: Sequence[Family], estimates: Estimates) -> Record:
    """Both correlations of a measure with the judge's values, or why there are none."""
    column, home = "r_emi" if name == DROP else name, estimates.home.tag
    known = [f for f in families if column in f.measures]
    whole = {cell: x for f in known for cell, x in f.measures[column].value.items()}
    judged = {cell: x for f in known for cell, x in f.judged.value.items()}

    def pair(own: Mapping[Cell, float], theirs: Mapping[Cell, float]) -> Iterator[dict]:
        """Both, with some of their values changed."""
        for values in ({**whole, **own}, {**judged, **theirs}):
            yield _drops(values, home) if name == DROP else values

    a, b = pair({}, {})
    cells = [c for c in a if np.isfinite(a[c]) and np.isfinite(b.get(c, np.nan))]
    places = {tag for tag, _ in cells} | ({home} if name == DROP else set())
    used = [f for f in known if f.tags & places]
    record: Record = {
        "cells": len(cells),
        "rpms": len({rpm for _, rpm in cells}),
        "subsets": len({tag for tag, _ in cells}),
        "contexts": sum(len(f.judged.without) for f in used),
        **dict.fromkeys(f"{kind}{end}" for kind in KINDS for end in ("", "_low", "_high")),
        "reason": None,
    }
    if len(cells) < LEAST_CELLS:
        return {**record, "reason": f"{len(cells)} of at least {LEAST_CELLS} RPM × subset"}

    def of(own: Mapping[Cell, float], theirs: Mapping[Cell, float], ranks: bool) -> float:
        return correlation(*(np.array([x[c] for c in cells]) for x in pair(own, theirs)), ranks)

    for kind in KINDS:
        ranks = kind == "spearman"
        value = of({}, {}, ranks)
        if not np.isfinite(value):
            return {**record, "reason": "the measure or the judge's value is the same everywhere"}
        parts = [
            [
                of(*deleted, ranks)
                for deleted in zip(f.measures[column].without, f.judged.without, strict=True)
            ]
            for f in used
        ]
        low, high = _limits(value, parts, estimates.settings.confidence)
        record |= {kind: value, f"{kind}_low": low, f"{kind}_high": high}
    return record


def _limits(
    value: float, parts: Sequence[Sequence[float]], level: float
) -> tuple[float | None, float | None]:
    """The interval of a correlation from its replicates, family by family; None where unknown.

    Nothing is known either where no deletion changes it, as may happen to ranks.
    """
    if any(len(p) < MIN_CONTEXTS for p in parts):
        return None, None
    scaled = [np.arctanh(np.clip(p, -MOST, MOST)) for p in parts]
    errors = [tuple(map(float, replicate_error(z))) for z in scaled]
    if not all(np.isfinite(error) for error, _ in errors):
        return None, None
    se, dof = functools.reduce(lambda x, y: combined_error(*x, *y), errors)
    if not se:
        return None, None
    found = Contrast(float(np.arctanh(np.clip(value, -MOST, MOST))), se, dof).limits(level)
    return tuple(number(np.tanh(z)) for z in found)

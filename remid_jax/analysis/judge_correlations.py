"""Whether measures and a judge order RPMs and shifts alike, with what the contexts leave open."""

import functools
from collections.abc import Callable, Mapping, Sequence
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


class Family(NamedTuple):
    """Subsets whose contexts are deleted together.

    Attributes:
      tags: of the subsets.
      without: for each group that is deleted, cell -> value; of these subsets alone.
    """

    tags: frozenset[str]
    without: Sequence[Mapping[Cell, float]]


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
    whole, judged = {}, {}
    families, judge_families = [], []
    for family in _families(estimates):
        groups = _groups(family, estimates, values)
        found = _measured(family, groups, estimates, swaps)
        said = _means({c: values[c] for c in values if c[0] in {s.tag for s in family}}, groups)
        tags = frozenset(s.tag for s in family)
        for name, (value, without) in found.items():
            whole.setdefault(name, {}).update(value)
            families.append((name, Family(tags, without)))
        judged.update(said[0])
        judge_families.append(Family(tags, said[1]))
    home = estimates.home.tag
    records = []
    for name in (*LEVELS, DROP):
        own = [f for n, f in families if n == ("r_emi" if name == DROP else name)]
        known = whole["r_emi" if name == DROP else name]
        pick = functools.partial(_cells_of, name == DROP, home)
        found = _correlated(pick, known, judged, own, judge_families, estimates)
        records.append({"judge": judge, "measure": name, **found})
    return records


def _families(estimates: Estimates) -> list[list[Subset]]:
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
) -> dict[str, tuple[dict[Cell, float], list[dict[Cell, float]]]]:
    """Measure -> (cell -> value, the same without each group)."""
    cells = [(s, rpm) for s in family for rpm in estimates.rpms]
    labels = np.unique(groups[groups >= 0])
    found = {}
    for name in ("r_emi", "baseline"):
        value: dict[Cell, float] = {}
        without: list[dict[Cell, float]] = [{} for _ in labels]
        for s, rpm in cells if len(labels) >= MIN_CONTEXTS else ():
            replicates = estimates.replicates(s, rpm, groups).column(COLUMNS.index(name))
            value[s.tag, rpm] = float(replicates.value)
            for left, x in zip(without, replicates.without, strict=True):
                left[s.tag, rpm] = float(x)
        found[name] = value, without
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


def _means(values: Values, groups: np.ndarray) -> tuple[dict[Cell, float], list[dict[Cell, float]]]:
    """Cell -> mean of its values [N], and the same without each group."""

    def means(kept: np.ndarray) -> dict[Cell, float]:
        known = {cell: x[kept & np.isfinite(x)] for cell, x in values.items()}
        return {cell: float(x.mean()) if len(x) else np.nan for cell, x in known.items()}

    labels = np.unique(groups[groups >= 0])
    return means(groups >= 0), [means((groups >= 0) & (groups != g)) for g in labels]


def _cells_of(is_drop: bool, home: str, values: Mapping[Cell, float]) -> dict[Cell, float]:
    """The cells of a correlation: levels, or drops from in distribution."""
    if not is_drop:
        return dict(values)
    return {
        (tag, rpm): values[home, rpm] - x
        for (tag, rpm), x in values.items()
        if tag != home and (home, rpm) in values
    }


def _correlated(
    pick: Callable[[Mapping[Cell, float]], dict[Cell, float]], known: Mapping[Cell, float],
    judged: Mapping[Cell, float], families: Sequence[Family], judge_families: Sequence[Family],
    estimates: Estimates,
) -> Record:  # fmt: skip
    """Both correlations with their intervals, or why there are none."""
    a, b = pick(known), pick(judged)
    cells = [c for c in a if np.isfinite(a[c]) and np.isfinite(b.get(c, np.nan))]
    record: Record = {
        "cells": len(cells),
        "rpms": len({rpm for _, rpm in cells}),
        "subsets": len({tag for tag, _ in cells}),
        "contexts": sum(len(f.without) for f in families),
        **dict.fromkeys(f"{kind}{end}" for kind in KINDS for end in ("", "_low", "_high")),
        "reason": None,
    }
    if len(cells) < LEAST_CELLS:
        return {**record, "reason": f"{LEAST_CELLS} cells of RPM and subset are needed"}

    def replicate(own: Mapping[Cell, float], theirs: Mapping[Cell, float], ranks: bool) -> float:
        rows = (pick(x) for x in ({**known, **own}, {**judged, **theirs}))
        return correlation(*(np.array([x[c] for c in cells]) for x in rows), ranks)

    for kind in KINDS:
        ranks = kind == "spearman"
        value = replicate({}, {}, ranks)
        if not np.isfinite(value):
            return {**record, "reason": "one of both is the same in all cells"}
        parts = [
            [replicate(*deleted, ranks) for deleted in zip(f.without, j.without, strict=True)]
            for f, j in zip(families, judge_families, strict=True)
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

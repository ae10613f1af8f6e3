"""The information profile: what of each factor the answers carry, beside the golden ones."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from remid_jax.analysis.contrast import (
    POWER,
    Contrast,
    Record,
    count_groups,
    number,
    with_holm,
)
from remid_jax.analysis.draws import info_draws
from remid_jax.analysis.measures import Estimates
from remid_jax.factor_names import DIALOGUE_PARTS, FACTORS, NAME
from remid_jax.information.pairs import GOLDEN, MIN_CONTEXTS, Subset, Swapped, groups_of
from remid_jax.information.power import samples_needed
from remid_jax.information.profile import factor_gaps, profile_information
from remid_jax.information.profile_flags import NAMES, profile_flags
from remid_jax.information.profile_shares import (
    FactorUncertainty,
    Share,
    factor_uncertainty,
    has_collapsed,
    lost,
    share,
    share_change,
)
from remid_jax.information.uncertainty import replicate_error

MOST_NEEDED = 10_000  # contexts; more are not worth naming
OWN, ALL = 0, 1  # words of an answer that a sum goes over


class Cell(NamedTuple):
    """One factor in the answers of one row to one subset.

    Attributes:
      used: [N] bool, contexts with an answer and a partner.
      gaps: [2, N] δ of own words and of all words in nats, NaN where not used; golden likewise,
        NaN where there are no golden responses.
      errors: standard errors of the information of own words, of the answers and of golden.
      copied: share of the answers' tokens that are copied, unknown without an answer.
      whole: [N] log q of own words under the whole context of another sample, NaN where not known.
    """

    used: np.ndarray
    gaps: np.ndarray
    golden: np.ndarray
    errors: tuple[float, float]
    copied: Contrast
    whole: np.ndarray


def profile_records(
    estimates: Estimates, swaps: Mapping[str, Swapped]
) -> tuple[list[Record], list[Record]]:
    """The tables `profile` and `flags` of results.json: each row in each subset.

    Shares and losses are tested over contexts (over clusters, where contexts depend), `p_holm`
    adjusts over user, character and dialogue, and apart from them over the dialogue's two parts; a
    made-up name in the place of the character's is tested by itself. Where a subset has no golden
    responses, only what needs none is known, and no fault is flagged.

    Args:
      estimates: of all subsets.
      swaps: tag -> scores under contexts with a swapped factor.
    """
    records, flags = [], []
    for rpm in estimates.names:
        home: dict[str, Share] = {}
        u_home: dict[str, FactorUncertainty | None] = {}
        for subset in (s for s in estimates.subsets if s.tag in swaps and s.has_row(rpm)):
            cells = _cells(subset, swaps[subset.tag], rpm)
            for factors in (FACTORS, DIALOGUE_PARTS, (NAME,)):
                block = []
                for factor in (f for f in factors if f in cells):
                    found, record = _record(estimates, subset, rpm, factor, cells[factor])
                    is_home = subset is estimates.home
                    if is_home:
                        home[factor] = found
                    u = _uncertainty(subset, cells[factor], estimates.settings.confidence)
                    u_home |= {factor: u} if is_home else {}
                    told = _uncertainty_record(u_home.get(factor), u, is_home)
                    drawn = info_draws(
                        estimates, subset, rpm, swaps[subset.tag], factor, cells[factor].used
                    )
                    record |= _drop(home.get(factor), found, is_home)
                    block.append({**record, **told, **drawn})
                records += with_holm(block, "p_value")
            flags += _flags(subset, rpm, cells) if rpm != GOLDEN and subset.has_golden else []
    return records, flags


def _cells(subset: Subset, swaps: Swapped, rpm: str) -> dict[str, Cell]:
    found, answered = {}, subset.answered(rpm)
    copied = _copied(subset, swaps, rpm)
    whole = swaps.whole.get(rpm, np.full((len(answered), 2), np.nan))[:, OWN]
    for factor in swaps.sources:
        used = answered & has_partner(swaps, factor)
        sides = [sample_gaps(subset, swaps, name, factor, used) for name in (rpm, GOLDEN)]
        errors = tuple(_error(subset, swaps, name, factor, used) for name in (rpm, GOLDEN))
        found[factor] = Cell(used, *sides, errors, copied, whole)
    return found


def has_partner(swaps: Swapped, factor: str) -> np.ndarray:
    """[N] bool, contexts of which a factor was swapped."""
    return (swaps.sources[factor] >= 0).any(axis=1)


def sample_gaps(
    subset: Subset, swaps: Swapped, name: str, factor: str, used: np.ndarray
) -> np.ndarray:
    """[2, N] δ of own words and of all words of the answers of a row, nats.

    NaN where not `used` [N], and of golden where the subset has too few golden responses.
    """
    if _lacks(subset, name):
        return np.full((2, len(used)), np.nan)
    changes, _ = _changes(swaps, name, factor)
    zero, weights = np.zeros(len(used)), swaps.weights[factor]
    parts = (changes[..., OWN], changes.sum(axis=-1))
    gaps = (factor_gaps(zero, part, weights, where=used) for part in parts)
    return np.stack([np.asarray(g, np.float64) for g in gaps])


def _error(subset: Subset, swaps: Swapped, name: str, factor: str, used: np.ndarray) -> float:
    """The standard error of the information of own words; NaN where there is none."""
    if _lacks(subset, name) or used.sum() < MIN_CONTEXTS:
        return np.nan
    changes, taken = _changes(swaps, name, factor)
    weights, zero = swaps.weights[factor], np.zeros(len(used))
    taken = None if factor == NAME else taken  # made up, and no other context's
    return float(profile_information(zero, changes[..., OWN], weights, taken, where=used).se)


def _lacks(subset: Subset, name: str) -> bool:
    return name == GOLDEN and not subset.has_golden


def _copied(subset: Subset, swaps: Swapped, rpm: str) -> Contrast:
    """The share of the answers' tokens that are copied, with its jackknife error."""
    groups = groups_of(subset.answered(rpm), subset)
    used = groups >= 0
    tokens = swaps.copied[rpm][used].astype(float)
    if not tokens.sum():
        return Contrast(np.nan, np.nan, 0)
    share_copied = float(tokens[:, 1].sum() / tokens.sum())
    by_group = np.stack([np.bincount(groups[used], column) for column in tokens.T], axis=1)
    left = tokens.sum(axis=0) - by_group[np.unique(groups[used])]
    if len(left) < MIN_CONTEXTS or not left.sum(axis=1).all():
        return Contrast(share_copied, np.nan, 0)
    error, dof = replicate_error(left[:, 1] / left.sum(axis=1))
    return Contrast(share_copied, float(error), dof)


def _changes(swaps: Swapped, name: str, factor: str) -> tuple[np.ndarray, np.ndarray]:
    """What swapping a factor changes [N, K, 2], and its sources [N, K].

    A row with fewer than K sources repeats those that it has.
    """
    sources, scores = swaps.sources[factor], swaps.scores[name][factor]
    rows = np.arange(len(sources))[:, None]
    some = np.maximum((sources >= 0).sum(axis=1, keepdims=True), 1)
    place = np.arange(sources.shape[1]) % some
    return scores[rows, place] - swaps.own[name][:, None], sources[rows, place]


def _record(
    estimates: Estimates, subset: Subset, rpm: str, factor: str, cell: Cell
) -> tuple[Share, Record]:
    level, n = estimates.settings.confidence, int(cell.used.sum())
    enough = count_groups(groups_of(cell.used, subset)) >= MIN_CONTEXTS
    found, less = Share(np.nan, np.nan, np.nan, False), (np.nan,) * 3
    means = np.full((2, 2), np.nan)
    if enough:
        (model, _), (golden, _), there = _by_cluster(cell, subset)
        if subset.has_golden:
            found = Share(*map(np.asarray, share(model, golden, level, there)))
            less = lost(model, golden, there)
        means = np.stack([x[:, cell.used].mean(axis=1) for x in (cell.gaps, cell.golden)])
    may, dof = bool(found.shown), count_groups(groups_of(cell.used, subset)) - 1
    info = Contrast(float(means[0, OWN]), cell.errors[0], dof).limits(level)
    missing = Contrast(float(less[0]), float(less[1]), dof).limits(level)
    copied = cell.copied.limits(level)
    return found, {
        "rpm": rpm,
        "subset": subset.tag,
        "factor": str(factor),
        "n": n,
        "left_out": int(subset.answered(rpm).sum()) - n,
        "reason": _reason(subset, rpm, factor, cell, enough, may),
        "info": number(means[0, OWN]),
        "info_se": number(cell.errors[0]),
        "info_low": info[0],
        "info_high": info[1],
        "info_golden": number(means[1, OWN]),
        "info_golden_se": number(cell.errors[1]),
        "share": number(found.value) if may else None,
        "share_low": number(found.low),
        "share_high": number(found.high),
        "shown": may,
        "n_to_show": _needed(means[1, OWN], cell.errors[1], n, 1 - level),
        "n_to_tell_half": _needed(means[1, OWN] / 2, less[1], n, (1 - level) / len(FACTORS)),
        "lost": number(less[0]),
        "lost_se": number(less[1]),
        "lost_low": missing[0],
        "lost_high": missing[1],
        "p_value": number(less[2]),
        "copied": number(cell.copied.value),
        "copied_se": number(cell.copied.se),
        "copied_low": copied[0],
        "copied_high": copied[1],
        "info_copied": number(means[0, ALL] - means[0, OWN]),
        "info_copied_golden": number(means[1, ALL] - means[1, OWN]),
    }


def _reason(
    subset: Subset, rpm: str, factor: str, cell: Cell, enough: bool, may: bool
) -> str | None:
    """Why a cell has no share."""
    n, answered = int(cell.used.sum()), int(subset.answered(rpm).sum())
    if not enough and answered < MIN_CONTEXTS:
        beside = " and a golden response" * subset.has_golden
        return f"{answered} contexts have an answer{beside}"
    if not enough:
        if factor == NAME:
            return f"{n} of {answered} contexts have a name that can be replaced"
        return f"{n} of {answered} contexts have a partner of their language with another {factor}"
    if not subset.has_golden:
        return subset.lack_of_golden
    return None if may else f"golden answers show nothing of the {factor} at n = {n}"


def _needed(difference: float, error: float, n: int, level: float) -> int | None:
    """Contexts with which a t-test shows a positive mean, given its error at n of them."""
    deviation = float(error) * math.sqrt(n)
    if not (difference > 0 and 0 < deviation < difference * math.sqrt(MOST_NEEDED) / 3):
        return None
    return samples_needed(float(difference), deviation, 0.0, POWER, level, correlation=0.0)


def _by_cluster(cell: Cell, subset: Subset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """δ [2, G] of clusters, the answers' and golden's, and [G] bool; see `by_cluster`."""
    model, there = by_cluster(cell.gaps, cell.used, subset)
    golden, _ = by_cluster(cell.golden, cell.used, subset)
    return model, golden, there


def by_cluster(
    rows: np.ndarray, used: np.ndarray, *subsets: Subset
) -> tuple[np.ndarray, np.ndarray]:
    """Sums [R, G] over clusters, scaled so that their means are those of the contexts.

    Also [G] bool, clusters that count. Without clusters each context is its own.

    Args:
      rows: [R, N], finite where used.
      used: [N] bool.
      subsets: whose contexts they are; of several, contexts that share a cluster in any.
    """
    groups = groups_of(np.ones(len(used), bool), *subsets)[used]
    size = np.bincount(groups, minlength=len(used))
    scale = (size > 0).sum() / used.sum()
    sums = [np.bincount(groups, part[used], len(size)) * scale for part in rows]
    return np.stack(sums), size > 0


def _drop(home: Share | None, found: Share, is_home: bool) -> Record:
    """share(ID) − share here."""
    keys = ("share_drop", "share_drop_low", "share_drop_high")
    if home is None or is_home or not (home.shown and found.shown):
        return dict.fromkeys(keys)
    return dict(zip(keys, map(number, share_change(home, found)[:3]), strict=True))


def _uncertainty(subset: Subset, cell: Cell, level: float) -> FactorUncertainty | None:
    """u of the contexts that have a partner and another whole context, or None."""
    used = cell.used & np.isfinite(cell.whole)
    if count_groups(groups_of(used, subset)) < MIN_CONTEXTS:
        return None
    whole = np.minimum(cell.whole, 0)  # a sum of log q may round to more
    rows = np.stack([cell.gaps[OWN], whole])
    (gaps, whole), _, there = _by_cluster(cell._replace(used=used, gaps=rows), subset)
    if np.sum(whole[there] < 0) < 2:  # every word is copied
        return None
    return factor_uncertainty(gaps, whole, level, there)


def _uncertainty_record(
    home: FactorUncertainty | None, found: FactorUncertainty | None, is_home: bool
) -> Record:
    """u with its limits, and whether it has collapsed against that in distribution."""
    record = dict.fromkeys(("u", "u_low", "u_high", "collapsed"))
    if found is not None:
        record |= zip(("u", "u_low", "u_high"), map(number, found), strict=True)
        if home is not None and not is_home:
            record["collapsed"] = bool(has_collapsed(home, found))
    return record


def _flags(subset: Subset, rpm: str, cells: Mapping[str, Cell]) -> Iterator[Record]:
    """The faults that are shown."""
    sides: list[dict[str, np.ndarray]] = [{}, {}, {}, {}]  # own words, golden's; all, golden's
    where = {}
    for factor, cell in ((f, c) for f, c in cells.items() if f in NAMES):
        if count_groups(groups_of(cell.used, subset)) >= MIN_CONTEXTS:
            model, golden, where[str(factor)] = _by_cluster(cell, subset)
            rows = (model[OWN], golden[OWN], model[ALL], golden[ALL])
            for by_factor, row in zip(sides, rows, strict=True):
                by_factor[str(factor)] = row
    if not where:
        return
    found = profile_flags(*sides, baseline=_baseline(subset, rpm), where=where)
    for flag, value in found._asdict().items():
        by_factor = value.items() if isinstance(value, Mapping) else [(None, value)]
        for factor, shown in by_factor:
            if shown:
                yield {"rpm": rpm, "subset": subset.tag, "flag": flag, "factor": factor}


def _baseline(subset: Subset, rpm: str) -> np.ndarray:
    """[G] log q a token minus golden's, by cluster; 0 without an answer."""
    used = subset.used(rpm)
    both = (np.diagonal(b.scores) / b.lengths for b in (subset.rpms[rpm], subset.golden))
    gaps = np.subtract(*both)[None]
    return by_cluster(gaps, used, subset)[0][0]

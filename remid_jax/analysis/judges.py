"""Judges of answers: calibrated first, then what they say, and how far they agree."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from remid_jax.analysis.contrast import Contrast, Record, number
from remid_jax.analysis.judge_correlations import correlation_records, families_of
from remid_jax.analysis.measures import Estimates
from remid_jax.information.judgments import (
    CALIBRATED,
    MODES,
    PAIRWISE,
    REFERENCES,
    Judgments,
    effective_groups,
    golden_first,
    is_calibrated,
    known_mean,
    krippendorff_alpha,
    retest_variance,
    settle,
    wilson_interval,
)
from remid_jax.information.pairs import (
    GOLDEN,
    MIN_CONTEXTS,
    REFERENCE_ROWS,
    Swapped,
    groups_of,
)
from remid_jax.information.uncertainty import replicate_error

LEAST_VALUES = 2  # of a unit of agreement
Groups = Mapping[str, np.ndarray]
Outcomes = Mapping[tuple[str, str, str | None], np.ndarray]  # see `outcomes_of`


class Mean(NamedTuple):
    """A mean over contexts: its interval, how many values it has, and of how many contexts."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    contexts: int


def judge_records(
    judged: Sequence[Judgments], estimates: Estimates, swaps: Mapping[str, Swapped]
) -> dict[str, list[Record]]:
    """The tables of judges: `judges`, `judge_scores`, `judge_agreement`, `judge_correlations`.

    A judge puts golden responses above reference rows in at least `CALIBRATED` of its calls (in
    both orders, where it sees pairs), or its judgments enter neither agreement nor correlations.

    Args:
      judged: what each judge said.
      estimates: of all subsets.
      swaps: tag -> scores under contexts with a swapped factor; empty without a profile.
    """
    groups = joint_groups(estimates)
    level = estimates.settings.confidence
    judges = [_judge(one, groups, level) for one in judged]
    passed = [one for one, r in zip(judged, judges, strict=True) if r["calibrated"]]
    outcomes = {one.name: outcomes_of(one) for one in judged}
    return {
        "judges": judges,
        "judge_scores": [
            {**score, "calibrated": record["calibrated"]}
            for one, record in zip(judged, judges, strict=True)
            for score in _scores(one, groups, level)
        ],
        "judge_agreement": [
            _agreement(mode, names, outcomes, groups, level)
            for mode in MODES
            if len(names := [one.name for one in passed if one.mode == mode]) > 1
        ],
        "judge_correlations": [
            record
            for one in passed
            for record in correlation_records(
                one.name, values_of(one, outcomes[one.name]), estimates, swaps
            )
        ],
    }


def joint_groups(estimates: Estimates) -> dict[str, np.ndarray]:
    """Tag -> [N] groups of dependent contexts: those of one cluster, and counterparts."""
    found, start = {}, 0
    for family in families_of(estimates):
        own = groups_of(np.ones(len(family[0].sample_ids), bool), *family) + start
        found |= {subset.tag: own for subset in family}
        start = int(own.max()) + 1
    return found


def outcomes_of(one: Judgments) -> Outcomes:
    """(tag, name, what it is held against or None) -> [N] values of a judge, NaN where unknown.

    Of pairs 1 for a win, .5 for a tie and 0 for a loss; of single answers scores. A mean over
    repeated calls.
    """
    if one.mode == PAIRWISE:
        return {
            (tag, *pair): known_mean((settle(x)[0] + 1) / 2)
            for tag, by_pair in one.verdicts.items()
            for pair, x in by_pair.items()
        }
    return {
        (tag, name, None): known_mean(x)
        for tag, by_name in one.scores.items()
        for name, x in by_name.items()
    }


def values_of(one: Judgments, outcomes: Outcomes) -> dict[tuple[str, str], np.ndarray]:
    """(tag, RPM) -> [N] values that correlations rest on: against golden, or scores."""
    against = GOLDEN if one.mode == PAIRWISE else None
    return {
        (tag, name): values
        for (tag, name, other), values in outcomes.items()
        if other == against and name not in REFERENCE_ROWS
    }


def _judge(one: Judgments, groups: Groups, level: float) -> Record:
    """How often a judge puts golden above references, and how alike repeated calls are."""
    found = {ref: golden_first(one, ref) for ref in REFERENCES}
    by_reference = {ref: _share(x, groups, level) for ref, x in found.items()}
    whole = _share([x for ref in REFERENCES for x in found[ref]], groups, level)
    record: Record = {
        "judge": one.name,
        "mode": one.mode,
        "source": one.source,
        "calls": one.calls,
        "unscored": one.unscored,
        "stopped": one.stopped,
        "calibrated": whole.value is not None and is_calibrated(one),
        "reason": _reason(whole),
        **_named("accuracy", whole),
    }
    for ref, mean in by_reference.items():
        record |= _named(f"accuracy_{ref.partition(' ')[0]}", mean)
    return {**record, **_flip_share(one, groups, level), **_retest(one, groups, level)}


def _reason(accuracy: Mean) -> str | None:
    """Why a judge is not calibrated, or None."""
    if accuracy.value is None:
        return (
            f"it compared golden with a reference row in {accuracy.contexts} contexts, and "
            f"{MIN_CONTEXTS} are needed"
        )
    if accuracy.value < CALIBRATED:
        return f"it puts golden first in less than {CALIBRATED:.0%} of the cases"
    return None


def _pooled(
    parts: Sequence[tuple[str, np.ndarray]], groups: Groups
) -> tuple[np.ndarray, np.ndarray]:
    """The known values of all parts, and the group of each."""
    values = np.concatenate([x for _, x in parts] or [np.array([])])
    units = np.concatenate([groups[tag] for tag, _ in parts] or [np.array([], int)])
    known = np.isfinite(values)
    return values[known], units[known]


def _share(parts: Sequence[tuple[str, np.ndarray]], groups: Groups, level: float) -> Mean:
    """The mean of values in [0, 1] with Wilson's interval, whose units are groups of contexts."""
    values, units = _pooled(parts, groups)
    count = len(np.unique(units))
    if count < MIN_CONTEXTS:
        return Mean(None, None, None, len(values), count)
    share = float(values.mean())
    low, high = wilson_interval(share, effective_groups(units), level)
    return Mean(share, low, high, len(values), count)


def _named(name: str, mean: Mean) -> Record:
    keys = (name, f"{name}_low", f"{name}_high", f"{name}_n", f"{name}_contexts")
    return dict(zip(keys, mean, strict=True))


def _flip_share(one: Judgments, groups: Groups, level: float) -> Record:
    """Of pairs that were judged in both orders, those whose verdict changed with the order."""
    parts = [
        (tag, known_mean(settle(x)[1]))
        for tag, by_pair in one.verdicts.items()
        for x in by_pair.values()
    ]
    return _named("flips", _share(parts, groups, level))


def _retest(one: Judgments, groups: Groups, level: float) -> Record:
    """The variance of repeated calls about one answer, or about one pair in one order."""
    parts = []
    for tag, by_pair in one.verdicts.items():
        points = (retest_variance((x + 1) / 2) for x in by_pair.values())
        parts += [(tag, known_mean(v)) for v in points]
    for tag, by_name in one.scores.items():
        parts += [(tag, retest_variance(x)) for x in by_name.values()]
    return _named("retest_variance", _mean(parts, groups, level))


def _mean(parts: Sequence[tuple[str, np.ndarray]], groups: Groups, level: float) -> Mean:
    """The mean of any values, with the jackknife's interval over groups of contexts."""
    values, units = _pooled(parts, groups)
    labels = np.unique(units)
    if len(labels) < MIN_CONTEXTS:
        return Mean(None, None, None, len(values), len(labels))
    without = np.array([values[units != g].mean() for g in labels])
    error, dof = replicate_error(without)
    found = Contrast(float(values.mean()), float(error), dof)
    return Mean(found.value, *found.limits(level), len(values), len(labels))


def _scores(one: Judgments, groups: Groups, level: float) -> Iterator[Record]:
    """What a judge says of each row in each subset."""
    for (tag, name, other), values in outcomes_of(one).items():
        mean = (_share if one.mode == PAIRWISE else _mean)([(tag, values)], groups, level)
        flips = Mean(*(None,) * 3, 0, 0)
        if one.mode == PAIRWISE:
            parts = [(tag, known_mean(settle(one.verdicts[tag][name, other])[1]))]
            flips = _share(parts, groups, level)
        yield {
            "judge": one.name,
            "subset": tag,
            "rpm": name,
            "against": other,
            "n": mean.n,
            "value": mean.value,
            "value_low": mean.low,
            "value_high": mean.high,
            "flips": flips.value,
            "flips_low": flips.low,
            "flips_high": flips.high,
        }


def _agreement(
    mode: str, judges: Sequence[str], outcomes: Mapping[str, Outcomes], groups: Groups, level: float
) -> Record:
    """Krippendorff's alpha of judges over what they say of RPMs.

    Comparisons of golden with reference rows stay out: calibrated judges agree there by choice.
    """
    values, units = _units([outcomes[name] for name in judges], groups)
    labels = np.unique(units)
    record: Record = {"mode": mode, "judges": list(judges), "n": len(units)}
    record |= {"contexts": len(labels)}
    record |= dict.fromkeys(("alpha", "alpha_low", "alpha_high", "reason"))
    if len(labels) < MIN_CONTEXTS:
        return {**record, "reason": f"two judges judged answers to {len(labels)} contexts alone"}
    value = krippendorff_alpha(values)
    if not np.isfinite(value):
        return {**record, "reason": "all say the same of every answer"}
    without = np.array([krippendorff_alpha(values[:, units != g]) for g in labels])
    error, dof = replicate_error(without)
    low, high = Contrast(value, float(error), dof).limits(level)
    return {
        **record, "alpha": number(value), "alpha_low": low,
        "alpha_high": None if high is None else min(high, 1.0),
    }  # fmt: skip


def _units(outcomes: Sequence[Outcomes], groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """[J, U] values of what at least two judges judged, and the group of each unit."""
    columns, units = [np.zeros((len(outcomes), 0))], [np.zeros(0, int)]
    for place in dict.fromkeys(place for one in outcomes for place in one):
        tag, name, _ = place
        if name in REFERENCE_ROWS:
            continue
        nothing = np.full(len(groups[tag]), np.nan)
        columns.append(np.stack([one.get(place, nothing) for one in outcomes]))
        units.append(groups[tag])
    values, owners = np.concatenate(columns, axis=1), np.concatenate(units)
    kept = np.isfinite(values).sum(axis=0) >= LEAST_VALUES
    return values[:, kept], owners[kept]

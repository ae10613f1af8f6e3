"""What a run can measure of samples and answers, and what not and why, before it computes any."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from remid_jax.data.factors import FACTORS
from remid_jax.data.responses import Answers, counts_of
from remid_jax.data.samples import Sample
from remid_jax.evaluation.answers import golden_answers
from remid_jax.evaluation.swaps import LATIN, groups_by_language, partners_of
from remid_jax.information.pairs import MIN_CONTEXTS
from remid_jax.information.power import detectable
from remid_jax.information.uncertainty import combined_error
from remid_jax.progress import progress

POWER = 0.8  # with which the smallest effects are seen


def subset_records(
    subsets: Mapping[str, Sequence[Sample]],
    home: str,
    shift_of: Mapping[str, str],
    confidence: float,
) -> list[dict[str, Any]]:
    """What each subset allows to measure, by the rules of the analysis.

    Args:
      subsets: tag -> samples that a run would take.
      home: tag of the in-distribution subset, which may be missing.
      shift_of: tag of a shifted subset -> its shift.
      confidence: level of intervals and tests.

    Returns:
      For each subset `tag`, `shift` (None at home), `contexts`, `languages` (code -> contexts),
      `golden` (usable golden answers), `counterparts` (contexts whose `pair_id` names one at home),
      `paired` (whether each varies the one of its place), `alone` (contexts without another of
      their language and source), `used` (contexts that count), `partners` (factor -> those of them
      that have a partner), `missing` (measure or factor -> why it cannot be measured; the keys are
      `r_emi`, `r_emid` and the factors) and `smallest` (`r_emid` and factors -> smallest true
      effect seen with `POWER`, in standard deviations of what one context adds, or None).
    """
    known = _who_has_golden(subsets)
    first = subsets.get(home, ())
    records = []
    for tag, samples in subsets.items():
        record = _record(tag, samples, known[tag]) | {
            "shift": None if tag == home else shift_of.get(tag),
            **_pairs(samples, first),
        }
        record["missing"] = _missing(record, None if tag == home else (home, known.get(home, [])))
        errors = {f: _error(n) for f, n in record["partners"].items()}
        if tag != home:
            errors["r_emid"] = _error_of_r_emid(record["paired"], known.get(home, []), known[tag])
        record["smallest"] = {
            name: _seen(error, confidence) if error and name not in record["missing"] else None
            for name, error in errors.items()
        }
        records.append(record)
    return records


def _who_has_golden(subsets: Mapping[str, Sequence[Sample]]) -> dict[str, list[bool]]:
    known: dict[str, list[bool]] = {tag: [] for tag in subsets}
    with progress("golden answers", sum(map(len, subsets.values()))) as advance:
        for tag, samples in subsets.items():
            for sample in samples:
                (answer,) = golden_answers([sample]).values()
                known[tag].append(bool(answer.text))
                advance(1)
    return known


def _record(tag: str, samples: Sequence[Sample], golden: Sequence[bool]) -> dict[str, Any]:
    groups = groups_by_language(samples)
    sizes = Counter(groups)
    # What needs no golden answers is measured on all contexts where there are too few of them.
    used = np.array(golden) if sum(golden) >= MIN_CONTEXTS else np.ones(len(golden), bool)
    places = np.flatnonzero(used)
    with_partner = {
        str(f): sum(next(partners_of(samples, i, f, groups), None) is not None for i in places)
        for f in FACTORS
    }
    return {
        "tag": tag,
        "contexts": len(samples),
        "languages": dict(Counter(_name(language) for language, _ in groups).most_common()),
        "golden": sum(golden),
        "alone": sum(sizes[group] == 1 for group in groups),
        "used": len(places),
        "partners": with_partner,
    }


def _name(language: str) -> str:
    return "unknown" if language == LATIN else language


def _pairs(samples: Sequence[Sample], first: Sequence[Sample]) -> dict[str, Any]:
    """How far samples are variations of those at home; these themselves name none."""
    ids, named = [s.sample_id for s in first], [s.pair_id for s in samples]
    at_home = samples is first
    return {
        "counterparts": 0 if at_home else len(set(ids) & set(named)),
        "paired": not at_home and named == ids,
    }


def _missing(record: Mapping[str, Any], home: tuple[str, Sequence[bool]] | None) -> dict[str, str]:
    """Measure -> why it cannot be made; `home` is its tag and who has golden answers there."""
    missing = {}
    if record["golden"] < MIN_CONTEXTS:
        missing["r_emi"] = missing["r_emid"] = _few_golden(record["golden"], record["contexts"])
    elif home and sum(home[1]) < MIN_CONTEXTS:
        tag, known = home
        few = f"at home, {tag}: {_few_golden(sum(known), len(known))}"
        missing["r_emid"] = few if known else f"there is no subset {tag!r} to compare with"
    for factor, n in record["partners"].items():
        if n < MIN_CONTEXTS:
            missing[factor] = (
                f"{n} of {record['used']} contexts have a partner of their language with another "
                f"{factor}"
            )
    return missing


def _few_golden(n: int, contexts: int) -> str:
    return f"{n} of {contexts} contexts have a golden response"


def _error(n: int) -> tuple[float, float] | None:
    """Standard error of a mean over n contexts, in s.d. of one, and its degrees of freedom."""
    return (n**-0.5, n - 1) if n > 1 else None


def _error_of_r_emid(
    paired: bool, home: Sequence[bool], own: Sequence[bool]
) -> tuple[float, float] | None:
    """The same of R-EMID, from who has golden answers: of pairs, or of independent contexts."""
    if paired:
        return _error(sum(a and b for a, b in zip(home, own, strict=True)))
    both = _error(sum(home)), _error(sum(own))
    return None if None in both else combined_error(*both[0], *both[1])


def _seen(error: tuple[float, float], confidence: float) -> float | None:
    level = 1 - confidence
    return detectable(*error, POWER, level) if level < POWER else None


def nothing_measurable(records: Sequence[Mapping[str, Any]]) -> str | None:
    """Why these `subset_records` allow no measure at all, or None where they allow some."""
    if any(len(r["missing"]) < len(("r_emi", "r_emid", *FACTORS)) for r in records):
        return None
    whys = dict.fromkeys(why for r in records for why in r["missing"].values())
    return f"nothing can be measured: {'; '.join(whys)}"


def answer_records(answers: Answers, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """What is there of each evaluated model's answers.

    Returns:
      For each `rpm`: `contexts`, `usable` (answers that can be scored), `reasons` (why others are
      excluded -> how many) and `counts` (see `counts_of`).
    """
    ids = [s.sample_id for s in samples]
    columns = {rpm: [by_id[i] for i in ids] for rpm, by_id in answers.items()}
    return [
        {
            "rpm": rpm,
            "contexts": len(ids),
            "usable": sum(bool(a.text) for a in column),
            "reasons": dict(Counter(a.failure for a in column if not a.text).most_common()),
            "counts": counts_of(column),
        }
        for rpm, column in columns.items()
    ]

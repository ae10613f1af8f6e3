"""What a run can measure of samples and answers, and what not and why, before it computes any."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from remid_jax.data.factors import FACTORS
from remid_jax.data.responses import Answers, counts_of
from remid_jax.data.samples import Sample
from remid_jax.evaluation.answers import golden_answers
from remid_jax.evaluation.swaps import groups_by_language, partners
from remid_jax.information.pairs import MIN_CONTEXTS
from remid_jax.information.power import detectable
from remid_jax.information.uncertainty import combined_error

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
      their language and source), `partners` (factor -> contexts that count and have a partner),
      `missing` (measure or factor -> why it cannot be measured; the keys are `r_emi`, `r_emid` and
      the factors) and `smallest` (`r_emid` and factors -> smallest true effect seen with `POWER`,
      in standard deviations of what one context adds, or None).
    """
    golden = {
        s.sample_id for s in _every(subsets) if golden_answers([s])[s.sample_id].text
    }  # by id, as pairs are
    first = subsets.get(home, ())
    return [
        _subset(tag, samples, home, first, shift_of.get(tag), golden, confidence)
        for tag, samples in subsets.items()
    ]


def _every(subsets: Mapping[str, Sequence[Sample]]) -> list[Sample]:
    return [s for samples in subsets.values() for s in samples]


def _subset(
    tag: str, samples: Sequence[Sample], home: str, first: Sequence[Sample], shift: str | None,
    golden: set[str], confidence: float,
) -> dict[str, Any]:  # fmt: skip
    ids, pair_ids = [s.sample_id for s in first], [s.pair_id for s in samples]
    groups = groups_by_language(samples)
    sizes = Counter(groups)
    with_golden = [s.sample_id in golden for s in samples]
    counts = sum(with_golden)
    # What needs no golden answers is measured on all contexts where there are too few of them.
    used = with_golden if counts >= MIN_CONTEXTS else [True] * len(samples)
    found = {f: partners(samples, f, 1, groups)[0][:, 0] >= 0 for f in FACTORS}
    known = {str(f): int((has & used).sum()) for f, has in found.items()}
    paired = tag != home and pair_ids == ids
    record = {
        "tag": tag,
        "shift": None if tag == home else shift,
        "contexts": len(samples),
        "languages": dict(Counter(str(language) for language, _ in groups).most_common()),
        "golden": counts,
        "counterparts": len(set(pair_ids) & set(ids)) if tag != home else 0,
        "paired": paired,
        "alone": sum(sizes[group] == 1 for group in groups),
        "partners": known,
    }
    at_home = [s.sample_id in golden for s in first]
    missing = _missing(record, sum(used), None if tag == home else (home, at_home))
    if paired:
        both = sum(a and b for a, b in zip(at_home, with_golden, strict=True))
        error = (both**-0.5, both - 1) if both > 1 else None
    else:
        error = _unpaired(sum(at_home), counts)
    smallest = {f: (n**-0.5, n - 1) if n > 1 else None for f, n in known.items()}
    smallest = {**smallest, "r_emid": error}
    if tag == home:
        del smallest["r_emid"]
    seen = {
        k: None if k in missing or x is None else _seen(*x, confidence) for k, x in smallest.items()
    }
    return {**record, "missing": missing, "smallest": seen}


def _missing(
    record: Mapping[str, Any], used: int, home: tuple[str, Sequence[bool]] | None
) -> dict[str, str]:
    """Measure -> why it cannot be made; `home` is its tag and who has golden answers there."""
    missing = {}
    if record["golden"] < MIN_CONTEXTS:
        missing["r_emi"] = missing["r_emid"] = _few_golden(record["golden"], record["contexts"])
    elif home and sum(home[1]) < MIN_CONTEXTS:
        tag, known = home
        why = f"at home, {tag}: {_few_golden(sum(known), len(known))}"
        missing["r_emid"] = why if known else f"there is no subset {tag} to compare with"
    for factor, n in record["partners"].items():
        if n < MIN_CONTEXTS:
            missing[factor] = (
                f"{n} of {used} contexts have a partner of their language with another {factor}"
            )
    return missing


def _few_golden(n: int, contexts: int) -> str:
    return f"{n} of {contexts} contexts have a golden response"


def _unpaired(n: int, m: int) -> tuple[float, float] | None:
    """Standard error, in s.d. of a context, and degrees of freedom of n and m contexts."""
    if min(n, m) < 2:
        return None
    return combined_error(n**-0.5, n - 1, m**-0.5, m - 1)


def _seen(error: float, freedom: float, confidence: float) -> float | None:
    level = 1 - confidence
    return detectable(error, freedom, POWER, level) if level < POWER else None


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

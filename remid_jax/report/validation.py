"""What a file of samples allows to measure, as text: a verdict first, then what it rests on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remid_jax.errors import visible
from remid_jax.factor_names import FACTORS
from remid_jax.report.cost import print_cost
from remid_jax.report.tables import new_table, print_whole
from remid_jax.report.text import Row, short, wrapped

R_EMI, R_EMID = "r_emi", "r_emid"
CLAUSES = 4  # of a verdict; what does not fit stands below the table
LACKING = {R_EMI: "no R-EMI, R-EMID, baseline and shares", R_EMID: "no R-EMID"}
REASONS = 3  # that are listed where there are more


def print_validation(record: Mapping[str, Any]) -> None:
    """Prints what a run could measure.

    Args:
      record: `refused`, why a run would be, or None; `monitor`, whether the file is a log, one side
        of `--config monitor`; `subsets`, see `measurable.subset_records`, each with `available`;
        `confidence` and `power` of the smallest effects; `notes`, lines; `answers`, None or `rpms`
        (see `measurable.answer_records`, each with `lines` about what was cut) and `unknown`, ids
        that no sample has; `problems`, each with `sample`, `field` and `problem`, all shown if
        `strict`; `cost`, a record of `print_cost` or None; `prompts`, each with `subset`,
        `sample_ID`, `tokens` (None where no tokenizer was asked) and `text`.
    """
    for line in (*verdict(record), ""):
        print(line)
    print_whole(_table(record["subsets"]))
    for line in (*_notes(record), *_answers(record["answers"]), *_problems(record)):
        print("\n".join(wrapped(line)))
    if record["cost"]:
        print()
        print_cost(record["cost"])
    for prompt in record["prompts"]:
        print()
        print("\n".join(_prompt(prompt)))


def verdict(record: Mapping[str, Any]) -> list[str]:
    """Whether samples and answers can be used, for what, and what cannot be measured."""
    if record["refused"]:
        return wrapped(f"not usable as it stands: {record['refused']}")
    subsets = record["subsets"]
    clauses = [*_lacks(subsets)]
    more = len(clauses) - CLAUSES
    if more > 0:
        clauses[CLAUSES:] = [f"{more} more line{'s' * (more > 1)} below"]
    can = _profile_alone(subsets) if record["monitor"] else _can(subsets)
    return wrapped("; ".join((f"usable{can}", *clauses)))


def _profile_alone(subsets: Sequence[Row]) -> str:
    known = [f for f in FACTORS if all(f not in s["missing"] for s in subsets)]
    told = f"collapse of {_listed(known)}" if known else "nothing"
    return f" as one side of --config monitor: {told} can be told"


def _can(subsets: Sequence[Row]) -> str:
    """Measures, and the number of subsets that have them."""
    n, shifted = len(subsets), [s for s in subsets if s["shift"] is not None]
    counts = {
        "R-EMI": sum(R_EMI not in s["missing"] for s in subsets),
        "R-EMID": sum(R_EMID not in s["missing"] for s in shifted),
        "profile": sum(any(f not in s["missing"] for f in FACTORS) for s in subsets),
    }
    if counts == {"R-EMI": n, "R-EMID": len(shifted), "profile": n}:
        return f": R-EMI, R-EMID and profile of {n} subsets, {len(shifted)} of them shifted"
    of = {"R-EMI": n, "R-EMID": len(shifted), "profile": n}
    parts = (f"{name} of {k} of {of[name]}" for name, k in counts.items())
    return f": {_listed(list(parts))} subsets"


def _lacks(subsets: Sequence[Row]) -> Iterator[str]:
    """What cannot be measured and why, a clause for the subsets that share the reason."""
    reasons: dict[tuple[str, str], list[Row]] = {}
    for subset in subsets:
        for measure, why in subset["missing"].items():
            if measure != R_EMID or why != subset["missing"].get(R_EMI):
                reasons.setdefault((measure, why), []).append(subset)
    for (measure, why), where in reasons.items():
        what = f"{measure} cannot be tested" if measure in FACTORS else LACKING[measure]
        yield f"{what} {_places(where)}: {why}"


def _places(subsets: Sequence[Row]) -> str:
    names = [short(s["tag"], 24) for s in subsets if s["shift"] is not None]
    home = ["in distribution"] * any(s["shift"] is None for s in subsets)
    if len(names) > 2:
        names[2:] = [f"{len(names) - 2} more"]
    return " and ".join([*home, *([f"under {_listed(names)}"] if names else [])])


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _table(subsets: Sequence[Row]) -> Any:
    columns = ("subset", "shift", "n", "languages", "golden", "pairs", *FACTORS, "R-EMID", "loss")
    return new_table(
        "contexts that a run takes, with what it needs; smallest effects in s.d.", columns,
        map(_row, subsets), ("subset", "shift", "languages"),
    )  # fmt: skip


def _row(subset: Row) -> tuple[str, ...]:
    n, there = subset["contexts"], subset["available"]
    is_home = subset["shift"] is None
    languages = (f"{short(k, 8)} {count}" for k, count in subset["languages"].items())
    pairs = "paired" if subset["paired"] else str(subset["counterparts"] or "–")
    losses = [x for f in FACTORS if (x := subset["smallest"].get(f)) is not None]
    return (
        short(subset["tag"], 24),
        "" if is_home else short(subset["shift"], 12),
        str(n) if n == there else f"{n} of {there}",
        ", ".join([*languages][:3]) + ", …" * (len(subset["languages"]) > 3),
        str(subset["golden"]),
        "" if is_home else pairs,
        *(str(subset["partners"][f]) for f in FACTORS),
        "" if is_home else _size(subset["smallest"].get(R_EMID)),
        _size(None if "r_emi" in subset["missing"] else max(losses, default=None)),
    )


def _size(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _notes(record: Mapping[str, Any]) -> Iterator[str]:
    """How the table is read, then what holds of some subsets."""
    subsets = record["subsets"]
    yield (
        "user, character, dialogue: contexts with a partner of their language in which it differs; "
        f"fewer than 3 test nothing. R-EMID, loss: smallest true effect seen with power "
        f"{record['power']:g} at {100 * record['confidence']:g} % (before Holm's correction), in "
        "standard deviations of what one context adds, or of the difference of a pair. A first run "
        "says what these are in nats (detectable in results.json)."
    )
    told = 0 if record["refused"] else CLAUSES  # the verdict has the first
    yield from (f"– {line}" for line in (*[*_lacks(subsets)][told:], *_languages(subsets)))
    for subset in subsets:
        if loose := _unpaired(subset):
            yield f"– {short(subset['tag'], 24)}: {loose}"
    yield from (f"– {visible(line)}" for line in record["notes"])
    if any(s["contexts"] < s["available"] for s in subsets):
        yield "– more samples are there than a run takes: --config.limits.contexts=0 takes all"


def _languages(subsets: Sequence[Row]) -> Iterator[str]:
    """What several languages do to a subset."""
    if mixed := [s for s in subsets if len(s["languages"]) > 1]:
        yield (
            f"several languages {_places(mixed)}: nats of different ones do not compare, and "
            "results.json tells them apart (by_language)"
        )
    for subset in subsets:
        if subset["alone"]:
            yield (
                f"{_places([subset])} {subset['alone']} of {subset['contexts']} contexts have no "
                "other of their language, and no swap takes them"
            )


def _unpaired(subset: Row) -> str:
    """Why the R-EMID of a subset is not one of pairs, where it could nearly be."""
    if subset["paired"] or not subset["counterparts"]:
        return ""
    return (
        f"{subset['counterparts']} of {subset['contexts']} contexts name a counterpart by pair_id, "
        "but pairs need one for each in-distribution context, and none twice: R-EMID compares "
        "independent contexts"
    )


def _answers(answers: Mapping[str, Any] | None) -> Iterator[str]:
    if answers is None:
        return
    for rpm in answers["rpms"]:
        name, lost = short(rpm["rpm"]), rpm["contexts"] - rpm["usable"]
        yield f"answers of {name}: {rpm['usable']} of {rpm['contexts']} can be scored"
        reasons = [f"{visible(why)} ({n})" for why, n in rpm["reasons"].items()]
        if lost:
            more = [f"{len(reasons) - REASONS} more reasons"] * (len(reasons) > REASONS)
            yield f"– {lost} excluded: {'; '.join([*reasons[:REASONS], *more])}"
        yield from (f"– {visible(line)}" for line in rpm["lines"])
    if unknown := answers["unknown"]:
        yield (
            f"answers to {len(unknown)} ids that are no sample's of this run, as "
            f"{visible(unknown[0])!r}, are not read"
        )


def _problems(record: Mapping[str, Any]) -> Iterator[str]:
    """All of them if `strict`, else one of each field and how many more it has."""
    problems = record["problems"]
    if not problems:
        return
    n = len(problems)
    yield f"{n} likely mistake{'s' * (n > 1)} in the samples, which stop{'s' * (n == 1)} no run:"
    by_field: dict[str, list[str]] = {}
    for p in problems:
        field = p["field"].split()[0]
        by_field.setdefault(field, []).append(f"{p['sample']}: {p['field']}: {p['problem']}")
    for lines in by_field.values():
        shown = lines if record["strict"] else lines[:1]
        yield from (f"– {visible(line)}" for line in shown)
        if more := len(lines) - len(shown):
            yield f"  and {more} more of this field"
    if not record["strict"]:
        yield "--strict lists all, and those of the bundled benchmark's rules"


def _prompt(prompt: Mapping[str, Any]) -> Iterator[str]:
    """A prompt, whose lines are marked: whatever stands in them is the prompt's."""
    place = f"{visible(prompt['subset'])}, {visible(prompt['sample_ID'])}"
    tokens = "" if prompt["tokens"] is None else f", {prompt['tokens']:,} tokens"
    yield f"prompt of {place}{tokens}:"
    for line in prompt["text"].split("\n"):
        yield f"  | {visible(line)}".rstrip()

"""What the runs of the world study say together: means over seeds, paired gains, and tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from remid_jax.information.uncertainty import t_interval
from remid_jax.report.tables import new_table, print_whole

from .world_truth import COLUMNS, SCORINGS, columns, doubt

MEASURES = {
    "perplexity": "perplexity of golden responses per slot",
    "kl": "E KL(p || q), nats a response",
    "emid_error": "|R-EMID by q - R-EMID by the true p|, nats a response (id: of R-EMI)",
}
WAYS = {"one_thought": "one thought, trusted", "mixture": "the mixture over thoughts"}
POSSIBLE = {"agreement": (0.0, 1.0), "entropy": (0.0, np.inf)}  # others: correlations
FIRST, BASE = "corl", "without_corl"
WITHOUT_GRPO = ("without_reasoning", "equal_sft")  # what BASE is compared with
DOUBTS = {
    "agreement": "agreement", "agreement_kl_mixture": "its rank correlation with the loss",
    "entropy": "entropy", "entropy_kl_mixture": "its rank correlation",
}  # fmt: skip
Cell = dict[str, Any]
Runs = Mapping[str, Sequence[Mapping[str, Any]]]  # variant -> what each seed measured, by subset


def record_of(runs: Runs) -> dict[str, Any]:
    """Tables of means over seeds, `gains` of variants over others, and thoughts' `doubt`."""
    found = {
        way: {v: [columns(seed, way) for seed in seeds] for v, seeds in runs.items()}
        for way in SCORINGS
    }  # way -> variant -> measure -> column, for each seed
    tables = {
        way: {m: {v: _means([s[m] for s in seeds]) for v, seeds in of.items()} for m in MEASURES}
        for way, of in found.items()
    }
    any_variant = next(iter(found[SCORINGS[0]].values()))
    return {
        **tables,
        "floor": _means([seed["floor"] for seed in any_variant]),
        "gains": _gains(found),
        "doubt": {v: _doubts([doubt(seed) for seed in seeds]) for v, seeds in runs.items()},
    }


def mean_and_error(values: Sequence[float]) -> Cell:
    """Mean over seeds and its standard error, None for one seed."""
    n = len(values)
    error = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None
    return {"mean": float(np.mean(values)), "se": error}


def with_interval(values: Sequence[float]) -> Cell:
    """Mean over seeds, its standard error and its 95 % t-interval; None for one seed."""
    cell = mean_and_error(values)
    known = cell["se"] is not None and np.isfinite(cell["se"])
    interval = t_interval(cell["mean"], cell["se"], len(values) - 1) if known else None
    return {**cell, "interval": interval}


def paired(better: Sequence[float], other: Sequence[float]) -> Cell:
    """How far `better` lies below `other`, seed by seed, and as a share of `other`."""
    a, b = np.array(better), np.array(other)
    return {**with_interval(b - a), "share": with_interval(1 - a / b)}


def _means(seeds: Sequence[Mapping[str, float]]) -> dict[str, Cell]:
    return {c: mean_and_error([seed[c] for seed in seeds]) for c in seeds[0]}


def _gains(found: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Any]:
    """What lies below what: variants in each way, the mixture below one thought, and its share."""
    gains: dict[str, Any] = {
        way: {
            m: {
                better: {o: _each(m, of[better], of[o]) for o in others}
                for better, others in _steps(of)
            }
            for m in MEASURES
        }
        for way, of in found.items()
    }
    one, mixture = (found[way] for way in SCORINGS)
    gains["of_mixture"] = {m: {v: _each(m, mixture[v], one[v]) for v in one} for m in MEASURES}
    if {FIRST, BASE} <= set(one):
        gains["without_training"] = {
            m: _shares(m, one[BASE], mixture[BASE], one[FIRST]) for m in ("perplexity", "kl")
        }
    return gains


def _steps(variants: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """(variant, those that it should lie below)."""
    if FIRST in variants:
        yield FIRST, [v for v in variants if v != FIRST]
    if BASE in variants and (others := [v for v in WITHOUT_GRPO if v in variants]):
        yield BASE, others


def _by_column(measure: str, seeds: Sequence[Any]) -> Callable[[str], list[float]]:
    return lambda column: [seed[measure][column] for seed in seeds]


def _each(measure: str, better: Sequence[Any], other: Sequence[Any]) -> dict[str, Cell]:
    a, b = _by_column(measure, better), _by_column(measure, other)
    return {c: paired(a(c), b(c)) for c in better[0][measure]}


def _shares(
    measure: str, start: Sequence[Any], mixture: Sequence[Any], trained: Sequence[Any]
) -> dict[str, Cell]:
    """Column -> the mixture's gain without training as a share of what training gains."""
    values = [_by_column(measure, seeds) for seeds in (start, mixture, trained)]
    found = {}
    for c in start[0][measure]:
        a, b, d = (np.array(of(c)) for of in values)
        found[c] = with_interval((a - b) / (a - d))
    return found


def _doubts(seeds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Cell | None]]:
    """Tag -> name -> mean over the seeds where it is known, with their number."""
    found: dict[str, dict[str, Cell | None]] = {}
    for tag, names in seeds[0].items():
        found[tag] = {}
        for name in names:
            known = [seed[tag][name] for seed in seeds if seed[tag][name] is not None]
            found[tag][name] = None
            if known:
                cell = with_interval(known)
                if (interval := cell["interval"]) is not None:
                    interval = np.clip(interval, *POSSIBLE.get(name, (-1.0, 1.0))).tolist()
                found[tag][name] = {**cell, "interval": interval, "seeds": len(known)}
    return found


def print_tables(record: Mapping[str, Any]) -> None:
    """A table for each way to score and measure, the gains, and what thoughts doubt."""
    floor = {"the true p": record["floor"]}
    for way, said in WAYS.items():
        for measure, title in MEASURES.items():
            rows = {**(floor if measure == "perplexity" else {}), **record[way][measure]}
            _print(f"{said}: {title}", rows, COLUMNS)
        for measure in MEASURES:
            gains = record["gains"][way][measure]
            rows = {f"{a} below {b}": cells for a, of in gains.items() for b, cells in of.items()}
            _print(f"{said}: paired differences of {measure}", rows, COLUMNS)
    for measure in MEASURES:
        rows = record["gains"]["of_mixture"][measure]
        _print(f"the mixture below one thought, paired differences of {measure}", rows, COLUMNS)
    shares = record["gains"].get("without_training", {})
    _print("what the mixture gives SFT alone, as a share of CoRL's gain", shares, COLUMNS)
    for variant in (BASE, FIRST):  # of the others the record tells
        by_tag = record["doubt"].get(variant, {})
        if any(cell is not None for of in by_tag.values() for cell in of.values()):
            rows = {tag: {DOUBTS[n]: of[n] for n in DOUBTS} for tag, of in by_tag.items()}
            _print(f"{variant}: doubt of a context's thoughts", rows, tuple(DOUBTS.values()))


def _print(title: str, table: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
    """One row a key: mean and standard error over seeds, or the 95 % interval if there is one."""
    rows = [(name, *(_cell(v.get(c)) for c in names)) for name, v in table.items()]
    if rows:
        print_whole(new_table(title, ("", *names), rows))


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    if (interval := value.get("interval")) is not None:
        return f"{value['mean']:.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})"
    return f"{value['mean']:.3f}" + ("" if value["se"] is None else f" ± {value['se']:.3f}")

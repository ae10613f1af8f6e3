"""What the runs of the study of methods say together: quality, R-EMID, scores and their ranks."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from remid_jax.data.shifts import ID_TEST
from remid_jax.report.tables import new_table, print_whole

from .corl_tables import Cell, mean_and_error, with_interval
from .world_truth import COLUMNS, column_of

SCORES = ("profile", "r_emi", "r_emid", "retained", "baseline", "reference_match")
TRUTHS = {  # each: higher is better
    "quality": "-E KL(p || p_theta)",
    "quality_kept": "its fall from IDTest",
    "exact_r_emi": "R-EMI by the true p",
    "exact_r_emid": "minus R-EMID by the true p",
}
MALFORMED = "malformed"  # share of answers that are no response of the world
FALLS = {"quality_kept": "quality", "exact_r_emid": "R-EMI"}  # what a shift takes, of which truth
SHOWN = {
    "quality": f"{TRUTHS['quality']}, nats a response",
    "exact_r_emi": f"{TRUTHS['exact_r_emi']}, nats a response",
    "exact_r_emid": f"{TRUTHS['exact_r_emid']}, nats a response",
    MALFORMED: "share of answers that are no response of the world, left out of R-EMI",
}
Grid = dict[str, dict[str, float]]  # method -> subset -> value
Values = Mapping[str, Grid]  # truth or score -> grid


def truth_of(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Grid]:
    """Truth, and `malformed` -> method -> subset -> value of one seed.

    Args:
      measured: method -> subset -> what `method_world.measure_rpm` gives.
    """
    levels = {
        "quality": lambda at: -float(np.mean(at["kl"])),
        "exact_r_emi": lambda at: math.nan if at["r_emi"] is None else at["r_emi"],
        MALFORMED: lambda at: at[MALFORMED],
    }
    found = {
        name: {m: {tag: level(at) for tag, at in by_tag.items()} for m, by_tag in measured.items()}
        for name, level in levels.items()
    }
    for level, kept in (("quality", "quality_kept"), ("exact_r_emi", "exact_r_emid")):
        found[kept] = {
            m: {tag: v - by_tag[ID_TEST] for tag, v in by_tag.items() if tag != ID_TEST}
            for m, by_tag in found[level].items()
        }
    return found


def scores_of(scored: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Grid]:
    """Score -> method -> subset -> value of one seed, of what `measure_scores` gives."""
    return {
        name: {
            m: {tag: s[name] for tag, s in by_tag.items() if name in s}
            for m, by_tag in scored.items()
        }
        for name in SCORES
    }


def record_of(
    truths: Sequence[Values], scores: Sequence[Values], over: Mapping[str, str]
) -> dict[str, Any]:
    """Means over seeds, what methods gain, and rank correlations; one value a seed each.

    Args:
      truths: what `truth_of` gives, a seed each.
      scores: what `scores_of` gives.
      over: method -> the one that it is compared with.
    """
    levels = (*TRUTHS, MALFORMED)
    by_shift = {name: [_by_shift(seed[name]) for seed in truths] for name in levels}
    return {
        **{name: _means([seed[name] for seed in truths]) for name in levels},
        "by_shift": {name: _means(seeds) for name, seeds in by_shift.items()},
        "gains": {name: _gains(by_shift[name], over) for name in TRUTHS},
        "shift_differences": {name: _shift_differences(by_shift[name]) for name in FALLS},
        "scores": {name: _means([seed[name] for seed in scores]) for name in SCORES},
        "rank_correlation": {
            truth: {
                score: _correlation([
                    (t[truth], s[score]) for t, s in zip(truths, scores, strict=True)
                ])
                for score in SCORES
            }
            for truth in TRUTHS
        },
    }  # fmt: skip


def _means(seeds: Sequence[Grid]) -> dict[str, dict[str, Cell]]:
    return {
        m: {tag: _finite(mean_and_error, [seed[m][tag] for seed in seeds]) for tag in by_tag}
        for m, by_tag in seeds[0].items()
    }


def _gains(seeds: Sequence[Grid], over: Mapping[str, str]) -> dict[str, Any]:
    """Method -> what it is compared with, and its gain in each column with 95 % over seeds."""
    return {
        m: {
            "over": other,
            **{c: _finite(with_interval, [seed[m][c] - seed[other][c] for seed in seeds])
               for c in seeds[0][m]},
        }
        for m, other in over.items() if {m, other} <= set(seeds[0])
    }  # fmt: skip


def _shift_differences(seeds: Sequence[Grid]) -> dict[str, Cell]:
    """How much less a shift takes than another, as "a less b", mean over methods, over seeds."""
    means = [{c: _mean_of(seed, c) for c in next(iter(seed.values()))} for seed in seeds]
    return {
        f"{a} less {b}": _finite(with_interval, [m[a] - m[b] for m in means])
        for a, b in itertools.combinations(means[0], 2)
    }


def _mean_of(grid: Grid, column: str) -> float:
    return float(np.mean([of[column] for of in grid.values()]))


def _finite(summary: Callable[[Sequence[float]], Cell], values: Sequence[float]) -> Cell:
    """A summary of the values that are known, and how many are not; its mean is None of none."""
    known = [v for v in values if math.isfinite(v)]
    counts = {"seeds": len(known), "left_out": len(values) - len(known)}
    return {**(summary(known) if known else {"mean": None, "se": None}), **counts}


def _correlation(seeds: Iterable[tuple[Grid, Grid]]) -> Cell:
    """Spearman's over all methods and subsets that both have, its mean and 95 % over seeds."""
    return _finite(with_interval, [rank_correlation(*seed) for seed in seeds])


def rank_correlation(truth: Grid, score: Grid) -> float:
    """Spearman's rank correlation over cells of both; NaN where either is the same everywhere."""
    cells = [(m, tag) for m in truth for tag in truth[m] if tag in score[m]]
    a, b = (np.array([grid[m][tag] for m, tag in cells]) for grid in (truth, score))
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3 or not np.ptp(a[known]) or not np.ptp(b[known]):
        return math.nan
    return float(spearmanr(a[known], b[known]).statistic)


def _by_shift(grid: Grid) -> Grid:
    """Means over the subsets of a shift, which weigh the same: method -> shift -> value."""
    found: Grid = {}
    for m, by_tag in grid.items():
        of: dict[str, list[float]] = {}
        for tag, value in by_tag.items():
            of.setdefault(column_of(tag), []).append(value)
        found[m] = {column: float(np.mean(values)) for column, values in of.items()}
    return found


def print_tables(record: Mapping[str, Any]) -> None:
    """Quality and exact R-EMID by method and shift, gains of methods, and rank correlations."""
    for name, title in SHOWN.items():
        columns = [c for c in COLUMNS if all(c in of for of in record["by_shift"][name].values())]
        rows = [
            (m, *(_level(of[c]) for c in columns)) for m, of in record["by_shift"][name].items()
        ]
        title = f"{title}, mean ± standard error over seeds"
        print_whole(new_table(title, ("", *columns), rows))
    for name in TRUTHS if record["gains"]["quality"] else ():
        rows = [
            (m, of["over"], *(_cell(of[c]) for c in COLUMNS if c in of))
            for m, of in record["gains"][name].items()
        ]
        columns = [c for c in COLUMNS if all(c in of for of in record["gains"][name].values())]
        title = f"{TRUTHS[name]}: gain over another method, nats, mean and 95 % over seeds"
        print_whole(new_table(title, ("method", "over", *columns), rows, ("method", "over")))
    rows = [
        (what, *(_cell(record["shift_differences"][name][what]) for name in FALLS))
        for what in record["shift_differences"]["quality_kept"]
    ]
    title = "what one shift leaves less another, nats, mean over methods and 95 % over seeds"
    print_whole(new_table(title, ("shifts", *(f"of {what}" for what in FALLS.values())), rows))
    rows = [
        (score, *(_cell(record["rank_correlation"][truth][score]) for truth in TRUTHS))
        for score in SCORES
    ]
    title = "rank correlation with the truth over methods and subsets, mean and 95 % over seeds"
    print_whole(new_table(title, ("score", *TRUTHS.values()), rows))


def _level(cell: Cell) -> str:
    if cell["mean"] is None:
        return "-"
    error = "" if cell["se"] is None else f" ± {cell['se']:.3f}"
    return f"{cell['mean']:.3f}{error}{_left_out(cell)}"


def _cell(cell: Cell) -> str:
    if cell["mean"] is None:
        return "-"
    interval = cell.get("interval")
    beside = f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""
    return f"{cell['mean']:+.2f}{beside}{_left_out(cell)}"


def _left_out(cell: Cell) -> str:
    """Of how many seeds a cell is the mean, where some have no value."""
    seeds = cell["seeds"]
    return f", {seeds} of {seeds + cell['left_out']} seeds" if cell["left_out"] else ""

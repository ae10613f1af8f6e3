"""Limits held against intervals: passes, fails, or cannot be told."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from remid_jax.errors import visible
from remid_jax.report.limits import CHANGE, Limit, cells_of
from remid_jax.report.text import Row, short

PASSES, FAILS, UNTOLD = "passes", "fails", "cannot be told"
DIGITS = 3  # significant ones of a figure
EXIT = {PASSES: 0, FAILS: 1, UNTOLD: 3}  # codes of a command


def judge(limits: Iterable[Limit], records: Sequence[Row], run: str) -> list[dict[str, Any]]:
    """The answer to each limit, from the intervals of the cells that it is about.

    A cell fails where its whole interval lies on the failing side, passes where all of it lies on
    the other, and cannot be told in between, or without an interval. A limit fails if one cell
    does, passes if all do, and cannot be told otherwise.

    Args:
      limits: of `parse_limit`.
      records: see `cells_of`.
      run: its name for messages.

    Returns:
      Records of `limit` (its text), `answer`, `why`, and `cells`, those that decide it.

    Raises:
      UserError: as `cells_of`.
    """
    return [_judged(limit, cells_of(limit, records, run)) for limit in limits]


def _judged(limit: Limit, cells: Sequence[Row]) -> dict[str, Any]:
    by_answer: dict[str, list[Row]] = {FAILS: [], UNTOLD: [], PASSES: []}
    for cell in cells:
        by_answer[_answer(limit, cell)].append(cell)
    answer = next(a for a, some in by_answer.items() if some)
    deciding = by_answer[answer]
    first = max(deciding, key=lambda c: _badness(limit, c))
    why = f"{len(deciding)} of {len(cells)} cells" if len(cells) > 1 else "one cell"
    why += f"; {'nearest' if answer == PASSES else 'first'}: " if len(deciding) > 1 else ": "
    said = {"limit": limit.text, "answer": answer, "why": why + said_cell(first)}
    return {**said, "cells": deciding}


def _answer(limit: Limit, cell: Row) -> str:
    low, high = cell["low"], cell["high"]
    if cell["value"] is None or low is None or high is None or _is_degenerate(cell):
        return UNTOLD
    near, far = (high, low) if limit.below else (-low, -high)
    edge = limit.value if limit.below else -limit.value
    # What is on the failing side to its last bit fails, and likewise passes.
    if near < edge or (near == edge and not limit.strict):
        return FAILS
    return PASSES if far > edge or (far == edge and limit.strict) else UNTOLD


def _is_degenerate(cell: Row) -> bool:
    """Whether all values are alike, which says nothing of other contexts; differences may be."""
    return cell["low"] == cell["high"] and not cell["measure"].startswith(CHANGE)


def _badness(limit: Limit, cell: Row) -> float:
    value = cell["value"]
    return float("-inf") if value is None else -value if limit.below else value


def said_cell(cell: Row) -> str:
    """`my_rpm under german: 0.31 (0.12 to 0.52), n = 32`."""
    where = f"{short(cell['rpm'])} in {short(cell['subset'], 22)}"
    if cell["value"] is None:
        return f"{where}: no value ({visible(cell['reason'])}), n = {cell['n']}"
    value = f"{where}: {_figure(cell['value'])}"
    if cell["low"] is None or cell["high"] is None or _is_degenerate(cell):
        return f"{value} without an interval, n = {cell['n']}"
    return f"{value} ({_figure(cell['low'])} to {_figure(cell['high'])}), n = {cell['n']}"


def _figure(value: float) -> str:
    return f"{value:.{DIGITS}g}"


def changes(differences: Iterable[Row]) -> list[dict[str, Any]]:
    """Differences from a reference, of `analysis.run_differences`, as records to judge."""
    return [
        {
            "rpm": d["second"], "subset": d["subset"], "shift": d["shift"],
            "measure": f"{CHANGE}{d['measure']}", "factor": d["factor"],
            "value": d["difference"], "low": d["low"], "high": d["high"], "n": d["n"],
            "reason": d["reason"],
        }
        for d in differences
    ]  # fmt: skip


def answer_lines(answers: Sequence[Mapping[str, Any]], level: str, run: str = "") -> Iterator[str]:
    """Each limit with its answer, and the cells that decide it, a line each.

    Args:
      answers: of `judge`.
      level: of the intervals, as it is written.
      run: its name, where there are several.
    """
    where = f"{visible(run)}: " if run else ""
    for found in answers:
        limit = visible(found["limit"])
        yield f"{where}{found['answer']} (fails if {limit}), intervals at {level}:"
        yield from (f"  {said_cell(cell)}" for cell in found["cells"])


def exit_code(answers: Iterable[Mapping[str, Any]], undecided: str = "") -> int:
    """1 where a limit fails, else 3 where one cannot be told, else 0.

    `undecided` is what is made of the latter: `pass`, `fail`, or nothing.
    """
    codes = {EXIT[found["answer"]] for found in answers}
    if EXIT[UNTOLD] in codes and undecided:
        codes = codes - {EXIT[UNTOLD]} | {EXIT[PASSES if undecided == "pass" else FAILS]}
    return next((code for code in (EXIT[FAILS], EXIT[UNTOLD]) if code in codes), 0)

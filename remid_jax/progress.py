"""Progress with count, rate and time left: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from remid_jax import messages
from remid_jax.messages import log

LINE_EVERY = 10.0  # seconds at least between lines where there is no terminal
BAR = 40  # cells of a bar at most; a narrow terminal takes them from it first
OPERATIONS = ("TFLOP", 1e12)  # a unit of work, and its size
Unit = tuple[str, float]
Show = Callable[[float, str], None]

_display = None  # rich shows one display at a time: work within work adds a bar to it
_last_line = -math.inf  # when the last line was written, of whatever work


@contextlib.contextmanager
def progress(what: str, total: float, unit: Unit | None = None) -> Iterator[Callable[..., None]]:
    """Shows how far a piece of work is, on standard error; nothing where messages are quiet.

    Args:
      what: its name.
      total: size of the work in any unit.
      unit: name and size of what it is shown in; by default the work is counted.

    Yields:
      A function to call with each finished part's size and, if need be, a short text.
    """
    done = 0.0
    shown = _nothing if messages.is_quiet() else _bar if sys.stderr.isatty() else _lines
    with shown(what, total, unit) as show:

        def advance(part: float, said: str = "") -> None:
            nonlocal done
            done += part
            show(done, said)

        yield advance


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(89), duration(600), duration(9000)
    ('89 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def amount(done: float, total: float, seconds: float, unit: Unit | None = None) -> str:
    """Count, rate and time left of work that took so many seconds until now.

    >>> amount(3e12, 12e12, 60, OPERATIONS), amount(2, 8, 60)
    ('3.00 of 12.00 TFLOP, 0.05 TFLOP/s, 3 min left', '2 of 8, 2.0/min, 3 min left')
    """
    name, size = unit or ("", 1.0)
    digits, name = (".2f", f" {name}") if unit else ("g", "")
    said = f"{done / size:{digits}} of {total / size:{digits}}{name}"
    if not 0 < done < total or seconds <= 0:
        return said
    rate = done / size / seconds
    each = f"{rate:{'.2f' if unit else '.1f'}}{name}/s"
    if not unit and rate < 1:
        each = f"{60 * rate:.1f}/min"
    return f"{said}, {each}, {duration(seconds / done * (total - done))} left"


@contextlib.contextmanager
def _nothing(what: str, total: float, unit: Unit | None) -> Iterator[Show]:
    yield lambda done, said: None


@contextlib.contextmanager
def _lines(what: str, total: float, unit: Unit | None) -> Iterator[Show]:
    started = time.monotonic()

    def show(done: float, said: str) -> None:
        global _last_line
        now = time.monotonic()
        if done and now - max(started, _last_line) >= LINE_EVERY:
            _last_line = now
            text = f"{what}: {done / total:.0%}, {amount(done, total, now - started, unit)}"
            log.info("%s", text + (f", {said}" if said else ""))

    yield show
    took = time.monotonic() - started
    if took >= LINE_EVERY:
        log.info("%s: done in %s", what, duration(took))


@contextlib.contextmanager
def _bar(what: str, total: float, unit: Unit | None) -> Iterator[Show]:
    with _shared_display() as (display, is_inner):
        task = display.add_task(what, total=total, amount="", said="")
        started = time.monotonic()

        def show(done: float, said: str) -> None:
            how_far = amount(done, total, time.monotonic() - started, unit)
            display.update(task, completed=done, amount=how_far, said=said)

        try:
            yield show
        finally:
            if is_inner:
                display.remove_task(task)


@contextlib.contextmanager
def _shared_display() -> Iterator[tuple[Any, bool]]:
    """The display of the work around this one, or one that begins; whether it is the former."""
    global _display
    if _display is not None:
        yield _display, True
        return
    _display = _new_display()
    console = _display.console
    messages.HANDLER.above = lambda text: console.print(
        text, markup=False, highlight=False, emoji=False, soft_wrap=True
    )
    try:
        with _display:
            yield _display, False
    finally:
        _display = messages.HANDLER.above = None


def _new_display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    fields = ("description", "fields[amount]", "fields[said]")
    # Names of models and of tags stand in them, and brackets there are no markup.
    title, how_far, said = (TextColumn(f"{{task.{field}}}", markup=False) for field in fields)
    bar = BarColumn(bar_width=None, table_column=Column(max_width=BAR))
    columns = (title, bar, how_far, TimeElapsedColumn(), said)
    return Progress(*columns, console=Console(stderr=True))

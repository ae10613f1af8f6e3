"""Progress with time left: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

LINE_EVERY = 15.0  # seconds between lines where there is no terminal
OPERATIONS = ("TFLOP", 1e12)  # a unit of work, and its size
Unit = tuple[str, float]

_shown = None  # rich shows one display at a time: work within work adds a bar to it


@contextlib.contextmanager
def progress(what: str, total: float, unit: Unit | None = None) -> Iterator[Callable[..., None]]:
    """Shows how far a piece of work is, on standard error.

    Args:
      what: its name.
      total: size of the work in any unit.
      unit: name and size of what it is shown in; by default only shares are shown.

    Yields:
      A function to call with each finished part's size and, if there is something to say of it, a
      short text.
    """
    done = 0.0
    with (_bar if sys.stderr.isatty() else _lines)(what, total, unit) as show:

        def advance(part: float, said: str = "") -> None:
            nonlocal done
            done += part
            show(done, said)

        yield advance


@contextlib.contextmanager
def _lines(what: str, total: float, unit: Unit | None) -> Iterator[Callable[[float, str], None]]:
    started = shown = time.monotonic()

    def show(done: float, said: str) -> None:
        nonlocal shown
        now = time.monotonic()
        if done and now - shown >= LINE_EVERY:
            shown = now
            left = (now - started) / done * (total - done)
            size = f" of {total / unit[1]:.2f} {unit[0]}" if unit else ""
            text = f"{what}: {done / total:.0%}{size}, {left:.0f} s left"
            print(text + (f", {said}" if said else ""), file=sys.stderr, flush=True)

    yield show
    took = time.monotonic() - started
    if took >= 1:
        print(f"{what}: done in {took:.0f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar(what: str, total: float, unit: Unit | None) -> Iterator[Callable[[float, str], None]]:
    global _shown
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    outer = _shown
    if outer is None:
        fields = ("description", "fields[amount]", "fields[said]")
        # Names of models and of tags stand in them, and brackets there are no markup.
        title, amount, said = (TextColumn(f"{{task.{field}}}", markup=False) for field in fields)
        columns = (title, BarColumn(), amount, TimeElapsedColumn(), Remaining(), said)
        _shown = Progress(*columns, console=Console(stderr=True))
    with contextlib.nullcontext(outer) if outer else _shown as display:
        task = display.add_task(what, total=total, amount="", said="")

        def show(done: float, said: str) -> None:
            of = f"{done / unit[1]:.2f} of {total / unit[1]:.2f} {unit[0]}" if unit else ""
            display.update(task, completed=done, amount=of, said=said)

        try:
            yield show
        finally:
            if outer:
                display.remove_task(task)
            else:
                _shown = None

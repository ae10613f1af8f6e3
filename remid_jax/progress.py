"""Progress with time left: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

LINE_EVERY = 15.0  # seconds between lines where there is no terminal
OPERATIONS = ("TFLOP", 1e12)  # a unit of work, and its size

_shown = None  # rich shows one display at a time: work within work adds a bar to it


@contextlib.contextmanager
def progress(
    what: str, total: float, unit: tuple[str, float] | None = None
) -> Iterator[Callable[..., None]]:
    """Shows how far a piece of work is, on standard error.

    Args:
      what: its name.
      total: size of the work in any unit.
      unit: name and size of what it is shown in; by default only shares are shown.

    Yields:
      A function to call with each finished part's size and, if there is something to say of it, a
      short text.
    """
    if sys.stderr.isatty():
        with _bar(what, total, unit) as move:
            yield move
        return
    started = shown = time.monotonic()
    done = 0.0

    def advance(part: float, said: str = "") -> None:
        nonlocal done, shown
        done += part
        now = time.monotonic()
        if done and now - shown >= LINE_EVERY:
            shown = now
            left = (now - started) / done * (total - done)
            size = f" of {total / unit[1]:.2f} {unit[0]}" if unit else ""
            share = f"{done / total:.0%}{size}"
            text = f"{what}: {share}, {left:.0f} s left" + (f", {said}" if said else "")
            print(text, file=sys.stderr, flush=True)

    yield advance
    took = time.monotonic() - started
    if took >= 1:
        print(f"{what}: done in {took:.0f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar(what: str, total: float, unit: tuple[str, float] | None) -> Iterator[Callable[..., None]]:
    """`progress` on a terminal."""
    global _shown
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    name, size = unit or ("", 1.0)
    outer = _shown
    if outer is None:
        fields = ("description", "fields[amount]", "fields[said]")
        # Names of models and of tags stand in them, and brackets there are no markup.
        title, *said = (TextColumn(f"{{task.{field}}}", markup=False) for field in fields)
        bars = [title, BarColumn()]
        columns = [*bars, said[0], TimeElapsedColumn(), Remaining(), said[1]]
        _shown = Progress(*columns, console=Console(stderr=True))
    with contextlib.nullcontext(outer) if outer else _shown as display:
        task = display.add_task(what, total=total / size, amount="", said="")
        done = 0.0

        def move(part: float, said: str = "") -> None:
            nonlocal done
            done += part
            amount = f"{done / size:.2f} of {total / size:.2f} {name}" if unit else ""
            display.update(task, completed=done / size, amount=amount, said=said)

        try:
            yield move
        finally:
            if outer:
                display.remove_task(task)
            else:
                _shown = None

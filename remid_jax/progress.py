"""Progress with time left: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

LINE_EVERY = 15.0  # seconds between lines where there is no terminal
OPERATIONS = ("TFLOP", 1e12)  # a unit of work, and its size


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
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), Remaining()]
        columns.append(TextColumn("{task.fields[said]}"))
        if unit:
            shown = f"{{task.completed:.2f}} of {{task.total:.2f}} {unit[0]}"
            columns.insert(2, TextColumn(shown))
        size = unit[1] if unit else 1.0
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total / size, said="")

            def move(part: float, said: str = "") -> None:
                bar.update(task, advance=part / size, said=said)

            yield move
        return
    started = shown = time.monotonic()
    done = 0.0

    def advance(part: float, said: str = "") -> None:
        nonlocal done, shown
        done += part
        now = time.monotonic()
        if now - shown >= LINE_EVERY:
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

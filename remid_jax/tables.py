"""Tables for the terminal."""

from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table


def new_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]] = (),
    left: Collection[str] | None = None,
) -> Table:
    """A table in the style of all results; nothing in it is wrapped.

    Args:
      title: above it.
      columns: headings.
      rows: what it begins with.
      left: headings of columns of text, aligned to the left; by default the first.
    """
    texts = columns[:1] if left is None else left
    made = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        made.add_column(column, justify="left" if column in texts else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def print_whole(table: Table) -> None:
    """Prints at the width that the table needs, whatever the terminal: no figure is cut."""
    Console(width=10_000).print(table)

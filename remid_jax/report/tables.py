"""Tables for the terminal."""

import io
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from remid_jax.report.text import wrapped


def new_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]] = (),
    left: Collection[str] | None = None,
) -> Table:
    """A table in which nothing is wrapped or read as markup; `left` are columns of text."""
    texts = columns[:1] if left is None else left
    heading = Text("\n".join(wrapped(title)), "table.title", no_wrap=True, overflow="ignore")
    made = Table(title=heading, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for column in columns:
        justify = "left" if column in texts else "right"
        made.add_column(Text(column), justify=justify, no_wrap=True)
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return made


def print_whole(table: Table) -> None:
    """Prints at the width that the table needs, whatever the terminal: no figure is cut."""
    Console(width=10_000).print(table)


def rendered(table: Table) -> list[str]:
    """The lines of a table, without its edge."""
    table.show_edge = False
    console = Console(file=io.StringIO(), width=10_000, color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().rstrip("\n").split("\n")]

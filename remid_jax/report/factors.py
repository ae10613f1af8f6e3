"""How factor-wise information is printed: a table a model, and the factor that is named."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from remid_jax.report.tables import new_table

Row = Mapping[str, Any]


def _blocks(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    blocks: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        blocks.setdefault((row["rpm"], row["subset"]), []).append(row)
    return blocks


def _cell(row: Row) -> str:
    if row["golden"] is None:
        return ""
    error = "" if row["se"] is None else f" ± {row['se']:.2f}"
    return f"{row['model'] - row['golden']:.2f}{error} ({row['golden']:.2f})"


def factor_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """A table for each model: factor information minus golden's ± s.e., and golden's itself."""
    for policy in dict.fromkeys(r["rpm"] for r in rows):
        own = [r for r in rows if r["rpm"] == policy]
        what = f"model minus golden ± s.e. (golden) in nats, K = {own[0]['K']}"
        title = f"{policy}: factor-wise information, {what}"
        table = new_table(title, ("subset", "n", *dict.fromkeys(r["factor"] for r in own)))
        for (_, subset), block in _blocks(own).items():
            counts = dict.fromkeys(str(r["n"]) for r in block)
            n = next(iter(counts)) if len(counts) == 1 else "/".join(str(r["n"]) for r in block)
            table.add_row(subset, n, *map(_cell, block))
        yield table


def factor_lines(rows: Sequence[Row]) -> Iterator[str]:
    """A line a model and subset whose factor is named, and one a model for all others."""
    none: dict[str, list[str]] = {}
    for (policy, subset), block in _blocks(rows).items():
        named = next((r for r in block if r["named"]), None)
        if named is None:
            none.setdefault(policy, []).append(subset)
        else:
            yield (
                f"{subset}: {policy} ignores or gets wrong: {named['factor']} (factor-wise "
                f"information {named['difference']:.2f} ± {named['se']:.2f} nats from golden, "
                f"p = {named['p_holm']:.2g})"
            )
    for policy, where in none.items():
        yield f"no factor is named as ignored or wrong by {policy} in {', '.join(where)}"

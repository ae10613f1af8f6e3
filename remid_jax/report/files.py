"""The files of a run that are made of its records: a page, pictures and a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remid_jax.files import write_atomically
from remid_jax.report.html import page
from remid_jax.report.measured import COLUMNS, measured
from remid_jax.report.run_folder import PAGE
from remid_jax.report.svg import profile_svg, r_emid_svg
from remid_jax.report.text import Row


def write_report(
    folder: Path, results: Mapping[str, Any], contributions: Sequence[Row],
    examples: Mapping[str, Any] | None, gate: Sequence[Row] = (),
) -> None:  # fmt: skip
    """Writes report.html, profile.svg, r_emid.svg and results.csv, each whole or not at all.

    Args:
      folder: of the run.
      results: the content of results.json; contributions: the records of contributions.jsonl.
      examples: the content of examples.json, or None where there is none.
      gate: `{"limit", "answer", "why"}` of each limit that was put on the run.

    Raises:
      UserError: the folder cannot be written.
    """
    texts = {
        "results.csv": csv_text(results),
        "profile.svg": profile_svg(results),
        "r_emid.svg": r_emid_svg(results),
        PAGE: page(results, contributions, examples, gate),
    }
    for name, text in texts.items():
        write_atomically(folder / name, [text.encode()])


def csv_text(results: Mapping[str, Any]) -> str:
    """`measured` as comma-separated values with a header; what is unknown is an empty field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(measured(results))
    return out.getvalue()

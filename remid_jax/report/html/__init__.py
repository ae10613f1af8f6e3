"""The report as one page."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from remid_jax.errors import visible

Row = Mapping[str, Any]


def page(
    results: Row, contributions: Sequence[Row], examples: Row | None, gate: Sequence[Row] = ()
) -> str:
    """A page that stands alone: answers of the gate, and R-EMI of each RPM and subset."""
    said = [f"{g['answer']}: {g['limit']}. {g['why']}" for g in gate]
    said += [f"{r['rpm']} {r['subset']}: R-EMI {r['r_emi']}, n = {r['n']}" for r in results["rows"]]
    lines = "".join(f"<p>{html.escape(visible(line))}</p>\n" for line in said)
    title = "<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>remid_jax</title>\n"
    return f"{title}{lines}</html>\n"

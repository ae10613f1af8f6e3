"""The pictures of a run."""

from collections.abc import Mapping
from typing import Any


def profile_svg(results: Mapping[str, Any]) -> str:
    """The information profile."""
    return _empty(f"profile of {len(results['profile'])} cells")


def r_emid_svg(results: Mapping[str, Any]) -> str:
    """R-EMID of each RPM and subset."""
    return _empty(f"R-EMID of {len(results['rows'])} rows")


def _empty(title: str) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg"><title>{title}</title></svg>\n'

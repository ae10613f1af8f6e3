"""The samples that an RPM loses most on, as examples of what its figures mean."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from remid_jax.analysis.contrast import Record
from remid_jax.factor_names import FACTORS
from remid_jax.information.profile_flags import NAMES

MOST = 3  # of an RPM in a subset
Row = Mapping[str, Any]


def choose_examples(contributions: Sequence[Row]) -> list[Record]:
    """For each RPM and subset the samples of largest `lost`: see `schema.TABLES`, examples.json.

    Samples without a golden response come last, those of lowest Σ δ first; samples without any δ
    are left out, and of the texts nothing is there yet.

    Args:
      contributions: of `contribution_records`, grouped by RPM and subset.
    """
    chosen: list[Record] = []
    for (rpm, tag), rows in itertools.groupby(contributions, lambda r: (r["rpm"], r["subset"])):
        known = [row for row in rows if any(row[f] is not None for f in FACTORS)]
        for row in sorted(known, key=_rank)[:MOST]:
            factors = {f: {"info": row[f], "info_golden": row[f"{f}_golden"]} for f in NAMES}
            place = {"rpm": rpm, "subset": tag, "sample_ID": row["sample_ID"]}
            chosen.append({**place, "lost": _lost(row), "factors": factors})
    return chosen


def _lost(row: Row) -> float | None:
    """Σ of golden's δ minus the RPM's, over the factors of which both are known."""
    sides = ((row[f"{f}_golden"], row[f]) for f in FACTORS)
    gaps = [golden - own for golden, own in sides if golden is not None and own is not None]
    return math.fsum(gaps) if gaps else None


def _rank(row: Row) -> tuple[bool, float]:
    lost = _lost(row)
    if lost is not None:
        return False, -lost
    return True, math.fsum(row[f] or 0.0 for f in FACTORS)

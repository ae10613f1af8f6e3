"""Where the reasoner doubts: how far several thoughts about one context agree, subset by subset."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from remid_jax.analysis.contrast import Record, number
from remid_jax.information.uncertainty import combined_error, t_interval


def doubt_records(agreement: Mapping[str, np.ndarray], level: float) -> dict[str, Record]:
    """Tag -> agreement of a context's thoughts, and how it changes from distribution to there.

    Args:
      agreement: tag -> [N] of `data.thoughts.word_agreement`, in distribution first.
      level: of the interval of each change, not corrected for their number.

    Returns:
      `agreement`, mean over contexts, with `se` and `n`; for shifted subsets `change`, `low` and
      `high` of Welch's interval, and `doubts`: whether it lies below 0. None where it is not known.
    """
    (_, home), *_ = agreement.items()
    first, records = _mean(home), {}
    for k, (tag, values) in enumerate(agreement.items()):
        records[tag] = _mean(values)
        if k:
            records[tag] |= _change(first, records[tag], level)
    return records


def _mean(values: np.ndarray) -> Record:
    n = len(values)
    error = values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return {"agreement": number(values.mean()), "se": number(error), "n": n}


def _change(home: Record, there: Record, level: float) -> Record:
    unknown: dict[str, Any] = {"change": None, "low": None, "high": None, "doubts": None}
    if None in (home["agreement"], home["se"], there["agreement"], there["se"]):
        return unknown
    change = there["agreement"] - home["agreement"]
    error, dof = combined_error(home["se"], home["n"] - 1, there["se"], there["n"] - 1)
    low, high = t_interval(change, error, dof, level) if error else (change, change)
    return {"change": change, "low": low, "high": high, "doubts": bool(high < 0)}

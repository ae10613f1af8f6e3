"""Limits on the measures of a run, as they are written: `share.user in german of my_rpm < 0.8`."""

import dataclasses
import math
import re
from collections.abc import Collection, Sequence

from remid_jax.errors import UserError, nearest
from remid_jax.factor_names import DIALOGUE_PARTS, FACTORS, NAME
from remid_jax.report.measured import OF_CELLS, OF_PREDICTION, OF_ROWS, name_of
from remid_jax.report.text import Row

GRAMMAR = "MEASURE [in SUBSET or SHIFT] [of RPM] < NUMBER, or >, with names of spaces in quotes"
IN_DISTRIBUTION = "in-distribution"
CHANGE = "change."  # before a measure: its difference from that of the reference
PARTS = (*FACTORS, *DIALOGUE_PARTS)
MEASURES = (
    *OF_ROWS,
    *(f"{name}.{f}" for name in OF_CELLS for f in (*PARTS, NAME)),
    "copied",
    *OF_PREDICTION,
)
CHANGES = tuple(
    f"{CHANGE}{name}"
    for name in (
        "r_emi", "r_emi_token", "emi", "retained", "baseline", "r_emid",
        *(f"{name}.{f}" for name in ("share", "info") for f in PARTS),
    )
)  # fmt: skip
LACKING = {  # measure -> why a run may not have it
    **dict.fromkeys((*OF_CELLS, "copied"), "config.profile.swaps is 0"),
    **{f"{name}.{NAME}": "config.profile.name is False" for name in OF_CELLS},
    **dict.fromkeys(OF_PREDICTION, "config.prediction.enabled is False"),
    "r_emid": "it has no shifted subset",
    "share_drop": "it has no shifted subset, or config.profile.swaps is 0",
    "emi": "config.estimator.emi_shifts is -1",
    "expected_kl": "no RPM was sampled from its own law (temperature, top_p, penalty of 1)",
    "cross_information": "it needs all negative pairs and enough contexts",
}
_NAME = r"""(?:'[^']*'|"[^"]*"|[^\s'"<>=]+)"""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LIMIT = re.compile(
    rf"(?P<measure>[\w.-]+)(?:\s+in\s+(?P<place>{_NAME}))?(?:\s+of\s+(?P<rpm>{_NAME}))?"
    r"\s*(?P<side><=|>=|<|>)\s*(?P<value>\S+)"
)


@dataclasses.dataclass(frozen=True)
class Limit:
    """A limit that fails a run.

    Attributes:
      text: as it was written.
      measure: its name, with its factor.
      place: a subset, a shift or `IN_DISTRIBUTION`; None for all.
      rpm: an evaluated model; None for all.
      below: whether values below fail, or else those above.
      strict: whether the value itself passes.
      value: what fails is below or above.
    """

    text: str
    measure: str
    place: str | None
    rpm: str | None
    below: bool
    strict: bool
    value: float


def parse_limit(text: str) -> Limit:
    """A limit from its text.

    Raises:
      UserError: it is none, or the measure is unknown.
    """
    said = text.strip()
    found = _LIMIT.fullmatch(said)
    if found is None:
        raise UserError(f"limit {said!r} cannot be read; write {GRAMMAR}")
    measure, side = found["measure"], found["side"]
    if measure not in (*MEASURES, *CHANGES):
        hint = nearest(measure, (*MEASURES, *CHANGES)) or f"; there are {', '.join(MEASURES)}"
        raise UserError(f"limit {said!r}: unknown measure {measure!r}{hint}")
    value = float(found["value"]) if _NUMBER.fullmatch(found["value"]) else math.nan
    if not math.isfinite(value):
        raise UserError(f"limit {said!r}: {found['value']!r} is no number")
    place, rpm = (name and _unquoted(name) for name in (found["place"], found["rpm"]))
    return Limit(said, measure, place, rpm, side[0] == "<", "=" not in side, value)


def _unquoted(name: str) -> str:
    return name[1:-1] if name[0] in "'\"" else name


def cells_of(limit: Limit, records: Sequence[Row], run: str) -> list[Row]:
    """The records that a limit is about.

    Args:
      limit: of `parse_limit`.
      records: of `measured`, of the evaluated models alone, in distribution first.
      run: its name for messages.

    Raises:
      UserError: the run does not have the measure, the subset or shift, or the RPM; or the measure
        not there.
    """
    kept = [r for r in records if name_of(r) == limit.measure]
    if not kept:
        plain = limit.measure.removeprefix(CHANGE)
        why = LACKING.get(plain) or LACKING.get(plain.partition(".")[0], "neither run has it")
        raise UserError(f"limit {limit.text!r}: {run} has no {limit.measure}: {why}")
    home = records[0]["subset"]
    places = dict.fromkeys(r["subset"] for r in records)
    shifts = dict.fromkeys(r["shift"] for r in records if r["shift"])
    if limit.place is not None:
        _check(limit, "subset or shift", limit.place, (*places, *shifts, IN_DISTRIBUTION), run)
        tag = home if limit.place == IN_DISTRIBUTION else limit.place
        kept = [r for r in kept if tag in (r["subset"], r["shift"])]
    if limit.rpm is not None:
        _check(limit, "RPM", limit.rpm, dict.fromkeys(r["rpm"] for r in records), run)
        kept = [r for r in kept if r["rpm"] == limit.rpm]
    if not kept:
        raise UserError(f"limit {limit.text!r}: {limit.measure} has no value there in {run}")
    return kept


def _check(limit: Limit, what: str, name: str, known: Collection[str], run: str) -> None:
    if name not in known:
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise UserError(f"limit {limit.text!r}: {run} has no {what} {name!r}{hint}")

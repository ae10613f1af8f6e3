"""Judgments of answers: files of them, and replies of judges, read strictly."""

import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from remid_jax.data.samples import read_name
from remid_jax.errors import UserError, nearest
from remid_jax.files import path_of
from remid_jax.json_files import LINES, kind_of, read_json, read_json_lines
from remid_jax.messages import log
from remid_jax.settings import brief

FIRST, SECOND, TIE = "first", "second", "tie"
WINNERS = (FIRST, SECOND, TIE)
BY_LETTER = {"A": FIRST, "B": SECOND, "tie": TIE}  # how a judge names answers
LEAST, MOST = 1, 10  # scores that a judge gives
LARGEST = 10**9  # score in a file, either way: squares of larger ones overflow in the end
VERDICT = {
    "type": "object",
    "properties": {"winner": {"type": "string", "enum": list(BY_LETTER)}},
    "required": ["winner"],
    "additionalProperties": False,
}
RATING = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": LEAST, "maximum": MOST}},
    "required": ["score"],
    "additionalProperties": False,
}
_PAIR, _SINGLE = ("first", "second", "winner"), ("rpm", "score")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Which of two answers to a context is better; `winner` is None where the judge said nothing.

    `first` was shown before `second`; both are names of RPMs or reference rows.
    """

    sample_id: str
    first: str
    second: str
    winner: str | None


@dataclasses.dataclass(frozen=True)
class Rating:
    """The score of an answer; None where the judge said nothing."""

    sample_id: str
    rpm: str
    score: float | None


Judgment = Verdict | Rating


def read_judgments(
    path: str | Path, ids: Collection[str], names: Collection[str]
) -> list[Judgment]:
    """Reads the judgments of one judge, those of samples that are not in the run left out.

    A JSON list or JSONL of `{"sample_ID", "first", "second", "winner"}`, the winner being `first`,
    `second` or `tie`, or of `{"sample_ID", "rpm", "score"}`; `null` stands for a judgment that
    failed, equal rows for repeated calls.

    Args:
      path: the file.
      ids: of the run's samples.
      names: of its RPMs and reference rows.

    Raises:
      UserError: a missing, broken or empty file, a row that is no such judgment, rows of both
        kinds, a name that is not in the run, or no sample that is.
    """
    file = path_of(path, "judgment file")
    found = [_judgment(row, f"judgment file {file}: {place}", names) for place, row in _rows(file)]
    if not found:
        raise UserError(f"judgment file {file} is empty: it needs a judgment a line")
    if len({type(j) for j in found}) > 1:
        raise UserError(
            f"judgment file {file} holds both winners and scores; give each judge a file of one "
            "kind"
        )
    other = list(dict.fromkeys(j.sample_id for j in found if j.sample_id not in ids))
    kept = [j for j in found if j.sample_id in ids]
    some = "1 sample that is" if len(other) == 1 else f"{len(other)} samples that are"
    said = f"judgment file {file} judges {some} not in this run"
    if not kept:
        raise UserError(f"{said} and none that is, first {other[0]!r}{nearest(other[0], ids)}")
    if other:
        log.warning("note: %s, first %r; they are left out", said, other[0])
    return kept


def _rows(file: Path) -> Iterator[tuple[str, Any]]:
    """(place in the file, row), not checked yet."""
    if file.suffix.lower() in LINES:
        return ((f"line {n}", row) for n, row in read_json_lines(file, "judgment"))
    data = read_json(file, "judgment")
    if not isinstance(data, list):
        raise UserError(f"judgment file {file} must be a JSON list or JSONL, not {kind_of(data)}")
    return ((f"[{n}]", row) for n, row in enumerate(data))


def _judgment(row: Any, where: str, names: Collection[str]) -> Judgment:
    if not isinstance(row, Mapping):
        raise UserError(f"{where} must be an object, not {kind_of(row)}")
    keys = _PAIR if "winner" in row else _SINGLE
    if missing := [key for key in ("sample_ID", *keys) if key not in row]:
        raise UserError(
            f"{where} lacks {missing[0]!r}: a judgment has 'sample_ID' and either "
            "'first', 'second', 'winner' or 'rpm', 'score'"
        )
    sample_id = read_name(row["sample_ID"], f"{where}: 'sample_ID'")
    if keys is _SINGLE:
        return Rating(sample_id, _known(row, "rpm", where, names), _score(row["score"], where))
    first, second = (_known(row, key, where, names) for key in (FIRST, SECOND))
    if first == second:
        raise UserError(f"{where} compares {first!r} with itself")
    winner = row["winner"]
    if winner is not None and winner not in WINNERS:
        hint = nearest(winner, WINNERS) if isinstance(winner, str) else ""
        raise UserError(
            f"{where}: 'winner' is {winner!r}{hint}; it must be {', '.join(map(repr, WINNERS))} "
            "or null"
        )
    return Verdict(sample_id, first, second, winner)


def _known(row: Mapping[str, Any], key: str, where: str, names: Collection[str]) -> str:
    name = read_name(row[key], f"{where}: {key!r}")
    if name not in names:
        raise UserError(
            f"{where}: {key!r} is {name!r}{nearest(name, names)}; this run has {', '.join(names)}"
        )
    return name


def _score(value: Any, where: str) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and abs(value) <= LARGEST):  # NaN neither
        raise UserError(
            f"{where}: 'score' is {brief(value)}; it must be a number from {-LARGEST:,} to "
            f"{LARGEST:,}, or null"
        )
    return float(value)


def read_verdict(reply: str) -> str | None:
    """The winner that a judge's reply names, or None: nothing is guessed from what stands in it.

    The reply is JSON of `VERDICT`, or one of its words alone.

    >>> read_verdict('{"winner": "A"}'), read_verdict(" tie\\n"), read_verdict("A is not better")
    ('first', 'tie', None)
    """
    value = _field(reply.strip(), "winner")
    return BY_LETTER.get(value) if isinstance(value, str) else None


def read_rating(reply: str) -> int | None:
    """The score that a judge's reply gives, or None; JSON of `RATING`, or the number alone.

    >>> read_rating('{"score": 7}'), read_rating("10"), read_rating("7/10"), read_rating("11")
    (7, 10, None, None)
    """
    text = reply.strip()
    value = _field(text, "score")
    if value is text:
        value = int(text) if re.fullmatch("[1-9][0-9]?", text) else None
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and LEAST <= value <= MOST else None


def _field(text: str, key: str) -> Any:
    """What a JSON object of this one key holds; None of any other; a text that is none as it is."""
    if not text.startswith("{"):
        return text
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return found[key] if found.keys() == {key} else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)

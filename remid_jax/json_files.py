"""JSON files: whatever is wrong with one that others wrote is a `UserError`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from remid_jax.errors import UserError
from remid_jax.files import read_text, write_atomically

T = TypeVar("T")

LINES = (".jsonl", ".ndjson")  # how the name of a file ends that holds one JSON object a line
MAX_DEPTH = 100  # of objects and lists within each other
MAX_DIGITS = 400  # of an integer; a double has at most 309


class _Refused(Exception):
    """What the decoder's hooks find; they do not know the place."""


def parse_json(text: str, where: str, finite: bool = True, line: bool = False) -> Any:
    """Decodes a JSON text.

    Args:
      text: the content.
      where: what it is, for messages.
      finite: whether NaN and Infinity are refused.
      line: whether the text is one line, which `where` names.

    Raises:
      UserError: no valid JSON, a key that stands twice in one object, an integer of more than
        `MAX_DIGITS` digits, nesting deeper than `MAX_DEPTH`, or a number that is not finite.
    """
    constant = _refuse_constant if finite else float
    try:
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_int=_integer, parse_constant=constant
        )
        _check_depth(value)
    except RecursionError:
        problem = f" is nested deeper than {MAX_DEPTH} levels"
    except _Refused as e:
        problem = f": {e}"
    except json.JSONDecodeError as e:
        at = f"column {e.colno}" if line else f"line {e.lineno}, column {e.colno}"
        problem = f" is no valid JSON: {e.msg.removesuffix(' at')} at {at}"
    else:
        return value
    raise UserError(where + problem)


def read_json(path: str | Path, what: str, finite: bool = True) -> Any:
    """`parse_json` of a file; `what` is its kind for messages."""
    return parse_json(read_text(path, what), f"{what} file {path}", finite)


def read_json_object(path: str | Path, what: str, finite: bool = True) -> dict[str, Any]:
    """`read_json` of a file that must hold an object."""
    value = read_json(path, what, finite)
    if not isinstance(value, dict):
        raise UserError(f"{what} file {path} must hold a JSON object, not {kind_of(value)}")
    return value


def read_json_lines(path: str | Path, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, object) of a JSONL file; empty lines are skipped."""
    for n, line in enumerate(read_text(path, what).split("\n"), 1):  # no U+2028 ends a line
        if not line.strip():
            continue
        where = f"{what} file {path}: line {n}"
        row = parse_json(line, where, line=True)
        if not isinstance(row, dict):
            raise UserError(f"{where} must be an object, not {kind_of(row)}")
        yield n, row


def kind_of(value: Any) -> str:
    """The name of a decoded value's type, for messages.

    >>> kind_of(None), kind_of([]), kind_of(1.5)
    ('null', 'list', 'float')
    """
    return "null" if value is None else type(value).__name__


def part_of(value: Any, key: str, kind: type[T]) -> T:
    """What a decoded object holds under a key, or an empty value where that is of another kind.

    >>> part_of({"a": 1}, "a", str), part_of(["a"], "a", list)
    ('', [])
    """
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, kind) else kind()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object as a dict; Python's decoder would keep the last of two equal keys in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(f"the key {twice!r} stands twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _Refused(f"an integer has {len(text):,} digits ({text[:12]}...)")
    return int(text)


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused(f"holds {name}, which is no JSON")


def _check_depth(value: Any) -> None:
    level, depth = [value] if isinstance(value, (dict, list)) else [], -1
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise RecursionError
        parts = (x.values() if isinstance(x, dict) else x for x in level)
        level = [v for part in parts for v in part if isinstance(v, (dict, list))]


def write_json_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, the file whole or not at all; errors as of `files`."""
    lines = ((json.dumps(record, ensure_ascii=False) + "\n").encode() for record in records)
    write_atomically(file, lines)

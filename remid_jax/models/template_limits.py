"""How much an untrusted template may do: steps, time, sizes; and which values it may print."""

import contextlib
import contextvars
import re
import time
from collections.abc import Iterator
from typing import Any

from jinja2 import Undefined

from remid_jax.errors import UserError

MAX_STEPS = 2_000_000  # of one rendering; the templates of released models need some thousands
MAX_TEXT = 4_000_000  # characters of the output, and of every text on the way
MAX_SECONDS = 5.0  # of this thread's own time
MAX_WIDTH = 9_999  # of padding, indentation and precision
MAX_BITS = 4_096  # of an integer

_PRINTED = (int, float, type(None), Undefined)


class _Meter:
    """What one rendering may still use."""

    def __init__(self) -> None:
        self.steps, self.room, self.looks = MAX_STEPS, MAX_TEXT, 0
        self.until = time.thread_time() + MAX_SECONDS


_METER: contextvars.ContextVar[_Meter] = contextvars.ContextVar("meter")


@contextlib.contextmanager
def metered() -> Iterator[None]:
    """What is rendered within, in this thread, has a meter of its own."""
    token = _METER.set(_Meter())
    try:
        yield
    finally:
        _METER.reset(token)


def charge(steps: int = 1) -> None:
    """Counts steps, and looks at the clock from time to time.

    Raises:
      UserError: there were too many, or it took too long.
    """
    meter = _METER.get()
    meter.steps -= steps
    meter.looks += 1
    if meter.steps < 0 or (meter.looks % 64 == 0 and time.thread_time() > meter.until):
        raise UserError("the chat template runs without end, or far too long")


def emit(text: str) -> str:
    """A text that becomes output, counted.

    Raises:
      UserError: the output is too long.
    """
    meter = _METER.get()
    meter.room -= len(text)
    check_length(MAX_TEXT - meter.room)
    charge()
    return text


def check_length(characters: int) -> None:
    """Refuses a text before it is made.

    Raises:
      UserError: it would be longer than `MAX_TEXT`.
    """
    if characters > MAX_TEXT:
        raise UserError(f"the chat template makes a text of more than {MAX_TEXT:,} characters")


def check_width(value: Any) -> None:
    """Refuses a number of columns, digits or items that no prompt needs.

    Raises:
      UserError: it is beyond `MAX_WIDTH`.
    """
    if isinstance(value, int) and abs(value) > MAX_WIDTH:
        raise UserError(f"the chat template asks for a width or number beyond {MAX_WIDTH:,}")


def sized(value: Any) -> Any:
    """A value that a template has made, counted with all that it holds.

    Raises:
      UserError: it holds too much, or one of its numbers or texts is too large.
    """
    if value is None or isinstance(value, bool):
        charge()
        return value
    for part in _parts(value):
        if isinstance(part, str):
            check_length(len(part))
            charge(1 + (len(part) >> 8))
            continue
        if isinstance(part, int):
            _check_bits(part.bit_length())
        charge()
    return value


def text_of(value: Any) -> str:
    """A value as output has it.

    Raises:
      UserError: it prints otherwise in another run, as methods and generators do.
    """
    if isinstance(value, str):
        return value
    for part in _parts(value):
        charge()
        if not isinstance(part, (str, list, tuple, dict, *_PRINTED)):
            raise UserError(
                f"the chat template prints a {type(part).__name__}, which is no text and differs "
                "from run to run"
            )
    return str(value)


def check_percent(pattern: str, values: Any) -> None:
    """Refuses `pattern % values` where the result would be too long or differ from run to run.

    Raises:
      UserError: see `text_of`, `check_field`, `check_length`.
    """
    fields = re.findall(r"%(?:\([^)]*\))?([^%a-zA-Z]*)", pattern)
    widths = sum(map(check_field, fields))
    check_length(len(pattern) + widths + len(fields) * len(text_of(values)))


def check_field(field: str) -> int:
    """The columns that a field of a format, its colon or percent sign left out, asks for.

    Raises:
      UserError: see `check_width`; or they are named elsewhere, by `*`.
    """
    if "*" in field:
        raise UserError("the chat template formats with a width of its own, '*'")
    widths = [int(digits[:9]) for digits in re.findall(r"\d+", field)]
    for width in widths:
        check_width(width)
    return sum(widths)


def check_operands(operator: str, left: Any, right: Any) -> None:
    """Refuses an operation whose result would be too large, before it is computed.

    Raises:
      UserError: see `check_length`, `check_percent`; or a power too large.
    """
    if operator == "*":
        for many, times in ((left, right), (right, left)):
            if isinstance(many, (str, list, tuple)) and isinstance(times, int):
                check_length(len(many) * times)
    elif operator == "%" and isinstance(left, str):
        check_percent(left, right)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * right)


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise UserError(f"the chat template makes an integer of more than {MAX_BITS:,} bits")


def _parts(value: Any) -> Iterator[Any]:
    """A value and, level by level, all that its lists and objects hold."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, (list, tuple)):
            waiting += part

"""How much an untrusted template may do: steps, time, sizes; and which values it may print.

What goes beyond is a `UserError`, raised before a text or number is made where that can be.
"""

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

_PRINTED = (int, float, type(None), Undefined, str, list, tuple, dict)


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
    """Counts steps, and looks at the clock from time to time."""
    meter = _METER.get()
    meter.steps -= steps
    meter.looks += 1
    if meter.steps < 0 or (meter.looks % 64 == 0 and time.thread_time() > meter.until):
        raise UserError("the chat template runs without end, or far too long")


def emit(text: str) -> str:
    """A text that becomes output, counted."""
    meter = _METER.get()
    meter.room -= len(text)
    check_length(MAX_TEXT - meter.room)
    charge()
    return text


def check_length(characters: int) -> None:
    """Refuses a text of more characters than `MAX_TEXT`."""
    if characters > MAX_TEXT:
        raise UserError(f"the chat template makes a text of more than {MAX_TEXT:,} characters")


def check_width(value: Any) -> None:
    """Refuses a number of columns, digits or items beyond `MAX_WIDTH`, which no prompt needs."""
    if isinstance(value, int) and abs(value) > MAX_WIDTH:
        raise UserError(f"the chat template asks for a width or number beyond {MAX_WIDTH:,}")


def sized(value: Any) -> Any:
    """A value that a template has made, counted with all that it holds."""
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
    """A value as output has it; what prints otherwise in another run, as methods do, is refused."""
    if isinstance(value, str):
        return value
    for part in _parts(value):
        charge()
        if not isinstance(part, _PRINTED):
            raise UserError(
                f"the chat template prints a {type(part).__name__}, which is no text and differs "
                "from run to run"
            )
    return str(value)


def check_percent(pattern: str, values: Any) -> None:
    """Refuses `pattern % values` where the result would be too long or differ from run to run."""
    fields = re.findall(r"%(?:\([^)]*\))?([^%a-zA-Z]*)", pattern)
    widths = sum(map(check_field, fields))
    check_length(len(pattern) + widths + len(fields) * len(text_of(values)))


def check_field(field: str) -> int:
    """The columns that a field of a format, its colon or percent sign left out, asks for."""
    if "*" in field:
        raise UserError("the chat template formats with a width of its own, '*'")
    widths = [int(digits[:9]) for digits in re.findall(r"\d+", field)]
    for width in widths:
        check_width(width)
    return sum(widths)


def check_operands(operator: str, left: Any, right: Any) -> None:
    """Refuses an operation whose result would be too large."""
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

"""Keys of model files that others wrote, read with the type and range that they must have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.errors import UserError

_REQUIRED = object()
_TINY, _FLOAT32 = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
LARGEST = 2**31 - 1  # of a size: indices and positions are 32-bit integers


class Fields:
    """The keys of one file, or of an object in it.

    Every reader raises a `UserError` that names file and key where the key holds something else, or
    is absent and has no default. Where a size, a flag or a text has a default, null is that
    default.

    Attributes:
      values: key -> value as decoded.
      where: the file, for messages.
      prefix: what stands before each name in messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str | Path, prefix: str = ""):
        self.values, self.where, self.prefix = values, where, prefix

    def get(self, name: str, default: Any = _REQUIRED) -> Any:
        """A value of any type."""
        value = self.values.get(name)
        if value is None and default is not _REQUIRED:
            return default
        if name not in self.values:
            raise UserError(f"{self.where} lacks {self.prefix + name!r}")
        return value

    def size(self, name: str, default: Any = _REQUIRED) -> Any:
        """A whole number above 0, or the default."""
        value = self.get(name, default)
        if value is default:
            return default
        if isinstance(value, list):
            raise self.error(name, "one number: sizes that differ by layer are not supported")
        if not is_whole(value) or not 0 < value <= LARGEST:
            raise self.error(name, f"a whole number from 1 to {LARGEST:,}")
        return value

    def number(
        self, name: str, default: Any = _REQUIRED, least: float = _TINY, below: float = _FLOAT32
    ) -> float:
        """A number that float32 holds, from `least` to less than `below`, or the default."""
        if name not in self.values and default is not _REQUIRED:
            return default
        value = self.get(name)
        if not is_number(value) or not least <= value < below:
            raise self.error(name, f"a number from {least:.3g} to less than {below:.3g}")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def text(self, name: str, default: Any = _REQUIRED) -> Any:
        """A text, or the default."""
        value = self.get(name, default)
        if value is not default and not isinstance(value, str):
            raise self.error(name, "a text")
        return value

    def group(self, name: str) -> "Fields | None":
        """The keys of an object; None where it is absent, null or empty."""
        value = self.values.get(name)
        if value is None or value == {}:
            return None
        if not isinstance(value, dict):
            raise self.error(name, "an object")
        return Fields(value, self.where, f"{self.prefix}{name}.")

    def error(self, name: str, must: str) -> UserError:
        """What is wrong with a key that is there."""
        said = shown(self.values.get(name))
        return UserError(f"{self.where}: {self.prefix}{name} is {said}; it must be {must}")


def shown(value: Any) -> str:
    """A value for a message, cut where it is long.

    >>> shown("x" * 99)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."
    """
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:40]}..."


def is_number(value: Any) -> bool:
    """Whether a decoded value is a number that is finite in float32."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -_FLOAT32 < value < _FLOAT32


def is_whole(value: Any) -> bool:
    """Whether a decoded value is a whole number, and neither true nor false."""
    return isinstance(value, int) and not isinstance(value, bool)

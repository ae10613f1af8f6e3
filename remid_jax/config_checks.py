"""Checks of configurations: keys, types, choices and ranges, each error one clear line."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from remid_jax.errors import UserError, nearest, visible

SEEDS = "[0, 4294967296)"  # JAX takes 32 bits of a seed: 2**32 would be 0 again
_LARGEST = 2**63  # what 64 bits hold
_SHOWN = 80  # characters of a value in a message


def value_of(config: Any, key: str) -> Any:
    """The value of a key with its groups, as `sft.batch`."""
    for part in key.split("."):
        config = config[part]
    return config


def check_form(
    given: Mapping[str, Any], known: Mapping[str, Any], free: Iterable[str] = (),
    where: str = "config",
) -> None:  # fmt: skip
    """Refuses keys that nothing reads, and values that are not of their default's type.

    Args:
      given: the configuration, as a dict.
      known: the default one: each key must be there, with a value as `fault_of` asks.
      free: groups whose own keys may be any, as `config.rpms`.
      where: name of this group.

    Raises:
      UserError: naming the key and, for an unknown one, the nearest that is known.
    """
    for key in given:
        if key not in known:
            raise UserError(f"unknown config key {where}.{key}{nearest(str(key), known)}")
    for key, default in known.items():
        if key not in given:
            raise UserError(f"config key {where}.{key} is missing; is this the right experiment?")
        name = f"{where}.{key}"
        if needed := fault_of(given[key], default):
            raise UserError(f"{name} is {brief(given[key])}; it must be {needed}")
        if isinstance(default, Mapping) and name not in free:
            check_form(given[key], default, free, name)


def fault_of(value: Any, like: Any) -> str:
    """What a value would have to be to serve in place of another; empty where it does.

    >>> fault_of(True, 3), fault_of(3, 0.5), fault_of(["a"], ()), fault_of(None, "")
    ('a whole number', '', '', 'a text')
    """
    if isinstance(like, (tuple, list)):
        kind = like[0] if len(like) else ""
        good = isinstance(value, (tuple, list)) and not any(fault_of(v, kind) for v in value)
        return "" if good else f"a tuple, each part {fault_of(None, kind)}"
    for kind, fits, needed in (
        (Mapping, lambda v: isinstance(v, Mapping), "a group of keys"),
        (bool, lambda v: isinstance(v, bool), "True or False"),
        (int, _is_whole, "a whole number"),
        (float, _is_finite, "a finite number"),
        (str, _is_text, "a text"),
    ):
        if isinstance(like, kind):
            return "" if fits(value) else needed
    raise TypeError(f"a default cannot be {like!r}")


def _is_number(value: Any, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_whole(value: Any) -> bool:
    return _is_number(value, int)


def _is_finite(value: Any) -> bool:
    return _is_number(value, int) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def brief(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def check_each(config: Any, key: str, like: Any) -> None:
    """Refuses a value in a group of free keys that could not serve in place of another.

    Raises:
      UserError: naming the key.
    """
    for name, value in value_of(config.to_dict(), key).items():
        if needed := fault_of(value, like):
            raise UserError(f"config.{key}.{name} is {brief(value)}; it must be {needed}")


def check_choice(key: str, value: Any, allowed: Iterable[str]) -> None:
    """Refuses a value that is none of the allowed ones.

    Raises:
      UserError: naming key, value and choices.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        hint = nearest(str(value), allowed)
        raise UserError(f"config.{key} is {value!r}{hint}; choose among {', '.join(allowed)}")


def check_least(config: Any, lowest: Mapping[str, float]) -> None:
    """Refuses numbers, or tuples of numbers, below the least one of their key.

    Args:
      config: a configuration whose types are right, see `check_form`.
      lowest: key with its groups, as `sft.batch` -> least value.

    Raises:
      UserError: naming the key, its value and what it must be.
    """
    for key, low in lowest.items():
        values = _numbers(config, key)
        if not values or min(values) < low:
            shown = brief(value_of(config, key))
            kind = "whole and" if isinstance(low, int) else "finite and"
            raise UserError(f"config.{key} is {shown}; it must be {kind} at least {low:g}")


def check_within(config: Any, intervals: Mapping[str, str]) -> None:
    """Refuses numbers, or tuples of numbers, outside the interval of their key.

    Args:
      config: a configuration whose types are right, see `check_form`.
      intervals: key with its groups -> interval, as "(0, 1]"; a bracket belongs to it.

    Raises:
      UserError: naming the key, its value and the interval.
    """
    for key, interval in intervals.items():
        if not all(_lies_in(v, interval) for v in _numbers(config, key)):
            shown = brief(value_of(config, key))
            raise UserError(f"config.{key} is {shown}; it must lie in {interval}")


def _numbers(config: Any, key: str) -> tuple[float, ...]:
    value = value_of(config, key)
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _lies_in(value: float, interval: str) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def check_name(key: str, name: Any) -> None:
    """Refuses a name that no table could show: an empty one, or one with control characters.

    Raises:
      UserError: naming the key.
    """
    if not _is_text(name) or not name.strip() or visible(name) != name:
        raise UserError(
            f"config.{key} is {brief(name)}; it must be a text with letters and without control "
            "characters"
        )


def check_plain(key: str, value: Any) -> None:
    """Refuses what JSON cannot hold, in a value of a key that may hold anything else.

    Raises:
      UserError: naming the key within its groups.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            check_name(f"{key}: the name of a key", name)
            check_plain(f"{key}.{name}", inner)
    elif isinstance(value, (tuple, list)):
        for inner in value:
            check_plain(key, inner)
    elif not (value is None or isinstance(value, bool) or _is_finite(value) or _is_text(value)):
        raise UserError(f"config.{key} is {brief(value)}, which JSON cannot hold")

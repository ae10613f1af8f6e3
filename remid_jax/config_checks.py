"""Checks of configurations: keys, choices and least values, each error one clear line."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from remid_jax.errors import UserError, nearest


def value_of(config: Any, key: str) -> Any:
    """The value of a key with its groups, as `sft.batch`."""
    for part in key.split("."):
        config = config[part]
    return config


def check_keys(
    given: Mapping[str, Any], known: Mapping[str, Any], free: Iterable[str] = (),
    where: str = "config",
) -> None:  # fmt: skip
    """Refuses keys that nothing reads, and asks for those that are missing.

    Args:
      given: the configuration.
      known: the default one.
      free: groups whose own keys may be any, as `config.rpms`.
      where: name of this group.

    Raises:
      UserError: naming the key and, for an unknown one, the nearest that is known.
    """
    for key in given:
        if key not in known:
            raise UserError(f"unknown config key {where}.{key}{nearest(key, known)}")
    for key, default in known.items():
        if key not in given:
            raise UserError(f"config key {where}.{key} is missing")
        name = f"{where}.{key}"
        if isinstance(default, Mapping) and name not in free:
            if not isinstance(given[key], Mapping):
                raise UserError(f"config key {name} must be a group of keys")
            check_keys(given[key], default, free, name)


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
      config: the configuration.
      lowest: key with its groups, as `sft.batch` -> least value; a whole least value asks for whole
        numbers, 0.0 for any finite one.

    Raises:
      UserError: naming the key, its value and what it must be; or a key that is missing.
    """
    for key, low in lowest.items():
        try:
            value = value_of(config, key)
        except KeyError:
            raise UserError(f"config key {key} is missing; is this the right experiment?") from None
        values = value if isinstance(value, (tuple, list)) else (value,)
        if not values or not all(_fits(v, low) for v in values):
            kind = "whole and" if isinstance(low, int) else "finite and"
            raise UserError(f"config.{key} is {value!r}; it must be {kind} at least {low:g}")


def _fits(value: Any, low: float) -> bool:
    kinds = int if isinstance(low, int) else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= low

"""Checks of configurations: keys, choices and least values, each error one clear line."""

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
    """Refuses numbers below the least one of their key.

    Raises:
      UserError: naming the key, its value and the least one.
    """
    for key, low in lowest.items():
        value = value_of(config, key)
        if value < low:
            raise UserError(f"config.{key} is {value}; it must be at least {low}")

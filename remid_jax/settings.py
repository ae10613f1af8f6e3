"""Keys of configurations, each described once: as a field of a frozen dataclass, made by `key`.

Defaults, checks, `--help` and the reference page are made of these fields.
"""

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from remid_jax.errors import UserError, nearest, visible

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SEEDS = "[0, 4294967296)"  # JAX takes 32 bits of a seed: 2**32 would be 0 again
_LARGEST = 2**63  # what 64 bits hold
_SHOWN = 80  # characters of a value in a message


@dataclasses.dataclass(frozen=True)
class Key:
    """What a key may hold.

    Attributes:
      default: its value where nobody sets it.
      meaning: one line.
      allowed: the texts that it may hold, or the interval of its numbers with their unit, as
        "(0, 1]" or "[1, inf) tokens"; a tuple of such numbers is not empty.
      formerly: its old name with its groups, which users are told to replace.
      optional: whether a group may lack it, which then has its default.
      configured: False where only code that constructs the dataclass sets it.
      kind: type, as `int` or `tuple[str, ...]`; `dict[str, KIND]` is a group of freely named keys,
        whose KIND may be a dataclass of keys, or `Any` for what JSON can hold.
    """

    default: Any
    meaning: str
    allowed: str | tuple[str, ...] = ()
    formerly: str = ""
    optional: bool = False
    configured: bool = True
    kind: Any = None

    @property
    def interval(self) -> str:
        """The interval of its numbers, as "(0, 1]"; empty where there is none."""
        return re.match(r".*?[])]", self.allowed)[0] if isinstance(self.allowed, str) else ""


@dataclasses.dataclass(frozen=True)
class Group:
    """Keys that stand together under one name."""

    meaning: str
    keys: "Keys"


Keys = Mapping[str, Key | Group]


def key(default: Any, meaning: str, *args: Any, **named: Any) -> Any:
    """A field of a dataclass that describes a key; arguments as of `Key`.

    A default of `dataclasses.MISSING` is given by each `group` that has the key.
    """
    made = {"key": Key(default, meaning, *args, **named)}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=made)
    return dataclasses.field(default=default, metadata=made)


def group(meaning: str, *parts: type, without: Collection[str] = (), **defaults: Any) -> Any:
    """A field of a dataclass that describes a group; arguments as of `keys_of`."""
    made = {"key": Group(meaning, keys_of(*parts, without=without, **defaults))}
    return dataclasses.field(default=None, metadata=made)


@dataclasses.dataclass(frozen=True)
class ExperimentKeys:
    """Keys of every experiment."""

    experiment: str = key("diagnose", "module of `experiments/` that runs")
    seed: int = key(0, "of all draws", SEEDS)


def keys_of(*parts: type, without: Collection[str] = (), **defaults: Any) -> Keys:
    """The keys of one or more dataclasses whose fields are made by `key` and `group`.

    Args:
      parts: the dataclasses.
      without: keys that are left out.
      defaults: replace the dataclasses' own.
    """
    found: dict[str, Key | Group] = {}
    for field in (f for part in parts for f in dataclasses.fields(part)):
        one = field.metadata.get("key")
        if isinstance(one, Key):
            default = defaults.get(field.name, one.default)
            one = dataclasses.replace(one, kind=field.type, default=default)
        if isinstance(one, Group) or (one and one.configured and field.name not in without):
            found[field.name] = one
    if unknown := {*defaults} - {*found}:
        raise TypeError(f"no keys of these names: {sorted(unknown)}")
    return found


def defaults_of(keys: Keys) -> "ConfigDict":
    """A new configuration that holds every key with its default."""
    from ml_collections import ConfigDict

    return ConfigDict({
        name: defaults_of(one.keys) if isinstance(one, Group) else one.default
        for name, one in keys.items()
    })  # fmt: skip


def walk(keys: Keys, where: str = "") -> Iterator[tuple[str, Key | Group]]:
    """(name with its groups, as `sft.batch`, and what it is) of each key and group."""
    for name, one in keys.items():
        yield f"{where}{name}", one
        if isinstance(one, Group):
            yield from walk(one.keys, f"{where}{name}.")


def value_of(config: Any, name: str) -> Any:
    """The value of a key, named with its groups; None where there is none."""
    for part in name.split("."):
        config = config.get(part) if hasattr(config, "get") else None
    return config


def new_names(keys: Keys) -> dict[str, str]:
    """Former name -> name of each key that has been renamed."""
    return {one.formerly: name for name, one in walk(keys) if isinstance(one, Key) and one.formerly}


def check_keys(config: "ConfigDict", keys: Keys) -> None:
    """Checks names, types, ranges and choices of all keys; a UserError says what is wrong."""
    given = config.to_dict()
    for old, new in new_names(keys).items():
        if value_of(given, old) is not None:
            raise UserError(f"config.{old} is called config.{new} now")
    _check_group("config", given, keys)


def _check_group(where: str, given: Any, keys: Keys) -> None:
    if not isinstance(given, Mapping):
        raise UserError(f"{where} is {brief(given)}; it must be a group of keys")
    for name in given:
        if name not in keys:
            raise UserError(f"unknown config key {where}.{name}{nearest(str(name), keys)}")
    for name, one in keys.items():
        if name not in given:
            if isinstance(one, Key) and one.optional:
                continue
            raise UserError(f"config key {where}.{name} is missing; is this the right experiment?")
        if isinstance(one, Group):
            _check_group(f"{where}.{name}", given[name], one.keys)
        else:
            check_value(f"{where}.{name}", given[name], one)


def check_value(where: str, value: Any, known: Key) -> None:
    """Raises a UserError that names the key by `where`, unless it may hold the value."""
    kind = known.kind
    if dataclasses.is_dataclass(kind):
        return _check_group(where, value, keys_of(kind))
    if kind is Any:
        return check_plain(where, value)
    if needed := fault_of(value, kind):
        raise UserError(f"{where} is {brief(value)}; it must be {needed}")
    if typing.get_origin(kind) is dict:
        each = dataclasses.replace(known, kind=typing.get_args(kind)[1])
        for name, inner in value.items():
            check_name(f"{where}: the name of a key", name)
            check_value(f"{where}.{name}", inner, each)
        return None
    parts = value if isinstance(value, tuple | list) else (value,)
    if not known.interval:
        for part in parts if known.allowed else ():
            check_choice(where, part, known.allowed)
    elif not parts or not all(_lies_in(part, known.interval) for part in parts):
        raise UserError(f"{where} is {brief(value)}; it must {_lie_in(known)}")
    return None


def made_from(cls: type, config: Any, **more: Any) -> Any:
    """A dataclass of the keys of a group that are its fields, and what else it needs."""
    given = {f.name: config[f.name] for f in dataclasses.fields(cls) if f.name in config}
    return cls(**given | more)


def check_fields(made: Any, where: str) -> None:
    """Checks the fields of a dataclass that are made by `key`; as `check_value`."""
    for field in dataclasses.fields(made):
        if known := field.metadata.get("key"):
            value = getattr(made, field.name)
            value = value.item() if hasattr(value, "item") else value  # a number of numpy
            known = dataclasses.replace(known, kind=field.type)
            check_value(f"{where}.{field.name}", value, known)


def _lie_in(known: Key) -> str:
    low, high = known.interval[1:-1].split(", ")
    if known.interval[0] != "[" or high != "inf":
        return f"lie in {known.interval}"
    whole = known.kind in (int, tuple[int, ...])
    return f"be {'whole' if whole else 'finite'} and at least {low}"


def _lies_in(value: float, interval: str) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def fault_of(value: Any, kind: Any) -> str:
    """What a value would have to be to be of a kind, see `Key`; empty where it is.

    >>> fault_of(True, int), fault_of(3, float), fault_of(["a"], tuple[str, ...])
    ('a whole number', '', '')
    """
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        good = isinstance(value, tuple | list) and not any(fault_of(v, inner) for v in value)
        return "" if good else f"a tuple, each part {fault_of(None, inner)}"
    fits, needed = _KINDS[typing.get_origin(kind) or kind]
    return "" if fits(value) else needed


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_finite(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


_KINDS: dict[type, tuple[Callable[[Any], bool], str]] = {
    dict: (lambda v: isinstance(v, Mapping), "a group of keys"),
    bool: (lambda v: isinstance(v, bool), "True or False"),
    int: (_is_whole, "a whole number"),
    float: (_is_finite, "a finite number"),
    str: (_is_text, "a text"),
}


def brief(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def check_choice(where: str, value: Any, allowed: Iterable[str]) -> None:
    """Raises a UserError with the choices, unless the value is one of them."""
    allowed = tuple(allowed)
    if value not in allowed:
        hint = nearest(str(value), allowed)
        raise UserError(f"{where} is {value!r}{hint}; choose among {', '.join(allowed)}")


def check_name(where: str, name: Any) -> None:
    """Raises a UserError for a name that is empty or holds control characters."""
    if not _is_text(name) or not name.strip() or visible(name) != name:
        raise UserError(
            f"{where} is {brief(name)}; it must be a text with letters and without control "
            "characters"
        )


def check_plain(where: str, value: Any) -> None:
    """Raises a UserError, which names the key within its groups, for what JSON cannot hold."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            check_name(f"{where}: the name of a key", name)
            check_plain(f"{where}.{name}", inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            check_plain(where, inner)
    elif not (value is None or isinstance(value, bool) or _is_finite(value) or _is_text(value)):
        raise UserError(f"{where} is {brief(value)}, which JSON cannot hold")

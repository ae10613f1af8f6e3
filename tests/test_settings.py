"""Keys of configurations: what they become, and checks of values whatever holds them."""

import dataclasses
import math
from typing import Any

import pytest
from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.settings import (
    check_fields,
    check_keys,
    check_name,
    check_plain,
    defaults_of,
    fault_of,
    group,
    key,
    keys_of,
    new_names,
    value_of,
    walk,
)


@dataclasses.dataclass(frozen=True)
class Inner:
    c: str = key("x", "a choice", ("x", "y"))
    d: dict[str, Any] = key({}, "anybody's")
    e: float = key(0.5, "a share", "(0, 1] nats")
    seed: int = key(0, "not of configurations", "[0, 9]", configured=False)

    def __post_init__(self):
        check_fields(self, "inner")


@dataclasses.dataclass(frozen=True)
class Outer:
    a: int = key(1, "a number", "[1, inf)", formerly="b.old")
    b: Any = group("together", Inner, e=0.25)
    n: tuple[int, ...] = key((1, 5), "numbers", "[1, 6)")
    named: dict[str, Inner] = key({}, "groups by name")


KEYS = keys_of(Outer)


@pytest.mark.parametrize(("kind", "good", "bad"), [
    (float, (0.5, 1, -3), (True, "1", None, math.nan, math.inf, 10**400, 1j, ())),
    (int, (1, -5, 2**63 - 1), (True, 1.0, "1", None, 2**63, -(2**63), 10**400)),
    (bool, (True, False), (0, 1, None, "True", 1.0)),
    (str, ("", "b\n", "\u4e2d"), (None, b"a", 1, True, "\ud800", ("a",))),
    (tuple[str, ...], ((), ("a",), ["a", "b"]), ("a", None, (1,), (None,), {"a"})),
    (tuple[int, ...], ((), (3,), [4]), (1, ("a",), (1.0,), (True,))),
    (tuple[float, ...], ((1, 0.5),), (0.5, (math.nan,), ((),))),
    (dict[str, int], ({},), (None, (), "a")),
])  # fmt: skip
def test_what_is_of_a_kind(kind, good, bad):
    for value in good:
        assert fault_of(value, kind) == "", value
    for value in bad:
        assert fault_of(value, kind), value


def test_defaults_and_names():
    config = defaults_of(KEYS)
    assert config.to_dict() == {
        "a": 1, "b": {"c": "x", "d": {}, "e": 0.25}, "n": (1, 5), "named": {}
    }  # fmt: skip
    check_keys(config, KEYS)
    assert [name for name, _ in walk(KEYS)] == ["a", "b", "b.c", "b.d", "b.e", "n", "named"]
    assert new_names(KEYS) == {"b.old": "a"}
    assert value_of(config, "b.e") == 0.25 and value_of(config, "b.no.e") is None
    assert (KEYS["b"].keys["e"].interval, KEYS["b"].keys["e"].unit) == ("(0, 1]", "nats")
    with pytest.raises(TypeError, match="no keys of these names"):
        keys_of(Inner, f=3)


@pytest.mark.parametrize(("changes", "said"), [
    ({"bb": 1}, "unknown config key config.bb"),
    ({"b": {"cc": 1}}, r"unknown config key config\.b\.cc .*'c'"),
    ({"b": None}, "config.b is None; it must be a group of keys"),
    ({"b": {"c": None}}, "config.b.c is None; it must be a text"),
    ({"b": {"c": "Y"}}, r"config.b.c is 'Y' \(did you mean 'y'\?\); choose among x, y"),
    ({"b": {"old": 2}}, "config.b.old is called config.a now$"),
    ({"b": {"e": 0.0}}, r"config\.b\.e is 0\.0; it must lie in \(0, 1\]$"),
    ({"a": "x" * 1000}, r"config.a is 'x{79}\.\.\.; it must be a whole number"),
    ({"a": 0}, "config.a is 0; it must be whole and at least 1"),
    ({"n": (1, 6)}, r"config\.n is \(1, 6\); it must lie in \[1, 6\)"),
    ({"n": ()}, r"config\.n is \(\); it must lie in"),
    ({"named": {"x": {"c": "x"}}}, "config key config.named.x.d is missing"),
    ({"named": {"\n": {"c": "x", "d": {}, "e": 1}}}, "config.named: the name of a key is"),
    ({"b": {"d": {"z": b"x"}}}, "config.b.d.z is b'x', which JSON cannot hold"),
    ({3: 1}, "unknown config key config.3"),
])  # fmt: skip
def test_what_is_refused(changes, said):
    config = defaults_of(KEYS)
    for name, value in changes.items():
        with config.ignore_type():
            if isinstance(value, dict) and value:
                config[name].update(ConfigDict(value, type_safe=False))
            else:
                config[str(name)] = value
    with pytest.raises(UserError, match=said):
        check_keys(config, KEYS)


def test_a_missing_key():
    with pytest.raises(UserError, match=r"config key config\.b is missing"):
        check_keys(ConfigDict({"a": 1}), KEYS)


def test_a_dataclass_checks_its_own_fields():
    Inner(e=1, seed=9)
    for changes, said in (({"e": 2.0}, "inner.e is 2.0; it must lie"), ({"seed": 10}, "inner.seed"),
                          ({"c": "z"}, "inner.c is 'z'; choose")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            Inner(**changes)


def test_names_and_plain_values():
    check_name("a", "l'été 古い")
    check_plain("a", {"b": [1, 0.5, None, {"c": "x"}]})
    for name in ("", " \n", "a\tb", "\u202e", "\ud800", None, 3):
        with pytest.raises(UserError, match=r"config\.a is "):
            check_name("config.a", name)
    for value in (object(), b"x", math.nan, {1: 2}, {"b": {"": 1}}, [{"c": (1j,)}], {"a", "b"}):
        with pytest.raises(UserError, match=r"config\.k"):
            check_plain("config.k", value)

"""Checks of values, whatever configuration they stand in."""

import math

import pytest
from ml_collections import ConfigDict

from remid_jax.config_checks import (
    check_form,
    check_least,
    check_name,
    check_plain,
    check_within,
    fault_of,
)
from remid_jax.errors import UserError


@pytest.mark.parametrize(("like", "good", "bad"), [
    (0.5, (0.5, 1, -3), (True, "1", None, math.nan, math.inf, 10**400, 1j, ())),
    (1, (1, -5, 2**63 - 1), (True, 1.0, "1", None, 2**63, -(2**63), 10**400)),
    (True, (True, False), (0, 1, None, "True", 1.0)),
    ("a", ("", "b\n", "\u4e2d"), (None, b"a", 1, True, "\ud800", ("a",))),
    ((), ((), ("a",), ["a", "b"]), ("a", None, (1,), (None,), {"a"})),
    ((1, 2), ((), (3,), [4]), (1, ("a",), (1.0,), (True,))),
    ((0.5,), ((1, 0.5),), (0.5, (math.nan,), ((),))),
    ({"a": 1}, ({},), (None, (), "a")),
])  # fmt: skip
def test_what_may_stand_in_for_a_default(like, good, bad):
    for value in good:
        assert fault_of(value, like) == "", value
    for value in bad:
        assert fault_of(value, like), value


def test_form():
    known = {"a": 1, "b": {"c": "x", "d": {}}}
    check_form({"a": 2, "b": {"c": "", "d": {"any": None}}}, known, ("config.b.d",))
    for given, said in (
        ({"a": 2}, "config key config.b is missing"),
        ({**known, "bb": 1}, "unknown config key config.bb"),
        ({**known, "b": {"c": "x", "d": {}, "cc": 1}}, r"unknown config key config\.b\.cc .*'c'"),
        ({**known, "b": {"c": None, "d": {}}}, "config.b.c is None; it must be a text"),
        ({**known, "a": "x" * 1000}, r"config.a is 'x{79}\.\.\.; it must be a whole number"),
        ({**known, 3: 1}, "unknown config key config.3"),
    ):
        with pytest.raises(UserError, match=said):
            check_form(given, known, ("config.b.d",))


def test_ranges():
    c = ConfigDict({"a": {"b": 1.0, "c": (1, 5)}})
    check_least(c, {"a.c": 1})
    check_within(c, {"a.b": "(0, 1]", "a.c": "[1, 6)"})
    with pytest.raises(
        UserError, match=r"config\.a\.c is \(1, 5\); it must be whole and at least 2"
    ):
        check_least(c, {"a.c": 2})
    for interval in ("(1, inf)", "[0, 1)", "[2, 3]"):
        with pytest.raises(UserError, match=r"config\.a\.b is 1\.0; it must lie in"):
            check_within(c, {"a.b": interval})
    with pytest.raises(UserError, match=r"config\.a\.c .* lie in \[1, 5\)"):
        check_within(c, {"a.c": "[1, 5)"})


def test_names_and_plain_values():
    check_name("a", "l'été 古い")
    check_plain("a", {"b": [1, 0.5, None, {"c": "x"}]})
    for name in ("", " \n", "a\tb", "\u202e", "\ud800", None, 3):
        with pytest.raises(UserError, match=r"config\.a is "):
            check_name("a", name)
    for value in (object(), b"x", math.nan, {1: 2}, {"b": {"": 1}}, [{"c": (1j,)}], {"a", "b"}):
        with pytest.raises(UserError, match=r"config\.k"):
            check_plain("k", value)

"""Every public estimator on what is no argument of it."""

import inspect
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from public_estimators import CALLS, LENGTHS, MASKED, NOT_FINITE, S, is_finite

import remid_jax
from remid_jax.information import (
    attribution,
    bound_estimates,
    bounds,
    classifier,
    cross_information,
    divergences,
    group_sums,
    mutual_information,
    power,
    profile,
    profile_flags,
    profile_shares,
    repeated,
    representation,
    significance,
    uncertainty,
)
from remid_jax.worlds import channels, distributions, draws, exact, families

MODULES = (
    attribution, bound_estimates, bounds, classifier, cross_information, divergences, group_sums,
    mutual_information, power, profile, profile_flags, profile_shares, repeated, representation,
    significance, uncertainty, channels, draws, exact, families, distributions,
)  # fmt: skip
NO_ESTIMATORS = {
    "estimator", "bound",  # by their names
    "read_pairs", "check_pair", "check_channel", "checked_mechanisms",  # checks
    "replicate_error", "limits_of_mean",  # NaN for what has no value
}  # fmt: skip
OPTIONAL = {
    "where", "lengths", "negatives", "correlation", "mechanisms_P", "mechanisms_Q", "baseline",
}  # fmt: skip
NEVER = {
    "nan", "inf", "-inf", "complex", "text", "object", "dict", "set", "None", "None inside",
    "ragged", "masked", "empty", "10^400", "two", "number", "floats", "keys", "a inside",
    "nan inside", "1j inside",
}  # fmt: skip
DOCUMENTED = {  # (function, argument): what of `NEVER` has a meaning there
    ("pair_matrix", "log_q"): {"-inf"},
    ("holm", "p_values"): {"None inside", "empty"},
    ("clusters", "labels"): {"text"},
    ("context_sets", "groups"): {"None"},
    ("profile_information", "sources"): {"None"},
    ("sign_flip_test", "groups"): {"None"},
    ("quantities", "P"): {"None"},
    ("quantities", "Q"): {"None"},
    ("emid", "in_distribution"): {"two"},
    ("emid", "out_of_distribution"): {"two"},
    ("saturation", "value"): {"two"},
    ("is_saturated", "value"): {"two"},
    ("t_interval", "value"): {"two"},
    ("t_interval", "standard_error"): {"two"},
    ("upper_limit", "value"): {"two"},
    ("upper_limit", "standard_error"): {"two"},
    ("upper_limit", "freedom"): {"two"},
}


def of_array(value: np.ndarray) -> Iterator[tuple[str, Any]]:
    """What an array may hold or be instead; the second entry is one that is read."""

    def second(x: Any, dtype: Any = float) -> np.ndarray:
        changed = np.array(value, dtype)
        changed.flat[1 if value.size > 1 else 0] = x
        return changed

    for x in (np.nan, np.inf, -np.inf, 0.5, 2.5, -1, 1e30, -3e38, 1e39, -1e300, 1e-40):
        yield str(x), second(x)
    yield "complex", value + 1j
    yield "text", value.astype(str)
    yield "None inside", second(None, object)
    yield "masked", np.ma.masked_array(np.asarray(value, float), np.zeros(value.shape, bool))
    yield "one axis more", value[None]
    yield "one axis less", value[0]
    yield "shorter", value[:-1]
    yield "empty", value[:0]
    yield "negative", -1 - np.abs(np.asarray(value, float))
    yield "ragged", [[1.0], [1.0, 2.0]]


def of_number(value: float) -> Iterator[tuple[str, Any]]:
    for x in (np.nan, np.inf, -np.inf, -1 - value, 95, 1e300, -1e300, 1e-300, 0, 0.5):
        yield f"{x:.3g}", x
    yield "10^400", 10**400
    yield "complex", value + 1j
    yield "two", [value, value]
    yield "empty", []
    yield "text", np.array("a")


def of_tuple(value: tuple) -> Iterator[tuple[str, Any]]:
    yield "shorter", value[:-1]
    yield "empty", ()
    for x in (None, "a", np.nan, -1, 1j, 1e300):
        yield f"{x} inside", (*value[:-1], x)


def changes(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What is tried in place of a sound value."""
    yield from (("text", "abc"), ("object", object()), ("dict", {"a": 1}), ("set", {1.0, 2.0}))
    if name not in OPTIONAL:
        yield "None", None
    if isinstance(value, bool):
        yield from (("number", 0.5), ("nan", np.nan))
    elif isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield from (("number", 1), ("keys", jax.random.split(value)), ("floats", np.ones(2)))
    elif isinstance(value, np.ndarray | jax.Array):
        yield from of_array(np.asarray(value))
    elif isinstance(value, int | float):
        yield from of_number(value)
    elif isinstance(value, tuple):
        yield from of_tuple(value)
    elif isinstance(value, list) and isinstance(value[0], float):
        yield from of_array(np.asarray(value))
    else:
        yield "number", 3


@pytest.mark.parametrize("name", CALLS)
def test_no_argument_gives_nan_or_a_number_that_it_should_not(name):
    call = CALLS[name]
    assert is_finite(call()) or name in NOT_FINITE
    for argument, sound in call.arguments.items():
        for what, bad in changes(argument, sound):
            said = f"{name}({argument}: {what})"
            try:
                result = call(**{argument: bad})
            except ValueError as error:
                assert len(str(error).splitlines()) == 1 and len(str(error)) < 300, said
                continue
            assert what not in NEVER - DOCUMENTED.get((name, argument), set()), said
            assert is_finite(result) or name in NOT_FINITE, said


def test_every_public_function_is_called_here():
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                known = any(key == name or key.endswith(f" {name}") for key in CALLS)
                aliases = {"predict_worst_case"} | {f.__name__ for f in families.FAMILIES.values()}
                assert known or name in NO_ESTIMATORS | aliases, name
    for name in remid_jax.__all__:
        home = remid_jax._LOCATIONS[name]
        if home.startswith("remid_jax.information") and inspect.isfunction(
            getattr(remid_jax, name)
        ):
            assert name in CALLS or name in NO_ESTIMATORS | {"predict_worst_case"}, name


def test_numbers_that_overflow_together_are_refused():
    club, infonce = mutual_information.club, mutual_information.infonce
    high = np.where(np.eye(6, k=1) > 0, -3e38, 3e38)
    for call in (
        lambda: club(high),
        lambda: club(S, lengths=np.full(6, 1e-38)),
        lambda: significance.contributions(high),
        lambda: uncertainty.jackknife_error(np.array([3e38, -3e38, 1.0])),
        lambda: repeated.repeated_club(high[..., None]),
        lambda: repeated.variance_parts(high),
        lambda: bounds.paper_bound(3e38, [0.6] * 9, 0.1, 0.1),
    ):
        with pytest.raises(ValueError, match="is not finite: numbers this large"):
            call()
    assert np.isfinite(infonce(np.where(np.eye(6) > 0, S, -1e30)))  # as good as impossible


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int32, np.uint8, np.float16, jnp.bfloat16])
def test_whole_and_short_numbers_are_read_as_what_they_are(dtype):
    scores = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1]]).astype(dtype)
    assert float(mutual_information.club(scores)) == pytest.approx(1 - 1 / 6, abs=0.01)
    many = np.arange(9).reshape(3, 3).astype(np.int8 if dtype is bool else dtype)
    value = repeated.repeated_club(many[..., None])
    assert float(value) == pytest.approx(float(mutual_information.club(many)), abs=0.02)
    assert float(repeated.variance_parts(many).context) == pytest.approx(9 - 1 / 3, abs=0.1)
    halves = mutual_information.club(scores, negatives=0.5 * mutual_information.all_negatives(3))
    assert float(halves) == pytest.approx(1 - 1 / 6, abs=0.01)
    three, two = np.array([3]).astype(np.uint8), np.array([5]).astype(np.uint8)
    assert mutual_information.emid(three, two).tolist() == [-2]  # and not 254


def test_lists_are_arrays():
    as_lists = {k: v.tolist() for k, v in MASKED.items()}
    array, listed = mutual_information.club(**MASKED), mutual_information.club(**as_lists)
    assert array == listed
    assert mutual_information.emid([3.0, 2.0], [1.0, 1.0]).tolist() == [2, 1]
    half = np.array([[0.5, 0.5]]).tolist()
    assert float(divergences.entropy(half)[0]) == pytest.approx(math.log(2))
    assert bounds.linear_bound([0.5, 0.5], [0.4, 0.6], np.eye(2) / 2 + 0.25, np.eye(2)).tv > 0


def test_masks_are_true_and_false_or_one_and_zero():
    where = MASKED["where"]
    expected = float(mutual_information.club(S, where=where))
    for mask in (where.astype(int), where.astype(float), where.tolist(), jnp.asarray(where)):
        assert float(mutual_information.club(S, where=mask)) == expected
    for wrong in (np.full(6, 2), where * 0.5, where - 1, np.full(6, np.nan)):
        with pytest.raises(
            ValueError, match=r"where of shape \(6,\) holds .* at \(\d,\), but a mask"
        ):
            mutual_information.club(S, where=wrong)


def test_what_is_not_read_may_be_anything():
    where, lengths = MASKED["where"], np.where(MASKED["where"], LENGTHS, np.nan)
    holes = np.where(where[:, None] & where, S, np.nan)
    wide = np.where(where[:, None] & where, S, 1e300)
    for test in (mutual_information.club, significance.contributions):
        sound = np.asarray(test(S, lengths=LENGTHS, where=where))
        for scores in (holes, wide):
            np.testing.assert_array_equal(test(scores, lengths=lengths, where=where), sound)
    p = significance.independence_test(S, where=where, lengths=LENGTHS, permutations=50)
    assert p == significance.independence_test(
        wide, where=where, lengths=np.where(where, LENGTHS, 0), permutations=50
    )


def test_small_errors_keep_their_freedom():
    for unit in (1e-100, 2.0**-500, 1.0, 1e60):
        error, freedom = uncertainty.combined_error(3 * unit, 10, 4 * unit, 10)
        assert error == pytest.approx(5 * unit) and freedom == pytest.approx(18.5459, rel=1e-5)
        assert power.power(unit, 2 * unit, unit, 30) == pytest.approx(power.power(1, 2, 1, 30))


def test_an_estimate_without_spread_keeps_the_smaller_freedom():
    flat = bound_estimates.BoundBlocks(
        np.zeros(5), np.zeros((4, 5)), np.zeros((4, 4)), np.zeros((5, 5)), np.zeros(4),
        np.zeros((5, 4)),
    )  # fmt: skip
    found = bound_estimates.linear_bound_estimate(flat)
    assert [float(x) for x in found] == [0, 0, 3]
    assert float(found.upper_limit()) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.factor_bound(1.0, np.array([0.1, np.nan])), "shares .* holds nan"),
        (lambda: bounds.factor_bound(np.inf, np.array([0.1])), "span holds inf"),
        (lambda: bounds.factor_bound(1.0, np.array([0.1, -0.2])), "shares .* must not be negative"),
        (lambda: bounds.paper_bound(1.0, np.array([np.nan]), 0.1, 0.1), "marginal_js .* holds nan"),
        (lambda: significance.worst_set([1, 2], np.diag([1, np.nan]), 9.0), "errors .* holds nan"),
        (lambda: significance.worst_set([1, 2], -np.ones((2, 2)), 9.0), "errors .* negative"),
        (lambda: significance.worst_set([1, 2], np.ones((2, 2)), 0.0), "freedom .* positive"),
        (lambda: group_sums.group_sums(S, [0, 0, 1, 1, 9, 9], 3), r"9 at \(4,\), .* below 3"),
        (lambda: group_sums.group_sums(S, [0, 0.5, 1, 1, -1, 2], 3), "0.5 .* whole numbers"),
        (lambda: significance.contributions(S, np.full(6, -5.0)), "lengths .* hold -5.0 at 0"),
        (lambda: significance.contributions(S, [5, 5, 0, 5, 5, 5]), "lengths .* hold 0 at 2"),
        (lambda: mutual_information.club(S + 1j), r"scores .* not complex ones of shape \(6, 6\)"),
        (lambda: mutual_information.club(np.where(S > 0, S, -1e39)), "scores .* fit into float32"),
        (lambda: uncertainty.t_interval(1.0, 1.0, 5.0, level=95), "level holds 95, .* 0 and 1"),
        (lambda: uncertainty.t_interval(1.0, -1.0, 5.0), "standard_error holds -1.0"),
        (lambda: uncertainty.t_test(1.0, 1.0, 0.0), "freedom holds 0.0"),
        (lambda: uncertainty.combined_error(1.0, 0.0, 2.0, 5.0), "freedom_a holds 0.0"),
        (lambda: uncertainty.jackknife_error(np.array([1, np.nan, 2])), r"replicates .* \(1,\)"),
        (lambda: uncertainty.jackknife(lambda m: jnp.nan, np.arange(3)), "statistic holds nan"),
        (lambda: uncertainty.jackknife(lambda m: "a", np.arange(3)), "statistic must hold real"),
        (lambda: uncertainty.clusters(["a", float("nan")]), "labels hold nan at 1"),
        (lambda: uncertainty.clusters([["a"], ["b"]]), "labels must be lists of names"),
        (lambda: significance.holm([0.2, float("nan")]), r"p_values of shape \(2,\) hold nan at 1"),
        (lambda: mutual_information.likelihood_baseline([], [], [], []), "model_diagonal .* empty"),
        (lambda: mutual_information.retained(1.0, 0.0), "golden holds 0.0"),
        (lambda: cross_information.is_saturated(float("nan"), 4), "value holds nan"),
        (lambda: power.power(1.0, 2.0, 2.0, float("nan")), "n holds nan"),
        (lambda: power.power(1.0, 2.0, 2.0, 9, level=1e-17), "level holds 1e-17"),
        (lambda: power.detectable(1.0, float("nan")), "freedom holds nan"),
        (lambda: power.samples_needed(0.0, 1.0, 1.0), "difference holds 0.0, but must not be 0"),
        (lambda: group_sums.club_replicates(group_sums.group_sums(S, [0, 0, 0, 1, 1, 1], 2)),
         "a deletion leaves no pair"),
        (lambda: group_sums.streamed_infonce(lambda a, b: S[:1], 6), r"block\(0, 6\) must have"),
        (lambda: group_sums.streamed_infonce(lambda a, b: S, 6, block_rows=-1), "block_rows holds"),
        (lambda: representation.von_neumann_entropy(1e-30 * S), "lengths of rows"),
        (lambda: representation.representation_jsd_test(S, S, paired="no"), "paired must be True"),
        (lambda: classifier.classifier_js(S, S, groups=np.arange(12)), "groups must be two lists"),
        (lambda: draws.pair_matrix(S, [0, 6], [0, 1]), r"x of shape \(2,\) holds 6 .* 0..5"),
        (lambda: channels.noisy(np.eye(2), 95), "noise holds 95"),
    ],
)  # fmt: skip
def test_the_message_says_what_and_where(call, message):
    with pytest.raises(ValueError, match=message):
        call()

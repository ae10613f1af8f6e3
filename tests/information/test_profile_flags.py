"""Flags of a profile: faults made of δ, an independent reading of their table, and bad input."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from remid_jax.factor_names import FACTORS
from remid_jax.information.precision import double_precision
from remid_jax.information.profile_flags import NAMES, Flags, profile_flags
from remid_jax.information.profile_shares import share

N = 10
MEANS = {"user": 30.0, "character": 20.0, "dialogue": 11.0, "history": 6.0, "last_turn": 5.0}


@pytest.fixture(scope="module", autouse=True)
def in_double_precision():
    with double_precision():
        yield


def golden_of(seed=0, n=N):
    """Golden's δ, all positive, with an s.d. of .3 of their mean."""
    rng = np.random.default_rng(seed)
    return {f: mean * rng.uniform(0.5, 1.5, n) for f, mean in MEANS.items()}


def noise(seed, n=N):
    return np.random.default_rng(100 + seed).normal(0, 0.3, n)


def scaled(**by):
    """A model with so many times golden's δ, and noise."""
    return {f: by.get(f, 1.0) * x + noise(k) for k, (f, x) in enumerate(golden_of().items())}


def raised(flags):
    """Names of the flags that are up, with their factor."""
    found = {f"{k} {f}" for k in ("ignores", "contradicts") for f, up in getattr(flags, k).items()
             if up}  # fmt: skip
    return found | {k for k in Flags._fields[2:] if getattr(flags, k)}


NOTHING = dict.fromkeys(NAMES, 0.0)
LIKELIER, LESS_LIKELY = 1.0 + noise(9), -1.0 + noise(9)
IGNORES_ALL = {f"ignores {f}" for f in NAMES}
FAULTS = {  # own words, all words, baseline, what is raised
    "none": (scaled(), scaled(), noise(8), set()),
    "ignores the user": (scaled(user=0.05), scaled(user=0.05), None, {"ignores user"}),
    "above the half": (scaled(user=0.6), scaled(user=0.6), None, set()),
    "wrong character": (
        scaled(character=-0.3),
        scaled(character=-0.3),
        None,
        {"ignores character", "contradicts character"},
    ),
    "hardly below 0": (  # below 0 for sure, and yet within .05 of golden's
        {**scaled(), "user": np.full(N, -0.1)},
        scaled(),
        None,
        {"ignores user"},
    ),
    "copies the last turn": (scaled(), scaled(last_turn=12.0), None, {"copies_last_turn"}),
    "a longer last turn": (scaled(), scaled(last_turn=4.0), None, set()),  # not half of all
    "echo": (
        scaled(user=0.0, character=0.0, dialogue=3.0),
        scaled(user=0.0, character=0.0, dialogue=3.0, last_turn=12.0),
        LIKELIER,
        {"ignores user", "ignores character", "copies_last_turn", "echo"},
    ),
    "a little of the persona": (scaled(), scaled(user=1.9), None, set()),
    "more of the persona": (scaled(), scaled(user=2.1), None, {"copies_persona"}),
    "copies the persona": (scaled(), scaled(user=8.0), LIKELIER, {"copies_persona"}),
    "generic": (scaled(**NOTHING), scaled(**NOTHING), LIKELIER, IGNORES_ALL | {"context_free"}),
    "of other contexts": (
        scaled(**dict.fromkeys(NAMES, -1.0)),
        scaled(**dict.fromkeys(NAMES, -1.0)),
        LESS_LIKELY,
        IGNORES_ALL | {f"contradicts {f}" for f in NAMES} | {"context_free"},
    ),
    "cold": (
        scaled(**dict.fromkeys(NAMES, 1.4)),
        scaled(**dict.fromkeys(NAMES, 1.4)),
        LIKELIER,
        {"colder_than_golden"},
    ),
    "more information, not likelier": (
        scaled(**dict.fromkeys(NAMES, 1.4)),
        scaled(**dict.fromkeys(NAMES, 1.4)),
        LESS_LIKELY,
        set(),
    ),
    "likelier, no more information": (scaled(), scaled(), LIKELIER, set()),
    "cold without a baseline": (scaled(user=1.4), scaled(user=1.4), None, set()),
    "cold but a copy": (scaled(user=1.4), scaled(user=8.0), LIKELIER, {"copies_persona"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault):
    own, whole, baseline, expected = FAULTS[fault]
    golden = golden_of()
    assert raised(profile_flags(own, golden, whole, golden, baseline=baseline)) == expected


def test_golden_itself_raises_none():
    for seed in range(20):
        sign = np.random.default_rng(seed).choice([-1, 1], len(NAMES))
        golden = {f: s * x for s, (f, x) in zip(sign, golden_of(seed).items(), strict=True)}
        flags = profile_flags(golden, golden, golden, golden, baseline=np.zeros(N))
        assert not raised(flags)


@pytest.mark.parametrize("times, copies", [(2.9, False), (3.1, True)])
def test_a_last_turn_that_golden_itself_takes_up(times, copies):
    golden = {**golden_of(), "last_turn": golden_of()["user"]}  # half of all is less than thrice it
    whole = {**scaled(), "last_turn": times * golden["last_turn"]}
    assert raised(profile_flags(golden, golden, whole, golden)) == (
        {"copies_last_turn"} if copies else set()
    )


def plain_flags(own, golden, whole, golden_whole, baseline):
    """The table of the flags, read once more."""

    def limits(form):
        half = stats.t.ppf(0.975, len(form) - 1) * stats.sem(form)
        return form.mean() - half, form.mean() + half

    low, high = (lambda form: limits(form)[0]), (lambda form: limits(form)[1])
    total = lambda x: sum(x[f] for f in FACTORS)  # noqa: E731
    known = {f: bool(share(own[f], golden[f]).shown) for f in own}
    ignores = {f: known[f] and high(own[f] - golden[f] / 2) < 0 for f in own}
    contradicts = {
        f: known[f] and high(own[f]) < 0 and high(own[f] + 0.05 * golden[f]) < 0 for f in own
    }
    turn, its = whole["last_turn"], golden_whole["last_turn"]
    last = low(turn - 3 * its) > 0 and low(turn - total(golden_whole) / 2) > 0 and low(turn) > 0
    persona = low(whole["user"] - 2 * golden_whole["user"]) > 0 and low(whole["user"]) > 0
    free = low(total(golden)) > 0 and high(total(own) - total(golden) / 4) < 0
    cold = low(baseline) > 0 and low(total(own) - total(golden)) > 0 and not last and not persona
    echo = last and ignores["user"] and ignores["character"]
    return Flags(ignores, contradicts, last, echo, persona, free, cold)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6))
def test_flags_equal_their_table(seed):
    rng = np.random.default_rng(seed)
    means = 10 * np.exp(rng.normal(size=len(NAMES)))
    golden, golden_whole = (
        {f: rng.normal(m, 2 * m * rng.random(), N) for f, m in zip(NAMES, means, strict=True)}
        for _ in range(2)
    )
    own, whole = (
        {f: rng.choice([-1.0, 0, 0.3, 1, 1.5, 2.5, 4, 20]) * x + rng.normal(0, 3, N)
         for f, x in side.items()}
        for side in (golden, golden_whole)
    )  # fmt: skip
    baseline = rng.normal(rng.choice([-1, 0, 2]), 1, N)
    expected = plain_flags(own, golden, whole, golden_whole, baseline)
    found = profile_flags(own, golden, whole, golden_whole, baseline=baseline)
    assert raised(found) == raised(expected)


def test_masks_maps_and_dtypes():
    keep = np.arange(N) % 4 != 1
    own, whole, baseline, expected = FAULTS["echo"]
    golden = golden_of()
    holes = [{f: np.where(keep, x, np.nan) for f, x in side.items()} for side in (own, golden)]
    sides = (*holes, {f: np.where(keep, x, np.nan) for f, x in whole.items()}, holes[1])
    gaps = np.where(keep, baseline, np.nan)
    each = dict.fromkeys(NAMES, keep)
    for where in (keep, each):
        found = profile_flags(*sides, baseline=gaps, where=where)
        jitted = jax.jit(lambda b, w: profile_flags(*sides, baseline=b, where=w))(gaps, where)
        assert raised(found) == raised(jitted) == expected
    for dtype in (np.float32, np.float16):
        short = [{f: x.astype(dtype) for f, x in side.items()} for side in sides]
        assert raised(profile_flags(*short, baseline=gaps, where=keep)) == expected
    cases = [FAULTS[name][:3] for name in ("echo", "cold", "generic")]
    batch = jax.tree.map(lambda *x: np.stack(x), *cases)
    mapped = jax.vmap(lambda a, b, c: profile_flags(a, golden, b, golden, baseline=c))(*batch)
    for k, name in enumerate(("echo", "cold", "generic")):
        assert raised(jax.tree.map(lambda x, k=k: x[k], mapped)) == FAULTS[name][3]


def test_each_factor_has_its_own_contexts():
    own, whole, golden = scaled(user=0.05), scaled(user=0.05), golden_of()
    own["user"][:3] = 1e6  # no partner: not read, where all others are
    where = {f: np.arange(N) >= (3 if f == "user" else 0) for f in NAMES}
    assert raised(profile_flags(own, golden, whole, golden, where=where)) == {"ignores user"}
    assert raised(profile_flags(own, golden, whole, golden)) == set()
    apart = {f: (np.arange(N) < 5) == (f == "user") for f in NAMES}  # no common context for Σ
    free = scaled(**NOTHING)
    flags = profile_flags(free, golden, free, golden, where=apart)
    assert raised(flags) == IGNORES_ALL


def test_a_factor_without_partners_is_left_out():
    own, whole, baseline, expected = FAULTS["echo"]
    without = lambda x, *names: {f: v for f, v in x.items() if f not in names}  # noqa: E731
    sides = (own, golden_of(), whole, golden_of())
    found = profile_flags(*(without(x, "user") for x in sides), baseline=baseline)
    assert raised(found) == expected - {"ignores user", "echo"}
    found = profile_flags(*(without(x, "last_turn") for x in sides), baseline=baseline)
    assert raised(found) == {"ignores user", "ignores character"}
    turns = [{"last_turn": x["last_turn"]} for x in sides]
    assert raised(profile_flags(*turns, baseline=baseline)) == set()
    generic = [without(x, "character") for x in (scaled(**NOTHING), golden_of())]
    found = profile_flags(*generic, *generic)
    assert raised(found) == IGNORES_ALL - {"ignores character"} | {"context_free"}


def test_bad_input_is_named():
    golden, own = golden_of(), scaled()
    hole = {**own, "user": np.where(np.arange(N) == 4, np.nan, own["user"])}
    short = {**own, "character": own["character"][:-1]}
    part = {"user": own["user"]}
    mask = {f: np.arange(N) > 8 for f in NAMES}
    for arguments, said, message in (
        ((own["user"], golden, own, golden), {}, "own_words must map factors to lists"),
        ((own, {}, own, golden), {}, "golden_own_words must map factors to lists"),
        (({"users": own["user"]}, golden, own, golden), {}, "did you mean 'user'"),
        ((part, golden, own, golden), {}, "own_words has user, golden_own_words has user, char"),
        ((own, golden, own, part), {}, "all_words has .* give both the same"),
        ((hole, golden, own, golden), {}, r"own_words\['user'\] of .* nan at \(4,\)"),
        ((own, golden, own, short), {}, r"golden_all_words\['character'\] must have shape \(10,\)"),
        ((own, golden, own, golden), {"baseline": np.ones(9)}, "baseline must have shape"),
        ((own, golden, own, golden), {"where": np.ones(9)}, r"where must have shape \(10,\)"),
        ((own, golden, own, golden), {"where": mask}, "keeps 1: an estimate needs 2"),
        ((own, golden, own, golden), {"where": {"user": mask["user"] < 2}}, "no mask of"),
        (({"user": 1.0}, {"user": 2.0}, own, golden), {}, r"lists \[n >= 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            profile_flags(*arguments, **said)

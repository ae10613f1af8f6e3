"""Which samples stand for an RPM, and what every sample's record holds."""

import numpy as np
import pytest
from made_up_subsets import estimates_of, jackknife_error, subset

from remid_jax.analysis.contributions import contribution_records
from remid_jax.analysis.examples import choose_examples
from remid_jax.analysis.profile import profile_records
from remid_jax.information.pairs import Swapped, with_reference_rows
from remid_jax.information.profile_flags import NAMES

N = 6


def record(name, own, golden, rpm="m", tag="IDTest"):
    """A record with δ of user, character and dialogue, and of golden."""
    found = dict.fromkeys((*NAMES, *(f"{f}_golden" for f in NAMES)))
    keys = ("user", "character", "dialogue")
    found |= dict(zip(keys, own, strict=True))
    found |= {f"{f}_golden": x for f, x in zip(keys, golden, strict=True)}
    return {"rpm": rpm, "subset": tag, "sample_ID": name, **found}


def test_the_samples_that_lose_most_are_chosen_in_each_subset():
    nothing = (None, None, None)
    rows = [
        record("a", (1, 1, 1), (5, 5, 5)),  # 12
        record("b", (9, 1, 0), (9, 9, None)),  # 8 of the factors that both have
        record("c", (0, 0, 0), (4, 5, 4)),  # 13
        record("d", (-50, 0, 0), nothing),  # without golden: after the others
        record("e", (7, 7, 7), (0, 0, 0)),  # −21
        record("f", nothing, (9, 9, 9)),
        record("g", (1, 2, 3), nothing, tag="german"),
        record("h", (1, -2, None), nothing, tag="german"),
        record("a", (1, 1, 1), (5, 5, 5), rpm="other"),
    ]
    found = choose_examples(rows)
    assert [(r["rpm"], r["subset"], r["sample_ID"], r["lost"]) for r in found] == [
        ("m", "IDTest", "c", 13), ("m", "IDTest", "a", 12), ("m", "IDTest", "b", 8),
        ("m", "german", "h", None), ("m", "german", "g", None),
        ("other", "IDTest", "a", 12),
    ]  # fmt: skip
    assert found[2]["factors"]["dialogue"] == {"info": 0, "info_golden": None}
    assert list(found[0]["factors"]) == list(NAMES)
    assert choose_examples([record("f", nothing, nothing)]) == []


def swaps_of(s, seed, copied):
    """Scores of answers to a subset in which context 5 has no partner."""
    rng, names = np.random.default_rng(seed), (*s.rpms,)
    sources = {f: np.array([[1], [2], [3], [4], [0], [-1]]) for f in NAMES}
    weights = {f: np.array([1, 1, 0.5, 1, 1, 0]) for f in NAMES}
    own = {name: rng.normal(-50, 3, (N, 2)) for name in names}
    scores = {
        name: {f: own[name][:, None] - rng.normal(5, 2, (N, 1, 2)) for f in NAMES} for name in names
    }
    return Swapped(sources, weights, own, scores, dict.fromkeys(names, copied))


@pytest.fixture
def swapped():
    where = np.arange(N) != 4
    s = with_reference_rows(subset("IDTest", 3, 20.0, n=N, where=where))
    copied = np.array([[8, 2], [5, 5], [9, 1], [10, 0], [6, 4], [7, 3]])
    return s, swaps_of(s, 1, copied), copied


def test_a_record_holds_the_deltas_of_its_sample(swapped):
    s, swaps, _ = swapped
    rows = contribution_records(estimates_of([s]), {"IDTest": swaps})
    own = [r for r in rows if r["rpm"] == "a"]
    assert {r["sample_ID"] for r in own} == {f"IDTest_{i}" for i in (0, 1, 2, 3, 5)}
    for r in own:
        i = int(r["sample_ID"][-1])
        for key, name in (("user", "a"), ("user_golden", "golden")):
            gap = swaps.own[name][i, 0] - swaps.scores[name]["user"][i, 0, 0]
            expected = None if i == 5 else pytest.approx(swaps.weights["user"][i] * gap, abs=1e-4)
            assert r[key] == expected
    assert len([r for r in rows if r["rpm"] == "b"]) == N
    assert [r["nats"] for r in own] == sorted(r["nats"] for r in own)
    plain = contribution_records(estimates_of([s]), {})
    assert {r["user"] for r in plain} == {None} and len(plain) == len(rows)
    assert [r["nats"] for r in plain] == [r["nats"] for r in rows]
    other = contribution_records(estimates_of([s], name="leave_one_out"), {"IDTest": swaps})
    assert {r["nats"] for r in other} == {None} and len(other) == len(rows)
    sums = [sum(r[f] or 0 for f in ("user", "character", "dialogue")) for r in other[:5]]
    assert sums == sorted(sums)
    assert contribution_records(estimates_of([s], name="leave_one_out"), {}) == []


def test_the_share_of_copied_words_has_a_jackknife_interval(swapped):
    s, swaps, copied = swapped
    cells, _ = profile_records(estimates_of([s]), {"IDTest": swaps})
    cell = next(c for c in cells if (c["rpm"], c["factor"]) == ("a", "user"))
    kept = [0, 1, 2, 3, 5]
    share = lambda some: copied[some, 1].sum() / copied[some].sum()  # noqa: E731
    error = jackknife_error([share([i for i in kept if i != k]) for k in kept])
    assert cell["copied"] == pytest.approx(share(kept)) and cell["copied_se"] == pytest.approx(
        error
    )
    half = 2.7764451 * error  # t of 4 degrees of freedom
    ends = cell["copied_low"], cell["copied_high"]
    assert ends == pytest.approx((share(kept) - half, share(kept) + half), rel=1e-4)

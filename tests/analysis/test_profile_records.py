"""The profile of made-up scores: which faults show, and what is estimated."""

import dataclasses

import numpy as np
import pytest
from made_up_subsets import estimates_of, settings_of

from remid_jax.analysis.profile import _needed, profile_records
from remid_jax.data.factors import FACTORS
from remid_jax.information.pairs import Block, Subset, Swapped, negatives_for, with_reference_rows
from remid_jax.information.power import samples_needed


def of(rows, **values):
    return [r for r in rows if all(r[k] == v for k, v in values.items())]


def made_up(answers, golden, contexts, log_q, labels=None, answered=None):
    """A subset whose responses are values of three factors, and its scores under one swap."""
    n = len(golden)
    sources = np.roll(np.arange(n), -1)[:, None]
    block = Block(np.zeros((n, n)), np.zeros((n, n)), np.ones(n, int), np.ones(n, bool))
    where = np.ones(n, bool) if answered is None else answered
    subset = with_reference_rows(
        Subset(
            tag="IDTest", sample_ids=tuple(map(str, range(n))), pair_ids=(None,) * n,
            languages=(None,) * n, golden=block,
            rpms={"model": dataclasses.replace(block, where=where)},
            negatives=negatives_for(n, settings_of(), labels), labels=labels,
        )
    )  # fmt: skip
    said = {"model": answers, "golden": golden, "shuffled golden": np.roll(golden, -1, axis=0)}

    def parts(name, under):
        found = np.stack([log_q(said[name], under), np.zeros(n)], axis=-1)
        return np.where(where[:, None] | (name != "model"), found, np.nan)

    own, scores = {}, {}
    for name in said:
        own[name], scores[name] = parts(name, contexts), {}
        for k, factor in enumerate(FACTORS):
            other = contexts.copy()
            other[:, k] = contexts[sources[:, 0], k]
            scores[name][factor] = parts(name, other)[:, None]
    weights = {
        f: np.array([np.mean(np.delete(contexts[:, k], i) != contexts[i, k]) for i in range(n)])
        for k, f in enumerate(FACTORS)
    }
    tokens = dict.fromkeys(said, np.tile([3, 1], (n, 1)))
    swaps = Swapped(dict.fromkeys(FACTORS, sources), weights, own, scores, tokens)
    return profile_records(estimates_of([subset]), {"IDTest": swaps})


def lookup_world(n, rng, broken, **changes):
    """Answers name one of 50 values of each factor, rightly with probability .9; q is exact.

    The model draws the factor `broken` at random.
    """
    contexts = rng.integers(0, 50, (n, 3))

    def answer():
        right = rng.random((n, 3)) < 0.9
        return np.where(right, contexts, rng.integers(0, 50, (n, 3)))

    def log_q(y, x):
        return np.log([0.1 / 50, 0.9 + 0.1 / 50])[(y == x).astype(int)].sum(axis=1)

    golden, model = answer(), answer()
    if broken is not None:
        model[:, broken] = rng.integers(0, 50, n)
    return made_up(model, golden, contexts, log_q, **changes)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_the_ignored_factor_is_flagged(broken):
    rng, seen = np.random.default_rng(broken), 0
    for _ in range(20):
        records, flags = lookup_world(16, rng, broken)
        own = of(records, rpm="model")
        assert {r["copied"] for r in own} == {0.25}
        below = [r["factor"] for r in own if r["lost"] > 0 and r["p_holm"] < 0.05]
        ignored = [f["factor"] for f in of(flags, rpm="model", flag="ignores")]
        seen += below == ignored == [FACTORS[broken]]
    assert seen >= 17
    assert own[broken]["shown"] and own[broken]["share_low"] < 0.2 < own[(broken + 1) % 3]["share"]


def test_a_faultless_model_is_flagged_rarely():
    rng = np.random.default_rng(7)
    found = [lookup_world(16, rng, None) for _ in range(40)]
    assert sum(bool(of(flags, rpm="model")) for _, flags in found) <= 2
    wrong = [[r for r in of(rs, rpm="model") if r["p_holm"] < 0.05] for rs, _ in found]
    assert sum(map(bool, wrong)) <= 5


def test_clusters_are_the_units():
    """Each context twice, as a cluster: the numbers are those of one copy, and as uncertain."""
    rng = np.random.default_rng(3)
    contexts, noise = np.arange(24).reshape(8, 3), rng.normal(5, 1, (8, 3))
    model = np.where(rng.random((8, 3)) < 0.5, contexts, 99)

    def log_q(y, x):
        return (np.tile(noise, (len(x) // 8, 1)) * (y == x)).sum(axis=1)

    one, _ = made_up(model, contexts, contexts, log_q)
    twice = (np.tile(x, (2, 1)) for x in (model, contexts, contexts))
    both, _ = made_up(*twice, log_q, labels=tuple(str(i % 8) for i in range(16)))
    for a, b in zip(of(one, rpm="model"), of(both, rpm="model"), strict=True):
        assert (a["n"], b["n"]) == (8, 16)
        weight = 14 / 15  # one of 15 others is the context's twin
        assert b["lost"] == pytest.approx(a["lost"] * weight, rel=1e-5)
        assert b["lost_se"] == pytest.approx(a["lost_se"] * weight, rel=1e-5)
        assert b["share_high"] == pytest.approx(a["share_high"], rel=1e-5)


def test_excluded_answers_leave_their_contexts_out():
    answered = np.arange(6) != 2
    records, _ = lookup_world(6, np.random.default_rng(1), None, answered=answered)
    for row in of(records, rpm="model"):
        assert row["n"] == 5 and np.isfinite(row["info_se"])
    few, none = lookup_world(6, np.random.default_rng(1), None, answered=np.arange(6) < 2)
    assert {r["reason"] for r in of(few, rpm="model")} == {
        "2 contexts have an answer and a golden response"
    }
    assert not of(none, rpm="model")


def test_contexts_that_would_show_it_are_those_of_the_power_function():
    (row, *_), _ = lookup_world(12, np.random.default_rng(5), None)
    assert row["rpm"] == "model" and row["info_golden"] > 0
    exact = samples_needed(
        row["info_golden"], row["info_golden_se"] * np.sqrt(12), 0.0, correlation=0.0
    )
    assert row["n_to_show"] == exact
    half = row["info_golden"] / 2, row["lost_se"] * np.sqrt(12), 0.0
    assert row["n_to_tell_half"] == samples_needed(*half, level=0.05 / 3, correlation=0.0)
    assert _needed(-1.0, 1.0, 9, 0.05) is _needed(np.nan, 1.0, 9, 0.05) is None
    assert _needed(1e-6, 1.0, 9, 0.05) is None

"""The information profile against an independent implementation, exact laws and plain loops."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.information.attribution import shapley
from remid_jax.information.divergences import kl, mutual_information
from remid_jax.information.precision import double_precision
from remid_jax.information.profile import factor_gaps, profile_information
from remid_jax.information.profile_shares import (
    Share,
    factor_uncertainty,
    lost,
    share,
    share_change,
)
from remid_jax.information.significance import holm
from remid_jax.worlds.exact import scored_information

REFERENCE = json.loads((Path(__file__).parents[1] / "golden/profile.json").read_text())
LETTERS = "ucd"
CELLS = ["".join(c) for k in range(4) for c in itertools.combinations(LETTERS, k)]


@pytest.fixture(scope="module", autouse=True)
def in_double_precision():
    with double_precision():
        yield


def swapped_contexts(sizes, factors):
    """[X, X]: the context x with these factors of x'."""
    grid = np.indices(sizes).reshape(len(sizes), -1)
    taken = np.array([letter in factors for letter in LETTERS[: len(sizes)]])[:, None, None]
    return np.ravel_multi_index(np.where(taken, grid[:, None, :], grid[:, :, None]), sizes)


class Law:
    """A joint law of contexts, and exact expectations of what the estimators read."""

    def __init__(self, joint, q):
        self.joint, self.log_q = np.asarray(joint), np.log(np.asarray(q))
        self.law = self.joint.ravel()

    def atoms(self, channel, factors, chances=None):
        """Terms of every (x, y, x'), of which gaps and log q under all swapped are the means."""
        channel = np.asarray(channel)
        x, y, z = np.indices((*channel.shape, len(self.law))).reshape(3, -1)
        swapped = swapped_contexts(self.joint.shape, factors)[x, z]
        gaps = factor_gaps(self.log_q[x, y], self.log_q[swapped, y][:, None], np.ones(len(x)))
        p = self.law[x] * channel[x, y] * (self.law[z] if chances is None else chances[x, z])
        return len(x) * p * np.asarray(gaps), len(x) * p * self.log_q[z, y]

    def information(self, channel, factors, chances=None):
        return self.atoms(channel, factors, chances)[0].mean()

    def matched(self, letter):
        """[X, X'] chances of x' whose factor is drawn given the others."""
        grid = np.indices(self.joint.shape).reshape(3, -1)
        rest = np.delete(grid, LETTERS.index(letter), axis=0)
        chances = self.law * (rest[:, :, None] == rest[:, None, :]).all(axis=0)
        return chances / chances.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("number, under", itertools.product(range(3), "PQ"))
def test_exact_worlds(number, under):
    world = REFERENCE["worlds"][number]
    expected, law = world["under"][under], Law(world[under], world["q"])
    sides = {"golden": world["channel"], "model": world["model"]}
    near = lambda x: pytest.approx(x, abs=1e-10)  # noqa: E731
    for name, channel in sides.items():
        values = {cell: law.information(channel, cell) for cell in CELLS}
        assert values == near(expected[name]["gaps"])
        cube = np.zeros((2, 2, 2))
        for cell, value in values.items():
            cube[tuple(int(letter in cell) for letter in LETTERS)] = value
        # Of falling values, as EMI falls under shift.
        assert np.asarray(shapley(-cube)) == near(np.array(expected[name]["shapley"]))
        assert sum(expected[name]["shapley"]) == near(values["ucd"])
        population = scored_information(law.law, np.array(channel), law.log_q)
        assert float(population["club"]) == near(values["ucd"]) == near(expected[name]["club"])
    for k, letter in enumerate(LETTERS):
        atoms = {name: law.atoms(channel, letter) for name, channel in sides.items()}
        for name, channel in sides.items():
            assert atoms[name][0].mean() == near(expected[name]["info"][k])
            assert -atoms[name][1].mean() == near(expected[name]["cross_entropy_all_swapped"])
            whole = np.minimum(atoms[name][1], 0)
            assert factor_uncertainty(atoms[name][0], whole).value == near(expected[name]["u"][k])
            conditional = law.information(channel, letter, law.matched(letter))
            assert conditional == near(expected[name]["info_conditional_swap"][k])
        both = atoms["model"][0], atoms["golden"][0]
        assert share(*both).value == near(expected["share"][k])
        assert lost(*both).value == near(expected["lost"][k])


def test_the_change_of_exact_shares():
    for world in REFERENCE["worlds"]:
        home, shifted = (
            Share(s, s, s, np.full(3, True))
            for s in (np.array(world["under"][side]["share"]) for side in "PQ")
        )
        change = share_change(home, shifted)
        np.testing.assert_allclose(change.value, world["shift_effect_share"], atol=1e-10)


def sampled(side, letter):
    """Own and swapped scores of the reference's sample, from its q."""
    sample = REFERENCE["sample"]
    world, part = REFERENCE["worlds"][sample["world"]], sample["factors"][letter]
    sizes, log_q = np.shape(world["P"]), np.log(world["q"])
    x = np.ravel_multi_index(np.transpose(sample["contexts"]), sizes)
    y, sources = np.array(sample["responses"][side]), np.array(part["sources"])
    swapped = swapped_contexts(sizes, letter)[x[:, None], x[sources]]
    own = log_q[x, y]
    np.testing.assert_allclose(own, sample["own"][side], atol=1e-10)
    others = log_q[x[None, :], y[:, None]]
    everything = (others.sum(axis=1) - np.diagonal(others)) / (len(x) - 1)
    return own, log_q[swapped, y[:, None]], np.array(part["weights"]), sources, everything


def test_the_sample():
    parts = REFERENCE["sample"]["factors"]
    p_values = []
    for letter, part in parts.items():
        scores = {side: sampled(side, letter) for side in ("model", "golden")}
        gaps = {side: factor_gaps(*s[:3]) for side, s in scores.items()}
        for side, (*swaps, everything) in scores.items():
            np.testing.assert_allclose(gaps[side], part["delta"][side], atol=1e-10)
            value, error = profile_information(*swaps)
            assert value == pytest.approx(part[f"info_{side}"], abs=1e-10)
            assert error == pytest.approx(part[f"info_{side}_se_rows_and_sources"], abs=1e-10)
            u = factor_uncertainty(gaps[side], everything)
            assert u.value == pytest.approx(part["u"][side], abs=1e-10)
        found = share(gaps["model"], gaps["golden"])
        assert found.value == pytest.approx(part["share"], abs=1e-10)
        assert bool(found.shown) == part["share_shown"] == (part["g"] < 1)
        if part["share_shown"]:
            assert found.low == pytest.approx(part["share_low"], abs=1e-10)
            assert found.high == pytest.approx(part["share_high"], abs=1e-10)
        else:
            assert np.isnan([found.low, found.high]).all()
        less = lost(gaps["model"], gaps["golden"])
        expected = [part[key] for key in ("lost", "lost_se", "lost_p")]
        np.testing.assert_allclose(less, expected, atol=1e-10)
        p_values.append(float(less.p))
        (own, swapped, weights, sources, _), model = scores["golden"], scores["model"]
        paired = profile_information(own - model[0], swapped - model[1], weights, sources)
        expected = [part["lost"], part["lost_se_rows_and_sources"]]
        np.testing.assert_allclose(paired, expected, atol=1e-10)
    expected = [part["lost_p_holm"] for part in parts.values()]
    np.testing.assert_allclose(holm(p_values), expected, atol=1e-10)


@st.composite
def laws(draw, independent=False):
    """A law of 2 x 3 x 2 contexts, golden's channel and any q of 4 responses."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    marginals = [rng.dirichlet(np.ones(k)) for k in (2, 3, 2)]
    product = np.einsum("u,c,d->ucd", *marginals)
    joint = product if independent else rng.dirichlet(np.ones(12)).reshape(2, 3, 2)
    golden, q = rng.dirichlet(np.ones(4), 12), 0.9 * rng.dirichlet(np.ones(4), 12) + 0.025
    return Law(joint, q), 0.99 * golden + 0.0025, draw(st.sampled_from(LETTERS))


def mean_kl(law, chances, p, q, swapped):
    """E KL(p_x ‖ q_x') over x and its swapped contexts."""
    return float((law.law[:, None] * chances * kl(p[:, None], q[swapped])).sum())


@settings(max_examples=20, deadline=None)
@given(drawn=laws())
def test_identities_of_any_law(drawn):
    law, g, letter = drawn
    q, swapped = np.exp(law.log_q), swapped_contexts((2, 3, 2), letter)
    marginal, matched = np.broadcast_to(law.law, (12, 12)), law.matched(letter)
    exact, own = Law(law.joint, g), np.arange(12)[:, None]
    for chances in (marginal, matched):
        right = mean_kl(law, chances, g, q, swapped) - mean_kl(law, np.ones((12, 1)), g, q, own)
        assert law.information(g, letter, chances) == pytest.approx(right, abs=1e-12)
        right = mean_kl(law, chances, g, g, swapped)
        assert exact.information(g, letter, chances) == pytest.approx(right, abs=1e-12)
        assert right >= 0
    # I(Y; F | rest) by each value of the rest, and p(y | rest).
    rest = matched @ g
    conditional = float(law.law @ np.asarray(kl(g, rest)))
    axis = LETTERS.index(letter)
    blocks = np.moveaxis(law.joint, axis, -1).reshape(-1, law.joint.shape[axis])
    rows = np.moveaxis(g.reshape(2, 3, 2, 4), axis, 2).reshape(*blocks.shape, 4)
    parts = [
        b.sum() * mutual_information(b / b.sum(), r) for b, r in zip(blocks, rows, strict=True)
    ]
    assert conditional == pytest.approx(float(sum(parts)), abs=1e-12)
    for chances in (marginal, matched):  # matched, the second part is the conditional lautum
        right = conditional + mean_kl(law, chances, rest, g, swapped)
        assert exact.information(g, letter, chances) == pytest.approx(right, abs=1e-12)
    ignoring = rest  # depends on the others alone
    assert law.information(ignoring, letter, matched) == pytest.approx(0, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(drawn=laws(independent=True), rate=st.floats(0, 1))
def test_identities_of_independent_factors(drawn, rate):
    law, g, letter = drawn
    ignoring = law.matched(letter) @ g
    assert law.information(ignoring, letter) == pytest.approx(0, abs=1e-12)
    blind = (1 - rate) * g + rate * ignoring
    golden = law.information(g, letter)
    assert law.information(blind, letter) == pytest.approx((1 - rate) * golden, abs=1e-12)


def test_the_expected_estimate_is_that_of_the_marginal_swap():
    # Every sample of 3 from a law with dependent factors, whose values often repeat.
    rng = np.random.default_rng(3)
    joint, g, q = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(2), 4), rng.dirichlet([1, 1], 4)
    atoms = [(x, y) for x in range(4) for y in range(2)]
    samples = np.array(list(itertools.product(atoms, repeat=3)))
    x, y = samples[..., 0], samples[..., 1]
    user = x // 2
    sources, weights = np.zeros((len(x), 3, 2), int), np.zeros((len(x), 3))
    for s, i in itertools.product(range(len(x)), range(3)):
        other = [j for j in range(3) if user[s, j] != user[s, i]]
        weights[s, i] = len(other) / 2
        sources[s, i] = (other * 2)[:2] if other else [-1, -1]
    swapped = swapped_contexts((2, 2), "u")
    log_q, row = np.log(q), np.arange(len(x))[:, None, None]
    given = log_q[swapped[x[..., None], x[row, sources]], y[..., None]]
    gaps = jax.jit(jax.vmap(factor_gaps))(log_q[x, y], given, weights)
    assert (np.isnan(gaps) == (weights == 0)).all()
    chance = (joint[x] * g[x, y]).prod(axis=1)
    left = chance @ np.nan_to_num(gaps).mean(axis=1)
    right = sum(
        joint[a] * g[a, b] * joint[c] * (log_q[a, b] - log_q[swapped[a, c], b])
        for a, b, c in itertools.product(range(4), range(2), range(4))
    )
    assert left == pytest.approx(right, abs=1e-12)


def repeated_values(seed):
    """A listed world of 2 users in the proportion 1 to 2 and 3 dialogues: counts and log q."""
    rng = np.random.default_rng(seed)
    golden = 1 + rng.multinomial(3, np.ones(3) / 3, size=(2, 3))
    return golden, rng.normal(-3, 1, (2, 3, 3))


def listed_gaps(counts, log_q, weighted=True):
    """δ of the user, of rows that hold each response as often as counts [2, 3, 3] say."""
    rows = [
        (u, d, y)
        for u, d, y in np.ndindex(counts.shape)
        for _ in range((1 + u) * counts[u, d, y])  # user 1 twice as often
    ]
    u, d, y = np.array(rows).T
    differ = np.array([(u != v).sum() for v in range(2)])[u] / (len(u) - 1)
    weights = differ if weighted else np.ones(len(u))
    return factor_gaps(log_q[u, d, y], log_q[1 - u, d, y][:, None], weights)


@pytest.mark.parametrize("seed", range(4))
def test_a_blind_model_has_its_share_where_values_repeat(seed):
    golden, log_q = repeated_values(seed)
    ignoring = np.broadcast_to(golden[0] + 2 * golden[1], golden.shape)  # 18 of each context
    truth = listed_gaps(9 * golden, log_q)
    assert share(listed_gaps(3 * ignoring, log_q), truth).value == pytest.approx(0, abs=1e-12)
    blind = share(listed_gaps(2 * 3 * golden + ignoring, log_q), truth)
    assert blind.value == pytest.approx(2 / 3, abs=1e-12)
    unweighted = listed_gaps(3 * ignoring, log_q, weighted=False)
    assert abs(jnp.mean(unweighted)) > 1e-2  # so that the weights are what is tested


def test_a_wrong_value_among_equidistant_ones():
    v = 5
    log_q = np.log((1 + 5 * np.eye(v)) / 10)
    f, copy = np.indices((v, 10)).reshape(2, -1)
    of = np.stack([np.repeat(np.arange(v), 1 + 5 * (np.arange(v) == k)) for k in range(v)])
    others = (f[:, None] + np.arange(1, v)) % v
    weights = np.full(len(f), (len(f) - 10) / (len(f) - 1))

    def gaps(y):
        return factor_gaps(log_q[f, y], log_q[others, y[:, None]], weights)

    found = share(gaps(of[(f + 1) % v, copy]), gaps(of[f, copy]))
    assert found.value == pytest.approx(-1 / (v - 1), abs=1e-12)

"""Exact quantities against an independent implementation, and the identities they must obey."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import remid_jax.worlds
from remid_jax.information import bounds
from remid_jax.information.divergences import kl, mutual_information, output_law
from remid_jax.worlds.distributions import World, joint_distribution, mechanisms_of
from remid_jax.worlds.exact import quantities, scored_information
from remid_jax.worlds.families import FAMILIES, random_world

pytestmark = pytest.mark.usefixtures("in_double_precision")

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "worlds.json").read_text())["worlds"]
INPUTS = ("P", "Q", "channel", "model", "mechanisms_P", "mechanisms_Q")
seeds = st.integers(0, 10**6)
families = st.sampled_from(sorted(FAMILIES))


exact = jax.jit(quantities)  # compiled once for all families: their worlds have one shape
read_by = jax.jit(scored_information)
information_of = jax.jit(mutual_information)


@functools.partial(jax.jit, static_argnames="family")
def world_of(seed: int, family: str) -> World:
    return random_world(jax.random.key(seed), family, 0.7, (3, 4, 2, 6))


@pytest.mark.parametrize("facts", GOLDEN, ids=lambda w: w["name"])
@pytest.mark.parametrize("with_mechanisms", [True, False])
def test_golden_worlds(facts, with_mechanisms):
    given_arrays = {k: np.array(facts[k]) for k in INPUTS[:4]}
    if with_mechanisms:
        given_arrays |= {k: tuple(np.array(m) for m in facts[k]) for k in INPUTS[4:]}
    ours = remid_jax.worlds.exact_quantities(**given_arrays)
    names = set(facts) - {"name", *INPUTS}
    assert len(names) == 21 and names <= set(ours)
    for name in names:
        np.testing.assert_allclose(ours[name], facts[name], rtol=0, atol=1e-10, err_msg=name)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, family=families)
def test_identities(seed, family):
    w = world_of(seed, family)
    q, found = exact(w), identities(w)
    found["shapley_total"] = q["shapley_user_character_dialogue"].sum()
    for name in ("emid", "emid_by_phi", "emid_by_psi", "shapley_total"):
        np.testing.assert_allclose(found[name], q["emid"], atol=1e-12, err_msg=name)
    for shares in ("js_chain_user_character_dialogue", "js_factors"):
        np.testing.assert_allclose(q[shares].sum(), q["js_joint"], atol=1e-12)


@jax.jit
def identities(w: World) -> dict:
    """EMID in three ways that must agree."""
    P, Q = w.P.ravel(), w.Q.ravel()
    rows = {"y": w.channel, "t": w.model}
    inputs = {"P": P, "Q": Q, "M": (P + Q) / 2}
    outputs = {(y, of): output_law(p, rows[y]) for y in rows for of, p in inputs.items()}

    def between(y, of, other):
        return kl(outputs[y, of], outputs[y, other])

    def gap_of(values):
        return jnp.sum((P - Q) * jnp.where(P + Q > 0, values, 0))

    ours, truth = kl(w.model, outputs["t", "Q"]), kl(w.channel, outputs["y", "Q"])
    gap = gap_of(ours - truth)
    phi = gap_of(bounds.phi(P, Q, w.channel, w.model))
    psi = gap_of(bounds.psi(P, Q, w.channel, w.model))
    psi = psi - (between("t", "P", "M") - between("t", "Q", "M"))
    return {
        "emid": gap - between("t", "P", "Q") + between("y", "P", "Q"),
        "emid_by_phi": phi - between("t", "P", "Q") - between("y", "Q", "P"),
        "emid_by_psi": psi + between("y", "P", "M") - between("y", "Q", "M"),
    }


@settings(max_examples=10, deadline=None)
@given(seed=seeds, family=families)
def test_club_with_the_exact_q_is_mutual_plus_lautum_information(seed, family):
    w = world_of(seed, family)
    P = w.P.ravel()
    joint = P[:, None] * w.channel
    apart = P[:, None] * output_law(P, w.channel)
    both = apart > 0
    ratio = jnp.where(both, apart, 1) / jnp.where(both, joint, 1)
    lautum = jnp.sum(apart * jnp.log(ratio))
    read = read_by(P, w.channel, jnp.log(w.channel))
    information = information_of(P, w.channel)
    np.testing.assert_allclose(read["club"], information + lautum, atol=1e-10)
    np.testing.assert_allclose(read["infonce"], information, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, family=families)
def test_infonce_of_golden_responses_is_at_most_the_information_for_any_q(seed, family):
    w = world_of(seed, family)
    log_q = jax.nn.log_softmax(3 * jax.random.normal(jax.random.key(seed), w.channel.shape))
    read = read_by(w.P.ravel(), w.channel, log_q)["infonce"]
    assert read <= information_of(w.P.ravel(), w.channel) + 1e-12


def test_the_model_that_plays_the_wrong_character_keeps_its_information():
    from remid_jax.worlds.channels import wrong

    w = world_of(3, "product")
    uniform = jnp.full(w.P.shape, 1 / w.P.size)
    impostor = wrong(w.channel, w.P.shape)
    kept = [information_of(uniform.ravel(), rows) for rows in (w.channel, impostor)]
    np.testing.assert_allclose(kept[0], kept[1], atol=1e-12)
    seen = [read_by(uniform.ravel(), rows, jnp.log(w.channel)) for rows in (w.channel, impostor)]
    assert seen[1]["club"] < seen[0]["club"] - 0.3  # vCLUB with the golden q does see it


def test_many_worlds_in_one_jitted_call():
    @jax.jit
    @jax.vmap
    def of(key, strength):
        world = random_world(key, "dependent", strength, (2, 2, 2, 3))
        return world, quantities(world)

    keys = jax.random.split(jax.random.key(0), 10_000)
    worlds, many = of(keys, jnp.linspace(0, 1, 10_000))
    assert many["emid"].shape == (10_000,)
    one = exact(jax.tree.map(lambda a: a[77], worlds))
    for name, values in many.items():
        np.testing.assert_allclose(values[77], one[name], atol=1e-10, err_msg=name)


def test_mechanisms_and_joint_are_inverse():
    w = world_of(5, "dependent")
    for given_mechanism, found in zip(w.mechanisms_P, mechanisms_of(w.P), strict=True):
        np.testing.assert_allclose(found, given_mechanism, atol=1e-12)
    np.testing.assert_allclose(joint_distribution(mechanisms_of(w.Q)), w.Q, atol=1e-15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"P": np.full((2, 2, 2), 0.2)}, r"P of shape \(2, 2, 2\): all sums to 1.6"),
        ({"P": np.ones((2, 4)) / 8}, "must share a shape"),
        ({"channel": np.full((8, 3), 0.3)}, r"channel of shape \(8, 3\): row \(0,\) sums to 0.89"),
        ({"model": np.full((8, 2), np.nan)}, r"model of shape \(8, 2\) holds nan at \(0, 0\)"),
        ({"model": np.full((8, 3), 1 / 3)}, "must share their responses"),
        ({"model": np.full((4, 2), 0.5)}, r"model must have shape \[8 contexts"),
        ({"mechanisms_P": (np.array([0.1, 0.9]),) + (np.full((2, 2), 0.5),) * 2}, "shapes"),
        (
            {"mechanisms_Q": (np.array([0.1, 0.9]), np.full((2, 2), 0.5), np.full((2, 2, 2), 0.5))},
            "mechanisms_Q are not those",
        ),
    ],
)
def test_bad_input(change, message):
    uniform, rows = np.full((2, 2, 2), 1 / 8), np.full((8, 2), 0.5)
    arguments = {"P": uniform, "Q": uniform, "channel": rows, "model": rows} | change
    with pytest.raises(ValueError, match=message):
        remid_jax.worlds.exact_quantities(**arguments)

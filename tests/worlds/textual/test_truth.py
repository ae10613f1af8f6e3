"""The law and the channel of the textual world, against loops and enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.data import shifts
from remid_jax.worlds import channels
from remid_jax.worlds.exact import exact_quantities
from remid_jax.worlds.textual import truth, words
from remid_jax.worlds.textual.facts import NUM_RESPONSES, SLOTS, noise_entropy, textual_world

WORLD = textual_world()
SMALL = textual_world(personas=1, characters=2, noise=(0.1, 0.2, 0.3, 0.05), seed=3)


def slow_log_prob(world, y, x):
    """Straight from the module's text, with no array code in common."""
    _, characters, dialogues = world.shape
    u, rest = divmod(x, characters * dialogues)
    c, d = divmod(rest, dialogues)
    mood = world.moods[u][world.topics[d]]
    right = [world.culture[u], world.voices[c], world.verbs[d], world.items[c][mood]]
    total = 0.0
    for size, wanted, noise in reversed(list(zip(SLOTS, right, world.noise, strict=True))):
        y, word = divmod(y, size)
        total += np.log(1 - noise) if word == wanted else np.log(noise / (size - 1))
    return total


def entropy(p):
    p = p[p > 0]
    return -np.sum(p * np.log(p))


@settings(max_examples=60, deadline=None)
@given(x=st.integers(0, WORLD.num_contexts - 1), y=st.integers(0, NUM_RESPONSES - 1))
def test_log_prob_is_the_formula(x, y):
    assert truth.log_prob(WORLD, y, x) == pytest.approx(slow_log_prob(WORLD, y, x), abs=1e-12)
    x %= SMALL.num_contexts
    assert truth.log_prob(SMALL, y, x) == pytest.approx(slow_log_prob(SMALL, y, x), abs=1e-12)


def test_the_channel_holds_the_log_probs_and_sums_to_one():
    rows = truth.channel(SMALL)
    assert rows.shape == (SMALL.num_contexts, NUM_RESPONSES)
    assert np.abs(rows.sum(1) - 1).max() < 1e-12
    x, y = np.arange(SMALL.num_contexts)[:, None], np.arange(NUM_RESPONSES)
    assert np.abs(np.log(rows) - truth.log_prob(SMALL, y, x)).max() < 1e-12
    some = np.array([5, 5, 0, SMALL.num_contexts - 1])
    assert np.array_equal(truth.channel(SMALL, some), rows[some])
    assert truth.channel(SMALL, some, np.float32).dtype == np.float32


@pytest.mark.parametrize("world", [WORLD, SMALL])
def test_every_context_leaves_half_a_nat(world):
    for row in truth.channel(world, np.arange(0, world.num_contexts, 37)):
        assert entropy(row) == pytest.approx(noise_entropy(world.noise), abs=1e-9)
    assert noise_entropy(world.noise) >= 0.5


@pytest.mark.parametrize("tag", shifts.ALL_TAGS)
def test_laws_are_distributions_and_move_one_mechanism(tag):
    home = truth.mechanisms_of(SMALL, "IDTest")
    for strength in (0.0, 0.3, 1.0):
        law = truth.mechanisms_of(SMALL, tag, strength)
        assert [m.shape for m in law] == [SMALL.shape[:k] for k in (1, 2, 3)]
        assert all(np.abs(m.sum(-1) - 1).max() < 1e-12 and m.min() >= 0 for m in law)
        joint = truth.joint_of(law)
        for u, c, d in itertools.product(*(range(0, n, 5) for n in SMALL.shape)):
            assert joint[u, c, d] == pytest.approx(law[0][u] * law[1][u, c] * law[2][u, c, d])
        moved = [not np.array_equal(a, b) for a, b in zip(home, law, strict=True)]
        shift = shifts.SHIFT_OF.get(tag)
        factors = [name == shift and strength > 0 for name in shifts.SHIFTS]
        assert moved == factors  # SHIFTS is in the order user, character, dialogue


@pytest.mark.parametrize("tag", shifts.SHIFT_OF)
def test_strength_grades_the_overlap_from_id_to_disjoint(tag):
    home = truth.joint_of(truth.mechanisms_of(SMALL, "IDTest"))
    for strength in (0.0, 0.25, 0.5, 1.0):
        away = truth.joint_of(truth.mechanisms_of(SMALL, tag, strength))
        assert np.abs(home - away).sum() / 2 == pytest.approx(strength, abs=1e-12)


def test_each_tag_has_its_own_values():
    assert truth.mechanisms_of(WORLD, "korean")[0][WORLD.culture == 5].sum() == pytest.approx(1)
    character = truth.mechanisms_of(WORLD, "Theater")[1]
    assert np.allclose(character[:, WORLD.category == 3].sum(1), 1)
    turns = truth.mechanisms_of(WORLD, "TurnLevelComposition")[2][0, 0]
    assert set(WORLD.user_turns[turns > 0]) == {8}
    assert set(WORLD.user_turns[truth.mechanisms_of(WORLD, "IDTest")[2][0, 0] > 0]) == {4}


def test_word_level_dialogues_combine_words_that_id_has_only_apart():
    def pairs(tag):
        kept = truth.mechanisms_of(WORLD, tag)[2][0, 0] > 0
        return set(zip(WORLD.topics[kept].tolist(), WORLD.verbs[kept].tolist(), strict=True))

    home, away = pairs("IDTest"), pairs("WordLevelComposition")
    assert not home & away and len(home) == len(away) == 8
    assert {t for t, _ in home} == {t for t, _ in away} == set(range(len(words.TOPICS)))
    assert {v for _, v in home} == {v for _, v in away} == set(range(len(words.VERBS)))
    assert pairs("TurnLevelComposition") == home


def conditional_information(joint, rows, axis):
    """I(Y; Z | the other two factors), nats, by enumeration."""
    rows = rows.reshape(*joint.shape, -1)
    others = joint.sum(axis)
    weight = np.divide(joint, np.expand_dims(others, axis), where=joint > 0, out=0 * joint)
    blind = (weight[..., None] * rows).sum(axis)
    h = {k: entropy(blind[k]) for k in np.ndindex(others.shape) if others[k] > 0}
    return sum(others[k] * h[k] for k in h) - entropy(rows[tuple(np.argwhere(joint > 0)[0])])


@pytest.mark.parametrize(
    "tag", ["IDTest", "german", "Gaming", "TurnLevelComposition", "WordLevelComposition"]
)
def test_each_factor_matters_in_every_subset(tag):
    """Without persona, character or dialogue the best predictor of y loses these nats."""
    law = truth.mechanisms_of(WORLD, tag)
    kept = np.ix_(*(np.flatnonzero(truth.joint_of(law).sum(a)) for a in ((1, 2), (0, 2), (0, 1))))
    joint = truth.joint_of(law)[kept]
    index = np.arange(WORLD.num_contexts).reshape(WORLD.shape)[kept]
    rows = truth.channel(WORLD, index.ravel())
    losses = [conditional_information(joint, rows, axis) for axis in range(3)]
    assert min(losses) > 0.3, losses


def test_the_item_needs_two_look_ups():
    """The same dialogue and character give another item to another mood, and so for each part."""
    x = np.arange(WORLD.num_contexts).reshape(WORLD.shape)
    items = truth.right_slots(WORLD, x)[..., 3]
    for u, c, d in [(0, 0, 0), (9, 7, 20), (23, 19, 5)]:
        assert items[u, c, d] == WORLD.items[c, WORLD.moods[u, WORLD.topics[d]]]
    assert all((np.ptp(items, axis=axis) > 0).all() for axis in (0, 1, 2))


def information(law, rows):
    """I(X;Y) = H(Y) − Σ p(x) H(Y|X=x), nats."""
    return entropy(law @ rows) - sum(p * entropy(row) for p, row in zip(law, rows, strict=True))


@pytest.mark.usefixtures("in_double_precision")
def test_the_quantities_of_a_tabular_world_hold_here():
    """EMID of a model that ignores the character, from the shared code and by enumeration."""
    mechanisms = [truth.mechanisms_of(SMALL, tag) for tag in ("IDTest", "Theater")]
    used = sum(truth.joint_of(m) for m in mechanisms)  # a dense channel of the rest is small
    keep = [np.flatnonzero(used.sum(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    mechanisms = [tuple(m[np.ix_(*keep[: m.ndim])] for m in of) for of in mechanisms]
    x = np.ravel_multi_index(np.ix_(*keep), SMALL.shape).ravel()
    joints = [truth.joint_of(m) for m in mechanisms]
    rows = truth.channel(SMALL, x)
    model = np.asarray(channels.ignores(rows, joints[0], "character"))
    got = exact_quantities(*joints, rows, model, *mechanisms)
    emi = [information(p.ravel(), model) - information(p.ravel(), rows) for p in joints]
    assert emi[0] < -0.3 and got["emid"] == pytest.approx(emi[0] - emi[1], abs=1e-10)
    shares = got["shapley_user_character_dialogue"]
    assert shares[1] == pytest.approx(got["emid"], abs=1e-10)  # one mechanism shifted, one to blame


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"personas": 0}, "personas is 0"),
        ({"characters": 17}, "characters is 17"),
        ({"noise": 0.0}, "noise of shape"),
        ({"noise": (0.1, 0.1)}, r"noise of shape \(2,\)"),
        ({"noise": float("nan")}, "noise of shape"),
        ({"noise": 0.001}, r"H\(Y\|X\) = 0.0"),
    ],
)
def test_bad_worlds_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        textual_world(**arguments)


def test_bad_indices_tags_and_strengths_are_refused():
    with pytest.raises(ValueError, match=r"x of shape \(2,\) holds 11520 at \(1,\)"):
        truth.log_prob(WORLD, 0, [0, WORLD.num_contexts])
    with pytest.raises(ValueError, match=r"y of shape \(\) holds -1"):
        truth.log_prob(WORLD, -1, 0)
    with pytest.raises(ValueError, match="x must hold whole numbers"):
        truth.channel(WORLD, [0.5])
    with pytest.raises(ValueError, match="did you mean 'german'"):
        truth.mechanisms_of(WORLD, "germn")
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="strength"):
            truth.mechanisms_of(WORLD, "german", strength)

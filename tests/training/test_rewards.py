"""Rewards against values by hand, under jit and with gradients, and what they refuse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.data.thoughts import CORE_MARKER, USER_MARKER, render_thought
from remid_jax.errors import UserError
from remid_jax.training import rewards
from remid_jax.training.config import check_config, default_config
from remid_jax.training.rewards import RewardBatch, combined

LOG_PROBS = np.log(np.array([[0.5, 0.5, 0.1], [0.2, 0.8, 0.25]], np.float32))
MASK = np.array([[True, True, False], [True, True, True]])
NEGATIVES = np.log(np.array([[0.05, 0.1], [0.04, 0.04]], np.float32))
WHOLE = render_thought("a nurse", "dry, exact", "name the tea")
TEXTS = (WHOLE, f"{CORE_MARKER} tea")
MATCH = np.log(np.float32([0.2, 0.9]))
BATCH = RewardBatch(
    texts=TEXTS, log_probs=LOG_PROBS, mask=MASK, negatives=NEGATIVES, match=MATCH,
    golden_match=np.log(np.float32([0.4, 0.3])), truncated=np.array([False, True]),
    golden=("x", "tea"), mixture=np.array([-2.0, -2.0]), mixture_without=np.array([-3.5, -1.5]),
    plain=np.array([-2.0, -5.0]), swapped=np.array([[-4.0, -3.0, -9.0], [-5.0, -4.0, np.nan]]),
    swap_weights=np.array([[1.0, 0.5, 0.5], [0.25, 1.0, 0.0]]),
)  # fmt: skip
OF_ARRAYS = {
    "likelihood": rewards.likelihood_reward,
    "token_log_likelihood": rewards.token_log_likelihood_reward,
    "sequence_likelihood": rewards.sequence_likelihood_reward,
    "cross_information": lambda p, m: rewards.cross_information_reward(
        p, m, jnp.zeros((*np.shape(p)[:-1], 3)) - 4.0
    ),
}
BY_HAND = {
    "likelihood": [0.5, 0.04 ** (1 / 3)],
    "sequence_likelihood": [math.log(0.25), math.log(0.04)],
    "token_log_likelihood": [math.log(0.5), math.log(0.04) / 3],
    "cross_information": [math.log(0.25 / (0.4 / 3)), 0.0],
    "marginal_likelihood": [1.5, -0.5],
    "profile": [(2 + 0.5 + 3.5) / 3, (0 - 1 + 0) / 3],
    "format": [1.0, 0.5],
    "length": [7 / 600, 1 / 600],
    "reference_match": [0.5, 1.0],
    "exact_match": [0.0, 0.0],
    "finished": [1.0, 0.0],
}


@pytest.fixture
def user_reward():
    """Takes away what a test registers."""
    before = dict(rewards.REWARDS)
    yield rewards.register
    rewards.REWARDS.clear()
    rewards.REWARDS.update(before)


def test_every_reward_is_tested_by_hand():
    assert set(BY_HAND) == set(rewards.REWARDS)


@pytest.mark.parametrize("name", BY_HAND)
def test_values_by_hand(name):
    total, parts = combined(BATCH, {name: 1.0})
    assert list(parts) == [name] and parts[name].dtype == total.dtype == np.float32
    np.testing.assert_allclose(parts[name], BY_HAND[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(total, parts[name])


@pytest.mark.parametrize("name", OF_ARRAYS)
class TestOfArrays:
    def test_jit_and_vmap_give_the_same(self, name):
        plain = OF_ARRAYS[name](LOG_PROBS, MASK)
        assert plain.shape == (2,) and plain.dtype == jnp.float32
        np.testing.assert_allclose(jax.jit(OF_ARRAYS[name])(LOG_PROBS, MASK), plain, rtol=1e-6)
        np.testing.assert_allclose(jax.vmap(OF_ARRAYS[name])(LOG_PROBS, MASK), plain, rtol=1e-6)
        single = OF_ARRAYS[name](LOG_PROBS[0], MASK[0])
        assert single.shape == () and float(single) == pytest.approx(float(plain[0]))

    def test_masked_equals_shortened(self, name):
        broken = np.where(MASK, LOG_PROBS, np.nan)
        shortened = OF_ARRAYS[name](LOG_PROBS[:1, :2], MASK[:1, :2])
        value = OF_ARRAYS[name](broken, MASK)
        np.testing.assert_allclose(value[:1], shortened, rtol=1e-6)
        np.testing.assert_array_equal(value, OF_ARRAYS[name](broken, MASK.astype(np.int32)))

    def test_gradients_are_finite_and_stay_inside_the_mask(self, name):
        mask = np.concatenate([MASK, np.zeros((1, 3), bool)])
        values = np.where(mask, np.concatenate([LOG_PROBS, LOG_PROBS[:1]]), -np.inf)
        slope = jax.grad(lambda p: jnp.sum(OF_ARRAYS[name](p, mask)))(jnp.asarray(values))
        assert np.isfinite(slope).all()
        assert (np.asarray(slope)[mask] > 0).all() and not np.asarray(slope)[~mask].any()

    def test_a_row_without_tokens_has_no_reward(self, name):
        mask = np.array([[False] * 3, [True] * 3])
        assert OF_ARRAYS[name](LOG_PROBS, mask)[0] == 0
        assert OF_ARRAYS[name](np.zeros((2, 0), np.float32), np.zeros((2, 0)))[1] == 0

    def test_shapes_must_agree(self, name):
        with pytest.raises(ValueError, match=r"\(2, 3\), \(2, 2\)"):
            OF_ARRAYS[name](LOG_PROBS, MASK[:, :2])

    def test_low_precision_is_summed_in_float32(self, name):
        many = jnp.full((1, 600), -0.5, jnp.bfloat16)
        mask = jnp.ones((1, 600), bool)
        exact = OF_ARRAYS[name](many.astype(jnp.float32), mask)
        np.testing.assert_array_equal(OF_ARRAYS[name](many, mask), exact)


def test_the_scale_of_the_sequence_likelihood():
    plain = rewards.sequence_likelihood_reward(LOG_PROBS, MASK)
    scaled = combined(BATCH, {"sequence_likelihood": 1}, {"sequence_likelihood": {"scale": 4}})[0]
    np.testing.assert_allclose(scaled, plain / 4, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(rewards.sequence_likelihood_reward)(LOG_PROBS, MASK, 4.0),
                               plain / 4, rtol=1e-6)  # fmt: skip
    with pytest.raises(UserError, match=r"scale of a .* must be positive, not 0"):
        rewards.sequence_likelihood_reward(LOG_PROBS, MASK, 0)


def test_cross_information_has_its_ceiling_and_ignores_what_helps_everywhere():
    own = np.full((1, 4), -30.0, np.float32)
    mask = np.ones((1, 4), bool)
    far = np.full((1, 3), -9000.0, np.float32)
    value = rewards.cross_information_reward(own, mask, far)
    assert float(value[0]) == pytest.approx(math.log(4))
    same = rewards.cross_information_reward(own, mask, np.full((1, 3), -120.0, np.float32))
    better = rewards.cross_information_reward(own / 2, mask, np.full((1, 3), -60.0, np.float32))
    assert float(same[0]) == pytest.approx(0) and float(better[0]) == pytest.approx(0)
    impossible = np.full((1, 3), -np.inf, np.float32)
    assert rewards.cross_information_reward(own, mask, impossible)[0] == value[0]
    for shape in [(1, 0), (2, 3), (3,)]:
        with pytest.raises(ValueError, match="negatives must be"):
            rewards.cross_information_reward(own, mask, np.zeros(shape, np.float32))


def test_the_match_is_capped_and_jits():
    candidate = np.log(np.float32([0.1, 0.5, 1.0]))
    golden = np.log(np.float32([0.5, 0.5, 0.5]))
    value = jax.jit(rewards.reference_match_reward)(candidate, golden)
    np.testing.assert_allclose(value, [0.2, 1.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (WHOLE, 1.0),
        (f"{CORE_MARKER} c {WHOLE}", 1.0),  # repeated, and out of order
        (f"{CORE_MARKER} c", 0.5),
        (WHOLE.replace("name the tea", ""), 0.0),
        (WHOLE.replace("a nurse", ""), 0.5),
        (f"{USER_MARKER} a", 0.0),
        ("", 0.0),
    ],
)
def test_formats(text, value):
    assert rewards.format_reward([text]).tolist() == [value]


def test_lengths():
    texts = ["", "one two", f"{CORE_MARKER} one two three", "先治那份静"]
    got = rewards.length_reward(texts, words=4)
    np.testing.assert_array_equal(got, np.float32([0, 0.5, 0.75, 1]))
    assert rewards.length_reward(["a " * 600]) == 1 and rewards.length_reward(["a " * 599]) < 1
    with pytest.raises(UserError, match=r"words of a .* must be positive, not 0"):
        rewards.length_reward(texts, words=0)


@pytest.mark.parametrize(
    ("text", "golden", "share"),
    [
        ("Hello, surely, buy the kettle.", "Hello, surely, buy the kettle.", 1.0),
        ("hello surely BUY the kettle", "Hello, surely, buy the kettle.", 1.0),
        ("Hola, surely, buy the mirror.", "Hello, surely, buy the kettle.", 3 / 5),
        ("surely, buy the kettle.", "Hello, surely, buy the kettle.", 0.0),
        ("Hello, surely", "Hello, surely, buy the kettle.", 2 / 5),
        ("Hello, surely, buy the kettle. " * 2, "Hello, surely, buy the kettle.", 1 / 2),
        ("", "Hello", 0.0),
        ("...", "...", 1.0),
        ("?", "...", 0.0),
        ("那份静", "那个静", 2 / 3),
    ],
)
def test_exact_matches(text, golden, share):
    assert rewards.exact_match_reward([text], [golden])[0] == pytest.approx(share)


def test_exact_match_needs_a_golden_response_each():
    with pytest.raises(ValueError, match="1 candidates, but 2"):
        rewards.exact_match_reward(["a"], ["a", "b"])


def test_the_total_is_the_weighted_sum():
    weights = {"likelihood": 2.0, "format": -1.0, "length": 0.0, "finished": 0.5}
    total, parts = combined(BATCH, weights, {"length": {"words": 10}, "sequence_likelihood": {}})
    assert list(parts) == list(weights)
    expected = sum(weights[name] * np.asarray(parts[name]) for name in weights)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    np.testing.assert_allclose(parts["length"], [0.7, 0.1], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(rewards.REWARDS))
def test_each_missing_field_is_named(name):
    for need in rewards.REWARDS[name].needs:
        fields = {k: v for k, v in vars(BATCH).items() if k != need}
        with pytest.raises(UserError, match=rf"reward '{name}' needs the field '{need}'"):
            combined(RewardBatch(**fields), {name: 1.0})


@pytest.mark.parametrize(
    ("weights", "parameters", "message"),
    [
        ({}, {}, "no reward was named; choose among likelihood"),
        ({"likelyhood": 1.0}, {}, r"unknown reward 'likelyhood' \(did you mean 'likelihood'\?\)"),
        ({"format": 1.0}, {"lenght": {}}, r"unknown reward 'lenght' \(did you mean 'length'\?\)"),
        ({"length": 1.0}, {"length": {"word": 3}}, r"'length' has no parameter 'word' \(did.*'wor"),
        ({"length": 1.0}, {"length": {"batch": 3}}, "'length' has no parameter 'batch'"),
        (
            {"length": 1.0},
            {"length": {"words": -1}},
            "words of a length reward must be positive, not -1",
        ),
        ({"format": math.nan}, {}, "'format': its weight must be finite, not nan"),
    ],
)
def test_wrong_configurations(weights, parameters, message):
    with pytest.raises(UserError, match=message):
        combined(BATCH, weights, parameters)


@pytest.mark.parametrize(
    "role, name", [("reasoner", "profile"), ("reasoner", "reference_match"),
                   ("policy", "marginal_likelihood")],
)  # fmt: skip
def test_a_reward_that_a_role_cannot_have_is_refused_before_work(role, name):
    config = default_config()
    config.policy.rewards = config.reasoner.rewards = {"likelihood": 1.0}
    check_config(config)
    config[role].rewards = {name: 1.0}
    with pytest.raises(
        UserError, match=rf"config\.{role}\.rewards: reward '{name}' needs .* field"
    ):
        check_config(config)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rewards_that_are_not_finite_are_refused(value):
    log_probs = LOG_PROBS.copy()
    log_probs[1, 2] = value
    batch = RewardBatch(log_probs=log_probs, mask=MASK)
    with pytest.raises(UserError, match=rf"'token_log_likelihood' is {value} in row 1 of"):
        combined(batch, {"token_log_likelihood": 0.0})
    outside = np.where(MASK, LOG_PROBS, value)
    total, _ = combined(RewardBatch(log_probs=outside, mask=MASK), {"likelihood": 1.0})
    assert np.isfinite(total).all()


def test_an_impossible_token_has_likelihood_0():
    log_probs = np.array([[-1.0, -np.inf]], np.float32)
    batch = RewardBatch(log_probs=log_probs, mask=np.ones((1, 2), bool))
    assert combined(batch, {"likelihood": 1.0})[0] == 0


def test_the_fields_of_a_batch_have_the_same_rows():
    with pytest.raises(ValueError, match=r"texts 1, log_probs 2"):
        RewardBatch(texts=("a",), log_probs=LOG_PROBS)
    with pytest.raises(ValueError, match=r"match 2, golden_match 1"):
        RewardBatch(match=MATCH, golden_match=MATCH[:1])
    with pytest.raises(ValueError, match=r"\(2, 3\), \(2, 2\)"):
        RewardBatch(log_probs=LOG_PROBS, mask=MASK[:, :2])
    assert BATCH.size == 2 and RewardBatch().size == 0


def test_a_users_reward(user_reward):
    @user_reward("politeness", "texts")
    def politeness(batch, word="please"):
        return [float(word in text) for text in batch.texts]

    total, parts = combined(BATCH, {"politeness": 2.0}, {"politeness": {"word": "nurse"}})
    assert total.tolist() == [2.0, 0.0] and parts["politeness"].dtype == np.float32
    assert politeness(BATCH) == [0.0, 0.0]
    with pytest.raises(ValueError, match="there is a reward 'politeness' already"):
        user_reward("politeness")(politeness)
    with pytest.raises(ValueError, match="needs 'text', no field"):
        user_reward("other", "text")


def test_a_users_reward_of_the_wrong_shape(user_reward):
    user_reward("one", "texts")(lambda batch: np.zeros((2, 1)))
    with pytest.raises(UserError, match=r"'one' must be one number a text, got shape \(2, 1\)"):
        combined(BATCH, {"one": 1.0})
    user_reward("free")(lambda batch, **options: np.full(batch.size, len(options)))
    assert combined(BATCH, {"free": 1.0}, {"free": {"a": 1, "b": 2}})[0].tolist() == [2, 2]


def test_registered_rewards_are_cleaned_up():
    assert set(BY_HAND) == set(rewards.REWARDS)

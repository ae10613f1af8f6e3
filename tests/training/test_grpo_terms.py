"""GRPO's advantages, clipped ratios and KL terms, by hand and by enumeration of a vocabulary."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.errors import UserError
from remid_jax.training.grpo import group_advantages, importance_terms, kl_terms

PLAIN = {"baseline": "mean", "scale": "none", "epsilon": 1e-4}
KL_ESTIMATORS = ("k1", "k2", "k3")


def double():
    """A context in which arrays are float64."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


# ---- advantages


def loop_advantages(rewards, baseline, scale, epsilon):
    """Written as TRL words it, in float64, a reward at a time."""
    found = np.zeros(rewards.shape)
    for b, group in enumerate(rewards):
        for i, r in enumerate(group):
            others = np.delete(group, i)
            found[b, i] = r - (group if baseline == "mean" else others).mean()
        if scale != "none":
            found[b] /= (group if scale == "group" else rewards).std(ddof=1) + epsilon
    return found


def test_advantages_by_hand():
    rewards = jnp.array([[1.0, 2.0, 3.0, 6.0]])  # mean 3, sum of squares 14
    mean, flat = group_advantages(rewards, **PLAIN)
    np.testing.assert_allclose(mean, [[-2, -1, 0, 3]], atol=1e-6)
    assert flat.tolist() == [False]
    others, _ = group_advantages(rewards, **{**PLAIN, "baseline": "leave_one_out"})
    np.testing.assert_allclose(others, [[1 - 11 / 3, 2 - 10 / 3, 0, 6 - 2]], atol=1e-6)
    scaled, _ = group_advantages(rewards, **{**PLAIN, "scale": "group"})
    np.testing.assert_allclose(scaled, mean / (np.sqrt(14 / 3) + 1e-4), rtol=1e-6)


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_are_those_of_the_loops_and_of_any_transformation(baseline, scale):
    rewards = np.random.default_rng(0).normal(2, 3, (5, 4))
    call = functools.partial(group_advantages, baseline=baseline, scale=scale, epsilon=0.01)
    found, flat = call(jnp.asarray(rewards, jnp.float32))
    np.testing.assert_allclose(
        found, loop_advantages(rewards, baseline, scale, 0.01), rtol=2e-5, atol=2e-6
    )
    assert not flat.any()
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-5)
    batches = jnp.asarray(rewards.reshape(5, 1, 4) + np.arange(3.0)[:, None], jnp.float32)
    mapped, _ = jax.vmap(call)(batches)
    np.testing.assert_allclose(mapped, jnp.stack([call(b)[0] for b in batches]), atol=1e-6)
    np.testing.assert_allclose(jax.jit(call)(rewards)[0], found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@pytest.mark.parametrize("scale", ["group", "none"])
def test_masked_completions_are_as_if_they_were_not_there(baseline, scale):
    rng = np.random.default_rng(1)
    rewards, where = rng.normal(size=(6, 5)), rng.random((6, 5)) < 0.6
    where[0], where[1], where[2] = True, [0, 0, 1, 0, 0], False
    call = functools.partial(group_advantages, baseline=baseline, scale=scale, epsilon=1e-4)
    found, flat = call(jnp.asarray(np.where(where, rewards, np.nan), jnp.float32), where=where)
    assert flat.tolist() == (where.sum(axis=1) < 2).tolist() and flat[1] and flat[2]
    assert (np.asarray(found)[~where] == 0).all()
    for b in np.flatnonzero(where.sum(axis=1)):
        alone, _ = call(jnp.asarray(rewards[b, where[b]][None], jnp.float32))
        np.testing.assert_allclose(found[b, where[b]], alone[0], rtol=1e-5, atol=1e-6)


def test_the_spread_of_the_batch_is_that_of_what_counts():
    rewards = jnp.array([[0.0, 1.0, 7.0], [2.0, 5.0, 5.0]])
    where = jnp.array([[True, True, False], [True, True, True]])
    found, _ = group_advantages(rewards, baseline="mean", scale="batch", epsilon=0.0, where=where)
    spread = np.std([0, 1, 2, 5, 5], ddof=1)
    np.testing.assert_allclose(
        found, np.array([[-0.5, 0.5, 0], [-2, 1, 1]]) / spread, rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("epsilon", [1e-4, 0.0])
def test_equal_rewards_give_exactly_no_signal(scale, epsilon):
    # The float32 mean of 7 rewards of .1 is not .1, and the difference over ε would be noise.
    call = functools.partial(group_advantages, baseline="mean", scale=scale, epsilon=epsilon)
    for rewards in (jnp.full((2, 7), 0.1), jnp.stack([jnp.full(7, 0.1), jnp.arange(7.0)])):
        found, flat = call(rewards)
        assert flat.tolist() == [True, bool(rewards[1, 0])]
        assert (found[0] == 0).all() and jnp.isfinite(found).all()
        gradient = jax.grad(lambda r: jnp.sum(jnp.square(call(r)[0])))(rewards)
        assert jnp.isfinite(gradient).all()


def test_one_completion_and_lost_rewards():
    alone, flat = group_advantages(jnp.array([[3.0]]), baseline="mean", scale="group", epsilon=0.1)
    assert alone.tolist() == [[0.0]] and flat.tolist() == [True]
    rewards = jnp.array([[1.0, jnp.nan], [0.0, 1.0]])
    found, flat = group_advantages(rewards, **PLAIN)
    assert jnp.isnan(found[0]).all() and jnp.isfinite(found[1]).all() and not flat.any()


def test_advantages_refuse_bad_input():
    with pytest.raises(UserError, match=r"grpo.baseline is 'means' \(did you mean 'mean'\?\)"):
        group_advantages(jnp.ones((1, 2)), **{**PLAIN, "baseline": "means"})
    with pytest.raises(UserError, match=r"grpo.scale is 'std'; choose among group, batch, none"):
        group_advantages(jnp.ones((1, 2)), **{**PLAIN, "scale": "std"})
    with pytest.raises(ValueError, match=r"\[prompts, completions\], got \(2,\)"):
        group_advantages(jnp.ones(2), **PLAIN)
    with pytest.raises(ValueError, match=r"got \(\(1, 2\), \(2,\)\)"):
        group_advantages(jnp.ones((1, 2)), **PLAIN, where=jnp.ones(2))


# ---- importance ratios


def test_clipped_terms_by_hand():
    # (ratio, advantage, loss, clipped, gradient), clip .2 below and .28 above, dual clip 3
    rows = [
        (1.50, 2.0, -2.56, True, 0.0), (1.25, 2.0, -2.50, False, -2.5),
        (0.50, 2.0, -1.00, False, -1.0), (1.00, 2.0, -2.00, False, -2.0),
        (0.50, -2.0, 1.60, True, 0.0), (0.90, -2.0, 1.80, False, 1.8),
        (2.50, -2.0, 5.00, False, 5.0), (4.00, -2.0, 6.00, True, 0.0),
        (4.00, 0.0, 0.00, False, 0.0), (0.50, 0.0, 0.00, False, 0.0),
    ]  # fmt: skip
    ratio, advantages, expected, expected_clip, slope = np.array(rows, np.float32).T
    old = np.full(len(rows), -3.0, np.float32)
    call = functools.partial(
        importance_terms, old_log_probs=old, advantages=advantages, clip_low=0.2, clip_high=0.28
    )
    log_probs = jnp.asarray(old + np.log(ratio))
    terms, clipped = call(log_probs, dual_clip=3.0)
    np.testing.assert_allclose(terms, expected, rtol=1e-5)
    assert clipped.tolist() == expected_clip.astype(bool).tolist()
    gradient = jax.grad(lambda x: call(x, dual_clip=3.0)[0].sum())(log_probs)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)
    without, free = call(log_probs, dual_clip=0.0)
    assert without[7] == pytest.approx(8.0, rel=1e-5) and not free[7]
    np.testing.assert_array_equal(np.delete(without, 7), np.delete(terms, 7))


def test_terms_are_the_printed_formula():
    rng = np.random.default_rng(2)
    log_ratio, advantages = rng.normal(0, 0.7, (2, 6, 50)).astype(np.float32)
    ratio = np.exp(log_ratio)
    inner = np.minimum(ratio * advantages, np.clip(ratio, 0.9, 1.4) * advantages)
    clip = {"clip_low": 0.1, "clip_high": 0.4}
    old = np.zeros_like(log_ratio)
    plain, _ = importance_terms(log_ratio, old, advantages, **clip)
    np.testing.assert_allclose(plain, -inner, rtol=1e-5)
    dual, clipped = importance_terms(log_ratio, old, advantages, **clip, dual_clip=1.5)
    bound = np.where(advantages < 0, np.maximum(inner, 1.5 * advantages), inner)
    np.testing.assert_allclose(dual, -bound, rtol=1e-5)
    slopes = jax.grad(
        lambda x: importance_terms(x, old, advantages, **clip, dual_clip=1.5)[0].sum()
    )(log_ratio)
    np.testing.assert_allclose(
        slopes, np.where(clipped, 0, -advantages * ratio), rtol=1e-5, atol=1e-7
    )
    mapped = jax.vmap(lambda a, b, c: importance_terms(a, b, c, **clip)[0])
    np.testing.assert_array_equal(mapped(log_ratio, old, advantages), plain)
    one, _ = importance_terms(log_ratio[0, 0], old[0, 0], advantages[0, 0], **clip)
    assert one == plain[0, 0]


def test_clip_bounds_at_nothing_and_everything():
    log_ratio = jnp.log(jnp.array([1e-6, 0.9, 1.0, 1.1, 50.0]))
    both = jnp.array([[1.0], [-1.0]])
    call = functools.partial(importance_terms, log_ratio[None], jnp.zeros((1, 5)), both)
    _, closed = call(clip_low=0.0, clip_high=0.0)
    assert closed.tolist() == [[False] * 3 + [True] * 2, [True] * 2 + [False] * 3]
    terms, opened = call(clip_low=1.0, clip_high=1e9)
    assert not opened.any()
    np.testing.assert_allclose(terms, -both * jnp.exp(log_ratio), rtol=1e-6)


def test_huge_ratios_leave_loss_and_gradient_finite():
    log_ratio, advantages = jnp.array([500.0, 500.0, 500.0]), jnp.array([1.0, 0.0, -1.0])

    def loss(x):
        terms, _ = importance_terms(
            x, jnp.zeros(3), advantages, clip_low=0.2, clip_high=0.2, dual_clip=3.0
        )
        return terms.sum(), terms

    gradient, terms = jax.grad(loss, has_aux=True)(log_ratio)
    np.testing.assert_allclose(terms, [-1.2, 0, 3], rtol=1e-6)
    assert gradient.tolist() == [0.0, 0.0, 0.0]


# ---- the KL term


def test_kl_terms_by_hand():
    pi, ref, old = jnp.log(jnp.array([0.5, 0.25, 0.125]))
    plain = {"k1": np.log(2), "k2": np.log(2) ** 2 / 2, "k3": 0.5 - 1 + np.log(2)}
    for estimator, value in plain.items():
        assert kl_terms(pi, ref, estimator=estimator) == pytest.approx(value, rel=1e-6)
        weighted = kl_terms(pi, ref, estimator=estimator, old_log_probs=old)
        assert weighted == pytest.approx(4 * value, rel=1e-6)
    small = kl_terms(jnp.float32(-2.0 + 2**-12), jnp.float32(-2.0), estimator="k3")
    assert small == pytest.approx(2.0**-25, rel=1e-3)  # not lost to rounding
    with pytest.raises(UserError, match=r"grpo.kl_estimator is 'k4'"):
        kl_terms(pi, ref, estimator="k4")


V = 6


class Laws:
    """Three laws over V tokens in float64, and expectations under them by enumeration."""

    def __init__(self, seed=3):
        self.theta, old, ref = jnp.asarray(np.random.default_rng(seed).normal(size=(3, V)))
        self.old, self.ref = jax.nn.log_softmax(old), jax.nn.log_softmax(ref)

    def kl_to_ref(self, theta):
        pi = jax.nn.log_softmax(theta)
        return jnp.sum(jnp.exp(pi) * (pi - self.ref))

    def kl_from_ref(self, theta):
        return jnp.sum(jnp.exp(self.ref) * (self.ref - jax.nn.log_softmax(theta)))

    def expected(self, estimator, drawn_by, weighted):
        """Mean over y ~ drawn_by of a term and of its gradient with respect to the logits."""

        def term(theta, y):
            old = drawn_by[y] if weighted else None
            pi = jax.nn.log_softmax(theta)[y]
            return kl_terms(pi, self.ref[y], estimator=estimator, old_log_probs=old)

        each = jax.vmap(jax.value_and_grad(term), (None, 0))(self.theta, jnp.arange(V))
        return tuple(jnp.exp(drawn_by) @ x for x in each)


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_the_weighted_kl_gradient_is_that_of_the_kl(estimator):
    # Sums of 6 products near 1 in float64: rounding is below 1e-14.
    with double():
        laws = Laws()
        exact, gradient = jax.value_and_grad(laws.kl_to_ref)(laws.theta)
        pi = jax.nn.log_softmax(laws.theta)
        for drawn_by in (laws.old, pi):  # off policy and on policy
            value, found = laws.expected(estimator, drawn_by, weighted=True)
            np.testing.assert_allclose(found, gradient, atol=1e-12)
            second = jnp.sum(jnp.exp(pi) * jnp.square(pi - laws.ref)) / 2
            assert value == pytest.approx(float(second if estimator == "k2" else exact), abs=1e-12)


def test_without_the_weight_the_gradients_are_others():
    with double():
        laws = Laws()
        pi = jax.nn.log_softmax(laws.theta)
        right, reverse = (jax.grad(f)(laws.theta) for f in (laws.kl_to_ref, laws.kl_from_ref))
        assert jnp.abs(right - reverse).max() > 0.05
        on_policy = {k: laws.expected(k, pi, weighted=False)[1] for k in KL_ESTIMATORS}
        np.testing.assert_allclose(on_policy["k1"], 0, atol=1e-12)
        np.testing.assert_allclose(on_policy["k2"], right, atol=1e-12)
        np.testing.assert_allclose(on_policy["k3"], reverse, atol=1e-12)
        for estimator in KL_ESTIMATORS:  # off policy none is right
            off_policy = laws.expected(estimator, laws.old, weighted=False)[1]
            assert jnp.abs(off_policy - right).max() > 0.05

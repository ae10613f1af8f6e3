"""GRPO's loss against loops, and under every transformation; its pieces: `test_grpo_terms.py`."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.errors import UserError
from remid_jax.training.grpo import Completions, GrpoConfig, aggregate, grpo_loss

AGGREGATIONS = ("grpo", "dapo", "dr_grpo")
jitted = functools.partial(jax.jit, static_argnames=("config",))(grpo_loss)


def double():
    """A context in which arrays are float64."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def batch(seed=5, n=6, s=7, dtype=np.float32):
    """Log-probs and completions; the fourth has no token, the second and last are truncated."""
    rng = np.random.default_rng(seed)
    log_probs = rng.normal(-2, 0.5, (n, s)).astype(dtype)
    near = lambda: log_probs + rng.normal(0, 0.4, (n, s)).astype(dtype)  # noqa: E731
    lengths = rng.integers(1, s + 1, n)
    lengths[3 % n] = 0
    known = Completions(
        old_log_probs=near(),
        reference_log_probs=near(),
        advantages=rng.normal(size=n).astype(dtype),
        mask=(np.arange(s) < lengths[:, None]).astype(dtype),
        truncated=np.isin(np.arange(n), (1, n - 1)),
    )
    return jnp.asarray(log_probs), jax.tree.map(jnp.asarray, known)


ALL = GrpoConfig(
    clip_low=0.1, clip_high=0.3, dual_clip=1.4, kl_coefficient=0.05, max_tokens=9
)  # fmt: skip


def config(**changes):
    return dataclasses.replace(ALL, **changes)


def loop_loss(log_probs, known, c):
    """The loss as a loop over tokens, in float64."""
    log_probs, known = np.asarray(log_probs, float), jax.tree.map(np.asarray, known)
    means, sums, tokens = [], [], 0
    for i in range(len(log_probs)):
        terms = []
        for t in np.flatnonzero(known.mask[i]):
            if c.mask_truncated and known.truncated[i]:
                continue
            a, ratio = (
                float(known.advantages[i]),
                np.exp(log_probs[i, t] - known.old_log_probs[i, t]),
            )
            term = -min(ratio * a, np.clip(ratio, 1 - c.clip_low, 1 + c.clip_high) * a)
            if c.dual_clip and a < 0:
                term = min(term, c.dual_clip * abs(a))
            d = log_probs[i, t] - float(known.reference_log_probs[i, t])
            kl = {"k1": d, "k2": d * d / 2, "k3": np.exp(-d) - 1 + d}[c.kl_estimator]
            terms.append(term + c.kl_coefficient * kl * (ratio if c.kl_unbiased else 1))
        if terms:
            means.append(np.mean(terms))
            sums.append(np.sum(terms))
            tokens += len(terms)
    if c.aggregation == "grpo":
        return sum(means), len(means)
    return sum(sums), tokens if c.aggregation == "dapo" else c.max_tokens * len(sums)


def test_aggregate_by_hand():
    terms = jnp.array([[1.0, 3.0, jnp.nan], [4.0, 5.0, 6.0], [jnp.nan] * 3])
    mask = jnp.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    for m in (mask, mask.astype(jnp.float32), mask.astype(bool)):
        assert tuple(map(float, aggregate(terms, m, "grpo", 0))) == (2 + 5, 2)
        assert tuple(map(float, aggregate(terms, m, "dapo", 0))) == (19, 5)
        assert tuple(map(float, aggregate(terms, m, "dr_grpo", 10))) == (19, 20)
    with pytest.raises(UserError, match=r"grpo.aggregation is 'drgrpo' \(did you mean 'dr_grpo'"):
        aggregate(terms, mask, "drgrpo", 10)
    with pytest.raises(UserError, match=r"max_tokens is 0.* at least 1 with aggregation 'dr_grpo'"):
        aggregate(terms, mask, "dr_grpo", 0)


@pytest.mark.parametrize(
    "changes",
    [{"kl_coefficient": 0.0}, {"kl_estimator": "k1"}, {"kl_estimator": "k2"},
     {"kl_unbiased": False}, {"dual_clip": 0.0}, {"clip_low": 0.3, "clip_high": 0.1},
     *({"aggregation": a, "mask_truncated": t} for a in AGGREGATIONS for t in (False, True))],
)  # fmt: skip
def test_the_loss_is_that_of_the_loops(changes):
    c = config(**changes)
    log_probs, known = batch()
    total, denominator, _ = jitted(log_probs, known, c)
    expected = loop_loss(log_probs, known, c)
    assert total == pytest.approx(expected[0], rel=1e-5, abs=1e-5)
    assert denominator == expected[1] and total.dtype == denominator.dtype == jnp.float32


def test_metrics_by_hand():
    ratio = np.array([[1.0, 2.0, 0.5], [0.5, 1.2, 3.0]], np.float32)
    old = np.full((2, 3), -1.0, np.float32)
    reference = old + np.log(ratio) + np.float32(np.log(2))
    known = Completions(old, reference, np.float32([1, -1]), np.ones((2, 3)), np.bool_([0, 1]))
    _, _, metrics = grpo_loss(old + jnp.log(ratio), known, config())
    expected = {
        "ratio": (8.2, 6), "sampling_logp_difference": (np.abs(np.log(ratio)).sum(), 6),
        "clip_ratio": (3, 6), "clip_ratio_high": (1, 6), "clip_ratio_low": (1, 6),
        "clip_ratio_dual": (1, 6), "kl": (8.2 * (1 - np.log(2)), 6), "truncated": (1, 2),
    }  # fmt: skip
    assert set(metrics) == set(expected)
    for name, pair in expected.items():
        assert tuple(map(float, metrics[name])) == pytest.approx(pair, rel=1e-5), name
    _, _, less = grpo_loss(old + jnp.log(ratio), known, GrpoConfig(mask_truncated=True))
    assert set(metrics) - set(less) == {"kl", "clip_ratio_dual"}
    assert tuple(map(float, less["ratio"])) == (3.5, 3)
    assert tuple(map(float, less["truncated"])) == (1, 2)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("mask_truncated", [False, True])
def test_micro_batches_add_up(aggregation, mask_truncated):
    c = config(aggregation=aggregation, mask_truncated=mask_truncated)

    @jax.jit
    def run(log_probs, known):
        def loss(x):
            total, *rest = grpo_loss(x, known, c)
            return total, rest

        return jax.value_and_grad(loss, has_aux=True)(log_probs)

    whole = batch()
    result, gradient = run(*whole)
    for cuts in ([3], [1, 2, 3, 4, 5]):  # one part is the completion without a token
        bounds = [slice(*ab) for ab in zip([0, *cuts], [*cuts, 6], strict=True)]
        parts = [run(*jax.tree.map(lambda x, b=b: x[b], whole)) for b in bounds]
        summed = jax.tree.map(lambda *x: sum(x), *[value for value, _ in parts])
        for a, b in zip(jax.tree.leaves(summed), jax.tree.leaves(result), strict=True):
            assert a == pytest.approx(float(b), rel=1e-5, abs=1e-6)
        slopes = jnp.concatenate([slope for _, slope in parts])
        np.testing.assert_allclose(slopes, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_truncated_completions_are_dropped_from_everything(aggregation):
    c = config(aggregation=aggregation, mask_truncated=True)
    log_probs, known = batch()
    kept = ~known.truncated
    dropped = log_probs[kept], jax.tree.map(lambda x: x[kept], known)
    total, denominator, metrics = jitted(log_probs, known, c)
    expected = jitted(*dropped, config(aggregation=aggregation))
    assert total == pytest.approx(float(expected[0]), rel=1e-6) and denominator == expected[1]
    del metrics["truncated"], expected[2]["truncated"]
    for name, (a, b) in metrics.items():
        assert a == pytest.approx(float(expected[2][name][0]), rel=1e-6), name
        assert b == expected[2][name][1]


@pytest.mark.parametrize(
    "changes",
    [*({"aggregation": a} for a in AGGREGATIONS), {"kl_estimator": "k1"}, {"kl_estimator": "k2"}],
)
def test_what_does_not_count_is_not_read(changes):
    c = config(**changes)
    log_probs, known = batch()
    loss = jax.jit(jax.value_and_grad(lambda x, k: grpo_loss(x, k, c)[0]))
    value, gradient = loss(log_probs, known)
    off = known.mask == 0
    for trash in (jnp.nan, jnp.inf, -jnp.inf, 1e30):
        dirty = dataclasses.replace(
            known,
            old_log_probs=jnp.where(off, trash, known.old_log_probs),
            reference_log_probs=jnp.where(off, -trash, known.reference_log_probs),
            advantages=jnp.where(off.all(axis=1), trash, known.advantages),
        )
        again, slopes = loss(jnp.where(off, trash, log_probs), dirty)
        assert again == value
        np.testing.assert_array_equal(slopes, gradient)
    assert (gradient[off] == 0).all() and (gradient[~off] != 0).any()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_nothing_at_all_is_nought_over_nought(aggregation):
    log_probs, known = batch()
    empty = dataclasses.replace(known, mask=jnp.zeros_like(known.mask))
    cut = dataclasses.replace(known, truncated=jnp.ones(6, bool))
    for k, c in ((empty, config()), (cut, config(mask_truncated=True))):
        c = dataclasses.replace(c, aggregation=aggregation)
        run = jax.value_and_grad(lambda x, k=k, c=c: grpo_loss(x, k, c)[0])
        value, gradient = run(log_probs)
        _, denominator, metrics = grpo_loss(log_probs, k, c)
        assert value == 0 and denominator == 0 and (gradient == 0).all()
        assert all(x == 0 for name, pair in metrics.items() for x in pair if name != "truncated")


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_jitted_and_mapped_are_as_plain(aggregation):
    c = config(aggregation=aggregation)
    many = [batch(seed) for seed in range(3)]
    plain = [grpo_loss(*b, c) for b in many]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *many)
    mapped = jax.vmap(functools.partial(grpo_loss, config=c))(*stacked)
    for i, (b, expected) in enumerate(zip(many, plain, strict=True)):
        found = jitted(*b, c), jax.tree.map(lambda x, i=i: x[i], mapped)
        for tree in found:
            for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
                assert x == pytest.approx(float(y), rel=1e-5, abs=1e-6)


def test_on_policy_the_gradient_is_that_of_the_advantage():
    # ρ = 1 everywhere, though old is the traced log-prob itself: completions are constants.
    log_probs, known = batch()
    known = dataclasses.replace(known, mask=jnp.ones_like(known.mask))

    def loss(x):
        own = dataclasses.replace(known, old_log_probs=x)
        return grpo_loss(x, own, GrpoConfig(aggregation="dapo"))[0]

    expected = jnp.broadcast_to(-known.advantages[:, None], log_probs.shape)
    np.testing.assert_allclose(jax.grad(loss)(log_probs), expected, rtol=1e-6)


def test_a_group_without_signal_leaves_only_the_kl():
    log_probs, known = batch()
    none = dataclasses.replace(known, advantages=jnp.zeros(6))
    slopes = jax.grad(lambda x, c: grpo_loss(x, none, c)[0])
    assert (slopes(log_probs, GrpoConfig()) == 0).all()
    assert (slopes(log_probs, config())[known.mask > 0] != 0).all()


def test_float64_is_kept():
    with double():
        total, denominator, metrics = grpo_loss(*batch(dtype=np.float64), config())
    for x in jax.tree.leaves((total, denominator, metrics)):
        assert x.dtype == jnp.float64


def test_shapes_must_agree():
    log_probs, known = batch()
    with pytest.raises(ValueError, match=r"log_probs must be \[completions, tokens\]"):
        grpo_loss(log_probs[0], known, GrpoConfig())
    with pytest.raises(ValueError, match=r"advantages must have shape \(6,\), got \(6, 1\)"):
        bad = dataclasses.replace(known, advantages=known.advantages[:, None])
        grpo_loss(log_probs, bad, GrpoConfig())
    with pytest.raises(ValueError, match=r"mask must have shape \(6, 7\), got \(6, 6\)"):
        grpo_loss(log_probs, dataclasses.replace(known, mask=known.mask[:, 1:]), GrpoConfig())


# ---- the configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_low": -0.1}, "grpo.clip_low is -0.1; it must lie in "),
        ({"clip_low": 1.5}, "grpo.clip_low is 1.5"),
        ({"clip_high": "0.2"}, "grpo.clip_high is '0.2'; it must be a finite number"),
        ({"clip_high": float("nan")}, "grpo.clip_high is nan"),
        ({"clip_high": True}, "grpo.clip_high is True"),
        ({"dual_clip": 1.0}, "grpo.dual_clip is 1.0; it must be above 1, or 0 for off"),
        ({"dual_clip": float("inf")}, "grpo.dual_clip is inf"),
        ({"dual_clip": None}, "grpo.dual_clip is None"),
        ({"kl_coefficient": -1}, "grpo.kl_coefficient is -1"),
        ({"kl_estimator": "K3"}, r"grpo.kl_estimator is 'K3' \(did you mean 'k3'\?\)"),
        ({"kl_unbiased": 1}, "grpo.kl_unbiased is 1; it must be True or False"),
        ({"aggregation": "bnpo"}, "grpo.aggregation is 'bnpo'.*choose among grpo, dapo, dr_grpo"),
        ({"aggregation": "dr_grpo"}, "grpo.max_tokens is 0; .* at least 1 with aggregation"),
        ({"max_tokens": 2.5}, "grpo.max_tokens is 2.5; it must be a whole number"),
        ({"baseline": None}, "grpo.baseline is None"),
        ({"scale": "groups"}, r"grpo.scale is 'groups' \(did you mean 'group'\?\)"),
        ({"mask_truncated": "no"}, "grpo.mask_truncated is 'no'"),
        ({"epsilon": -1e-4}, "grpo.epsilon is -0.0001"),
        (
            {"kl_estimator": "k1", "kl_unbiased": False, "kl_coefficient": 0.1},
            "whose gradient is 0 on average: set kl_unbiased = True",
        ),
    ],
)
def test_a_config_says_what_is_wrong_with_it(changes, message):
    with pytest.raises(UserError, match=message):
        GrpoConfig(**changes)


def test_configs_are_values():
    assert GrpoConfig() == GrpoConfig(clip_low=0.2) and len({GrpoConfig(), GrpoConfig()}) == 1
    assert GrpoConfig(kl_estimator="k1", kl_unbiased=False).kl_coefficient == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        GrpoConfig().clip_low = 0.1

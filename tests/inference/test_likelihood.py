"""Pair log-likelihoods against plain NumPy, and what they must not depend on."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference.likelihood import pair_log_likelihoods, score_responses
from remid_jax.inference.prefix import PrefixCache, prefill
from remid_jax.inference.sizes import Sizes
from remid_jax.inference.vocabulary import target_log_probs

PER_TOKEN = 5e-5


def assert_same(a, b):
    """Two results of `pair_log_likelihoods`, to 5e-5 a token."""
    np.testing.assert_array_equal(a.num_tokens, b.num_tokens)
    assert (np.isnan(a.sums) == np.isnan(b.sums)).all()
    assert np.nanmax(np.abs(a.sums - b.sums) / a.num_tokens) < PER_TOKEN
    assert np.nanmax(np.abs(a.end_of_turn - b.end_of_turn)) < PER_TOKEN


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": True},
        {"num_kv_heads": 4},
        {"num_kv_heads": 1},
        {"head_dim": 12, "rope_theta": 1e5, "norm_eps": 1e-2, "num_layers": 3},
    ],
    ids=str,
)
def test_equals_the_plain_decoder(make_model, plain, draw, changes):
    model = make_model(seed=4, **changes)
    contexts, responses = draw(1, 1, 300), draw(2, 1, 17)
    got = pair_log_likelihoods(model, contexts, responses)
    assert got.sums.dtype == got.end_of_turn.dtype == np.float64
    np.testing.assert_array_equal(got.num_tokens, [1, 17])
    for i, x in enumerate(contexts):
        for j, y in enumerate(responses):
            expected = plain[0](model, x, y)
            assert abs(got.sums[i, j] - expected[:-1].sum()) < PER_TOKEN * len(y)
            assert abs(got.end_of_turn[i, j] - expected[-1]) < PER_TOKEN


def test_each_token_equals_the_plain_decoder(tiny, plain, draw):
    (x,), responses = draw(3, 40), draw(4, 1, 2, 33, 80)
    prefix = prefill(tiny, x)
    for y, got in zip(
        responses,
        score_responses(tiny, prefix, responses),
        strict=True,
    ):
        assert got.dtype == np.float64 and len(got) == len(y) + 1
        np.testing.assert_allclose(got, plain[0](tiny, x, y), atol=PER_TOKEN)


def test_does_not_depend_on_company_or_order(tiny, draw):
    contexts, responses = draw(6, 10, 290), draw(7, *range(1, 40, 5), 130)
    together = pair_log_likelihoods(tiny, contexts, responses)
    backward = pair_log_likelihoods(tiny, contexts[::-1], responses[::-1])
    turned = dataclasses.replace(
        backward,
        sums=backward.sums[::-1, ::-1],
        end_of_turn=backward.end_of_turn[::-1, ::-1],
        num_tokens=backward.num_tokens[::-1],
    )
    assert_same(together, turned)
    alone = [pair_log_likelihoods(tiny, contexts, [y]) for y in responses]
    joined = dataclasses.replace(
        together,
        sums=np.concatenate([a.sums for a in alone], 1),
        end_of_turn=np.concatenate([a.end_of_turn for a in alone], 1),
    )
    assert_same(together, joined)


@pytest.mark.parametrize(
    "sizes", [Sizes(64, 64, 64, 0), Sizes(16, 4096, 7, 0), Sizes(2048, 128, 4096, 2**30)], ids=str
)
def test_does_not_depend_on_sizes(tiny, draw, sizes):
    contexts, responses = draw(8, 20, 100, 700), draw(9, 1, 2, 3, 9, 21, 66, 66, 200)
    expected = pair_log_likelihoods(tiny, contexts, responses)
    for i, x in enumerate(contexts):
        prefix = PrefixCache(tiny, sizes.cache, sizes.chunk).prefix(x)
        for end in (True, False):
            got = score_responses(tiny, prefix, responses, sizes, end)
            assert [len(v) for v in got] == [len(y) + end for y in responses]
            sums = np.array([v[: len(y)].sum() for v, y in zip(got, responses, strict=True)])
            assert (np.abs(sums - expected.sums[i]) / expected.num_tokens).max() < PER_TOKEN
            if end:
                np.testing.assert_allclose(
                    [v[-1] for v in got], expected.end_of_turn[i], atol=PER_TOKEN
                )


def test_a_cache_of_another_capacity_or_in_half_precision(tiny, draw):
    (x, y) = draw(10, 30, 20)
    prefix = prefill(tiny, x)
    room = ((0, 0), (0, 600), (0, 0), (0, 0))
    larger = dataclasses.replace(
        prefix, keys=jnp.pad(prefix.keys, room), values=jnp.pad(prefix.values, room)
    )
    (expected,) = score_responses(tiny, prefix, [y])
    np.testing.assert_allclose(score_responses(tiny, larger, [y])[0], expected, atol=PER_TOKEN)
    half = PrefixCache(tiny, 0, 1024, "bfloat16").prefix(x)
    assert half.keys.dtype == jnp.bfloat16
    (rough,) = score_responses(tiny, half, [y])
    assert PER_TOKEN < np.abs(rough - expected).max() < 0.1


def test_unwanted_pairs_are_nan_and_do_not_change_the_others(tiny, draw):
    contexts, responses = draw(11, 8, 16, 24), draw(12, 4, 8, 30, 5)
    pairs = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]], bool)
    everything = pair_log_likelihoods(tiny, contexts, responses)
    some = pair_log_likelihoods(tiny, contexts, responses, pairs)
    assert np.isnan(some.sums[~pairs]).all() and np.isnan(some.end_of_turn[~pairs]).all()
    masked = dataclasses.replace(
        everything,
        sums=np.where(pairs, everything.sums, np.nan),
        end_of_turn=np.where(pairs, everything.end_of_turn, np.nan),
    )
    assert_same(masked, some)


@pytest.mark.parametrize("chunk", [1, 7, 16, 24, 47, 48, 4096])
@pytest.mark.parametrize("tied", [True, False])
def test_target_log_probs_in_chunks(make_model, chunk, tied):
    model = make_model(tie_embeddings=tied)
    decoder = nnx.merge(model.graphdef, model.params)
    rng = np.random.default_rng(chunk)
    hidden = rng.standard_normal((90, 32)).astype(np.float32)
    targets = rng.integers(0, 48, 90)
    got = target_log_probs(decoder, jnp.asarray(hidden), jnp.asarray(targets), chunk)
    kernel = np.asarray(decoder.embedding[...].T if tied else decoder.head[...], np.float64)
    logits = hidden.astype(np.float64) @ kernel
    top = logits.max(-1)
    expected = logits[np.arange(90), targets] - top - np.log(np.exp(logits - top[:, None]).sum(-1))
    assert got.shape == (90,) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize(
    "contexts, responses, message",
    [
        ([[3, 4]], [[5], []], "a response has no tokens"),
        ([[3], []], [[5]], "a prompt has no tokens"),
        ([[3] * 1025], [[5]], "a prompt has 1025 tokens, more than the context window of tiny"),
        ([[3] * 1000], [[5] * 24], "prompt and response take 1025 tokens"),
    ],
)
def test_errors(tiny, contexts, responses, message):
    with pytest.raises(UserError, match=message) as caught:
        pair_log_likelihoods(tiny, contexts, responses)
    assert "\n" not in str(caught.value)


def test_the_longest_that_fits_is_scored(tiny, plain, draw):
    (x, y) = draw(13, 1000, 23)
    got = pair_log_likelihoods(tiny, [x], [y])
    assert abs(got.sums[0, 0] - plain[0](tiny, x, y)[:-1].sum()) < PER_TOKEN * 23


def test_a_mask_of_another_shape_is_refused(tiny):
    with pytest.raises(ValueError, match=r"pairs has shape \(2, 1\), not \(1, 2\)"):
        pair_log_likelihoods(tiny, [[3]], [[4], [5]], np.ones((2, 1), bool))


def test_weights_that_overflow_are_an_error_and_not_a_number(make_model):
    model = make_model()
    model.params["head"][...] = model.params["head"][...] * np.nan
    with pytest.raises(UserError, match="tiny gives a log-probability that is not finite"):
        pair_log_likelihoods(model, [[3]], [[4]])

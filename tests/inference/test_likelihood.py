"""Pair log-likelihoods against plain NumPy, and what they must not depend on."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference import likelihood
from remid_jax.inference.likelihood import (
    Response,
    batches,
    pair_log_likelihoods,
    score_responses,
    target_log_probs,
)
from remid_jax.inference.prefix import prefill

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
    (prefix,) = prefill(tiny, [x])
    for y, got in zip(
        responses,
        score_responses(tiny, prefix, [Response(tuple(y)) for y in responses]),
        strict=True,
    ):
        assert got.dtype == np.float64 and len(got) == len(y) + 1
        np.testing.assert_allclose(got, plain[0](tiny, x, y), atol=PER_TOKEN)


def test_a_skipped_beginning_is_read_but_counted_out(tiny, draw):
    (x, y) = draw(5, 9, 12)
    (prefix,) = prefill(tiny, [x])
    (whole,) = score_responses(tiny, prefix, [Response(tuple(y))])
    skipping = Response(tuple(y), skip=5)
    (skipped,) = score_responses(tiny, prefix, [skipping])
    assert skipping.scored == 7
    np.testing.assert_allclose(skipped, whole, atol=PER_TOKEN)


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


@pytest.mark.parametrize("name, value", [("TOKENS_PER_BATCH", 1), ("TOKENS_PER_BATCH", 4096),
                                         ("LENGTH_STEP", 1), ("LENGTH_STEP", 128)])  # fmt: skip
def test_does_not_depend_on_buckets(tiny, draw, monkeypatch, name, value):
    contexts, responses = draw(8, 20, 100), draw(9, 3, 9, 21, 66, 66)
    before = pair_log_likelihoods(tiny, contexts, responses)
    monkeypatch.setattr(likelihood, name, value)
    assert_same(before, pair_log_likelihoods(tiny, contexts, responses))


def test_does_not_depend_on_the_buffer_of_the_prompt(tiny, draw):
    (x, y) = draw(10, 30, 20)
    values = [
        score_responses(tiny, prefill(tiny, [x], capacity)[0], [Response(tuple(y))])[0]
        for capacity in (None, 30, 600)
    ]
    np.testing.assert_allclose(values[1], values[0], atol=PER_TOKEN)
    np.testing.assert_allclose(values[2], values[0], atol=PER_TOKEN)


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


@pytest.mark.parametrize("positions", [1, 255, 256, 257, 700])
def test_target_log_probs_in_chunks(tiny, positions):
    decoder = nnx.merge(tiny.graphdef, tiny.params)
    rng = np.random.default_rng(positions)
    hidden = rng.standard_normal((positions, 32)).astype(np.float32)
    targets = rng.integers(0, 48, positions)
    got = target_log_probs(decoder, jnp.asarray(hidden), jnp.asarray(targets))
    logits = hidden.astype(np.float64) @ np.asarray(decoder.head[...], np.float64)
    expected = logits[np.arange(positions), targets] - np.log(np.exp(logits).sum(-1))
    assert got.shape == (positions,) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_batches_cover_every_response_once():
    lengths = np.random.default_rng(0).integers(1, 900, 300).tolist()
    groups = batches(lengths)
    assert sorted(i for _, _, members in groups for i in members) == list(range(300))
    for rows, size, members in groups:
        assert 0 < len(members) <= rows and max(lengths[i] for i in members) <= size
        assert rows == 1 or rows * size <= likelihood.TOKENS_PER_BATCH
    assert len({size for _, size, _ in groups}) <= 20  # few programs to compile


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

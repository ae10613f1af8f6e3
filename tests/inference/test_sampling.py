"""Sampling: agreement with the scorer, independence of the batch, and its settings."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.errors import UserError
from remid_jax.inference import sampling
from remid_jax.inference.likelihood import score_responses
from remid_jax.inference.prefix import prefill
from remid_jax.inference.sampling import sample, sample_from
from remid_jax.inference.token_sampling import SamplingConfig, nucleus, penalise_repetition

WAYS = [
    SamplingConfig(max_tokens=20),
    SamplingConfig(max_tokens=20, temperature=0.8, seed=1),
    SamplingConfig(max_tokens=20, temperature=1.0, top_p=0.9, seed=2),
    SamplingConfig(max_tokens=20, temperature=0.8, top_p=0.9, repetition_penalty=1.3, seed=3),
]


@pytest.fixture(scope="module")
def endless(make_model):
    """A model that never stops, so that every draw has all its tokens."""
    return make_model(stop_ids=(10**6,))


@pytest.mark.parametrize("config", WAYS, ids=str)
def test_log_probs_equal_the_scorers(endless, plain, draw, config):
    prompts = draw(1, 3, 64, 300)
    for prompt, drawn in zip(prompts, sample(endless, prompts, config), strict=True):
        assert len(drawn.tokens) == len(drawn.log_probs) == 20 and not drawn.stopped
        prefix = prefill(endless, prompt)
        (scored,) = score_responses(endless, prefix, [drawn.tokens])
        np.testing.assert_allclose(drawn.log_probs, scored[:-1], atol=5e-5)
        np.testing.assert_allclose(
            drawn.log_probs, plain[0](endless, prompt, drawn.tokens)[:-1], atol=5e-5
        )


@pytest.mark.parametrize("penalty", [1.0, 1.05, 2.0, 0.7])
def test_greedy_is_the_plain_decoders_argmax(endless, plain, draw, penalty):
    prompts = draw(2, 5, 70)
    config = SamplingConfig(max_tokens=15, repetition_penalty=penalty)
    for prompt, drawn in zip(prompts, sample(endless, prompts, config), strict=True):
        so_far = list(prompt)
        for token in drawn.tokens:
            logits = plain[1](endless, so_far)[-1]
            used = np.unique(so_far)
            logits[used] *= np.where(logits[used] > 0, 1 / penalty, penalty)
            assert logits[token] > logits.max() - 1e-4
            so_far.append(token)


@pytest.mark.parametrize("config", [WAYS[0], WAYS[3]], ids=str)
def test_does_not_depend_on_batch_size_or_row_order(endless, draw, config):
    prompts = draw(3, 4, 12, 33, 70, 90)
    together = sample(endless, prompts, config, batch_rows=8)
    again = sample(endless, prompts, config, batch_rows=1)
    assert [d.tokens for d in again] == [d.tokens for d in together]
    for a, b in zip(again, together, strict=True):
        np.testing.assert_allclose(a.log_probs, b.log_probs, atol=5e-5)
    backward = sample(endless, prompts[::-1], config, batch_rows=8)
    assert [d.tokens for d in backward[::-1]] == [d.tokens for d in together]


def test_seeds_and_prompts_change_the_draws(endless, draw):
    prompts = draw(4, 8, 9, 10)
    config = SamplingConfig(max_tokens=12, temperature=1.0, seed=5)
    first = [d.tokens for d in sample(endless, prompts, config)]
    assert first == [d.tokens for d in sample(endless, prompts, config)]
    assert len(set(first)) == 3
    other = sample(endless, prompts, dataclasses.replace(config, seed=6))
    assert all(a != b.tokens for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.5, 1.0), (0.7, 0.8)])
def test_draws_follow_the_distribution(make_model, plain, temperature, top_p):
    model = make_model(seed=1, vocab_size=8, stop_ids=(10**6,))
    prefix = prefill(model, [3, 4, 5])
    count = 4096
    config = SamplingConfig(max_tokens=1, temperature=temperature, top_p=top_p)
    tokens = [drawn.tokens[0] for drawn in sample_from(model, [prefix], config, count)]
    logits = plain[1](model, [3, 4, 5])[-1] / temperature
    p = np.exp(logits - logits.max())
    p /= p.sum()
    order = np.argsort(-p)
    kept = order[: int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1]
    expected = np.zeros(8)
    expected[kept] = p[kept] / p[kept].sum()
    found = np.bincount(tokens, minlength=8) / count
    assert (found[expected == 0] == 0).all()
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / count)


def test_a_stop_token_ends_the_row_and_is_not_returned(make_model, endless, draw):
    prompts = draw(6, 6, 40)
    config = SamplingConfig(max_tokens=12, temperature=1.0, seed=9)
    free = sample(endless, prompts, config)
    stop = free[0].tokens[5]
    model = make_model(stop_ids=(2, stop))
    for before, after in zip(free, sample(model, prompts, config), strict=True):
        ends = [i for i, t in enumerate(before.tokens) if t in (2, stop)]
        length = ends[0] if ends else 12
        assert after.tokens == before.tokens[:length]
        assert after.stopped == bool(ends)
        np.testing.assert_allclose(after.log_probs, before.log_probs[:length], atol=5e-5)


def test_a_response_may_be_empty(make_model, endless, draw):
    prompts = draw(7, 6)
    (free,) = sample(endless, prompts, SamplingConfig(max_tokens=1))
    model = make_model(stop_ids=free.tokens)
    (drawn,) = sample(model, prompts, SamplingConfig(max_tokens=5))
    assert drawn.tokens == () and drawn.stopped and drawn.log_probs.shape == (0,)


def test_max_tokens_cuts_the_same_greedy_path(endless, draw):
    prompts = draw(8, 6, 50)
    long = sample(endless, prompts, SamplingConfig(max_tokens=17))
    for n in (1, 8):
        for a, b in zip(sample(endless, prompts, SamplingConfig(max_tokens=n)), long, strict=True):
            assert a.tokens == b.tokens[:n] and not a.stopped


def test_no_prompts_no_responses(tiny):
    assert sample(tiny, [], SamplingConfig()) == []
    assert sample_from(tiny, [], SamplingConfig()) == []


def test_penalise_repetition():
    logits = jnp.array([[2.0, -2.0, 0.0, 3.0], [1.0, -1.0, 4.0, -4.0]])
    seen = jnp.array([[True, True, True, False], [False, False, True, True]])
    np.testing.assert_allclose(
        penalise_repetition(logits, seen, 2.0),
        [[1.0, -4.0, 0.0, 3.0], [1.0, -1.0, 2.0, -8.0]],
    )
    np.testing.assert_array_equal(penalise_repetition(logits, seen, 1.0), logits)


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.5, 0.75, 0.9, 0.999, 1.0])
def test_nucleus_is_the_smallest_set(top_p):
    logits = np.random.default_rng(3).standard_normal((40, 9)).astype(np.float32) * 2
    got = np.asarray(nucleus(jnp.asarray(logits), top_p))
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    for row, probabilities, kept in zip(logits, p, np.isfinite(got), strict=True):
        assert (got[np.isfinite(got)] == logits[np.isfinite(got)]).all()
        total = probabilities[kept].sum()
        assert total >= top_p - 1e-6
        assert total - probabilities[kept].min() < top_p  # one fewer would not do
        assert row[kept].min() >= row[~kept].max(initial=-np.inf)


@pytest.mark.parametrize(
    "top_p, kept", [(0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.94, 3), (0.96, 4), (1.0, 4)]
)
def test_nucleus_by_hand(top_p, kept):
    logits = jnp.log(jnp.array([0.15, 0.5, 0.05, 0.3]))
    expected = np.isin(np.arange(4), [1, 3, 0, 2][:kept])
    np.testing.assert_array_equal(np.isfinite(nucleus(logits, top_p)), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": 0},
        {"max_tokens": -3},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": float("nan")},
        {"stop_strings": "x"},
        {"stop_strings": ("x", "")},
    ],
    ids=str,
)
def test_bad_settings(settings):
    with pytest.raises(UserError):
        SamplingConfig(**settings)


def test_too_long(tiny):
    with pytest.raises(UserError, match=r"prompt and max_tokens take 1028 tokens.*tiny.*1024"):
        sample(tiny, [[3] * 1000], SamplingConfig(max_tokens=28))
    with pytest.raises(UserError, match="a prompt has no tokens"):
        sample(tiny, [[3], []], SamplingConfig(max_tokens=2))


def test_caches_of_different_capacity(endless, draw):
    prompts = draw(14, 5, 300)
    config = SamplingConfig(max_tokens=6)
    together = sample_from(endless, [prefill(endless, p) for p in prompts], config)
    for prompt, drawn in zip(prompts, together, strict=True):
        assert drawn.tokens == sample(endless, [prompt], config)[0].tokens


@pytest.mark.parametrize("split", [True, False])
def test_split_layers_change_nothing(endless, draw, monkeypatch, split):
    prompts = draw(15, 9, 70)
    config = SamplingConfig(max_tokens=9, temperature=0.9)
    expected = sample(endless, prompts, config)
    monkeypatch.setattr(sampling, "splits_layers", lambda model, spare: split)
    for a, b in zip(sample(endless, prompts, config), expected, strict=True):
        assert a.tokens == b.tokens
        np.testing.assert_allclose(a.log_probs, b.log_probs, atol=5e-5)


def test_draws_of_one_prompt(endless, plain, draw):
    prompts = draw(16, 20, 90)
    config = SamplingConfig(max_tokens=8, temperature=1.0, seed=3)
    drawn = sample(endless, prompts, config, batch_rows=16, draws=5)
    assert len(drawn) == 10 and len({d.tokens for d in drawn}) == 10
    first = sample(endless, prompts, config)
    assert [drawn[0].tokens, drawn[5].tokens] == [d.tokens for d in first]
    fewer = sample(endless, prompts, config, batch_rows=1, draws=3)
    assert [d.tokens for d in fewer] == [drawn[i].tokens for i in (0, 1, 2, 5, 6, 7)]
    for i, d in enumerate(drawn):
        expected = plain[0](endless, prompts[i // 5], d.tokens)[:-1]
        np.testing.assert_allclose(d.log_probs, expected, atol=5e-5)


def test_limits_of_single_rows(endless, draw):
    prompts = [prefill(endless, p) for p in draw(17, 20, 90)]
    config = SamplingConfig(max_tokens=9, temperature=1.0)
    free = sample_from(endless, prompts, config, draws=2)
    limits = [9, 1, 4, 8]
    for d, whole, n in zip(
        sample_from(endless, prompts, config, 2, limits), free, limits, strict=True
    ):
        assert d.tokens == whole.tokens[:n] and not d.stopped
    with pytest.raises(ValueError, match="limits must be 4 numbers from 1 to 9"):
        sample_from(endless, prompts, config, 2, [9, 1, 4, 10])


@pytest.mark.parametrize("steps", [1, 3, 32])
def test_stop_strings(endless, draw, monkeypatch, steps):
    monkeypatch.setattr(sampling, "STEPS", steps)
    prompts = draw(18, 6, 40)
    config = SamplingConfig(max_tokens=12, temperature=1.0, seed=9)
    free = sample(endless, prompts, config)
    text = endless.tokenizer.decode(free[0].tokens)
    words = text.split(" ")
    place = next(i for i in range(5, 12) if words[i] not in words[:i])
    stop = f" {words[place]}"
    got = sample(endless, prompts, dataclasses.replace(config, stop_strings=(stop, "never")))
    for before, after in zip(free, got, strict=True):
        whole = endless.tokenizer.decode(before.tokens)
        expected = whole.split(stop)[0]
        assert endless.tokenizer.decode(after.tokens) == expected
        assert after.stopped == (expected != whole)
        assert after.tokens == before.tokens[: len(after.tokens)]
    assert got[0].stopped and len(got[0].tokens) == place


def test_prompts_of_similar_length_run_together():
    parts = []
    prompts = [[0] * n for n in (5, 9, 1, 7, 3)]

    def run(part, rows):
        parts.append((part, rows))
        return [f"{i}{g}" for i in part for g in "ab"]

    got = sampling.in_batches(prompts, 4, 2, run)
    assert got == [f"{i}{g}" for i in range(5) for g in "ab"]
    assert parts == [([1, 3], 2), ([0, 4], 2), ([2], 1)]

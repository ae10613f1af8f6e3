"""Prompt caches: chunks, common beginnings, buffers."""

import numpy as np
import pytest
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference.prefix import capacity_for, common_prefix_length, prefill, trunk_of

TOLERANCE = 5e-5


def assert_same_prefix(a, b):
    assert a.tokens == b.tokens and a.length == b.length
    n = a.length
    np.testing.assert_allclose(a.keys[:, :n], b.keys[:, :n], atol=TOLERANCE)
    np.testing.assert_allclose(a.values[:, :n], b.values[:, :n], atol=TOLERANCE)
    np.testing.assert_allclose(a.last_hidden, b.last_hidden, atol=TOLERANCE)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 255, 256, 257, 300, 320, 333, 530])
def test_chunks_equal_one_straight_forward(tiny, plain, draw, length):
    (tokens,) = draw(length, length)
    (prefix,) = prefill(tiny, [tokens])
    decoder = nnx.merge(tiny.graphdef, tiny.params)
    np.testing.assert_allclose(
        decoder.logits(prefix.last_hidden), plain[1](tiny, tokens)[-1], atol=TOLERANCE
    )
    empty = np.zeros((2, 0, 2, 8), np.float32)
    _, (keys, values) = decoder.extend(np.array([tokens]), (empty, empty), 0)
    np.testing.assert_allclose(prefix.keys[:, :length], keys[:, 0], atol=TOLERANCE)
    np.testing.assert_allclose(prefix.values[:, :length], values[:, 0], atol=TOLERANCE)
    assert prefix.length == length and prefix.tokens == tuple(tokens)


@pytest.mark.parametrize("shared", [1, 64, 100, 300])
def test_prompts_with_a_common_beginning_equal_separate_prompts(tiny, draw, shared):
    beginning, *ends = draw(shared, shared, 1, 64, 70, 7)
    prompts = [beginning + end for end in ends]
    for got, prompt in zip(prefill(tiny, prompts), prompts, strict=True):
        (alone,) = prefill(tiny, [prompt])
        assert_same_prefix(got, alone)


def test_prompts_without_a_common_beginning(tiny, draw):
    a, b = draw(1, 20, 90)
    b[0] = a[0] + 1
    for got, prompt in zip(prefill(tiny, [a, b]), (a, b), strict=True):
        assert_same_prefix(got, prefill(tiny, [prompt])[0])


@pytest.mark.parametrize("shared, capacity", [(100, None), (100, 512), (300, None), (300, 376)])
def test_a_trunk_at_hand_equals_none(tiny, draw, shared, capacity):
    beginning, *ends = draw(shared + 1, shared, 5, 70, 64)
    prompts = [beginning + end for end in ends]
    trunk = trunk_of(tiny, prompts)
    assert trunk.length >= shared and trunk.tokens[:shared] == tuple(beginning)
    before = np.asarray(trunk.keys)
    for got, prompt in zip(prefill(tiny, prompts, capacity, trunk), prompts, strict=True):
        assert_same_prefix(got, prefill(tiny, [prompt])[0])
    np.testing.assert_array_equal(trunk.keys, before)  # its buffers are not written over
    assert trunk_of(tiny, [[3, 4], [5, 4]]) is None


def test_equal_prompts_and_a_prompt_that_begins_another(tiny, draw):
    (a, end) = draw(2, 70, 5)
    prompts = [a, a, a + end, a[:1]]
    for got, prompt in zip(prefill(tiny, prompts), prompts, strict=True):
        assert_same_prefix(got, prefill(tiny, [prompt])[0])


def test_caches_of_one_call_have_one_capacity(tiny, draw):
    prompts = draw(3, 10, 300, 40)
    assert len({p.capacity for p in prefill(tiny, prompts)}) == 1
    assert [capacity_for(n) for n in (1, 256, 257, 600)] == [256, 256, 512, 768]


def test_a_buffer_too_small_is_refused(tiny, draw):
    with pytest.raises(ValueError, match="capacity"):
        prefill(tiny, draw(4, 400), capacity=256)


@pytest.mark.parametrize(
    "prompts, length",
    [
        ([[1, 2, 3]], 3),
        ([[1, 2], [1, 2]], 2),
        ([[1, 2], [1, 2, 3]], 2),
        ([[1, 2, 3], [1, 4, 3], [1, 2, 3]], 1),
        ([[1], [2]], 0),
        ([[1], []], 0),
    ],
)
def test_common_prefix_length(prompts, length):
    assert common_prefix_length(prompts) == length


def test_errors(tiny):
    with pytest.raises(UserError, match="a prompt has no tokens"):
        prefill(tiny, [[3], []])
    with pytest.raises(UserError, match=r"a prompt has 1025 tokens.*tiny.*1024"):
        prefill(tiny, [[3], [3] * 1025])

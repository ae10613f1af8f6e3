"""Prompt caches: chunks, common prefixes, lengths, and what is kept."""

import numpy as np
import pytest
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference.prefix import PrefixCache, branch_points, common_prefix_length, prefill
from remid_jax.inference.sizes import Work, capacity_for

TOLERANCE = 5e-5


def assert_same_prefix(a, b):
    assert a.tokens == b.tokens and a.length == b.length
    n = a.length
    np.testing.assert_allclose(a.keys[:, :n], b.keys[:, :n], atol=TOLERANCE)
    np.testing.assert_allclose(a.values[:, :n], b.values[:, :n], atol=TOLERANCE)
    np.testing.assert_allclose(a.last_hidden, b.last_hidden, atol=TOLERANCE)


@pytest.mark.parametrize("length", [1, 8, 63, 65, 256, 257, 333, 530])
@pytest.mark.parametrize("chunk", [64, 1024])
def test_chunks_equal_one_straight_forward(tiny, plain, draw, length, chunk):
    (tokens,) = draw(length, length)
    prefix = prefill(tiny, tokens, chunk)
    decoder = nnx.merge(tiny.graphdef, tiny.params)
    np.testing.assert_allclose(
        decoder.logits(prefix.last_hidden), plain[1](tiny, tokens)[-1], atol=TOLERANCE
    )
    empty = np.zeros((2, 0, 2, 8), np.float32)
    _, (keys, values) = decoder.extend(np.array([tokens]), (empty, empty), 0)
    np.testing.assert_allclose(prefix.keys[:, :length], keys[:, 0], atol=TOLERANCE)
    np.testing.assert_allclose(prefix.values[:, :length], values[:, 0], atol=TOLERANCE)
    assert prefix.length == length and prefix.tokens == tuple(tokens)
    assert prefix.capacity == capacity_for(length)


@pytest.mark.parametrize("lengths", [[1], [64], [100, 150], [299]])
def test_prefix_lengths_change_nothing(tiny, draw, lengths):
    prefix, *ends = draw(lengths[0], 300, 1, 64, 70, 7)
    cache = PrefixCache(tiny, 2**20, 1024)
    for end in ends:
        assert_same_prefix(cache.prefix(prefix + end, lengths), prefill(tiny, prefix + end))


def test_a_shared_prefix_is_computed_once(tiny, draw):
    prefix, *ends = draw(3, 100, 5, 6, 7)
    work = Work()
    cache = PrefixCache(tiny, 2**20, 1024, work=work)
    for end in ends:
        cache.prefix(prefix + end, [100])
    assert work.tokens == 100 + 5 + 6 + 7 and work.positions == 128 + 3 * 32


def test_bits_follow_from_the_prompt_and_its_lengths_alone(tiny, draw):
    """Whatever was asked before, also with other lengths: a resumed run repeats an unbroken one."""
    a, b, c = draw(4, 90, 60, 33)
    fresh = PrefixCache(tiny, 2**20, 1024).prefix(a + b + c, [90, 150])
    used = PrefixCache(tiny, 2**20, 1024)
    used.prefix(a + b + a, [150])  # the same prefix, computed in one piece
    used.prefix(a + c, [90])
    again = used.prefix(a + b + c, [90, 150])
    for x, y in ((fresh.keys, again.keys), (fresh.last_hidden, again.last_hidden)):
        np.testing.assert_array_equal(x, y)


def test_the_least_recently_used_is_let_go(tiny, draw):
    prefixes, (end,) = draw(5, 300, 301, 302), draw(6, 4)
    one = prefill(tiny, prefixes[0]).nbytes
    cache = PrefixCache(tiny, 2 * one, 1024)
    for x in prefixes:
        cache.prefix(x + end, [len(x)])
    kept = [len(tokens) for tokens, _ in cache._kept]
    assert kept == [301, 302]
    tight = PrefixCache(tiny, 0, 1024)  # room for none still gives right numbers
    assert_same_prefix(tight.prefix(prefixes[0] + end, [300]), prefill(tiny, prefixes[0] + end))


@pytest.mark.parametrize(
    "a, b, length",
    [([1, 2], [1, 2], 2), ([1, 2], [1, 2, 3], 2), ([1, 4], [1, 2], 1), ([1], [2], 0), ([], [1], 0)],
)
def test_common_prefix_length(a, b, length):
    assert common_prefix_length(a, b) == length == common_prefix_length(b, a)


def test_branch_points_are_where_prompts_part():
    rng = np.random.default_rng(7)
    prompts = [rng.integers(0, 2, 12).tolist() for _ in range(40)]
    for i, points in enumerate(branch_points(prompts, least=1)):
        others = [common_prefix_length(prompts[i], p) for k, p in enumerate(prompts) if k != i]
        assert points == sorted({min(n, 11) for n in others if n})


def test_branch_points_are_apart():
    prompts = [[0] * 50 + [k] * 50 + [k % 2] * 60 + [9, k] for k in range(3)]
    prompts += [prompts[0][:100] + [8] * 70, prompts[0][:120] + [7] * 70]
    points = branch_points(prompts, least=48)
    assert points == [[50, 100], [50], [50], [50, 100], [50, 100]]
    assert branch_points([]) == [] and branch_points([[1] * 60]) == [[]]
    assert branch_points([[1] * 60, [1] * 60]) == [[59], [59]]


def test_errors(tiny):
    with pytest.raises(UserError, match="a prompt has no tokens"):
        prefill(tiny, [])
    with pytest.raises(UserError, match=r"a prompt has 1025 tokens.*tiny.*1024"):
        prefill(tiny, [3] * 1025)

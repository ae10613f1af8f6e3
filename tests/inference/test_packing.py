"""Packing: every response once, in calls of few sizes, with little padding."""

import numpy as np
import pytest

from remid_jax.inference.packing import bins, call_size, pack
from remid_jax.inference.sizes import stepped
from remid_jax.models.attention import PACKED_BLOCK


@pytest.mark.parametrize("n", range(1, 3000, 7))
def test_steps_bound_padding(n):
    assert n <= stepped(n) <= max(n + 7, n * 1.125)
    assert call_size(n) >= n and (call_size(n) < 64 or call_size(n) % PACKED_BLOCK == 0)


def test_steps_are_few():
    assert len({stepped(n) for n in range(1, 4097)}) <= 8 * 7


def test_bins_are_even_and_as_few_as_the_tokens_need():
    lengths = np.random.default_rng(0).integers(1, 120, 200).tolist()
    groups = bins(lengths, 512)
    assert sorted(i for g in groups for i in g) == list(range(200))
    loads = [sum(lengths[i] for i in g) for g in groups]
    assert max(loads) <= 512 and max(loads) - min(loads) <= 10
    assert len(groups) == -(-sum(lengths) // 512)
    assert bins([600, 5, 512], 512) == [[0], [2], [1]]
    assert bins([], 512) == []
    assert sorted(map(sorted, bins([300, 300, 300], 512))) == [[0], [1], [2]]


def test_padding_is_bounded():
    """At most a tenth of the tokens, for the mixtures of lengths that benchmarks have."""
    rng = np.random.default_rng(1)
    for low, high, count in ((64, 65, 96), (10, 60, 40), (20, 256, 60), (1, 400, 50), (65, 66, 30)):
        responses = [[3] * n for n in rng.integers(low, high, count)]
        calls = pack(responses, None, 512)
        run = sum(len(y) - 1 for y in responses)
        assert sum(len(c.tokens) for c in calls) <= 1.1 * run
        assert len({(len(c.tokens), c.window) for c in calls}) <= 4


@pytest.mark.parametrize("end", [None, 2])
def test_every_token_is_the_target_of_its_predecessor(end):
    rng = np.random.default_rng(2)
    responses = [rng.integers(3, 99, n).tolist() for n in (1, 130, 7, 64, 65, 2, 1, 30)]
    found = {i: [y[0]] for i, y in enumerate(responses)}
    for call in pack(responses, end, 128):
        inside = [p for _, start, n in call.places for p in range(start, start + n)]
        assert len(set(inside)) == len(inside) and max(inside) < len(call.tokens)
        assert (np.diff(call.segments) >= 0).all()
        for number, (i, start, n) in enumerate(call.places):
            span = slice(start, start + n)
            assert (call.segments[span] == number).all()
            assert call.offsets[span].tolist() == list(range(n))
            assert call.tokens[span].tolist() == responses[i][:n]
            found[i] += call.targets[span].tolist()
            first_block = start // PACKED_BLOCK
            assert (start + n - 1) // PACKED_BLOCK - first_block <= call.window
    tail = [] if end is None else [end]
    assert found == {i: y + tail for i, y in enumerate(responses)}


def test_responses_that_fit_a_block_do_not_cross_one_for_nothing():
    (call,) = pack([[3] * 64] * 8, None, 512)  # 63 tokens are run of each
    assert len(call.tokens) == 512 and call.window == 0
    assert [start for _, start, _ in call.places] == [64 * k for k in range(8)]
    (call,) = pack([[3] * 41] * 6, None, 512)  # side by side: 240 tokens, one a block: 384
    assert len(call.tokens) == 256 and call.window == 1

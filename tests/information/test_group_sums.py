"""Dense and streamed sums agree with each other and with vCLUB and its deletions."""

import tracemalloc

import numpy as np
import pytest

from remid_jax.information.group_sums import (
    club_replicates,
    group_sums,
    streamed_group_sums,
    streamed_infonce,
)
from remid_jax.information.mutual_information import club, infonce, leave_one_out


def rows_of(scores):
    return lambda start, stop: scores[start:stop]


def case(n, num_groups, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(-30, 4, (n, n)).astype(np.float32)
    groups = np.arange(n) if num_groups == n else rng.permutation(np.arange(n) % num_groups)
    return scores, groups


@pytest.mark.parametrize("num_groups", [9, 4])
def test_value_and_replicates_are_club_with_groups_deleted(num_groups):
    scores, groups = case(9, num_groups)
    apart = (groups[:, None] != groups[None, :]).astype(float)
    value, replicates = club_replicates(group_sums(scores, groups, num_groups))
    assert value == pytest.approx(float(club(scores, negatives=apart)), abs=1e-4)
    for g in range(num_groups):
        kept = club(scores, negatives=apart, where=groups != g)
        assert replicates[g] == pytest.approx(float(kept), abs=1e-4)


@pytest.mark.parametrize("num_groups", [50, 6])
@pytest.mark.parametrize("block_rows", [7, 64])
def test_streamed_equals_dense(num_groups, block_rows):
    scores, groups = case(50, num_groups)
    groups[[3, 11]] = -1  # left out
    scores[3, :] = scores[:, 11] = np.nan
    dense = group_sums(scores, groups, num_groups)
    streamed = streamed_group_sums(rows_of(scores), groups, num_groups, block_rows)
    for a, b in zip(dense, streamed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-2)


def test_streamed_infonce_equals_dense():
    scores, _ = case(41, 41)
    values = streamed_infonce(rows_of(scores), 41, 8)
    assert values[0] == pytest.approx(float(infonce(scores)), abs=1e-4)
    assert values[1] == pytest.approx(float(leave_one_out(scores)), abs=1e-4)


def test_twenty_thousand_contexts_in_bounded_memory():
    n = 20_000
    rng = np.random.default_rng(0)
    context, response = rng.normal(size=n).astype(np.float32), rng.normal(size=n)

    def block(start, stop):  # S_ij = a_i + b_j + a_i b_j
        a, b = context[start:stop, None], response[None, :]
        return (a + b + a * b).astype(np.float32)

    tracemalloc.start()
    value, replicates = club_replicates(streamed_group_sums(block, np.arange(n), n, 64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6  # the matrix alone would take 1.6e9 bytes
    product = context * response
    others = (context.sum() * response.sum() - product.sum()) / (n * (n - 1))
    assert value == pytest.approx(product.mean() - others, abs=1e-4)
    assert replicates.shape == (n,) and np.std(replicates) > 1e-6


def test_bad_input():
    scores, groups = case(5, 5)
    scores[1, 2] = -np.inf
    with pytest.raises(ValueError, match=r"\(5, 5\) holds -inf at \(1, 2\)"):
        group_sums(scores, groups, 5)
    for streamed in (
        lambda: streamed_group_sums(rows_of(scores), groups, 5, 2),
        lambda: streamed_infonce(rows_of(scores), 5, 2),
    ):
        with pytest.raises(ValueError, match=r"-inf at \(1, 2\)"):
            streamed()
    with pytest.raises(ValueError, match="square"):
        group_sums(scores[:3], groups, 5)
    with pytest.raises(ValueError, match="fewer than 2 groups"):
        club_replicates(group_sums(case(5, 5)[0], np.zeros(5, int), 1))

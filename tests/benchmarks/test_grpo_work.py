"""A round of GRPO in operations."""

import pytest

from benchmarks.grpo import Work, shared_flops, step_flops, unshared_flops
from benchmarks.model import SMALL, SMOLLM2
from remid_jax.inference.cost import extend_flops, head_flops, layer_parameters

ADAPTER = 1000


def work(prompts=3, length=20, new=5, group=4, golden=7):
    ids = [[1 + i] * length for i in range(prompts)]
    return Work(ids, list(range(golden)), new, group)


def test_a_step_is_two_forward_passes_and_what_attention_and_adapters_add():
    kernels = 2 * layer_parameters(SMALL) * 9
    attention = extend_flops(SMALL, 9, 30) - kernels
    assert attention > 0
    assert step_flops(SMALL, 0, 9, 30) == pytest.approx(2 * kernels + 3 * attention)
    more = step_flops(SMALL, ADAPTER, 9, 30) - step_flops(SMALL, 0, 9, 30)
    assert more == pytest.approx(3 * 2 * ADAPTER * 9)


def test_sharing_saves_prompts_only():
    """With one completion a prompt both ways run the same tokens, but for the rows' last ones."""
    w = work(group=1)
    ours, theirs = (sum(f(SMALL, w, 0)) for f in (shared_flops, unshared_flops))
    rows, p = w.rows, w.length
    last = extend_flops(SMALL, 1, p + w.new + 6) + step_flops(SMALL, 0, 1, p + w.new - 1)
    logits = head_flops(SMALL, 1 + 3 * (p - 1))
    assert theirs - ours == pytest.approx(rows * (last + logits))


def test_sharing_saves_more_in_larger_groups():
    def ratio(group):
        w = work(length=200, group=group)
        return sum(unshared_flops(SMOLLM2, w, 0)) / sum(shared_flops(SMOLLM2, w, 0))

    assert 1 < ratio(1) < ratio(4) < ratio(16) < 16


def test_adapters_are_counted_where_they_run():
    w = work()
    for count, tokens in (
        # reward and step; sampling from merged weights has none
        (shared_flops, 3 * 20 + 12 * 11 + 3 * (3 * 20 + 12 * 4)),
        # sampling and step; its policy is merged
        (unshared_flops, 12 * (24 + 3 * 25)),
    ):
        plain, adapted = (count(SMALL, w, a) for a in (0, ADAPTER))
        assert adapted[0] - plain[0] == pytest.approx(2 * ADAPTER * tokens)
        assert adapted[1] == plain[1]

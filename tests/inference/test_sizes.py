"""Sizes follow from a memory budget."""

import pytest

from remid_jax.errors import UserError
from remid_jax.inference import cost
from remid_jax.inference.sizes import (
    CAPACITY_STEP,
    LEAST_CALL,
    Sizes,
    capacity_for,
    sizes_for,
    working_bytes,
)

GIB = 2**30


@pytest.fixture(scope="module")
def config(make_model):
    return make_model(num_layers=12, width=256, mlp_width=700, vocab_size=50_000).config


def test_more_memory_gives_larger_pieces_up_to_what_is_of_use(config):
    budgets = [30 * 2**20, 50 * 2**20, GIB, 64 * GIB]
    found = [sizes_for(config, b, 1000, where="cpu") for b in budgets]
    assert [s.call for s in found] == sorted(s.call for s in found)
    assert found[0].call < found[2].call == found[3].call == 512
    assert sizes_for(config, 64 * GIB, 1000, where="tpu").call > 512
    for budget, s in zip(budgets, found, strict=True):
        one = cost.cache_bytes(config, capacity_for(1000))
        assert one <= s.cache == budget - working_bytes(config, s, 1000, "float32")


def test_sizes_follow_from_the_budget_alone(config):
    assert sizes_for(config, GIB, 1000) == sizes_for(config, GIB, 1000)


def test_caches_in_half_precision_leave_more_room(make_model):
    config = make_model(num_layers=12, num_heads=8, num_kv_heads=8, head_dim=64).config
    full, half = (sizes_for(config, GIB, 4000, d) for d in ("float32", "bfloat16"))
    assert half.cache > full.cache


def test_too_little_memory_says_how_much_is_needed(config):
    with pytest.raises(UserError, match=r"memory_bytes is 1000; prompts of 900 tokens") as e:
        sizes_for(config, 1000, 900)
    needed = int(str(e.value).rsplit(" ", 1)[1])
    assert sizes_for(config, needed, 900).call == LEAST_CALL
    with pytest.raises(UserError):
        sizes_for(config, needed - 1, 900)


def test_halving_ends():
    sizes, steps = Sizes(1024, 512, 4096, GIB), 0
    while (smaller := sizes.halved()) is not None:
        assert smaller.call <= sizes.call and smaller.chunk <= sizes.chunk
        sizes, steps = smaller, steps + 1
    assert steps == 4 and sizes.call == sizes.chunk == LEAST_CALL


def test_capacities():
    assert [capacity_for(n) for n in (0, 1, 256, 257, 2048, 2049, 8000)] == [
        0, 256, 256, 512, 2048, 2304, 8192
    ]  # fmt: skip
    assert all(capacity_for(n) % CAPACITY_STEP == 0 for n in range(1, 5000, 111))

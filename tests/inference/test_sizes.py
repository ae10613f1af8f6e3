"""Sizes follow from a memory budget."""

import pytest

from benchmarks.tpu_programs import MODELS
from configs import rpgbench_qwen3_8b
from remid_jax.errors import UserError
from remid_jax.inference import cost
from remid_jax.inference.sizes import (
    CAPACITY_STEP,
    LEAST_CALL,
    Sizes,
    capacity_for,
    rows_that_fit,
    share_of,
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


EIGHT_BILLION = MODELS["qwen3-8b"]


def test_a_device_holds_its_share_of_heads_and_caches():
    share = share_of(EIGHT_BILLION, 8)
    assert 8 * cost.cache_bytes(share, 100) == cost.cache_bytes(EIGHT_BILLION, 100)
    assert (share.num_heads, share.width, share.num_layers) == (4, 4096, 36)
    assert share_of(EIGHT_BILLION, 1) == EIGHT_BILLION


def test_rows_take_half_the_room_for_caches():
    sizes = Sizes(1024, 512, 4096, 1000 * cost.cache_bytes(EIGHT_BILLION, 1))
    found = [rows_that_fit(EIGHT_BILLION, sizes, n, "float32", 16) for n in (10, 25, 26, 10**6)]
    assert found == [16, 10, 9, 1]


def test_eight_chips_decode_as_many_rows_as_the_configuration_asks_for():
    config = rpgbench_qwen3_8b.get_config()
    share, memory = share_of(EIGHT_BILLION, config.mesh.tensor), config.limits.memory_bytes
    sizes = sizes_for(share, memory, 4096, "bfloat16", where="tpu")
    assert (sizes.chunk, sizes.call) == (4096, 8192)
    most = config.sampling.batch_rows
    tokens = 4096 + config.sampling.max_tokens
    assert rows_that_fit(share, sizes, tokens, "bfloat16", most) == most == 32
    # One chip alone would need more than it has for that.
    sizes = sizes_for(EIGHT_BILLION, memory, 4096, "bfloat16", where="tpu")
    assert rows_that_fit(EIGHT_BILLION, sizes, tokens, "bfloat16", most) < 8


def test_capacities():
    assert [capacity_for(n) for n in (0, 1, 256, 257, 2048, 2049, 8000)] == [
        0, 256, 256, 512, 2048, 2304, 8192
    ]  # fmt: skip
    assert all(capacity_for(n) % CAPACITY_STEP == 0 for n in range(1, 5000, 111))

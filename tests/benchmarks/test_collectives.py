"""What programs exchange, read from their text."""

import json

import pytest
from children import answer

from benchmarks.collectives import collectives

PROGRAM = """
import json, jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from benchmarks.collectives import collectives

mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))

def total(x):
    whole = jax.lax.all_gather(x, "x", tiled=True)
    return jax.lax.fori_loop(0, 5, lambda i, y: y + jax.lax.psum(x * y, "x"), x) + whole.sum()

run = jax.jit(jax.shard_map(total, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False))
print(json.dumps(collectives(run.lower(jnp.ones(32)).compile().as_text())))
"""

TPU = """
HloModule jit_f, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[]{:T(128)} add(%a, %b)
}

%inner (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %r = bf16[4,8]{1,0:T(8,128)(2,1)} all-reduce(%x), channel_id=1, to_apply=%sum
  %g = (bf16[2,8]{1,0}, bf16[4,8]{1,0}) all-gather-start(%y), dimensions={0}
}

%bound (p: (s32[], bf16[4,8])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(36)
  ROOT %lt = pred[]{:T(512)} compare(%i, %constant.1), direction=LT
}

%open (p: (s32[], bf16[4,8])) -> pred[] {
  ROOT %any = pred[] and(%i, %j)
}

%outer (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %w = (s32[], bf16[4,8]{1,0}) while(%t), condition=%bound, body=%inner
}

ENTRY %main (x: bf16[4,8]) -> bf16[4,8] {
  %v = (s32[], bf16[4,8]{1,0}) while(%t), condition=%open, body=%outer
  %z = (s32[], bf16[4,8]{1,0}) while(%t), condition=%open, body=%outer, backend_config={"known_trip_count":{"n":"2"}}
}
"""  # noqa: E501


def test_loops_count_as_often_as_they_run():
    found = answer(PROGRAM, devices=8)
    assert found == {"all-gather": [1, 4 * 32], "all-reduce": [5, 5 * 4 * 4]}


def test_bounds_of_loops_as_the_tpu_compiler_writes_them():
    times = 36 * (1 + 2)  # an open loop counts once
    assert collectives(TPU) == {
        "all-gather": (times, times * 64), "all-reduce": (times, times * 64)
    }  # fmt: skip


@pytest.mark.parametrize(
    "line, kind, size",
    [
        ("(bf16[2,8]{1,0}, bf16[4,8]{1,0}) all-gather-start(%y)", "all-gather", 64),
        ("((bf16[2], f32[2]), (bf16[4], f32[4])) all-gather-start(%y, %z)", "all-gather", 24),
        ("(f32[1024], f32[1024]) all-reduce-start(%x, %y)", "all-reduce", 8192),
        ("f32[1024] all-reduce-start(%x)", "all-reduce", 4096),
        (
            "(bf16[128,4096], bf16[128,4096], u32[], u32[]) collective-permute-start(%x)",
            "collective-permute", 2**20,
        ),
        ("bf16[128,4096] collective-permute(%x)", "collective-permute", 2**20),
    ],
)  # fmt: skip
def test_bytes_of_what_has_only_started(line, kind, size):
    hlo = f"ENTRY %main (x: f32[]) -> f32[] {{\n  %s = {line}, channel_id=1\n}}"
    assert collectives(hlo) == {kind: (1, size)}


def test_a_program_without_exchange():
    text = json.dumps(
        collectives("ENTRY %main (x: f32[]) -> f32[] {\n  ROOT %x = f32[] add(%x)\n}")
    )
    assert text == "{}"

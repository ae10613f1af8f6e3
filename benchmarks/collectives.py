"""What a compiled program exchanges between devices, read from its HLO text."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
    "f32": 4, "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip
_HEAD = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+) (?:\([^)]*\)|\(.*\)) -> .*\{\s*$")
_OPCODE = re.compile(r"= (.+?) ([a-z][a-z0-9\-]*)\(")
_CALLED = re.compile(r"(?:body|to_apply|calls|called_computations)=\{?%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CHANNEL = re.compile(r"channel_id=(\d+)")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_CONSTANT = re.compile(r"= [su]32\[\]\S* constant\((\d+)\)")
_SHAPE = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\]")


def collectives(hlo: str) -> dict[str, tuple[int, int]]:
    """Kind -> (times that it runs, bytes of its results in all), for one device.

    A loop's body stands once in the text and counts as often as it runs: as the compiler notes it,
    or the bound below which its counter stays. A loop without such a bound counts once. An exchange
    that runs beside other work stands in each of the fusions beside which it runs, and counts once.

    Args:
      hlo: of a compiled program, as `compiled.as_text()` gives it.
    """
    blocks: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in hlo.splitlines():
        if line.startswith(" "):
            lines.append(line)
        elif head := _HEAD.match(line):
            lines = blocks[head[2]] = []
            entry = head[2] if head[1] else entry
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()

    def walk(computation: str, times: int, seen: set[tuple[str, ...]], fused: bool) -> None:
        for line in blocks.get(computation, ()):
            found = _OPCODE.search(line)
            if not found:
                continue
            shape, opcode = found.groups()
            kind = opcode.removesuffix("-start")
            if kind in KINDS:  # what it applies to two numbers is no work of its own
                channel = _CHANNEL.search(line)
                name = (kind, shape.split("{")[0], channel[1] if channel else line)
                if not (fused and name in seen):
                    counts[kind] += times
                    sizes[kind] += times * _bytes(shape, opcode)
                seen.add(name)
                continue
            loop = opcode == "while"
            for called in _CALLED.findall(line):
                trips = _trips(line, blocks) if loop else 1
                walk(called, times * trips, set() if loop else seen, not loop)

    walk(entry, 1, set(), False)
    return {kind: (counts[kind], sizes[kind]) for kind in KINDS if counts[kind]}


def _trips(loop: str, blocks: Mapping[str, Sequence[str]]) -> int:
    if noted := _TRIPS.search(loop):
        return int(noted[1])
    condition = _CONDITION.search(loop)
    lines = blocks.get(condition[1], ()) if condition else ()
    bounds = [m[1] for line in lines if (m := _CONSTANT.search(line))]
    below = any("direction=LT" in line for line in lines)
    return int(bounds[0]) if below and len(bounds) == 1 else 1


def _bytes(shape: str, opcode: str) -> int:
    """Bytes of an exchange's results.

    A gather that has only started gives operands, then results; a permutation one operand, one
    result and two counters; a sum that has started gives its results as ever.
    """
    sizes = [
        math.prod(int(n) for n in dims.split(",") if n) * BYTES.get(dtype, 4)
        for dtype, dims in _SHAPE.findall(shape)
    ]
    if opcode == "collective-permute-start":
        return sizes[1]
    return sum(sizes[len(sizes) // 2 :] if opcode == "all-gather-start" else sizes)

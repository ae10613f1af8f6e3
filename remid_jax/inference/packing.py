"""Responses packed one after the other into calls of one size."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from remid_jax.inference.sizes import stepped
from remid_jax.models.attention import PACKED_BLOCK


@dataclasses.dataclass(frozen=True)
class Packed:
    """One call's tokens.

    Attributes:
      tokens: [B] int32.
      targets: [B], the token that follows each.
      offsets: [B], place of each token in its response.
      segments: [B], number of each token's response in this call.
      window: see `models.attention.packed_attention`.
      places: (response, first position, positions) of each response in this call.
    """

    tokens: np.ndarray
    targets: np.ndarray
    offsets: np.ndarray
    segments: np.ndarray
    window: int
    places: tuple[tuple[int, int, int], ...]


def call_size(n: int) -> int:
    """Positions of a call for n tokens: blocks of 64, or a single smaller one."""
    return stepped(n, PACKED_BLOCK) if n > PACKED_BLOCK else stepped(n)


def bins(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Spreads responses evenly over as few calls as their tokens need.

    Args:
      lengths: tokens of each response, at least 1.
      budget: tokens of one call; a longer response gets a call of its own.

    Returns:
      Indices of each call's responses.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    alone = [[i] for i in order if lengths[i] >= budget]
    order = order[len(alone) :]
    least = math.ceil(sum(lengths[i] for i in order) / budget)
    for count in range(least, len(order) + 1):
        members: list[list[int]] = [[] for _ in range(count)]
        loads = [0] * count
        for i in order:
            k = loads.index(min(loads))
            members[k].append(i)
            loads[k] += lengths[i]
        if max(loads, default=0) <= budget:
            return alone + members
    return alone


def pack(responses: Sequence[Sequence[int]], end: int | None, budget: int) -> list[Packed]:
    """Packs responses; a token is run where its successor is scored.

    Args:
      responses: token ids; none empty.
      end: the end-of-turn token to score after each response, or None: the last token is then
        not run, since nothing is asked of it.
      budget: tokens of one call.

    Returns:
      The calls. A response's first token is no target: the prompt predicts it.
    """
    tail = () if end is None else (end,)
    full = [(*y, *tail) for y in responses]
    run = [i for i, y in enumerate(full) if len(y) > 1]
    groups = bins([len(full[i]) - 1 for i in run], budget)
    return [_packed([run[k] for k in group], full) for group in groups]


def _packed(members: Sequence[int], full: Sequence[Sequence[int]]) -> Packed:
    lengths = [len(full[i]) - 1 for i in members]
    starts = _starts(lengths)
    size = call_size(max(a + n for a, n in zip(starts, lengths, strict=True)))
    tokens, targets, offsets = (np.zeros(size, np.int32) for _ in range(3))
    # Free positions belong to the response before them; nobody reads what they give.
    segments = np.repeat(np.arange(len(members)), np.diff([*starts, size])).astype(np.int32)
    for i, start, n in zip(members, starts, lengths, strict=True):
        span = slice(start, start + n)
        tokens[span], targets[span] = full[i][:-1], full[i][1:]
        offsets[span] = np.arange(n)
    window = max(_blocks_crossed(a, n) for a, n in zip(starts, lengths, strict=True))
    if window > 2:  # few programs: beyond two blocks, powers of two
        window = min(1 << (window - 1).bit_length(), -(-size // PACKED_BLOCK) - 1)
    places = tuple(zip(members, starts, lengths, strict=True))
    return Packed(tokens, targets, offsets, segments, window, places)


def _blocks_crossed(start: int, n: int) -> int:
    """Block boundaries within a response of n tokens."""
    return (start + n - 1) // PACKED_BLOCK - start // PACKED_BLOCK


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where responses begin: side by side, or at the next block where that takes no larger call.

    A response that crosses fewer blocks needs fewer keys.
    """
    dense, snug = [0], [0]
    for n in lengths:
        if _blocks_crossed(snug[-1], n) > (n - 1) // PACKED_BLOCK:
            snug[-1] += -snug[-1] % PACKED_BLOCK
        snug.append(snug[-1] + n)
        dense.append(dense[-1] + n)
    return (snug if call_size(snug[-1]) <= call_size(dense[-1]) else dense)[:-1]

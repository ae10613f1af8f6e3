"""How large the pieces are in which work runs: few compiled programs, little padding, in memory."""

import dataclasses

import jax

from remid_jax.errors import UserError
from remid_jax.inference import cost
from remid_jax.models.attention import PACKED_BLOCK, query_block
from remid_jax.models.decoder import DecoderConfig

CAPACITY_STEP = 256
LEAST_CALL = PACKED_BLOCK  # the fewest tokens of one call, whatever the budget
CHUNK_STEP = 32  # prompts are padded to multiples of it: short tails share few programs
HEAD = 4096  # tokens of the vocabulary whose logits stand in memory at once
CHUNK = 1024  # tokens of a prompt that run at once, where no budget is given
# Tokens of a prompt and of responses that a machine needs in one call to run at its full rate.
_CPU, _ACCELERATOR = (CHUNK, 512), (4096, 8192)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the pieces, chosen once for a run.

    Attributes:
      chunk: tokens of a prompt that run at once.
      call: tokens of responses that run at once.
      head: tokens of the vocabulary whose logits stand in memory at once.
      cache: bytes for cached prompts, of one device.
    """

    chunk: int
    call: int
    head: int
    cache: int

    def halved(self) -> "Sizes | None":
        """Half of everything, for when memory runs out; None where nothing is left to halve."""
        if self.call <= LEAST_CALL and self.chunk <= LEAST_CALL:
            return None
        chunk, call = (max(LEAST_CALL, x // 2) for x in (self.chunk, self.call))
        return Sizes(chunk, call, max(LEAST_CALL, self.head // 2), self.cache // 2)


@dataclasses.dataclass
class Work:
    """Counts what was run.

    Attributes:
      tokens: real ones.
      positions: all, padding included.
    """

    tokens: int = 0
    positions: int = 0

    def add(self, tokens: int, positions: int) -> None:
        """Counts one call."""
        self.tokens += tokens
        self.positions += positions


def stepped(n: int, least: int = 8) -> int:
    """The next of few sizes: at most an eighth above n, or less than `least` above it.

    >>> [stepped(n) for n in (1, 24, 65, 129, 1000)]
    [8, 24, 72, 144, 1024]
    """
    step = max(least, 1 << max(0, (n - 1).bit_length() - 4))
    return -(-n // step) * step


def capacity_for(length: int) -> int:
    """Positions of the buffer that holds `length` cached tokens; 0 for none."""
    return stepped(length, CAPACITY_STEP) if length else 0


def share_of(c: DecoderConfig, tensor: int) -> DecoderConfig:
    """The part of a decoder that one of `tensor` devices computes and whose caches it holds."""
    return dataclasses.replace(
        c, num_heads=-(-c.num_heads // tensor), num_kv_heads=-(-c.num_kv_heads // tensor),
        mlp_width=-(-c.mlp_width // tensor), vocab_size=-(-c.vocab_size // tensor),
    )  # fmt: skip


def rows_that_fit(c: DecoderConfig, sizes: Sizes, tokens: int, dtype: str, most: int) -> int:
    """Rows to decode together: their caches, as prompts and as a batch, take half the caches' room.

    Args:
      c, dtype: see `sizes_for`.
      sizes: of the pieces.
      tokens: of the longest prompt and its response.
      most: rows that are of use.
    """
    each = 2 * cost.cache_bytes(c, tokens, dtype)
    return max(1, min(most, sizes.cache // 2 // each))


def working_bytes(c: DecoderConfig, sizes: Sizes, context: int, dtype: str) -> int:
    """Bytes that one call needs beside weights and cached prompts, estimated; see `sizes_for`."""
    capacity = capacity_for(context)
    rows = 4 * (3 * c.width + 3 * c.mlp_width + 3 * c.num_heads * c.head_dim)
    scores = 8 * c.num_heads  # a float32 score and its weight, for each query and key
    chunk = min(sizes.chunk, context)
    prompt = chunk * rows + min(chunk, query_block(chunk)) * scores * (chunk + capacity)
    answers = sizes.call * (rows + scores * (capacity + 2 * PACKED_BLOCK))
    written = 2 * cost.cache_bytes(c, capacity, dtype)  # the old cache and the new
    return max(prompt + written, answers + 8 * sizes.call * min(sizes.head, c.vocab_size))


def sizes_for(
    c: DecoderConfig, memory: int, context: int, dtype: str = "float32", where: str = ""
) -> Sizes:
    """The largest sizes of use on this kind of device that a memory budget allows.

    Args:
      c: shape of the decoder, or a device's share of it.
      memory: bytes for everything beside the weights, of one device.
      context: tokens of the longest prompt.
      dtype: of the caches.
      where: kind of device; by default JAX's own.

    Raises:
      UserError: not even the smallest pieces and one cached prompt fit.
    """
    preferred = _CPU if (where or jax.default_backend()) == "cpu" else _ACCELERATOR
    one = cost.cache_bytes(c, capacity_for(context), dtype)
    sizes: Sizes | None = Sizes(*preferred, HEAD, cache=0)
    while sizes is not None:
        need = working_bytes(c, sizes, context, dtype)
        if need + one <= memory:
            return dataclasses.replace(sizes, cache=memory - need)
        sizes = sizes.halved()
    raise UserError(
        f"config.limits.memory_bytes is {memory}; prompts of {context} tokens need at least "
        f"{need + one}"
    )

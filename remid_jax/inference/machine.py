"""How fast this machine multiplies matrices and reads memory, measured in under a second."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp

from remid_jax.inference import cost
from remid_jax.models.decoder import DecoderConfig

PROBE_SECONDS = 0.15  # of each measurement
SCORING_SHARE = 0.85  # of the rate of products, seen in scoring (benchmarks.likelihood)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Rates of the default device, all its devices apart.

    Attributes:
      flops: operations a second of products at a decoder's shapes, at the highest precision.
      bandwidth: bytes a second read by a product of a matrix with a single row.
    """

    flops: float
    bandwidth: float

    def scoring_seconds(self, flops: float) -> float:
        """Expected time of scoring and prefill."""
        return flops / (self.flops * SCORING_SHARE)

    def decoding_seconds(self, steps: float, flops: float, read: float) -> float:
        """Expected time of decoding.

        Args:
          steps: of the loop, all batches together.
          flops: operations of all rows.
          read: bytes of weights that each step reads.
        """
        # Products of few rows run at about half the rate of large ones.
        return max(steps * read / self.bandwidth, 2 * flops / self.flops)


@functools.partial(jax.jit, static_argnames=("repeats",))
def _products(x: jax.Array, up: jax.Array, down: jax.Array, *, repeats: int) -> jax.Array:
    """`repeats` pairs of products, each fed by the one before."""
    with jax.default_matmul_precision("highest"):
        return jax.lax.fori_loop(0, repeats, lambda _, y: (y @ up) @ down, x)


def _rate(rows: int, c: DecoderConfig, dtype: str) -> float:
    """Pairs of products [rows, width] @ [width, mlp] @ [mlp, width] a second: the best of a few."""
    x = jnp.ones((rows, c.width), dtype)
    up = jnp.full((c.width, c.mlp_width), 1 / c.width, dtype)
    down = jnp.full((c.mlp_width, c.width), 1 / c.mlp_width, dtype)
    repeats, best, end = 4, 0.0, time.perf_counter() + PROBE_SECONDS
    _products(x, up, down, repeats=repeats).block_until_ready()  # compiles
    while True:
        start = time.perf_counter()
        _products(x, up, down, repeats=repeats).block_until_ready()
        stop = time.perf_counter()
        best = max(best, repeats / (stop - start))
        if stop > end:
            return best


def probe(c: DecoderConfig, dtype: str = "float32") -> Machine:
    """Measures the default device at the shapes of a decoder whose weights are of a type."""
    weights = c.width * c.mlp_width * 2
    return Machine(
        flops=_rate(512, c, dtype) * 2 * 512 * weights,
        bandwidth=_rate(1, c, dtype) * cost.BYTES[dtype] * weights,
    )

"""What work costs: operations of the matrix products and bytes by formula, and a machine's rates.

One multiply-add is two operations; norms, rotations and softmaxes, a few percent, are left out.
"""

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.products import product

BYTES = {"float32": 4, "bfloat16": 2}
PROBE_SECONDS = 0.15  # of each measurement of a rate
SCORING_SHARE = 0.85  # of the rate of products, seen in scoring (benchmarks.likelihood)


def layer_parameters(c: DecoderConfig) -> int:
    """Weights of all layers that take part in a matrix product, embedding and head left out."""
    attention = 2 * c.width * c.head_dim * (c.num_heads + c.num_kv_heads)
    return c.num_layers * (attention + 3 * c.width * c.mlp_width)


def num_parameters(c: DecoderConfig) -> int:
    """Weights in all: those of the layers, embedding and head (norms and biases left out)."""
    return layer_parameters(c) + c.width * c.vocab_size * (1 if c.tie_embeddings else 2)


def extend_flops(c: DecoderConfig, new: int, before: int = 0) -> float:
    """Operations of `new` tokens that stand after `before` cached ones, without the head."""
    keys = new * before + new * (new + 1) / 2
    attention = 4 * c.num_layers * c.num_heads * c.head_dim * keys
    return 2.0 * layer_parameters(c) * new + attention


def head_flops(c: DecoderConfig, positions: int) -> float:
    """Operations of the logits at so many positions."""
    return 2.0 * c.width * c.vocab_size * positions


def score_flops(c: DecoderConfig, before: int, length: int) -> float:
    """Operations of scoring `length` tokens after `before` cached ones; the last is never run."""
    return extend_flops(c, length - 1, before) + head_flops(c, length - 1)


def cache_bytes(c: DecoderConfig, tokens: int, dtype: str = "float32") -> int:
    """Bytes of the keys and values of so many tokens."""
    return 2 * c.num_layers * c.num_kv_heads * c.head_dim * BYTES[dtype] * tokens


@dataclasses.dataclass(frozen=True)
class Machine:
    """Rates of the default device."""

    flops: float  # operations a second of products at a decoder's shapes, at the highest precision
    bandwidth: float  # bytes a second read by a product of a matrix with a single row

    def scoring_seconds(self, flops: float) -> float:
        """Expected time of scoring and prefill."""
        return flops / (self.flops * SCORING_SHARE)

    def decoding_seconds(self, steps: float, flops: float, read: float) -> float:
        """Expected time of decoding: steps of the loop, operations, bytes that a step reads."""
        # Products of few rows run at about half the rate of large ones.
        return max(steps * read / self.bandwidth, 2 * flops / self.flops)


@functools.partial(jax.jit, static_argnames=("repeats",))
def _products(x: jax.Array, up: jax.Array, down: jax.Array, *, repeats: int) -> jax.Array:
    """`repeats` pairs of products as the decoder forms them, each fed by the one before."""

    def pair(_: Any, y: jax.Array) -> jax.Array:
        return product("nm,mw->nw", product("nw,wm->nm", y, up), down)

    with jax.default_matmul_precision("highest"):
        return jax.lax.fori_loop(0, repeats, pair, x)


def _rate(rows: int, c: DecoderConfig, dtype: str) -> float:
    """Pairs of products [rows, width] @ [width, mlp] @ [mlp, width] a second: the best of a few."""
    x = jnp.ones((rows, c.width))
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
        bandwidth=_rate(1, c, dtype) * BYTES[dtype] * weights,
    )

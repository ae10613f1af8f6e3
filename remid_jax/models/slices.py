"""Slices of stacked weights and caches within a loop, at the same price in half precision.

XLA's CPU backend knows no slice of bfloat16: it converts the whole array to float32 before the
loop, and each slice back. Slices of the same bits as integers it takes as they are.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def _is_dear(x: Array) -> bool:
    """Whether XLA would convert all of x for a slice of it."""
    return x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


def slice_in_dim(x: Array, start: Array, size: int, axis: int) -> Array:
    """`jax.lax.dynamic_slice_in_dim`."""
    if _is_dear(x):
        return _slice_of_bits(size, axis, x, start)
    return jax.lax.dynamic_slice_in_dim(x, start, size, axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _slice_of_bits(size: int, axis: int, x: Array, start: Array) -> Array:
    # The barrier keeps XLA from reading the whole array as integers before the loop.
    x, start = jax.lax.optimization_barrier((x, start))
    bits = jax.lax.bitcast_convert_type(x, jnp.uint16)
    piece = jax.lax.dynamic_slice_in_dim(bits, start, size, axis)
    return jax.lax.bitcast_convert_type(piece, x.dtype)


def _forward(size: int, axis: int, x: Array, start: Array) -> tuple[Array, tuple[Array, Array]]:
    return _slice_of_bits(size, axis, x, start), (x, start)


def _backward(
    size: int, axis: int, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array, None]:
    x, start = kept
    return jax.lax.dynamic_update_slice_in_dim(jnp.zeros_like(x), gradient, start, axis), None


_slice_of_bits.defvjp(_forward, _backward)


def scan_layers(step: Callable[[Any, Any], tuple[Any, Any]], x: Any, stacked: Any, remat: bool):
    """`jax.lax.scan` over arrays that lead with the layers.

    Args:
      step: (x, what one layer has) -> x and what the layer hands back.
      x: what the first layer is given.
      stacked: pytree of arrays [num_layers, ...].
      remat: whether a gradient computes each step again.
    """
    leaves, tree = jax.tree.flatten(stacked)
    sliced = [_is_dear(w) for w in leaves]
    if not any(sliced):
        return jax.lax.scan(jax.checkpoint(step) if remat else step, x, stacked)

    def by_index(x: Any, layer: tuple[Array, list[Array]]):
        i, others = layer
        others = iter(others)
        parts = [
            slice_in_dim(w, i, 1, 0)[0] if cut else next(others)
            for w, cut in zip(leaves, sliced, strict=True)
        ]
        return step(x, jax.tree.unflatten(tree, parts))

    others = [w for w, cut in zip(leaves, sliced, strict=True) if not cut]
    layers = jnp.arange(leaves[0].shape[0]), others
    return jax.lax.scan(jax.checkpoint(by_index) if remat else by_index, x, layers)

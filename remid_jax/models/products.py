"""Products whose inputs may be rounded to half precision, and whose sums never are."""

import functools

import jax
import jax.numpy as jnp

Array = jax.Array
# The CPU backend of jaxlib 0.7 has no products of bfloat16 with sums in float32, that of 0.10 has.
_HAS_HALF_PRODUCTS = jax.__version_info__ >= (0, 10)


def product(spec: str, x: Array, y: Array) -> Array:
    """einsum of x, rounded to the type of y (weights or cached values), and y: sums in float32.

    What stands between two products stays in float32: bfloat16 there costs accuracy and, on a
    processor, time. The products of a gradient are formed alike: each reads its operands as they
    lie, where JAX's own rule would have XLA transpose them first, and in half precision they round
    what they are given; one of float32 and bfloat16 would run at the rate of float32.

    Args:
      spec: of `jnp.einsum`, explicit; each index stands in two of the three terms or in all.
      x, y: the operands.

    Returns:
      float32, in half precision as well.
    """
    return _product(spec, x.astype(jnp.float32), y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(spec: str, x: Array, y: Array) -> Array:
    return _sums(spec, x.astype(y.dtype), y)


def _sums(spec: str, x: Array, y: Array) -> Array:
    if not _HAS_HALF_PRODUCTS and jax.default_backend() == "cpu":
        x, y = x.astype(jnp.float32), y.astype(jnp.float32)  # the same numbers, slower
    return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32)


def _forward(spec: str, x: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    x = x.astype(y.dtype)
    return _sums(spec, x, y), (x, y)


def _backward(spec: str, kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    (x, y), (inputs, out) = kept, spec.split("->")
    of_x, of_y = inputs.split(",")
    gradient = gradient.astype(y.dtype)
    return (
        _sums(f"{out},{of_y}->{of_x}", gradient, y),
        _sums(f"{of_x},{out}->{of_y}", x, gradient).astype(y.dtype),
    )


_product.defvjp(_forward, _backward)

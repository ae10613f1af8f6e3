"""Arguments as arrays of real numbers, and the messages about those that are not.

Inside `jit`, `vmap` or `grad` values are unknown: only shapes and dtypes are checked there.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LABELS = 2**31  # smaller whole numbers fit into JAX's integers


def is_concrete(*values: Any) -> bool:
    """Whether no value is traced by a JAX transformation."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def real(values: Any, name: str, empty: bool = False) -> Any:
    """An argument as an array of real numbers: unchanged where it is one, traced or not.

    Raises:
      ValueError: not an array, a number or nested lists of real numbers, or empty unless `empty`.
    """
    array = values
    if not isinstance(values, jax.Array | np.ndarray | np.generic):
        array = _as_array(values, name)
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array, whose mask would be lost: give a plain array")
    if array.dtype == object:
        raise ValueError(_of_objects(np.asarray(array), name))
    if not _is_real(array.dtype):
        raise ValueError(f"{name} must hold real numbers, not {_what(values, array)}")
    if not empty and 0 in array.shape:
        raise ValueError(f"{name} of shape {array.shape} is empty")
    return array


def _as_array(values: Any, name: str) -> Any:
    try:
        if isinstance(values, list | tuple) and not is_concrete(values):
            return jnp.asarray(values)
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be an array of numbers, got {shown(values)}") from None


def _of_objects(array: np.ndarray, name: str) -> str:
    flat = [place for place, x in np.ndenumerate(array) if not isinstance(x, int | float)]
    long = [place for place, x in np.ndenumerate(array) if isinstance(x, int) and abs(x) >= 2**63]
    if not flat and not long:
        return f"{name} must hold real numbers, not objects of shape {array.shape}"
    place = (flat or long)[0]
    must = "hold real numbers, not" if flat else "fit into 64 bits, unlike"
    return f"{name} must {must} {shown(array[place])}{f' at {place}' if place else ''}"


def _what(values: Any, array: Any) -> str:
    if isinstance(values, str | bytes | complex):
        return shown(values)
    kinds = {"U": "text", "S": "bytes", "c": "complex ones"}
    return f"{kinds.get(array.dtype.kind, array.dtype)} of shape {array.shape}"


def _is_real(dtype: Any) -> bool:
    if jnp.issubdtype(dtype, jnp.integer):
        return dtype.kind != "m"  # to NumPy a span of time is a signed integer
    if jnp.issubdtype(dtype, jnp.floating):
        return dtype.itemsize <= 8  # JAX has no longer ones
    return jnp.issubdtype(dtype, jnp.bool_)


def shown(value: Any) -> str:
    """A value in a message, as one short line."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # a whole number of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_held(values: np.ndarray) -> np.ndarray:
    """Numbers as JAX holds them: beyond float32 and int32 infinite, unless 64 bits are on."""
    if values.dtype.itemsize < 8 or jnp.result_type(float) == np.float64:
        return values
    if values.dtype.kind != "f":
        return np.where((values >= -LABELS) & (values < LABELS), values, np.inf)
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def on_device(values: Any, dtype: Any = None) -> jax.Array:
    """An array as JAX holds it, without a warning where float32 overflows."""
    with np.errstate(over="ignore"):
        return jnp.asarray(values, dtype)


def floating(values: Any, dtype: Any = None) -> jax.Array:
    """An array as JAX's floating-point numbers; whole numbers would truncate what they scale."""
    values = on_device(values, dtype)
    return values if jnp.issubdtype(values.dtype, jnp.floating) else values.astype(float)


def refuse(values: np.ndarray, bad: Any, name: str, why: str, plural: bool = False) -> None:
    """Raises a ValueError about the first bad entry, if any, with `why` as in "must be finite"."""
    if not np.any(bad):
        return
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    where = f" at {place[0] if plural and len(place) == 1 else place}" if place else ""
    of_shape = f" of shape {values.shape}" if place else ""
    verb = "hold" if plural else "holds"
    raise ValueError(f"{name}{of_shape} {verb} {values[place]}{where}, but {why}")

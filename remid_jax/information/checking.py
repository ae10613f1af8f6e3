"""Checks of concrete input, on the host, before anything is traced.

Inside `jit`, `vmap` or `grad` values are unknown: shapes and dtypes are checked there, and values
pass. What was checked outside stays checked. Everything that is wrong ends in a `ValueError` that
names the argument, what it holds, where, and what it must be.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information.arguments import (
    LABELS,
    as_held,
    is_concrete,
    real,
    refuse,
    shown,
)

TOLERANCE = 1e-4  # how far a sum of probabilities may be from 1: float32 sums of many terms
HUGE = 1e75  # fourth powers of smaller numbers are finite in float64
MOST = 10**9  # of anything that is counted and takes no memory
MOST_LISTED = 10**7  # of what is held as a list
MOST_DRAWS = 10**6  # of random permutations, flips and sets
MOST_CONTEXTS = 20_000  # (or groups) whose pairs are held as a matrix: 3 GB in float64


def check_finite(
    values: Any, used: Any = None, name: str = "values", on_device: bool = False
) -> None:
    """Checks that all used entries of an array are finite.

    Args:
      values: any shape.
      used: of the same shape, bool, entries that will be read; by default all.
      name: of the argument, for the message.
      on_device: whether JAX computes with them, in float32 unless 64 bits are on.

    Raises:
      ValueError: naming the argument, its shape and the first bad entry.
    """
    values = real(values, name)
    if not is_concrete(values, used):
        return
    values = np.asarray(values)
    used = True if used is None else np.asarray(used)
    refuse(values, ~np.isfinite(values) & used, name, "must be finite")
    if not on_device:
        refuse(values, _is_huge(values) & used, name, f"must be below {HUGE:g} in size")
    elif (held := as_held(values)) is not values:
        refuse(values, ~np.isfinite(held) & used, name, "must fit into float32")


def _is_huge(values: np.ndarray) -> np.ndarray:
    return values.dtype.itemsize == 8 and ~(np.abs(values.astype(np.float64)) < HUGE)


def check_each(
    values: Any,
    right: Callable[[np.ndarray], np.ndarray],
    why: str,
    name: str,
    used: Any = None,
    on_device: bool = False,
) -> None:
    """Checks that all used entries are finite and as they must be.

    Args:
      values, name, used, on_device: as in `check_finite`.
      right: float64 values -> bool of their shape.
      why: what they must be, as in "must be positive".

    Raises:
      ValueError: naming the argument, its shape and the first bad entry.
    """
    values = real(values, name)
    if not is_concrete(values, used):
        return
    check_finite(values, used, name, on_device)
    values = np.asarray(values)
    held = (as_held(values) if on_device else values).astype(np.float64)
    refuse(values, ~right(held) & (True if used is None else np.asarray(used)), name, why)


def check_number(
    value: Any,
    name: str,
    right: Callable[[Any], Any] = np.isfinite,
    why: str = "must be finite",
    on_device: bool = False,
) -> None:
    """Checks that an argument is one real number, finite and as it must be; see `check_each`.

    Raises:
      ValueError: naming the argument and what it holds.
    """
    array = real(value, name)
    if array.shape:
        raise ValueError(f"{name} must be one number, got shape {array.shape}")
    check_each(array, right, why, name, on_device=on_device)


def operands(**values: Any) -> list[Any]:
    """Finite values whose shapes fit together, as they are; lists as arrays.

    Short and unsigned whole numbers become floating-point ones, as their differences wrap around.

    Raises:
      ValueError: a value that is not finite, or shapes that cannot be broadcast.
    """
    arrays = [_operand(value, name) for name, value in values.items()]
    shapes = [np.shape(array) for array in arrays]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"{' and '.join(values)} must fit together, got shapes {shapes}") from None
    return arrays


def _operand(value: Any, name: str) -> Any:
    check_finite(value, name=name)
    array = real(value, name)
    short = jnp.issubdtype(array.dtype, jnp.integer) and array.dtype.itemsize < 4
    if short or array.dtype.kind in "bu":
        return array.astype(float)
    return array if isinstance(value, list | tuple) else value


def check_level(level: Any, name: str = "level") -> None:
    """Checks that a level of confidence or of a test lies between 0 and 1: 0.95, not 95.

    Raises:
      ValueError: naming the argument and what it holds.
    """
    check_number(level, name, lambda x: (x > 0) & (x < 1), "must lie between 0 and 1")


def check_error(error: Any, name: str = "standard_error", used: Any = None) -> None:
    """Checks that standard errors, of any shape, are finite and not negative.

    Raises:
      ValueError: naming the argument and what it holds.
    """
    check_each(error, lambda x: x >= 0, "must not be negative", name, used)


def check_freedom(freedom: Any, name: str = "freedom", used: Any = None) -> None:
    """Checks that degrees of freedom, of any shape, are finite and positive.

    Raises:
      ValueError: naming the argument and what it holds.
    """
    check_each(freedom, lambda x: x > 0, "must be positive", name, used)


def check_flag(value: Any, name: str) -> None:
    """Checks that an argument is True or False.

    Raises:
      ValueError: naming the argument and what it holds.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")


def count_of(value: Any, name: str, least: int = 1, most: int = MOST) -> int:
    """A whole number within bounds, as an int.

    Raises:
      ValueError: naming the argument, what it holds and the bounds.
    """
    array = real(value, name)
    if array.shape:
        raise ValueError(f"{name} must be one whole number, got shape {array.shape}")
    if not is_concrete(array):
        return value
    x = _numbers(array)
    wrong = not (least <= x <= most and x == np.floor(x))
    refuse(x, np.asarray(wrong), name, f"must be a whole number from {least} to {most}")
    return int(x)


def _numbers(values: Any) -> np.ndarray:
    """Whole numbers as they are; float64 for floats, which short ones cannot be compared in."""
    values = np.asarray(values)
    return values + 0 if values.dtype.kind in "biu" else values.astype(np.float64)


def seed_of(seed: Any) -> int:
    """A seed of random numbers: a whole number that is not negative.

    Raises:
      ValueError: naming what it holds.
    """
    return count_of(seed, "seed", 0, 2**63 - 1)


def check_key(key: Any) -> None:
    """Checks that an argument is a key of `jax.random`.

    Raises:
      ValueError: naming what it is.
    """
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and key.ndim == 0) and not (dtype == np.uint32 and key.ndim == 1):
        raise ValueError(f"key must be one key of jax.random, got {shown(key)}")


def mask_of(where: Any, shape: tuple[int, ...], name: str = "where", one: str = "context") -> Any:
    """[shape] bool, what a mask keeps: all where there is none.

    Args:
      where: bool or 0 and 1, or None.
      shape: it must have.
      name: of the argument; one: what an entry stands for, for the message.

    Raises:
      ValueError: another shape, or an entry that is neither 0 nor 1.
    """
    if where is None:
        return np.ones(shape, bool)
    where = real(where, name)
    if where.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, one a {one}, got {where.shape}")
    if not is_concrete(where):
        return jnp.asarray(where, bool)
    values = np.asarray(where)
    refuse(values, (values != 0) & (values != 1), name, "a mask holds True and False, or 1 and 0")
    return values.astype(bool)


def check_mask(where: Any, n: int, least: int = 2) -> None:
    """Checks that a mask has one entry a context and leaves enough of them.

    Raises:
      ValueError: naming its shape or the first bad entry, or how many contexts it leaves.
    """
    keep = mask_of(where, (n,))
    if where is not None and is_concrete(keep) and keep.sum() < least:
        raise ValueError(
            f"where of shape ({n},) keeps {keep.sum()}: an estimate needs {least} contexts"
        )


def labels_of(
    groups: Any,
    n: int | None = None,
    name: str = "groups",
    least: int = -LABELS,
    most: int = LABELS,
) -> Any:
    """Groups [n] as whole numbers of least..most−1; an int array unless they are traced.

    Args:
      groups: [n] whole numbers; where negative ones leave contexts out, the function says so.
      n: contexts; by default as many as there are labels.
      name: of the argument.
      least, most: the first label, and the first that is too high.

    Raises:
      ValueError: another shape, or an entry that is no label.
    """
    groups = real(groups, name)
    if len(groups.shape) != 1 or n not in (None, groups.shape[0]):
        size = "n" if n is None else n
        raise ValueError(f"{name} must have shape ({size},), got {groups.shape}: one a context")
    if not is_concrete(groups):
        return groups
    values = np.asarray(groups)
    values = _numbers(values)
    refuse(values, np.floor(values) != values, name, "labels are whole numbers (see clusters)")
    refuse(values, values < least, name, f"labels must be at least {least}")
    refuse(values, values >= most, name, f"labels must be below {most}")
    return values.astype(int)


def check_lengths(lengths: Any, used: np.ndarray, name: str = "lengths") -> None:
    """Checks that lengths in tokens, [n], are positive where they are read.

    Args:
      lengths: [n], or None for none.
      used: [n] bool.
      name: of the argument.

    Raises:
      ValueError: another shape, or a length that is read and not positive and finite.
    """
    if lengths is None:
        return
    lengths = real(lengths, name)
    if lengths.shape != used.shape:
        raise ValueError(f"{name} must have shape {used.shape}, got {lengths.shape}")
    if not is_concrete(lengths, used):
        return
    values = np.asarray(lengths)
    held = as_held(values)
    bad = used & ~(np.isfinite(held) & (held > 0))
    if bad.any():
        place = int(np.argmax(bad))
        raise ValueError(
            f"{name} of shape {used.shape} hold {values[place]} at {place}, "
            "but must be positive and finite"
        )


def check_block(scores: Any, used: Any = None, name: str = "scores") -> None:
    """Checks that a pair matrix is square, has 2 contexts and finite entries where it is used.

    Args:
      scores: [N, N] pair log-likelihoods.
      used: [N, N] bool, entries that will be read; by default all.
      name: of the argument, for the message.

    Raises:
      ValueError: naming the argument, its shape and the first bad entry.
    """
    shape = real(scores, name, empty=True).shape
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"{name} must be square [contexts, responses], got shape {shape}")
    if shape[0] < 2:
        raise ValueError(f"{name} of shape {shape}: an estimate needs at least 2 contexts")
    check_finite(scores, used, name, on_device=True)


def check_distribution(p: Any, axis: int | tuple[int, ...] | None = -1, name: str = "p") -> None:
    """Checks that an array holds probabilities that sum to 1 along an axis.

    Raises:
      ValueError: naming the argument, its shape, and the first bad row and its sum.
    """
    p = real(p, name)
    axis = axes_of(axis, p.ndim, name)
    if not is_concrete(p):
        return
    p = np.asarray(p)
    check_finite(p, name=name)
    if (p < 0).any():
        place = tuple(int(i) for i in np.argwhere(p < 0)[0])
        raise ValueError(f"{name} of shape {p.shape} holds the negative {p[place]} at {place}")
    total = p.sum(axis=axis) if p.dtype.kind == "f" else p.astype(np.float64).sum(axis=axis)
    if (np.abs(total - 1) > TOLERANCE).any():
        place = tuple(int(i) for i in np.argwhere(np.abs(total - 1) > TOLERANCE)[0])
        row = f"row {place}" if place else "all"
        raise ValueError(f"{name} of shape {p.shape}: {row} sums to {total[place]}, not to 1")


def axes_of(axis: Any, rank: int, name: str) -> tuple[int, ...]:
    """The axes that are summed over, as given; all of them for None.

    Raises:
      ValueError: an axis that the array has not, or none at all.
    """
    axes = tuple(range(rank)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    right = all(_is_axis(k, rank) for k in axes)
    if not axes or not right or len({k % rank for k in axes}) < len(axes):
        raise ValueError(f"{name} with {rank} axes has no axis {shown(axis)} to sum over")
    return axes


def _is_axis(axis: Any, rank: int) -> bool:
    whole = isinstance(axis, int | np.integer) and not isinstance(axis, bool)
    return whole and -rank <= axis < rank


def check_same_length(p: Any, q: Any, axis: int | tuple[int, ...], names: str = "p and q") -> None:
    """Checks that two arrays have the same size along the axes that are summed over.

    Raises:
      ValueError: naming both shapes; also where their other axes cannot be broadcast.
    """
    shapes = np.shape(p), np.shape(q)
    axes = axis if isinstance(axis, tuple) else (axis,)
    try:
        same = all(shapes[0][k] == shapes[1][k] for k in axes)
        np.broadcast_shapes(*shapes)
    except (IndexError, TypeError, ValueError):
        same = False
    if not same:
        raise ValueError(f"{names} must agree along axis {shown(axis)}, got shapes {shapes}")


def check_result(result: Any, what: str, used: Any = True) -> Any:
    """A result, where it is finite: numbers that are each in order may overflow together.

    Args:
      result: arrays or numbers, in any pytree.
      what: was computed from which arguments, for the message.
      used: bool, entries of the result that count.

    Returns:
      The result.

    Raises:
      ValueError: an entry that counts is not finite.
    """
    for leaf in jax.tree.leaves(result):
        if is_concrete(leaf, used):
            finite = np.isfinite(np.asarray(leaf, np.float64)) | ~np.asarray(used)
            if not finite.all():
                raise ValueError(
                    f"{what} is not finite: numbers this large or small are beyond floating point"
                )
    return result


def look_up(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry of a table of functions.

    Args:
      kind: what the table holds, for the message.
      name: of the entry; table: name -> entry.

    Raises:
      ValueError: an unknown name, with the nearest one.
    """
    if not isinstance(name, str) or name not in table:
        close = difflib.get_close_matches(name if isinstance(name, str) else "", table, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"unknown {kind} {shown(name)}{hint}; choose among {', '.join(table)}")
    return table[name]

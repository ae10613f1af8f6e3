"""Checks of concrete input, on the host, before anything is traced.

Inside `jit`, `vmap` and `grad` only shapes and dtypes are checked. Whatever is wrong ends in a
`ValueError` that names the argument, what it holds, where, and what it must be.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information.arguments import LABELS, as_held, is_concrete, real, refuse, shown

TOLERANCE = 1e-4  # how far a sum of probabilities may be from 1: float32 sums of many terms
HUGE = 1e75  # fourth powers of smaller numbers are finite in float64
MOST = 10**9  # of anything that is counted and takes no memory
MOST_LISTED = 10**7  # of what is held as a list
MOST_DRAWS = 10**6  # of random permutations, flips and sets
MOST_CONTEXTS = 20_000  # (or groups) whose pairs are held as a matrix: 3 GB in float64

Kind = Callable[[Any, str], Any]
"""(argument, its name) -> what the function gets in its place; raises a ValueError."""


def arguments(**kinds: Kind) -> Callable[[Callable], Callable]:
    """Declares the kinds of a function's arguments; each is checked, and converted, in turn."""

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            for name, kind in kinds.items():
                bound.arguments[name] = kind(bound.arguments[name], name)
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


class Rule(NamedTuple):
    """What numbers must be. As a kind of argument: one finite number that is so.

    Attributes:
      right: float64 values -> bool of their shape.
      why: as in "must be positive".
    """

    right: Callable[[np.ndarray], Any]
    why: str

    def __call__(self, value: Any, name: str) -> Any:
        """The value, where it is one such number."""
        return one_number(value, name, self)


FINITE = Rule(np.isfinite, "must be finite")
POSITIVE = Rule(lambda x: x > 0, "must be positive")
NOT_NEGATIVE = Rule(lambda x: x >= 0, "must not be negative")
SHARE = Rule(lambda x: (x >= 0) & (x <= 1), "must lie between 0 and 1")
LEVEL = Rule(lambda x: (x > 0) & (x < 1), "must lie between 0 and 1")


def entries(
    values: Any, name: str, rule: Rule = FINITE, used: Any = None, on_device: bool = False
) -> None:
    """Checks that all used entries are finite and as a rule says.

    Args:
      values: any shape.
      name: of the argument, for the message.
      rule: what they must be.
      used: of the same shape, bool, entries that will be read; by default all.
      on_device: whether JAX computes with them, in float32 unless 64 bits are on.

    Raises:
      ValueError: naming the argument, its shape and the first bad entry.
    """
    values = real(values, name)
    if not is_concrete(values, used):
        return
    values = np.asarray(values)
    used = True if used is None else np.asarray(used)
    held = as_held(values) if on_device else values
    refuse(values, ~np.isfinite(values) & used, name, "must be finite")
    if held is not values:
        refuse(values, ~np.isfinite(held) & used, name, "must fit into float32")
    elif not on_device and values.dtype.itemsize == 8:
        small = np.abs(values.astype(np.float64)) < HUGE
        refuse(values, ~small & used, name, f"must be below {HUGE:g} in size")
    if rule is not FINITE:
        refuse(values, ~rule.right(held.astype(np.float64)) & used, name, rule.why)


def one_number(value: Any, name: str, rule: Rule = FINITE, on_device: bool = False) -> Any:
    """One number that is finite and as a rule says; see `entries`."""
    if shape := real(value, name).shape:
        raise ValueError(f"{name} must be one number, got shape {shape}")
    entries(value, name, rule, on_device=on_device)
    return value


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
    entries(value, name)
    array = real(value, name)
    short = jnp.issubdtype(array.dtype, jnp.integer) and array.dtype.itemsize < 4
    if short or array.dtype.kind in "bu":
        return array.astype(float)
    return array if isinstance(value, list | tuple) else value


def flag(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return value


def count_of(value: Any, name: str, least: int = 1, most: int = MOST) -> int:
    """A whole number within bounds, as an int unless it is traced."""
    array = real(value, name)
    if array.shape:
        raise ValueError(f"{name} must be one whole number, got shape {array.shape}")
    if not is_concrete(array):
        return value
    x = _numbers(array)
    wrong = not (least <= x <= most and x == np.floor(x))
    refuse(x, wrong, name, f"must be a whole number from {least} to {most}")
    return int(x)


def whole(least: int = 1, most: int = MOST) -> Kind:
    """The kind of argument that `count_of` checks."""
    return functools.partial(count_of, least=least, most=most)


SEED, DRAWS = whole(0, 2**63 - 1), whole(most=MOST_DRAWS)


def _numbers(values: Any) -> np.ndarray:
    """Whole numbers as they are; float64 for floats, which short ones cannot be compared in."""
    values = np.asarray(values)
    return values + 0 if values.dtype.kind in "biu" else values.astype(np.float64)


def random_key(key: Any, name: str = "key") -> Any:
    """A key of `jax.random`."""
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and key.ndim == 0) and not (dtype == np.uint32 and key.ndim == 1):
        raise ValueError(f"{name} must be one key of jax.random, got {shown(key)}")
    return key


def mask_of(where: Any, shape: tuple[int, ...], one: str = "context", least: int = 0) -> Any:
    """[shape] bool, what the mask `where` keeps: all where there is none.

    Args:
      where: bool or 0 and 1, or None.
      shape: it must have.
      one: what an entry stands for, for the message.
      least: how many contexts it must leave.

    Raises:
      ValueError: another shape, an entry that is neither 0 nor 1, or too few that are 1.
    """
    if where is None:
        return np.ones(shape, bool)
    where = real(where, "where")
    if where.shape != shape:
        raise ValueError(f"where must have shape {shape}, one a {one}, got {where.shape}")
    if not is_concrete(where):
        return jnp.asarray(where, bool)
    values = np.asarray(where)
    wrong = (values != 0) & (values != 1)
    refuse(values, wrong, "where", "a mask holds True and False, or 1 and 0")
    keep = values.astype(bool)
    if keep.sum() < least:
        raise ValueError(
            f"where of shape {shape} keeps {keep.sum()}: an estimate needs {least} contexts"
        )
    return keep


def labels_of(
    groups: Any, n: int | None = None, name: str = "groups", least: int = -LABELS,
    most: int = LABELS,
) -> Any:  # fmt: skip
    """Groups as whole numbers of least..most−1; an int array unless they are traced.

    Args:
      groups: [n] whole numbers; where negative ones leave contexts out, the function says so.
      n: contexts; by default as many as there are labels.
      name: of the argument.
      least: the first label; most: the first that is too high.

    Raises:
      ValueError: another shape, or an entry that is no label.
    """
    groups = real(groups, name)
    if len(groups.shape) != 1 or n not in (None, groups.shape[0]):
        size = "n" if n is None else n
        raise ValueError(f"{name} must have shape ({size},), got {groups.shape}: one a context")
    if not is_concrete(groups):
        return groups
    values = _numbers(groups)
    refuse(values, np.floor(values) != values, name, "labels are whole numbers (see clusters)")
    refuse(values, values < least, name, f"labels must be at least {least}")
    refuse(values, values >= most, name, f"labels must be below {most}")
    return values.astype(int)


def lengths(tokens: Any, used: Any, name: str = "lengths") -> None:
    """Checks that lengths in tokens, [n] or None, are positive where `used` [n] reads them."""
    if tokens is None:
        return
    tokens = real(tokens, name)
    if tokens.shape != used.shape:
        raise ValueError(f"{name} must have shape {used.shape}, got {tokens.shape}")
    if is_concrete(tokens, used):
        values = np.asarray(tokens)
        held = as_held(values)
        bad = np.asarray(used) & ~(np.isfinite(held) & (held > 0))
        refuse(values, bad, name, "must be positive and finite", plural=True)


def contexts_of(scores: Any, name: str = "scores") -> int:
    """N of a pair matrix [N, N]; its entries are not looked at.

    Raises:
      ValueError: no real numbers, not square, or fewer than 2 contexts.
    """
    shape = real(scores, name, empty=True).shape
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"{name} must be square [contexts, responses], got shape {shape}")
    if shape[0] < 2:
        raise ValueError(f"{name} of shape {shape}: an estimate needs at least 2 contexts")
    return shape[0]


def distribution(p: Any, axis: int | tuple[int, ...] | None = -1, name: str = "p") -> None:
    """Checks that an array holds probabilities that sum to 1 along an axis.

    Raises:
      ValueError: naming the argument, its shape, and the first bad row and its sum.
    """
    p = real(p, name)
    axis = _axes_of(axis, p.ndim, name)
    if not is_concrete(p):
        return
    p = np.asarray(p)
    entries(p, name)
    if (p < 0).any():
        place = tuple(int(i) for i in np.argwhere(p < 0)[0])
        raise ValueError(f"{name} of shape {p.shape} holds the negative {p[place]} at {place}")
    total = p.sum(axis=axis) if p.dtype.kind == "f" else p.astype(np.float64).sum(axis=axis)
    if (wrong := np.abs(total - 1) > TOLERANCE).any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        row = f"row {place}" if place else "all"
        raise ValueError(f"{name} of shape {p.shape}: {row} sums to {total[place]}, not to 1")


def _axes_of(axis: Any, rank: int, name: str) -> tuple[int, ...]:
    """The axes that are summed over, as given; all of them for None."""
    axes = tuple(range(rank)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    right = all(
        isinstance(k, int | np.integer) and not isinstance(k, bool) and -rank <= k < rank
        for k in axes
    )
    if not axes or not right or len({k % rank for k in axes}) < len(axes):
        raise ValueError(f"{name} with {rank} axes has no axis {shown(axis)} to sum over")
    return axes


def same_length(p: Any, q: Any, axis: int | tuple[int, ...], names: str = "p and q") -> None:
    """Checks that two arrays broadcast and have the same size along the axes summed over."""
    shapes = np.shape(p), np.shape(q)
    axes = axis if isinstance(axis, tuple) else (axis,)
    try:
        same = all(shapes[0][k] == shapes[1][k] for k in axes)
        np.broadcast_shapes(*shapes)
    except (IndexError, TypeError, ValueError):
        same = False
    if not same:
        raise ValueError(f"{names} must agree along axis {shown(axis)}, got shapes {shapes}")


def result(found: Any, what: str, used: Any = True) -> Any:
    """A result, where it is finite: numbers that are each in order may overflow together.

    Args:
      found: arrays or numbers, in any pytree.
      what: was computed from which arguments, for the message.
      used: bool, entries that count.

    Raises:
      ValueError: an entry that counts is not finite.
    """
    for leaf in jax.tree.leaves(found):
        if is_concrete(leaf, used):
            finite = np.isfinite(np.asarray(leaf, np.float64)) | ~np.asarray(used)
            if not finite.all():
                raise ValueError(
                    f"{what} is not finite: numbers this large or small are beyond floating point"
                )
    return found


def look_up(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry of a table of functions; a ValueError names the kind and the nearest name."""
    if not isinstance(name, str) or name not in table:
        close = difflib.get_close_matches(name if isinstance(name, str) else "", table, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"unknown {kind} {shown(name)}{hint}; choose among {', '.join(table)}")
    return table[name]

"""Checks of concrete input, on the host, before anything is traced.

Inside `jit`, `vmap` or `grad` values are unknown and the checks pass: what was checked outside
stays checked.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

TOLERANCE = 1e-4  # how far a sum of probabilities may be from 1: float32 sums of many terms


def is_concrete(*values: Any) -> bool:
    """Whether all values are known now, that is, outside of a JAX transformation."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def check_block(scores: Any, used: Any = None, name: str = "scores") -> None:
    """Checks that a pair matrix is square, has 2 contexts and finite entries where it is used.

    Args:
      scores: [N, N] pair log-likelihoods.
      used: [N, N] bool, entries that will be read; by default all.
      name: of the argument, for the message.

    Raises:
      ValueError: naming the argument, its shape and the first bad entry.
    """
    shape = np.shape(scores)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"{name} must be square [contexts, responses], got shape {shape}")
    if shape[0] < 2:
        raise ValueError(f"{name} of shape {shape}: an estimate needs at least 2 contexts")
    if is_concrete(scores, used):
        check_finite(scores, used, name)


def check_finite(values: Any, used: Any = None, name: str = "values") -> None:
    """Checks that all used entries of an array are finite.

    Raises:
      ValueError: naming the argument, its shape and the first bad entry.
    """
    if not is_concrete(values, used):
        return
    values = np.asarray(values)
    bad = ~np.isfinite(values)
    if used is not None:
        bad &= np.asarray(used)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} of shape {values.shape} holds {values[place]} at {place}")


def check_distribution(p: Any, axis: int | tuple[int, ...] | None = -1, name: str = "p") -> None:
    """Checks that an array holds probabilities that sum to 1 along an axis.

    Raises:
      ValueError: naming the argument, its shape, and the first bad row and its sum.
    """
    if not is_concrete(p):
        return
    p = np.asarray(p)
    check_finite(p, name=name)
    if (p < 0).any():
        place = tuple(int(i) for i in np.argwhere(p < 0)[0])
        raise ValueError(f"{name} of shape {p.shape} holds the negative {p[place]} at {place}")
    total = p.sum(axis=axis)
    if (np.abs(total - 1) > TOLERANCE).any():
        place = tuple(int(i) for i in np.argwhere(np.abs(total - 1) > TOLERANCE)[0])
        row = f"row {place}" if place else "all"
        raise ValueError(f"{name} of shape {p.shape}: {row} sums to {total[place]}, not to 1")


def check_mask(where: Any, n: int) -> None:
    """Checks that a mask has one entry a context and leaves at least 2 contexts.

    Raises:
      ValueError: naming its shape, or how many contexts it leaves.
    """
    if where is None:
        return
    if np.shape(where) != (n,):
        raise ValueError(f"where must have shape ({n},), one a context, got {np.shape(where)}")
    if is_concrete(where) and np.sum(np.asarray(where, bool)) < 2:
        kept = int(np.sum(np.asarray(where, bool)))
        raise ValueError(f"where of shape ({n},) keeps {kept}: an estimate needs 2 contexts")


def check_same_length(p: Any, q: Any, axis: int | tuple[int, ...], names: str = "p and q") -> None:
    """Checks that two arrays have the same size along the axes that are summed over.

    Raises:
      ValueError: naming both shapes.
    """
    shapes = np.shape(p), np.shape(q)
    axes = axis if isinstance(axis, tuple) else (axis,)
    try:
        same = all(shapes[0][k] == shapes[1][k] for k in axes)
    except IndexError:
        same = False
    if not same:
        raise ValueError(f"{names} must agree along axis {axis}, got shapes {shapes}")


def look_up(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry of a table of functions.

    Args:
      kind: what the table holds, for the message.
      name: of the entry; table: name -> entry.

    Raises:
      ValueError: an unknown name, with the nearest one.
    """
    if name not in table:
        close = difflib.get_close_matches(str(name), table, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"unknown {kind} {name!r}{hint}; choose among {', '.join(table)}")
    return table[name]

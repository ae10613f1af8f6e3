"""Checks of concrete input, on the host, before anything is traced.

Inside `jit`, `vmap` or `grad` values are unknown and the checks pass: what was checked outside
stays checked.
"""

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

"""Weighted sums of estimates: their jackknife errors, and what these allow to say."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from remid_jax.information.pairs import MIN_CONTEXTS
from remid_jax.information.power import detectable
from remid_jax.information.significance import holm, worst_set
from remid_jax.information.uncertainty import (
    combined_error,
    delete_one,
    replicate_error,
    t_interval,
    t_test,
)

Record = dict[str, Any]
POWER = 0.8  # with which a true difference of size `detectable` is found
DIFFERENCE = ("difference", "se", "low", "high")
R_EMID = ("r_emid", "r_emid_se", "r_emid_low", "r_emid_high")


class Replicates(NamedTuple):
    """A statistic [...], and without each group of contexts [G, ...]; NaN for none."""

    value: np.ndarray
    without: np.ndarray

    def column(self, k: int) -> "Replicates":
        """One of several statistics."""
        return Replicates(self.value[k], self.without[:, k])


def count_groups(groups: np.ndarray) -> int:
    """Number of groups that are used."""
    return len(np.unique(groups[groups >= 0]))


def replicates(
    statistic: Callable[[Any], Any], groups: np.ndarray, shape: tuple[int, ...] = ()
) -> Replicates:
    """`delete_one`, or NaN in the statistic's shape where there are too few groups."""
    if count_groups(groups) < MIN_CONTEXTS:
        return Replicates(np.full(shape, np.nan), np.full((MIN_CONTEXTS, *shape), np.nan))
    return Replicates(*map(np.asarray, delete_one(statistic, groups)))


class Contrast(NamedTuple):
    """A weighted sum of estimates, its standard error (NaN where there is none) and their d.o.f."""

    value: float
    se: float
    dof: float

    @property
    def known(self) -> bool:
        """Whether it has a value and an error."""
        return bool(np.isfinite(self.value) and np.isfinite(self.se))

    def limits(self, confidence: float) -> tuple[float | None, float | None]:
        """Ends of its t interval; None where it is not known."""
        return t_interval(*self, confidence) if self.known else (None, None)

    def or_independent(self, a: "Contrast", b: "Contrast") -> "Contrast":
        """The error of independent a and b where it is not known: too wide rather than none."""
        return self if self.known else Contrast(np.nan, *combined_error(*a[1:], *b[1:]))

    def record(self, confidence: float, names: Sequence[str] = DIFFERENCE) -> Record:
        """Interval at `confidence`, test of 0 and power; None throughout where it is not known.

        `names` are the keys of value, standard error, and lower and upper end.
        """
        keys = (*names, "within_noise", "p_value", "detectable")
        if not self.known:
            return dict.fromkeys(keys)
        level = 1 - confidence
        low, high = t_interval(*self, confidence)
        smallest = detectable(self.se, self.dof, POWER, level) if level < POWER else None
        found = (self.value, self.se, low, high, bool(low <= 0 <= high), t_test(*self), smallest)
        return dict(zip(keys, found, strict=True))


def contrast(*families: Sequence[tuple[float, Replicates]]) -> Contrast:
    """Σ w θ with its standard error.

    Args:
      *families: (weight, replicates) of scalar estimates. Those of one family are deleted from
        together, group by group; different families are independent (Welch, 1947).
    """
    parts = []
    for family in families:
        # Minus the value: replicates are large, and what they differ in is small.
        spread = sum(w * (np.asarray(r.without, float) - float(r.value)) for w, r in family)
        error, dof = replicate_error(spread)
        parts.append((float(error), dof))
    value = sum(w * float(r.value) for family in families for w, r in family)
    if not np.isfinite([error for error, _ in parts]).all():
        return Contrast(value, np.nan, 0)
    return Contrast(value, *functools.reduce(lambda a, b: combined_error(*a, *b), parts))


def with_holm(records: Sequence[Mapping[str, Any]], key: str = "p_value") -> list[Record]:
    """The records with `p_holm`, their p-values adjusted together; None is not counted."""
    adjusted = holm([r[key] for r in records])
    return [{**r, "p_holm": number(p)} for r, p in zip(records, adjusted, strict=True)]


def largest(
    values: Sequence[float], gap: Callable[[int, int], Contrast], confidence: float
) -> tuple[int, list[int]]:
    """Index of the largest value, and of those it is not distinguished from; see `worst_set`.

    `gap` takes two indices and gives the contrast between their values.
    """
    errors, dof = np.zeros((2, len(values), len(values)))
    for k, m in itertools.combinations(range(len(values)), 2):
        _, errors[k, m], dof[k, m] = gap(k, m)
    kept = worst_set(values, errors + errors.T, dof + dof.T, confidence)
    top = int(np.argmax(values))
    return top, [k for k in np.flatnonzero(kept).tolist() if k != top]


def number(value: Any) -> float | None:
    """A finite number, or None."""
    return None if value is None or not np.isfinite(value) else float(value)

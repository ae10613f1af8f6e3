"""How often each column of a diagnosis sees a fault in n contexts drawn of those that were scored.

Contexts are drawn with replacement; the δ of a context stay as they were scored, with the partner
that it had among all contexts. Pair matrices lose the pairs of two copies of one context, which
would be no negatives.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import stdtr

from remid_jax.data.factors import DIALOGUE_PARTS, FACTORS
from remid_jax.errors import UserError
from remid_jax.information import mutual_information as mi
from remid_jax.information.pairs import GOLDEN, MIN_CONTEXTS, SHUFFLED
from remid_jax.information.precision import double_precision
from remid_jax.information.profile_flags import Flags, profile_flags
from remid_jax.information.profile_shares import Lost, lost
from remid_jax.information.significance import holm
from remid_jax.information.uncertainty import replicate_error

from .known_faults import FAULTS, NOISE, lacks

Array = jax.Array
ALL = tuple(str(f) for f in (*FACTORS, *DIALOGUE_PARTS))
HEADLINE = len(FACTORS)  # of them are tested; the flags read all
LEVEL = 0.05
NAMING = ("ignores", "contradicts")  # flags that name a factor


@dataclasses.dataclass(frozen=True)
class Row:
    """What was scored of one model's answers to a subset.

    Attributes:
      own: [F, N] δ of own words in nats, factor by factor; whole: of all words.
      baseline: [N] log q a token.
      pairs: [N, N] log q(y_j | x_i, r_i) in nats, or None.
    """

    own: np.ndarray
    whole: np.ndarray
    baseline: np.ndarray
    pairs: np.ndarray | None

    @classmethod
    def of_record(cls, record: Mapping[str, Any], limits: str, factors: Sequence[str]) -> "Row":
        """From `answer_scores`; NaN where there is no answer or partner."""
        own, whole = (
            np.array([part[f] for f in factors], float)
            for part in (record["own"][limits], record["all"])
        )
        pairs = record.get("pairs")
        pairs = None if pairs is None else np.array(pairs, float)
        return cls(own, whole, np.array(record["baseline"], float), pairs)

    def taken(self, index: np.ndarray) -> "Row":
        """Of drawn contexts [draws, n]: arrays [F, draws, n], [draws, n] and [draws, n, n]."""
        pairs = self.pairs
        if pairs is not None:
            pairs = pairs[index[:, :, None], index[:, None, :]]
        return Row(self.own[:, index], self.whole[:, index], self.baseline[index], pairs)

    def mixed(self, other: "Row", replaced: np.ndarray) -> "Row":
        """Drawn contexts [draws, n] of which some have the other row's answer."""
        pairs = self.pairs
        if pairs is not None:
            pairs = np.where(replaced[:, None, :], other.pairs, pairs)
        parts = ((self.own, other.own), (self.whole, other.whole), (self.baseline, other.baseline))
        return Row(*(np.where(replaced, b, a) for a, b in parts), pairs)

    def first(self) -> "Row":
        """The first draw alone."""
        pairs = None if self.pairs is None else self.pairs[0]
        return Row(self.own[:, 0], self.whole[:, 0], self.baseline[0], pairs)


class Subset(NamedTuple):
    """The rows of a subset on the contexts in which all of them can be used.

    Attributes:
      tag: of the subset.
      rows: by name.
      factors: those of `ALL` for which enough contexts have a partner.
      shift: of the subset, or None.
      ids: of the contexts; counterparts: of those that they vary, or None.
    """

    tag: str
    rows: dict[str, Row]
    factors: tuple[str, ...]
    shift: str | None
    ids: list[str]
    counterparts: list[str | None]

    @classmethod
    def of_record(cls, record: Mapping[str, Any], limits: str) -> "Subset":
        """From `answer_scores`.

        Raises:
          UserError: too few contexts have an answer in every row, and partners.
        """
        partners = record["rows"][GOLDEN]["all"]
        enough = (f for f in ALL if sum(v is not None for v in partners[f]) >= MIN_CONTEXTS)
        factors = tuple(enough)
        rows = {k: Row.of_record(row, limits, factors) for k, row in record["rows"].items()}
        if rows[GOLDEN].pairs is not None:
            shuffled = np.roll(rows[GOLDEN].pairs, -1, axis=1)
            rows[SHUFFLED] = dataclasses.replace(rows[SHUFFLED], pairs=shuffled)
        parts = [part for row in rows.values() for part in (*row.own, row.baseline)]
        kept = np.flatnonzero(np.isfinite(parts).all(axis=0))[None]
        if not set(factors) & set(ALL[:HEADLINE]) or kept.size < MIN_CONTEXTS:
            raise UserError(
                f"subset {record['subset']!r}: {kept.size} contexts have partners and an answer in "
                f"every row; the study needs {MIN_CONTEXTS}"
            )
        rows = {name: row.taken(kept).first() for name, row in rows.items()}
        whose = ([record[key][i] for i in kept[0]] for key in ("ids", "counterparts"))
        return cls(record["subset"], rows, factors, record["shift"], *whose)

    @property
    def faults(self) -> list[str]:
        """Golden, and the faults that there are scores of."""
        return [GOLDEN, *(f for f in FAULTS if f in self.rows or f == NOISE)]


@dataclasses.dataclass(frozen=True)
class Draws:
    """Contexts [draws, n] of the models' answers and of the golden ones, by index.

    Attributes:
      golden: contexts whose golden answers are compared with.
      others: contexts drawn apart from them, of golden answers that are judged as a model's.
      replaced: [draws, n] bool, answers that come from another context in `NOISE`.
    """

    golden: np.ndarray
    others: np.ndarray
    replaced: np.ndarray

    @classmethod
    def of(cls, seed: int, total: int, n: int, draws: int, noise: float) -> "Draws":
        """The same for every fault and subset of `total` contexts."""
        rng = np.random.default_rng([seed, n, total])
        golden, others = rng.integers(0, total, (2, draws, n))
        return cls(golden, others, rng.random((draws, n)) < noise)

    def sides(self, rows: Mapping[str, Row], fault: str) -> tuple[Row, Row]:
        """A model's and the golden answers to drawn contexts.

        Golden answers themselves stand on both sides with contexts that are drawn apart: on the
        same contexts both sides would be equal, and no test could ever be wrong.
        """
        golden = rows[GOLDEN].taken(self.golden)
        if fault == GOLDEN:
            return rows[GOLDEN].taken(self.others), golden
        if fault == NOISE:
            return golden.mixed(rows[SHUFFLED].taken(self.golden), self.replaced), golden
        return rows[fault].taken(self.golden), golden

    def negatives(self, fault: str) -> tuple[np.ndarray, np.ndarray]:
        """[draws, n, n] bool, pairs of different contexts, of a model and of golden."""
        model = self.others if fault == GOLDEN else self.golden
        return tuple(x[:, :, None] != x[:, None, :] for x in (model, self.golden))


def detect(subset: Subset, home: Subset | None, fault: str, draws: Draws) -> dict[str, Any]:
    """In which share of draws each column sees a fault.

    Args:
      subset: whose answers are judged.
      home: the in-distribution subset where its contexts are the counterparts, else None.
      fault: one of the subset's.
      draws: the contexts.
    """
    model, golden = draws.sides(subset.rows, fault)
    right = [f for f in subset.factors if f in lacks(fault, subset.shift)]
    found: dict[str, Any] = {"profile": _profile(model, golden, subset.factors, right)}
    below, above = _t_tests(*_mean_and_error(model.baseline - golden.baseline))
    found["baseline"] = {"below": _rate(below), "above": _rate(above)}
    if model.pairs is None:
        return found
    negatives = draws.negatives(fault)
    there = _r_emi(model.pairs, golden.pairs, *negatives)
    below, above = _t_tests(*_jackknife(there))
    found["r_emi"] = {"below": _rate(below), "above": _rate(above)}
    if home is not None:
        at_home = np.zeros(())  # a model that knows no shift answers at home as golden does
        if fault in home.faults:
            both = draws.sides(home.rows, fault)
            at_home = _r_emi(*(side.pairs for side in both), *negatives)
        below, above = _t_tests(*_jackknife(at_home - there))
        found["r_emid"] = {"rises": _rate(above), "falls": _rate(below)}
    return found


def as_scored(subset: Subset, fault: str) -> dict[str, Any]:
    """What the profile says of a row on all contexts of its subset, none drawn."""
    every = np.arange(len(subset.ids))[None]
    model, golden = (subset.rows[name].taken(every) for name in (fault, GOLDEN))
    factors, flags = judge(model, golden, subset.factors)
    values = zip(subset.factors, model.own[:, 0].mean(-1), golden.own[:, 0].mean(-1), strict=True)
    return {
        "n": len(subset.ids),
        "factors": [f for f, below in factors.items() if below[0]],
        "flags": [name for name, shown in _named(flags).items() if shown[0]],
        "information": {f: [float(a), float(b)] for f, a, b in values},
    }


def _named(flags: Flags) -> dict[str, np.ndarray]:
    """Flag, with its factor where it has one -> [draws] bool."""
    named = {}
    for flag, value in flags._asdict().items():
        by_factor = value if isinstance(value, Mapping) else {"": value}
        named |= {f"{flag} {f}".strip(): np.asarray(shown) for f, shown in by_factor.items()}
    return named


def _rate(flagged: np.ndarray) -> float:
    return float(np.mean(flagged))


def _profile(
    model: Row, golden: Row, factors: tuple[str, ...], right: Sequence[str]
) -> dict[str, Any]:
    significant, flags = judge(model, golden, factors)
    others = [f for f in significant if f not in right]
    shown = _named(flags)
    any_flag = np.any([*shown.values()], axis=0)
    any_factor = np.any([*significant.values()], axis=0)
    named = [shown[f"{flag} {f}"] for flag in NAMING for f in right]
    each = [significant[f] for f in right]
    return {
        "lacks": list(right),
        "factor": _rate(any_factor),
        "right": _rate(np.any(each, axis=0)) if each else None,
        "all_right": _rate(np.all(each, axis=0)) if each else None,
        "other": _rate(np.any([significant[f] for f in others], axis=0)) if others else 0.0,
        "by_factor": {f: _rate(x) for f, x in significant.items()},
        "flag": _rate(any_flag),
        "flag_names": _rate(np.any(named, axis=0)) if named else None,
        "flags": {name: _rate(x) for name, x in shown.items() if x.any()},
        "seen": _rate(any_flag | any_factor),
    }


def judge(model: Row, golden: Row, factors: tuple[str, ...]) -> tuple[dict[str, np.ndarray], Flags]:
    """[draws] factors that are significantly below golden by Holm, and the flags.

    As in the tables `profile` and `flags` of a diagnosis, of rows as `Row.taken` has them.
    """
    with double_precision():
        parts = (model.own, golden.own, model.whole, golden.whole)
        gap = jnp.asarray(model.baseline - golden.baseline)
        found, flags = _judged(*map(jnp.asarray, parts), gap, factors)
    value, p = (np.asarray(x) for x in (found.value, found.p))  # [draws, factors]
    below = (np.stack([holm(row) for row in p]) < LEVEL) & (value > 0)
    return {f: below[:, k] for k, f in enumerate(factors) if k < below.shape[1]}, flags


@functools.partial(jax.jit, static_argnames="factors")
def _judged(
    own: Array, golden_own: Array, whole: Array, golden_whole: Array, gap: Array,
    factors: tuple[str, ...],
) -> tuple[Lost, Flags]:  # fmt: skip
    tested = sum(f in ALL[:HEADLINE] for f in factors)  # they stand first

    def one(*parts: Array) -> tuple[Lost, Flags]:
        sides = [dict(zip(factors, part, strict=True)) for part in parts[:4]]
        flags = profile_flags(*sides, baseline=parts[4])
        return jax.vmap(lost)(parts[0][:tested], parts[1][:tested]), flags

    return jax.vmap(one, in_axes=(1, 1, 1, 1, 0))(own, golden_own, whole, golden_whole, gap)


def _r_emi(
    model: np.ndarray, golden: np.ndarray, model_pairs: np.ndarray, golden_pairs: np.ndarray
) -> np.ndarray:
    """[draws, 1 + n] nats: R-EMI, and without each of the n contexts; NaN where no pair is left."""
    with double_precision():
        return np.asarray(_replicates(model, golden, model_pairs, golden_pairs))


@jax.jit
def _replicates(model: Array, golden: Array, model_pairs: Array, golden_pairs: Array) -> Array:
    n = model.shape[-1]
    masks = jnp.concatenate([jnp.ones((1, n), bool), ~jnp.eye(n, dtype=bool)])

    def one(*sides: Array) -> Array:
        def on(mask: Array) -> Array:
            model, golden = (
                mi.club(scores, negatives=pairs.astype(scores.dtype), where=mask)
                for scores, pairs in zip(sides[:2], sides[2:], strict=True)
            )
            return model - golden

        return jax.vmap(on)(masks)

    return jax.vmap(one)(model, golden, model_pairs, golden_pairs)


def _jackknife(replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Values [draws], standard errors, and degrees of freedom of `_r_emi`."""
    with double_precision():
        error, dof = replicate_error(replicates[:, 1:].T)
        return replicates[:, 0], np.asarray(error), dof


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    n = values.shape[-1]
    return values.mean(axis=-1), values.std(axis=-1, ddof=1) / np.sqrt(n), n - 1


def _t_tests(value: np.ndarray, error: np.ndarray, dof: int) -> tuple[np.ndarray, np.ndarray]:
    """[draws] significantly below 0, and above it, of two-sided tests at 5 %."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(dof, -np.abs(value / error))
    return (p < LEVEL) & (value < 0), (p < LEVEL) & (value > 0)

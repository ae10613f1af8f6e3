"""Pair matrices of a subset, and which of their pairs an estimate needs."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from remid_jax.errors import UserError
from remid_jax.information import mutual_information as mi
from remid_jax.information.uncertainty import clustered_negatives, clusters

MIN_CONTEXTS = 3  # a jackknife of a pair statistic needs them
GOLDEN = "golden"
SHUFFLED = "shuffled golden"
UNSHIFTED = "unshifted"  # the golden response of a sample's in-distribution counterpart
ECHO = "echo"  # the last user turn
REFERENCE_ROWS = (GOLDEN, SHUFFLED, UNSHIFTED, ECHO)
Labels = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class EstimatorSettings:
    """What the analysis takes from `config.estimator` and `config.seed`.

    Attributes:
      name: club, infonce or leave_one_out.
      normalisation: `sequence` gives nats per response, `token` nats per token.
      negatives: all, cyclic or random.
      num_negatives: shifts of cyclic negatives, or random draws in all.
      emi_shifts: cyclic shifts of EMI without reasoning; 0 takes the pairs of R-EMI, −1 none.
      confidence: level of all intervals and tests, in (0, 1).
      seed: of random negatives, context sets and permutations.
    """

    name: str
    normalisation: str
    negatives: str
    num_negatives: int
    emi_shifts: int
    confidence: float
    seed: int

    @classmethod
    def from_config(cls, config: Any) -> "EstimatorSettings":
        """From a configuration."""
        names = [f.name for f in dataclasses.fields(cls) if f.name != "seed"]
        return cls(**{name: config.estimator[name] for name in names}, seed=config.seed)

    @property
    def by_token(self) -> bool:
        """Whether values are nats per token."""
        return self.normalisation == "token"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Block:
    """The pair matrices of one RPM's, or of the golden, responses in one subset.

    Attributes:
      scores: [N, N] float64, log q(y_j | x_i, r_i) in nats; NaN where not scored.
      plain: the same without reasoning, log q(y_j | x_i).
      lengths: [N] scored tokens of each response.
      where: [N] bool, contexts whose response can be used.
    """

    scores: np.ndarray
    plain: np.ndarray
    lengths: np.ndarray
    where: np.ndarray

    def shifted(self) -> "Block":
        """Each context with the response of the next one (cyclic)."""
        matrices = (np.roll(x, -1, axis=1) for x in (self.scores, self.plain))
        return Block(*matrices, np.roll(self.lengths, -1), self.where & np.roll(self.where, -1))


def mean_of_draws(draws: Sequence[Block]) -> Block:
    """Each context's mean over the draws that it has; `club` of it is `repeated_club` of them.

    Lengths are means too: nats per token are those of all tokens of a context's draws.
    """
    if len(draws) == 1:
        return draws[0]
    there = np.stack([b.where for b in draws])
    number = there.sum(axis=0)

    def mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
        mask = there if arrays[0].ndim == 1 else there[:, None]
        total = np.sum(np.where(mask, np.stack(arrays), 0), axis=0)
        return np.where(number > 0, total / np.maximum(number, 1), arrays[0])

    fields = ("scores", "plain", "lengths")
    return Block(*(mean([getattr(b, name) for b in draws]) for name in fields), number > 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Negatives:
    """Weights [N, N] of the negative pairs of an evaluated model and of golden."""

    model: np.ndarray
    golden: np.ndarray

    @property
    def is_empty(self) -> bool:
        """Whether there is none, and nothing to estimate."""
        return not (self.model.any() or self.golden.any())

    def wanted(self, golden: bool) -> np.ndarray:
        """[N, N] bool, the pairs that a block must hold; the golden one also serves `SHUFFLED`."""
        needed = (np.eye(len(self.model)) + self.model) > 0
        if golden:
            needed = needed | (self.golden > 0) | np.roll(needed, 1, axis=1)
        return needed


def cluster_labels(tag: str, samples: Sequence[Any], field: str) -> Labels | None:
    """[N] texts, equal within a cluster of a subset's samples; None where each is its own.

    Args:
      tag: of the subset.
      samples: [N], its contexts.
      field: `config.estimator.clusters`, a field of the samples or `none`.

    Raises:
      UserError: fewer clusters than a standard error needs.
    """
    if field == "none":
        return None
    dump = functools.partial(json.dumps, ensure_ascii=False, sort_keys=True)
    labels = tuple(dump(getattr(s, field)) for s in samples)
    if (count := len(set(labels))) < MIN_CONTEXTS:
        raise UserError(
            f"config.estimator.clusters is {field!r}, but the {len(samples)} contexts of subset "
            f"{tag!r} form {count} clusters; a standard error needs at least {MIN_CONTEXTS}"
        )
    return labels


def negatives_for(
    n: int, settings: EstimatorSettings, labels: Labels | None = None
) -> tuple[Negatives, Negatives]:
    """The negative pairs of n contexts, of different clusters, with reasoning and without.

    There are n − 1 cyclic shifts: a larger `emi_shifts` takes all of them.

    Raises:
      UserError: more cyclic shifts than there are other contexts, or no pair is left.
    """
    s = settings
    between = mi.all_negatives(n) if labels is None else clustered_negatives(clusters(labels))
    try:
        if s.negatives == "all":
            drawn = [mi.all_negatives(n)] * 2
        elif s.negatives == "cyclic":
            drawn = [mi.cyclic_negatives(n, s.num_negatives)] * 2
        else:  # the two sides draw separately, as the published code does
            drawn = [mi.random_negatives(n, s.num_negatives, s.seed + k) for k in (0, 1)]
    except ValueError as error:
        raise UserError(f"config.estimator: {error}") from None
    with_r = without_r = Negatives(*(w * between for w in drawn))
    if s.emi_shifts < 0:
        without_r = Negatives(np.zeros((n, n)), np.zeros((n, n)))
    elif s.name == "club" and s.emi_shifts > 0:  # only club can leave pairs out
        weights = mi.cyclic_negatives(n, min(s.emi_shifts, n - 1)) * between
        without_r = Negatives(weights, weights)
    used = (with_r, without_r) if s.emi_shifts >= 0 else (with_r,)
    for weights in (w for pair in used for w in (pair.model, pair.golden)):
        if not weights.any():
            raise UserError(
                "config.estimator: all negative pairs lie within a cluster; take more of them, or "
                "negatives='all'"
            )
    return with_r, without_r


def wanted_columns(
    n: int, num_rpms: int, settings: EstimatorSettings, labels: Labels | None
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs to score: [N, (1 + num_rpms)·N] bool, golden first, with reasoning and without."""
    return tuple(
        np.concatenate([x.wanted(golden=True)] + [x.wanted(golden=False)] * num_rpms, axis=1)
        for x in negatives_for(n, settings, labels)
    )


@dataclasses.dataclass(frozen=True)
class Subset:
    """Everything that one subset is estimated from.

    Attributes:
      tag: its name.
      sample_ids: [N].
      pair_ids: [N], the id of each sample's counterpart, the original that it varies, or None.
      languages: [N], or None.
      golden: the golden responses' matrices.
      rpms: name -> matrices of an evaluated model, means over the draws of each context, in the
        order of the report.
      negatives: the negative pairs with reasoning and without.
      labels: [N] clusters that are deleted together, or None where each context is its own.
      shift: what is shifted; None for the in-distribution subset.
      draws: name -> matrices of its first draws, its second, ...; where a context has several.
    """

    tag: str
    sample_ids: tuple[str, ...]
    pair_ids: tuple[str | None, ...]
    languages: tuple[str | None, ...]
    golden: Block
    rpms: Mapping[str, Block]
    negatives: tuple[Negatives, Negatives]
    labels: Labels | None = None
    shift: str | None = None
    draws: Mapping[str, Sequence[Block]] = dataclasses.field(default_factory=dict)

    def first_draws(self, rpm: str) -> Block:
        """The matrices of one answer a context, for what no mean over draws can stand for."""
        return self.draws[rpm][0] if rpm in self.draws else self.rpms[rpm]

    def used(self, rpm: str) -> np.ndarray:
        """[N] bool, contexts that count for an RPM beside golden."""
        return self.rpms[rpm].where & self.golden.where

    @property
    def has_golden(self) -> bool:
        """Whether it has golden responses enough to compare with."""
        return int(self.golden.where.sum()) >= MIN_CONTEXTS

    def answered(self, rpm: str) -> np.ndarray:
        """[N] bool, contexts that count in what needs no golden response.

        They are those of `used`, so that all figures are of the same contexts, where there are
        golden ones.
        """
        return self.used(rpm) if self.has_golden else self.rpms[rpm].where

    def has_row(self, name: str) -> bool:
        """Whether there is such a row: one made of golden responses needs them."""
        made_of_golden = name in REFERENCE_ROWS and name != ECHO
        enough = int(self.rpms[name].where.sum()) >= MIN_CONTEXTS
        return self.has_golden or enough or not made_of_golden

    @property
    def lack_of_golden(self) -> str | None:
        """Why nothing can be compared with golden responses, or None."""
        if self.has_golden:
            return None
        n = int(self.golden.where.sum())
        return f"{n} of {len(self.sample_ids)} contexts have a golden response"


def with_reference_rows(subset: Subset) -> Subset:
    """Adds golden and shuffled golden, which the matrices hold, and puts reference rows last."""
    rows = {**subset.rpms, GOLDEN: subset.golden, SHUFFLED: subset.golden.shifted()}
    names = [name for name in rows if name not in REFERENCE_ROWS]
    names += [name for name in REFERENCE_ROWS if name in rows]
    return dataclasses.replace(subset, rpms={name: rows[name] for name in names})


@dataclasses.dataclass(frozen=True)
class Swapped:
    """Scores of a subset's answers under contexts with one factor of other samples.

    Scores are sums of log q in nats over two parts of an answer's tokens, the last axis: those of
    its own words, and those copied from its context.

    Attributes:
      sources: factor -> int [N, K], the samples that a factor is taken from; −1 for none. Of a name
        that is made up, the sample itself.
      weights: factor -> [N], the share of possible partners whose factor differs.
      own: name -> [N, 2], under the own context; NaN where there is no answer.
      scores: name -> factor -> [N, K, 2]; NaN where there is no source.
      copied: name -> int [N, 2], tokens of own words and copied ones.
      whole: name -> [N, 2], under the whole context of another sample; NaN where there is none.
      draws: name -> factor -> [N, M], the mean over swaps of what own words of each draw lose with
        a factor, without `weights`; NaN where there is none. All else is a mean over draws, but
        `copied`, which counts them all. Names with one draw a context are not held.
    """

    sources: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]
    own: Mapping[str, np.ndarray]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    copied: Mapping[str, np.ndarray]
    whole: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    draws: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)


def is_paired(subset: Subset, home: Subset) -> bool:
    """Whether each sample of a subset varies its counterpart, that of the same index at home."""
    return subset.pair_ids == home.sample_ids


def groups_of(used: np.ndarray, *subsets: Subset) -> np.ndarray:
    """[N] groups that share a cluster in any of the subsets; −1 where not `used` [N]."""
    labels = [s.labels for s in subsets if s.labels is not None]
    return np.where(used, clusters(*labels) if labels else np.arange(len(used)), -1)


def common_groups(
    paired: bool, n: int, m: int, labels: tuple[Labels | None, Labels | None] = (None, None)
) -> tuple[np.ndarray, np.ndarray]:
    """Groups of n contexts and of m others, where i and other i share one if `paired`."""
    columns = [[*range(n), *(range(m) if paired else range(n, n + m))]]
    if labels[0] is not None:
        columns.append([*labels[0], *labels[1]])
    group = clusters(*columns)
    return group[:n], group[n:]


def folds_of(groups: tuple[np.ndarray, np.ndarray]) -> int:
    """Folds of a classifier between two sets whose groups it may not split: at most 5."""
    return min(5, *(len(np.unique(g)) for g in groups))

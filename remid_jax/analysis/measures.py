"""One subset's pair matrices; R-EMI, EMI, retained share and baseline as functions of a mask."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.config import MIN_CONTEXTS
from remid_jax.information import mutual_information as mi
from remid_jax.information.uncertainty import clustered_negatives, clusters, delete_one

GOLDEN = "golden"
SHUFFLED = "shuffled golden"
ANCHORS = (GOLDEN, SHUFFLED)
COLUMNS = ("r_emi", "r_emi_token", "emi", "retained", "baseline")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Block:
    """One policy's pair matrices in one subset.

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

    def shifted(self, by: int = 1) -> "Block":
        """The block in which context i is given the response of context i + `by` (mod N)."""
        return Block(
            np.roll(self.scores, -by, axis=1),
            np.roll(self.plain, -by, axis=1),
            np.roll(self.lengths, -by),
            self.where & np.roll(self.where, -by),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Negatives:
    """Weights [N, N] of the negative pairs of the model side and of the golden side."""

    model: np.ndarray
    golden: np.ndarray

    def wanted(self, golden: bool) -> np.ndarray:
        """[N, N] bool, the pairs that a block must hold; the golden one also serves `SHUFFLED`."""
        needed = (np.eye(len(self.model)) + self.model) > 0
        if golden:
            needed = needed | (self.golden > 0) | np.roll(needed, 1, axis=1)
        return needed


Labels = tuple[str, ...]


def cluster_labels(tag: str, samples: Sequence[Sample], config: ConfigDict) -> Labels | None:
    """What `config.estimator.clusters` tells a subset's contexts apart by, or None.

    Returns:
      [N] texts: contexts with the same text are one cluster.

    Raises:
      UserError: fewer clusters than a standard error needs.
    """
    field = config.estimator.clusters
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
    n: int, config: ConfigDict, labels: Labels | None = None
) -> tuple[Negatives, Negatives]:
    """The negative pairs that `config.estimator` asks for, among n contexts.

    Args:
      n: contexts.
      config: of the diagnosis.
      labels: [N] clusters; given, only pairs of different ones are kept.

    Returns:
      Those with reasoning, and those without (fewer where `emi_shifts` says so).

    Raises:
      UserError: more cyclic shifts than there are other contexts, or no pair is left.
    """
    e = config.estimator
    between = mi.all_negatives(n) if labels is None else clustered_negatives(clusters(labels))
    try:
        if e.negatives == "all":
            drawn = [mi.all_negatives(n)] * 2
        elif e.negatives == "cyclic":
            drawn = [mi.cyclic_negatives(n, e.num_negatives)] * 2
        else:  # the two sides draw separately, as the published code does
            seeds = (config.seed, config.seed + 1)
            drawn = [mi.random_negatives(n, e.num_negatives, x) for x in seeds]
    except ValueError as error:
        raise UserError(f"config.estimator: {error}") from None
    with_r = without_r = Negatives(*(w * between for w in drawn))
    if e.emi_shifts >= n:
        raise UserError(
            f"config.estimator.emi_shifts is {e.emi_shifts}, but {n} contexts have only {n - 1} "
            "cyclic shifts; lower it, or set it to 0 for the pairs of R-EMI"
        )
    if e.name == "club" and 0 < e.emi_shifts < n - 1:  # only club can leave pairs out
        weights = mi.cyclic_negatives(n, e.emi_shifts) * between
        without_r = Negatives(weights, weights)
    for weights in (with_r.model, with_r.golden, without_r.model):
        if not weights.any():
            raise UserError(
                "config.estimator: all negative pairs lie within a cluster; take more of them, or "
                "negatives='all'"
            )
    return with_r, without_r


def wanted_columns(
    n: int, policies: int, config: ConfigDict, labels: Labels | None
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs to score: [N, (1 + policies)·N] bool, golden first, with reasoning and without."""
    with_r, without_r = (
        np.concatenate([x.wanted(golden=True)] + [x.wanted(golden=False)] * policies, axis=1)
        for x in negatives_for(n, config, labels)
    )
    return with_r, without_r


Statistic = Callable[[jax.Array], jax.Array]


@functools.partial(jax.jit, static_argnames=("name", "by_token"))
def _columns(
    model: Block,
    golden: Block,
    negatives: tuple[Negatives, Negatives],
    mask: jax.Array,
    *,
    name: str,
    by_token: bool,
) -> jax.Array:
    """The values of `COLUMNS` on the contexts of a mask [N]."""
    mask = mask & model.where & golden.where
    with_r, without_r = negatives

    def value(scores: jax.Array, block: Block, weights: jax.Array, by_token: bool) -> jax.Array:
        arguments = {"lengths": block.lengths} if by_token else {}
        if name == "club":
            arguments["negatives"] = weights
        return mi.ESTIMATORS[name](scores, where=mask, **arguments)

    def sides(by_token: bool) -> tuple[jax.Array, jax.Array]:
        ours = value(model.scores, model, with_r.model, by_token)
        return ours, value(golden.scores, golden, with_r.golden, by_token)

    of_model, of_golden = sides(by_token)
    plain = (
        value(model.plain, model, without_r.model, by_token),
        value(golden.plain, golden, without_r.golden, by_token),
    )
    diagonals = (
        jnp.diagonal(model.scores), model.lengths, jnp.diagonal(golden.scores), golden.lengths
    )  # fmt: skip
    return jnp.stack(
        [
            mi.effective(of_model, of_golden),
            mi.effective(*sides(by_token=True)),
            mi.effective(*plain),
            mi.retained(of_model, of_golden),
            mi.likelihood_baseline(*diagonals, where=mask),
        ]
    )


def statistic(
    model: Block, golden: Block, negatives: tuple[Negatives, Negatives], config: ConfigDict
) -> Statistic:
    """The estimates of one policy in one subset as a function of a mask of contexts.

    Returns:
      mask [N] -> [len(COLUMNS)].
    """
    e = config.estimator
    settings = {"name": e.name, "by_token": e.normalisation == "token"}
    return lambda mask: _columns(model, golden, negatives, mask, **settings)


@dataclasses.dataclass(frozen=True)
class Subset:
    """Everything that is estimated from in one subset.

    Attributes:
      tag: subset tag.
      sample_ids: [N].
      pair_ids: [N], the anchor of each sample or None.
      languages: [N], the language of each sample or None.
      golden: its block; policies: name -> block, in the order of the report.
      negatives: the negative pairs with reasoning and without.
      labels: [N] clusters that are deleted together, or None where each context is its own.
      shift: what is shifted; None: the in-distribution subset.
    """

    tag: str
    sample_ids: tuple[str, ...]
    pair_ids: tuple[str | None, ...]
    languages: tuple[str | None, ...]
    golden: Block
    policies: Mapping[str, Block]
    negatives: tuple[Negatives, Negatives]
    labels: Labels | None = None
    shift: str | None = None
    _done: dict = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def statistic(self, policy: str, config: ConfigDict) -> Statistic:
        """See `statistic`."""
        return statistic(self.policies[policy], self.golden, self.negatives, config)

    def used(self, policy: str) -> np.ndarray:
        """[N] bool, contexts that count for a policy."""
        return self.policies[policy].where & self.golden.where

    def delete_one(
        self, policy: str, groups: np.ndarray, config: ConfigDict
    ) -> tuple[np.ndarray, np.ndarray]:
        """The values of `COLUMNS`, and [G, COLUMNS] without each group; computed once."""
        e = config.estimator
        key = (policy, groups.tobytes(), e.name, e.normalisation)
        if key not in self._done:
            parts = delete_one(self.statistic(policy, config), groups)
            self._done[key] = tuple(np.asarray(x) for x in parts)
        return self._done[key]


def groups_of(used: np.ndarray, *subsets: Subset) -> np.ndarray:
    """[N] groups that a jackknife deletes; −1 where not used.

    Args:
      used: [N] bool.
      *subsets: one, or several whose contexts belong together index by index: contexts that share
        a cluster in any of them are then deleted together.
    """
    labels = [s.labels for s in subsets if s.labels is not None]
    return np.where(used, clusters(*labels) if labels else np.arange(len(used)), -1)


def count_groups(groups: np.ndarray) -> int:
    """Number of groups that are used."""
    return len(np.unique(groups[groups >= 0]))


def is_paired(subset: Subset, anchor: Subset) -> bool:
    """Whether each sample of a subset varies the anchor of the same index."""
    return subset.pair_ids == anchor.sample_ids


def with_anchors(subset: Subset) -> Subset:
    """Adds the two anchor rows that come free with the matrix: floor and ceiling of every table."""
    anchors = {GOLDEN: subset.golden, SHUFFLED: subset.golden.shifted()}
    return dataclasses.replace(subset, policies={**subset.policies, **anchors})

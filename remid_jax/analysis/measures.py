"""One subset's pair matrices; R-EMI, EMI, retained share and baseline on a mask of contexts."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.analysis.contrast import Contrast, Replicates, contrast, replicates
from remid_jax.analysis.settings import MIN_CONTEXTS, EstimatorSettings
from remid_jax.errors import UserError
from remid_jax.information import mutual_information as mi
from remid_jax.information.significance import contributions
from remid_jax.information.uncertainty import clustered_negatives, clusters

GOLDEN = "golden"
SHUFFLED = "shuffled golden"
REFERENCE_ROWS = (GOLDEN, SHUFFLED)
COLUMNS = ("r_emi", "r_emi_token", "emi", "retained", "baseline")
Labels = tuple[str, ...]


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
        """The block in which each context is given the response of the next one (cyclic)."""
        matrices = (np.roll(x, -1, axis=1) for x in (self.scores, self.plain))
        return Block(*matrices, np.roll(self.lengths, -1), self.where & np.roll(self.where, -1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Negatives:
    """Weights [N, N] of the negative pairs of an evaluated model and of golden."""

    model: np.ndarray
    golden: np.ndarray

    def wanted(self, golden: bool) -> np.ndarray:
        """[N, N] bool, the pairs that a block must hold; the golden one also serves `SHUFFLED`."""
        needed = (np.eye(len(self.model)) + self.model) > 0
        if golden:
            needed = needed | (self.golden > 0) | np.roll(needed, 1, axis=1)
        return needed


def cluster_labels(tag: str, samples: Sequence[Any], field: str) -> Labels | None:
    """[N] texts, equal within a cluster of a subset's contexts; None where each is its own.

    Args:
      tag: of the subset.
      samples: its N contexts.
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
    """The negative pairs of n contexts with reasoning, and those without.

    Args:
      n: contexts.
      settings: which pairs, and how many.
      labels: [N] clusters; given, only pairs of different ones are kept.

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
    if s.emi_shifts >= n:
        raise UserError(
            f"config.estimator.emi_shifts is {s.emi_shifts}, but {n} contexts have only {n - 1} "
            "cyclic shifts; lower it, or set it to 0 for the pairs of R-EMI"
        )
    if s.name == "club" and 0 < s.emi_shifts < n - 1:  # only club can leave pairs out
        weights = mi.cyclic_negatives(n, s.emi_shifts) * between
        without_r = Negatives(weights, weights)
    for weights in (with_r.model, with_r.golden, without_r.model):
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
    with_r, without_r = (
        np.concatenate([x.wanted(golden=True)] + [x.wanted(golden=False)] * num_rpms, axis=1)
        for x in negatives_for(n, settings, labels)
    )
    return with_r, without_r


@dataclasses.dataclass(frozen=True)
class Subset:
    """Everything that one subset is estimated from.

    Attributes:
      tag: its name.
      sample_ids: [N].
      pair_ids: [N], the id of each sample's counterpart, the original that it varies, or None.
      languages: [N], the language of each sample or None.
      golden: the golden responses' matrices.
      rpms: name -> matrices of an evaluated model, in the order of the report.
      negatives: the negative pairs with reasoning and without.
      labels: [N] clusters that are deleted together, or None where each context is its own.
      shift: what is shifted; None for the in-distribution subset.
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

    def used(self, rpm: str) -> np.ndarray:
        """[N] bool, contexts that count for an RPM."""
        return self.rpms[rpm].where & self.golden.where


def with_reference_rows(subset: Subset) -> Subset:
    """Adds golden and shuffled golden, which the matrices hold: ceiling and floor of all rows."""
    rows = {GOLDEN: subset.golden, SHUFFLED: subset.golden.shifted()}
    return dataclasses.replace(subset, rpms={**subset.rpms, **rows})


def is_paired(subset: Subset, home: Subset) -> bool:
    """Whether each sample of a subset varies its counterpart, that of the same index at home."""
    return subset.pair_ids == home.sample_ids


def groups_of(used: np.ndarray, *subsets: Subset) -> np.ndarray:
    """[N] groups that a jackknife deletes; −1 where not `used` [N].

    Several subsets belong together index by index: contexts that share a cluster in any of them
    are deleted together.
    """
    labels = [s.labels for s in subsets if s.labels is not None]
    return np.where(used, clusters(*labels) if labels else np.arange(len(used)), -1)


class Estimates:
    """The subsets of a diagnosis, and their replicates, which are computed once.

    Attributes:
      subsets: the in-distribution one first.
      settings: how they are estimated.
      home: the in-distribution subset.
      names: of all rows.
      rpms: of the evaluated models alone.
    """

    def __init__(self, subsets: Sequence[Subset], settings: EstimatorSettings):
        """Takes the subsets, the in-distribution one first."""
        self.subsets, self.settings, self.home = tuple(subsets), settings, subsets[0]
        self.names = tuple(self.home.rpms)
        self.rpms = tuple(name for name in self.names if name not in REFERENCE_ROWS)
        self._done: dict[tuple[str, str, bytes], Replicates] = {}

    def replicates(self, subset: Subset, rpm: str, groups: np.ndarray | None = None) -> Replicates:
        """Of `COLUMNS`; without `groups` [N], those of the subset's own contexts."""
        groups = groups_of(subset.used(rpm), subset) if groups is None else groups
        key = (subset.tag, rpm, groups.tobytes())
        if key not in self._done:
            blocks = subset.rpms[rpm], subset.golden, subset.negatives
            how = {"name": self.settings.name, "by_token": self.settings.by_token}
            self._done[key] = replicates(
                lambda mask: _columns(*blocks, mask, **how), groups, (len(COLUMNS),)
            )
        return self._done[key]

    def contributions(self, block: Block, used: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """[n], of the used contexts [N] alone; see `significance.contributions`."""
        lengths = block.lengths if self.settings.by_token else None
        return np.asarray(contributions(block.scores, lengths, used, weights))[used]

    def r_emi(
        self, rpm: str, weights: Mapping[str, float], groups: np.ndarray | None = None
    ) -> Contrast:
        """Σ w R-EMI over subsets.

        Samples are deleted together with their counterparts; subsets that are not paired with the
        in-distribution one are taken as independent (too wide where they share clusters).

        Args:
          rpm: name of a row.
          weights: tag -> w.
          groups: [N] of the paired subsets; by default all contexts that one of them uses.
        """
        chosen = [s for s in self.subsets if weights.get(s.tag)]
        paired = [s for s in chosen if s is self.home or is_paired(s, self.home)]
        tags = {s.tag for s in paired}
        if groups is None and paired:
            groups = groups_of(np.any([s.used(rpm) for s in paired], axis=0), *paired)

        def term(s: Subset, groups: np.ndarray | None = None) -> tuple[float, Replicates]:
            return weights[s.tag], self.replicates(s, rpm, groups).column(0)

        families = [[term(s)] for s in chosen if s.tag not in tags]
        if paired:
            families.append([term(s, groups) for s in paired])
        return contrast(*families)


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

    def sides(matrix: str, weights: Negatives, by_token: bool) -> list[jax.Array]:
        """Of the model and of golden."""
        return [
            mi.ESTIMATORS[name](
                getattr(block, matrix),
                where=mask,
                lengths=block.lengths if by_token else None,
                **({"negatives": w} if name == "club" else {}),
            )
            for block, w in ((model, weights.model), (golden, weights.golden))
        ]

    with_r, without_r = negatives
    both = sides("scores", with_r, by_token)
    own = [x for b in (model, golden) for x in (jnp.diagonal(b.scores), b.lengths)]
    return jnp.stack(
        [
            mi.effective(*both),
            mi.effective(*sides("scores", with_r, by_token=True)),
            mi.effective(*sides("plain", without_r, by_token)),
            mi.retained(*both),
            mi.likelihood_baseline(*own, where=mask),
        ]
    )

"""R-EMI, EMI, retained share and baseline on a mask of contexts, and their replicates."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.analysis.contrast import Contrast, Replicates, contrast, replicates
from remid_jax.information import mutual_information as mi
from remid_jax.information.pairs import (
    REFERENCE_ROWS,
    Block,
    EstimatorSettings,
    Negatives,
    Subset,
    groups_of,
    is_paired,
)
from remid_jax.information.significance import contributions

COLUMNS = ("r_emi", "r_emi_token", "emi", "retained", "baseline")


class Estimates:
    """The subsets of a diagnosis, and their replicates, which are computed once.

    Attributes:
      subsets: the in-distribution one, `home`, first.
      settings: how they are estimated.
      names: of all rows; rpms: of the evaluated models alone.
      context_cost: of one more context, in answers; None where it is not known.
    """

    def __init__(
        self,
        subsets: Sequence[Subset],
        settings: EstimatorSettings,
        context_cost: float | None = None,
    ):
        """Takes subsets, the in-distribution one first."""
        self.subsets, self.settings, self.home = tuple(subsets), settings, subsets[0]
        self.context_cost = context_cost
        self.names = tuple(self.home.rpms)
        self.rpms = tuple(name for name in self.names if name not in REFERENCE_ROWS)
        self._done: dict[tuple[str, str, bytes], Replicates] = {}

    def replicates(self, subset: Subset, rpm: str, groups: np.ndarray | None = None) -> Replicates:
        """Of `COLUMNS`; without `groups` [N], those of the subset's own contexts."""
        groups = groups_of(subset.used(rpm), subset) if groups is None else groups
        key = (subset.tag, rpm, groups.tobytes())
        if key not in self._done:
            blocks = subset.rpms[rpm], subset.golden, subset.negatives
            how = {
                "name": self.settings.name, "by_token": self.settings.by_token,
                "with_emi": not subset.negatives[1].is_empty,
            }  # fmt: skip
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


@functools.partial(jax.jit, static_argnames=("name", "by_token", "with_emi"))
def _columns(
    model: Block,
    golden: Block,
    negatives: tuple[Negatives, Negatives],
    mask: jax.Array,
    *,
    name: str,
    by_token: bool,
    with_emi: bool,
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
    emi = mi.effective(*sides("plain", without_r, by_token)) if with_emi else jnp.nan
    own = [x for b in (model, golden) for x in (jnp.diagonal(b.scores), b.lengths)]
    return jnp.stack(
        [
            mi.effective(*both),
            mi.effective(*sides("scores", with_r, by_token=True)),
            jnp.asarray(emi, both[0].dtype),
            mi.retained(*both),
            mi.likelihood_baseline(*own, where=mask),
        ]
    )

"""From pair matrices to R-EMI, R-EMID, retained share and baseline, each with a standard error."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.benchmark.shifts import ID_TEST, SHIFT_OF
from remid_jax.diagnosis.scoring import GOLDEN, Block
from remid_jax.errors import UserError
from remid_jax.information import mutual_information as mi
from remid_jax.information.uncertainty import combined_error, jackknife, t_interval

SHUFFLED = "shuffled golden"
COLUMNS = ("r_emi", "r_emi_token", "emi", "retained", "baseline")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Negatives:
    """Weights [N, N] of the negative pairs: of the model side, the golden side, and without R."""

    model: np.ndarray
    golden: np.ndarray
    plain: np.ndarray

    def wanted(self, golden: bool) -> np.ndarray:
        """[N, N] bool, the pairs that a block must hold; the golden one also serves `SHUFFLED`."""
        n = len(self.model)
        needed = (np.eye(n) + self.model + self.plain) > 0
        if golden:
            needed = needed | (self.golden > 0) | np.roll(needed, 1, axis=1)
        return needed


def negatives_for(n: int, config: ConfigDict) -> Negatives:
    """The negative pairs that `config.estimator` asks for, among n contexts.

    Raises:
      UserError: more cyclic shifts than there are other contexts.
    """
    e = config.estimator
    try:
        if e.negatives == "all":
            model = golden = mi.all_negatives(n)
        elif e.negatives == "cyclic":
            model = golden = mi.cyclic_negatives(n, e.num_negatives)
        else:  # the two sides draw separately, as the published code does
            model = mi.random_negatives(n, e.num_negatives, config.seed)
            golden = mi.random_negatives(n, e.num_negatives, config.seed + 1)
        # An EMI on few shifts still takes every pair where there are no more than those.
        few = 0 < e.emi_shifts < n - 1
        plain = mi.cyclic_negatives(n, e.emi_shifts) if few else model
    except ValueError as e:
        raise UserError(f"config.estimator: {e}") from None
    return Negatives(model, golden, plain)


Statistic = Callable[[jax.Array], jax.Array]


@functools.partial(jax.jit, static_argnames=("name", "by_token"))
def _columns(
    model: Block, golden: Block, negatives: Negatives, mask: jax.Array, *, name: str, by_token: bool
) -> jax.Array:
    """The values of `COLUMNS` on the contexts of a mask [N]."""
    mask = mask & model.where & golden.where

    def value(scores: jax.Array, block: Block, weights: jax.Array, by_token: bool) -> jax.Array:
        arguments = {"lengths": block.lengths} if by_token else {}
        if name == "club":
            arguments["negatives"] = weights
        return mi.ESTIMATORS[name](scores, where=mask, **arguments)

    def sides(by_token: bool) -> tuple[jax.Array, jax.Array]:
        ours = value(model.scores, model, negatives.model, by_token)
        return ours, value(golden.scores, golden, negatives.golden, by_token)

    of_model, of_golden = sides(by_token)
    plain = [value(b.plain, b, negatives.plain, by_token) for b in (model, golden)]
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


def statistic(model: Block, golden: Block, negatives: Negatives, config: ConfigDict) -> Statistic:
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
      negatives: the negative pairs.
    """

    tag: str
    sample_ids: tuple[str, ...]
    pair_ids: tuple[str | None, ...]
    languages: tuple[str | None, ...]
    golden: Block
    policies: Mapping[str, Block]
    negatives: Negatives

    def statistic(self, policy: str, config: ConfigDict) -> Statistic:
        """See `statistic`."""
        return statistic(self.policies[policy], self.golden, self.negatives, config)

    def used(self, policy: str) -> np.ndarray:
        """[N] bool, contexts that count for a policy."""
        return self.policies[policy].where & self.golden.where


def with_anchors(subset: Subset) -> Subset:
    """Adds the two anchor rows that come free with the matrix: floor and ceiling of every table."""
    anchors = {GOLDEN: subset.golden, SHUFFLED: subset.golden.shifted()}
    return dataclasses.replace(subset, policies={**subset.policies, **anchors})


def _groups(used: np.ndarray, who: str) -> np.ndarray:
    if used.sum() < 3:
        raise UserError(f"{who}: only {used.sum()} usable responses; an estimate needs at least 3")
    return np.where(used, np.arange(len(used)), -1)


def _is_paired(subset: Subset, anchor: Subset) -> bool:
    return subset.pair_ids == anchor.sample_ids


def estimate_rows(subsets: Sequence[Subset], config: ConfigDict) -> list[dict[str, Any]]:
    """One row a policy and subset.

    The standard error of an R-EMID deletes an anchor together with the sample that varies it where
    the subset is paired with IDTest, and takes the subsets as independent where it is not.

    Args:
      subsets: `IDTest` first.
      config: of the diagnosis.

    Returns:
      Rows of plain numbers (None where there is no value).

    Raises:
      UserError: a policy has fewer than 3 usable responses in a subset.
    """
    rows = []
    reference = subsets[0]
    for policy in reference.policies:
        for subset in subsets:
            rows.append(_row(subset, reference, policy, config))
    return rows


def _row(subset: Subset, reference: Subset, policy: str, config: ConfigDict) -> dict[str, Any]:
    row = _level(subset, policy, config, np.ones(len(subset.sample_ids), bool))
    row.update(dict.fromkeys(("r_emid", "r_emid_se", "r_emid_low", "r_emid_high")))
    row.update(paired=None, within_noise=None)
    if subset.tag == ID_TEST:
        return row
    if _is_paired(subset, reference):
        return {**row, **_paired_difference(subset, reference, policy, config)}
    return {**row, **_independent_difference(subset, reference, policy, config)}


def _level(subset: Subset, policy: str, config: ConfigDict, chosen: np.ndarray) -> dict[str, Any]:
    """The values of one policy on the chosen contexts [N] of a subset."""
    used = subset.used(policy) & chosen
    groups = _groups(used, f"policy {policy!r}, subset {subset.tag!r}")
    value, error, _ = jackknife(subset.statistic(policy, config), groups)
    row: dict[str, Any] = {
        "policy": policy,
        "subset": subset.tag,
        "shift": SHIFT_OF.get(subset.tag),
        "n": int(used.sum()),
    }
    for k, name in enumerate(COLUMNS):
        row[name], row[f"{name}_se"] = float(value[k]), float(error[k])
    return row


def _paired_difference(
    subset: Subset,
    reference: Subset,
    policy: str,
    config: ConfigDict,
    chosen: np.ndarray | None = None,
) -> dict[str, Any]:
    here, there = subset.statistic(policy, config), reference.statistic(policy, config)
    either = subset.used(policy) | reference.used(policy)
    either = either if chosen is None else either & chosen
    groups = _groups(either, f"policy {policy!r}, subset {subset.tag!r}")
    value, error, freedom = jackknife(lambda m: mi.emid(there(m)[0], here(m)[0]), groups)
    return {**_interval(float(value), float(error), freedom, config), "paired": True}


def _independent_difference(
    subset: Subset, reference: Subset, policy: str, config: ConfigDict
) -> dict[str, Any]:
    levels = []
    for one in (reference, subset):
        groups = _groups(one.used(policy), f"policy {policy!r}, subset {one.tag!r}")
        value, error, freedom = jackknife(one.statistic(policy, config), groups)
        levels.append((float(value[0]), float(error[0]), freedom))
    (there, *first), (here, *second) = levels
    error, freedom = combined_error(*first, *second)
    return {**_interval(mi.emid(there, here), error, freedom, config), "paired": False}


def _interval(value: float, error: float, freedom: float, config: ConfigDict) -> dict[str, Any]:
    low, high = t_interval(value, error, freedom, config.estimator.confidence)
    return {
        "r_emid": value,
        "r_emid_se": error,
        "r_emid_low": low,
        "r_emid_high": high,
        "within_noise": bool(low <= 0 <= high),
    }


def estimate_by_language(subsets: Sequence[Subset], config: ConfigDict) -> list[dict[str, Any]]:
    """Rows of the paired subsets that hold several languages, for each language by itself.

    Negatives, too, are taken within the language, and the anchors of just these samples stand for
    in-distribution: so a culture's shift can be told from its language's.
    """
    rows = []
    reference = subsets[0]
    for policy in reference.policies:
        for subset in subsets[1:]:
            languages = np.array([str(x) for x in subset.languages])
            if len(set(languages)) < 2 or not _is_paired(subset, reference):
                continue
            for language in sorted(set(languages)):
                chosen = languages == language
                both = chosen & subset.used(policy) & reference.used(policy)
                if both.sum() < 3:
                    continue
                row = _level(subset, policy, config, chosen)
                row.update(_paired_difference(subset, reference, policy, config, chosen))
                rows.append({"language": language, **row})
    return rows


def compare_policies(subsets: Sequence[Subset], config: ConfigDict) -> list[dict[str, Any]]:
    """Paired differences of R-EMI between every two evaluated models on the same contexts."""
    rows = []
    names = [p for p in subsets[0].policies if p not in (GOLDEN, SHUFFLED)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    for subset in subsets:
        for a, b in pairs:
            first, second = subset.statistic(a, config), subset.statistic(b, config)
            common = jnp.asarray(subset.used(a) & subset.used(b))
            groups = _groups(np.asarray(common), f"policies {a!r} and {b!r}, subset {subset.tag!r}")

            def gap(mask, first=first, second=second, common=common):
                return first(mask & common)[0] - second(mask & common)[0]

            value, error, freedom = jackknife(gap, groups)
            low, high = t_interval(float(value), float(error), freedom, config.estimator.confidence)
            rows.append(
                {
                    "first": a, "second": b, "subset": subset.tag, "n": int(common.sum()),
                    "difference": float(value), "se": float(error), "low": low, "high": high,
                    "within_noise": bool(low <= 0 <= high),
                }
            )  # fmt: skip
    return rows


def worst_shifts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each policy's subset of largest R-EMID, and whether its interval holds 0."""
    worst = {}
    for row in rows:
        best = worst.get(row["policy"])
        if row["policy"] == GOLDEN or row["r_emid"] is None:
            continue
        if best is None or row["r_emid"] > best["r_emid"]:
            worst[row["policy"]] = row
    keys = ("policy", "subset", "shift", "r_emid", "r_emid_low", "r_emid_high", "within_noise")
    return [{k: row[k] for k in keys} for row in worst.values()]

"""From pair matrices to R-EMI, R-EMID, retained share and baseline, each with a standard error."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.benchmark.shifts import SHIFT_OF
from remid_jax.diagnosis.config import MIN_CONTEXTS
from remid_jax.diagnosis.scoring import GOLDEN, Block
from remid_jax.errors import UserError
from remid_jax.information import mutual_information as mi
from remid_jax.information.uncertainty import combined_error, jackknife, t_interval

SHUFFLED = "shuffled golden"
ANCHORS = (GOLDEN, SHUFFLED)
COLUMNS = ("r_emi", "r_emi_token", "emi", "retained", "baseline")


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


def negatives_for(n: int, config: ConfigDict) -> tuple[Negatives, Negatives]:
    """The negative pairs that `config.estimator` asks for, among n contexts.

    Returns:
      Those with reasoning, and those without (fewer where `emi_shifts` says so).

    Raises:
      UserError: more cyclic shifts than there are other contexts.
    """
    e = config.estimator
    try:
        if e.negatives == "all":
            with_r = Negatives(mi.all_negatives(n), mi.all_negatives(n))
        elif e.negatives == "cyclic":
            weights = mi.cyclic_negatives(n, e.num_negatives)
            with_r = Negatives(weights, weights)
        else:  # the two sides draw separately, as the published code does
            seeds = (config.seed, config.seed + 1)
            with_r = Negatives(*(mi.random_negatives(n, e.num_negatives, x) for x in seeds))
    except ValueError as error:
        raise UserError(f"config.estimator: {error}") from None
    # Only club can leave pairs out, and few shifts are fewer only where there are more contexts.
    if e.name == "club" and 0 < e.emi_shifts < n - 1:
        weights = mi.cyclic_negatives(n, e.emi_shifts)
        return with_r, Negatives(weights, weights)
    return with_r, with_r


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
    """

    tag: str
    sample_ids: tuple[str, ...]
    pair_ids: tuple[str | None, ...]
    languages: tuple[str | None, ...]
    golden: Block
    policies: Mapping[str, Block]
    negatives: tuple[Negatives, Negatives]

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


def _groups(used: np.ndarray) -> np.ndarray:
    return np.where(used, np.arange(len(used)), -1)


def _number(value: Any) -> float | None:
    """A finite number, or None where the masked pairs gave none."""
    return float(value) if np.isfinite(value) else None


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
      Rows of plain numbers; None where there is no value, as with fewer than 3 usable responses.
    """
    rows = []
    reference = subsets[0]
    for policy in reference.policies:
        home = _level(reference, policy, config)
        rows.append({**home, **_NO_DIFFERENCE})
        for subset in subsets[1:]:
            row = _level(subset, policy, config)
            if row["r_emi"] is None or home["r_emi"] is None:
                difference = _NO_DIFFERENCE
            elif _is_paired(subset, reference):
                difference = _paired_difference(subset, reference, policy, config)
            else:
                difference = _independent_difference(row, home, config)
            rows.append({**row, **difference})
    return rows


_NO_DIFFERENCE = dict.fromkeys(
    ("r_emid", "r_emid_se", "r_emid_low", "r_emid_high", "within_noise", "paired")
)


def _level(
    subset: Subset, policy: str, config: ConfigDict, chosen: np.ndarray | None = None
) -> dict[str, Any]:
    """The values of one policy in a subset, or on its chosen contexts [N] alone."""
    used = subset.used(policy) if chosen is None else subset.used(policy) & chosen
    row: dict[str, Any] = {
        "policy": policy,
        "subset": subset.tag,
        "shift": SHIFT_OF.get(subset.tag),
        "n": int(used.sum()),
    }
    value = error = np.full(len(COLUMNS), np.nan)
    if used.sum() >= MIN_CONTEXTS:
        value, error, _ = jackknife(subset.statistic(policy, config), _groups(used))
    for k, name in enumerate(COLUMNS):
        row[name], row[f"{name}_se"] = _number(value[k]), _number(error[k])
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
    groups = _groups(either if chosen is None else either & chosen)
    value, error, freedom = jackknife(lambda m: mi.emid(there(m)[0], here(m)[0]), groups)
    return {**_as_r_emid(_interval(value, error, freedom, config)), "paired": True}


def _independent_difference(
    row: Mapping[str, Any], home: Mapping[str, Any], config: ConfigDict
) -> dict[str, Any]:
    error, freedom = combined_error(home["r_emi_se"], home["n"] - 1, row["r_emi_se"], row["n"] - 1)
    value = mi.emid(home["r_emi"], row["r_emi"])
    return {**_as_r_emid(_interval(value, error, freedom, config)), "paired": False}


def _interval(value: Any, error: Any, freedom: float, config: ConfigDict) -> dict[str, Any]:
    if not np.isfinite(value) or not np.isfinite(error):
        return dict.fromkeys(("value", "se", "low", "high", "within_noise"))
    value, error = float(value), float(error)
    low, high = t_interval(value, error, freedom, config.estimator.confidence)
    noise = bool(low <= 0 <= high)
    return {"value": value, "se": error, "low": low, "high": high, "within_noise": noise}


def _as_r_emid(interval: Mapping[str, Any]) -> dict[str, Any]:
    names = {"value": "r_emid", "se": "r_emid_se", "low": "r_emid_low", "high": "r_emid_high"}
    return {names.get(k, k): v for k, v in interval.items()}


def estimate_by_language(subsets: Sequence[Subset], config: ConfigDict) -> list[dict[str, Any]]:
    """Rows of the paired subsets that hold several languages, for each language by itself.

    Negatives, too, are taken within the language, and the anchors of just these samples stand for
    in-distribution: so a culture's shift can be told from its language's. The shuffled anchor row
    mixes languages and is left out.
    """
    rows = []
    reference = subsets[0]
    for policy in [p for p in reference.policies if p not in ANCHORS]:
        for subset in subsets[1:]:
            languages = np.array([str(x) for x in subset.languages])
            if len(set(languages)) < 2 or not _is_paired(subset, reference):
                continue
            for language in sorted(set(languages)):
                chosen = languages == language
                both = chosen & subset.used(policy) & reference.used(policy)
                row = _level(subset, policy, config, chosen)
                if both.sum() < MIN_CONTEXTS or row["r_emi"] is None:
                    continue
                row.update(_paired_difference(subset, reference, policy, config, chosen))
                rows.append({"language": language, **row})
    return rows


def compare_policies(subsets: Sequence[Subset], config: ConfigDict) -> list[dict[str, Any]]:
    """Paired differences of R-EMI between every two evaluated models on the same contexts."""
    rows = []
    names = [p for p in subsets[0].policies if p not in ANCHORS]
    for subset in subsets:
        for a, b in itertools.combinations(names, 2):
            first, second = subset.statistic(a, config), subset.statistic(b, config)
            used = subset.used(a) & subset.used(b)
            common = jnp.asarray(used)

            def gap(mask, first=first, second=second, common=common):
                return first(mask & common)[0] - second(mask & common)[0]

            value, error, freedom = np.nan, np.nan, 0
            if used.sum() >= MIN_CONTEXTS:
                value, error, freedom = jackknife(gap, _groups(used))
            interval = _interval(value, error, freedom, config)
            named = {"first": a, "second": b, "subset": subset.tag, "n": int(used.sum())}
            rows.append({**named, "difference": interval.pop("value"), **interval})
    return rows


def worst_shifts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each evaluated model's subset of largest R-EMID, a candidate rather than a verdict.

    The largest of several noisy values is biased upwards, so the subsets whose interval reaches
    into the worst one's are named too.
    """
    keys = ("policy", "subset", "shift", "r_emid", "r_emid_low", "r_emid_high", "within_noise")
    worst = []
    for policy in dict.fromkeys(r["policy"] for r in rows if r["policy"] not in ANCHORS):
        shifted = [r for r in rows if r["policy"] == policy and r["r_emid"] is not None]
        if not shifted:
            continue
        top = max(shifted, key=lambda r: r["r_emid"])
        near = [r["subset"] for r in shifted if r["r_emid_high"] >= top["r_emid_low"]]
        near.remove(top["subset"])
        worst.append({**{k: top[k] for k in keys}, "not_distinguished_from": near})
    return worst

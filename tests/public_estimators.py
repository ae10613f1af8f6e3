"""One sound call of every public estimator and of every function of exact worlds."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.factor_names import FACTORS
from remid_jax.information import (
    attribution,
    bound_estimates,
    bounds,
    classifier,
    cross_information,
    divergences,
    group_sums,
    mutual_information,
    power,
    profile,
    profile_flags,
    profile_shares,
    repeated,
    representation,
    significance,
    uncertainty,
)
from remid_jax.information.precision import double_precision
from remid_jax.worlds import channels, distributions, draws, exact, families


@dataclasses.dataclass(frozen=True)
class Call:
    """A function and arguments that it takes.

    Attributes:
      function: what is called, with keywords.
      arguments: name -> sound value.
      traced: arguments it can be jitted, batched and differentiated over.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    traced: tuple[str, ...] = ()

    def __call__(self, **changed: Any) -> Any:
        return self.function(**{**self.arguments, **changed})


def _uniform(*shape: int) -> np.ndarray:
    return np.full(shape, 1 / shape[-1])


RNG = np.random.default_rng(0)
N, M = 6, 3
S = RNG.normal(size=(N, N)) + 3 * np.eye(N) - 40
LENGTHS = np.arange(3.0, 3 + N)
WHERE = np.array([True, True, False, True, True, True])
GROUPS = np.array([0, 0, 1, 2, 2, 3])
SETS = cross_information.context_sets(N, 3, draws=12)
REPEATED = RNG.normal(size=(N, N, M))
VALUES = RNG.normal(size=(N, M))
WEIGHTS = np.array([1.0, 0.4, 0.6, 0.0, 0.8, 0.2])
GAPS = {"model": VALUES[:, 0], "golden": 3 + VALUES[:, 1]}
RESPONSES = np.arange(N * M).reshape(N, M) % 5 != 3
FEATURES = RNG.normal(size=(9, 4))
CELLS = RNG.normal(size=(2, 2, 2))
P, Q = (RNG.dirichlet(np.ones(8)).reshape(2, 2, 2) for _ in range(2))
CHANNEL, MODEL = (RNG.dirichlet(np.ones(3), 8) for _ in range(2))
LAWS = {"P": P.ravel(), "Q": Q.ravel(), "channel": CHANNEL, "model": MODEL}
JOINT = {"P": P, "Q": Q, "channel": CHANNEL, "model": MODEL}
KEY = jax.random.key(0)
with double_precision():
    MECHANISMS, OTHERS = (
        tuple(np.asarray(m) for m in distributions.mechanisms_of(jnp.asarray(law)))
        for law in (P, Q)
    )
WORLD = distributions.World(MECHANISMS, OTHERS, CHANNEL, MODEL)
SIZES = (2, 3, 2, 4)
X, Y = np.array([0, 3, 7, 1, 1, 5]), np.array([0, 2, 1, 1, 0, 2])
BLOCKS = bound_estimates.BoundBlocks(
    RNG.normal(size=5), RNG.normal(size=(4, 5)), RNG.normal(size=(4, 4)),
    RNG.normal(size=(5, 5)), RNG.normal(size=4), RNG.normal(size=(5, 4)),
)  # fmt: skip
BLOCK_NAMES = bound_estimates.BoundBlocks._fields
SUM_NAMES = group_sums.GroupSums._fields
SUMS = group_sums.group_sums(S, GROUPS, 4)
ERRORS = np.ones((3, 3)) - np.eye(3)
POWER = {"difference": 5.0, "sd_in": 10.0, "sd_out": 8.0, "level": 0.1, "correlation": 0.5}


def ROWS(start: int, stop: int) -> np.ndarray:
    return S[start:stop]


def _mean_length(mask: Any) -> jax.Array:
    return jnp.mean(jnp.asarray(LENGTHS), where=mask)


def _family(function: Callable[..., Any]) -> Call:
    return Call(function, {"key": KEY, "sizes": SIZES, "strength": 0.5})


MASKED = {"scores": S, "lengths": LENGTHS, "where": WHERE}
CROSS = {"scores": S, "sets": SETS, "scale": 0.7, "where": WHERE}
PRINTED = {
    "ceiling": 2.0, "marginal_js": np.array([0.1, 0.0, 0.3]), "output_js_P": 0.1, "output_js_Q": 0.2
}  # fmt: skip

CALLS: dict[str, Call] = {
    "all_negatives": Call(mutual_information.all_negatives, {"n": 5}),
    "cyclic_negatives": Call(mutual_information.cyclic_negatives, {"n": 5, "count": 2}),
    "random_negatives": Call(mutual_information.random_negatives, {"n": 5, "count": 9, "seed": 1}),
    "club": Call(
        mutual_information.club,
        {**MASKED, "negatives": mutual_information.cyclic_negatives(N, 2)},
        ("scores", "lengths"),
    ),
    "infonce": Call(mutual_information.infonce, MASKED, ("scores", "lengths")),
    "leave_one_out": Call(mutual_information.leave_one_out, MASKED, ("scores", "lengths")),
    "effective": Call(
        mutual_information.effective, {"model": VALUES, "golden": 1.5}, ("model", "golden")
    ),
    "emid": Call(
        mutual_information.emid,
        {"in_distribution": 1.0, "out_of_distribution": 0.5},
        ("in_distribution", "out_of_distribution"),
    ),
    "retained": Call(
        mutual_information.retained, {"model": VALUES, "golden": 1.5}, ("model", "golden")
    ),
    "likelihood_baseline": Call(
        mutual_information.likelihood_baseline,
        {
            "model_diagonal": np.diag(S),
            "model_lengths": LENGTHS,
            "golden_diagonal": S[0],
            "golden_lengths": LENGTHS + 1,
            "where": WHERE,
        },
        ("model_diagonal", "golden_diagonal", "model_lengths"),
    ),
    "context_sets": Call(
        cross_information.context_sets,
        {"n": N, "num_contexts": 3, "draws": 4, "seed": 1, "groups": GROUPS},
    ),
    "cross_information": Call(cross_information.cross_information, CROSS, ("scores", "scale")),
    "cross_information_replicates": Call(
        cross_information.cross_information_replicates,
        {"scores": S, "sets": SETS, "groups": np.arange(N), "num_groups": N, "scale": 0.7},
        ("scores", "scale"),
    ),
    "saturation": Call(cross_information.saturation, {"value": 1.2, "num_contexts": 8}, ("value",)),
    "is_saturated": Call(cross_information.is_saturated, {"value": 1.2, "num_contexts": 8}),
    "calibrate_scale": Call(
        cross_information.calibrate_scale, {"scores": S, "sets": SETS, "where": WHERE}, ("scores",)
    ),
    "factor_terms": Call(
        cross_information.factor_terms, {"scores": VALUES, "scale": 0.7}, ("scores", "scale")
    ),
    "factor_information": Call(
        cross_information.factor_information,
        {"scores": VALUES, "scale": 0.7, "where": RESPONSES},
        ("scores", "scale"),
    ),
    "repeated_contributions": Call(
        repeated.repeated_contributions, {"scores": REPEATED}, ("scores",)
    ),
    "repeated_club": Call(
        repeated.repeated_club, {"scores": REPEATED, "where": RESPONSES}, ("scores",)
    ),
    "variance_parts": Call(
        repeated.variance_parts, {"values": VALUES, "where": RESPONSES}, ("values",)
    ),
    "responses_worth_it": Call(
        repeated.responses_worth_it,
        {
            "context_variance": 1.0,
            "response_variance": 4.0,
            "context_cost": 9.0,
            "response_cost": 1.0,
        },
    ),
    "expected_kl": Call(
        repeated.expected_kl,
        {"log_p": VALUES, "log_q": VALUES - 1, "where": RESPONSES},
        ("log_p", "log_q"),
    ),
    "rank_agreement": Call(repeated.rank_agreement, {"a": VALUES[:, 0], "b": VALUES[:, 1]}),
    "factor_gaps": Call(
        profile.factor_gaps,
        {"own": VALUES[:, 0], "swapped": VALUES[:, 1:], "weights": WEIGHTS, "where": WHERE},
        ("own", "swapped", "weights"),
    ),
    "profile_information": Call(
        profile.profile_information,
        {
            "own": VALUES[:, 0],
            "swapped": VALUES[:, 1:],
            "weights": WEIGHTS,
            "sources": SETS[:, 0],
            "where": WHERE,
        },
        ("own", "swapped", "weights"),
    ),
    "share": Call(
        profile_shares.share, {**GAPS, "level": 0.9, "where": WHERE}, ("model", "golden")
    ),
    "lost": Call(profile_shares.lost, {**GAPS, "where": WHERE}, ("model", "golden")),
    "share_change": Call(
        lambda value, low, high: profile_shares.share_change(
            profile_shares.Share(value, low, high, True), profile_shares.Share(0.2, -0.1, 0.6, True)
        ),
        {"value": 0.9, "low": 0.6, "high": 1.3},
        ("value", "low", "high"),
    ),
    "factor_uncertainty": Call(
        profile_shares.factor_uncertainty,
        {"gaps": GAPS["model"], "all_swapped": S[0], "level": 0.9, "where": WHERE},
        ("gaps", "all_swapped"),
    ),
    "has_collapsed": Call(
        lambda value, low, high: profile_shares.has_collapsed(
            profile_shares.FactorUncertainty(value, low, high),
            profile_shares.FactorUncertainty(0.1, 0.0, 0.2),
        ),
        {"value": 0.9, "low": 0.6, "high": 1.3},
    ),
    "profile_flags": Call(
        lambda model, golden, **rest: profile_flags.profile_flags(
            *[{"user": x} for x in (model, golden) * 2], **rest
        ),
        {**GAPS, "baseline": VALUES[:, 0], "where": WHERE},
    ),
    "group_sums": Call(
        group_sums.group_sums, {"scores": S, "groups": GROUPS, "num_groups": 4}, ("scores",)
    ),
    "streamed_group_sums": Call(
        group_sums.streamed_group_sums,
        {"block": ROWS, "groups": GROUPS, "num_groups": 4, "block_rows": 4},
    ),
    "streamed_infonce": Call(group_sums.streamed_infonce, {"block": ROWS, "n": N, "block_rows": 4}),
    "club_replicates": Call(
        lambda **sums: group_sums.club_replicates(group_sums.GroupSums(**sums)),
        dict(zip(SUM_NAMES, SUMS, strict=True)),
        ("own", "row", "column"),
    ),
    "entropy": Call(divergences.entropy, {"p": CHANNEL, "axis": -1}, ("p",)),
    "kl": Call(divergences.kl, {"p": CHANNEL, "q": MODEL, "axis": -1}, ("p", "q")),
    "jensen_shannon": Call(
        divergences.jensen_shannon, {"p": CHANNEL, "q": MODEL, "axis": -1}, ("p", "q")
    ),
    "total_variation": Call(
        divergences.total_variation, {"p": CHANNEL, "q": MODEL, "axis": -1}, ("p", "q")
    ),
    "mutual_information": Call(
        divergences.mutual_information, {"law": P.ravel(), "channel": CHANNEL}, ("law", "channel")
    ),
    "output_law": Call(
        divergences.output_law, {"law": P.ravel(), "channel": CHANNEL}, ("law", "channel")
    ),
    "chain_rule_js": Call(
        divergences.chain_rule_js, {"p": P, "q": Q, "order": (1, 0, 2)}, ("p", "q")
    ),
    "factor_js": Call(divergences.factor_js, {"p": P, "q": Q}, ("p", "q")),
    "equal_size": Call(representation.equal_size, {"a": FEATURES, "b": FEATURES[:5], "seed": 1}),
    "von_neumann_entropy": Call(
        representation.von_neumann_entropy, {"features": FEATURES}, ("features",)
    ),
    "representation_jsd": Call(
        representation.representation_jsd, {"a": FEATURES, "b": FEATURES[::-1] + 1}, ("a", "b")
    ),
    "representation_jsd_test": Call(
        representation.representation_jsd_test,
        {"a": FEATURES, "b": FEATURES + 1, "permutations": 9, "seed": 1, "paired": True},
    ),
    "classifier_js": Call(
        lambda group_a, group_b, **rest: classifier.classifier_js(
            groups=(group_a, group_b), **rest
        ),
        {
            "a": FEATURES,
            "b": FEATURES[:7] + 1,
            "group_a": np.arange(9),
            "group_b": np.arange(9, 16),
            "folds": 3,
            "penalties": (0.1, 1.0),
            "seed": 1,
        },
    ),
    "paper_bound": Call(bounds.paper_bound, PRINTED, tuple(PRINTED)),
    "phi": Call(bounds.phi, LAWS, ("P", "model")),
    "psi": Call(bounds.psi, LAWS, ("P", "model")),
    "linear_bound": Call(bounds.linear_bound, LAWS, ("P", "model")),
    "mixture_bound": Call(bounds.mixture_bound, LAWS, ("P", "model")),
    "factor_bound": Call(
        bounds.factor_bound, {"span": 1.5, "shares": np.array([0.1, 0.0, 0.3])}, ("span",)
    ),
    "printed_parts": Call(bounds.printed_parts, JOINT, ("P", "channel", "model")),
    **{f"bound {name}": Call(bound, JOINT, ("channel",)) for name, bound in bounds.BOUNDS.items()},
    "linear_bound_estimate": Call(
        lambda **blocks: bound_estimates.linear_bound_estimate(
            bound_estimates.BoundBlocks(**blocks)
        ),
        dict(zip(BLOCK_NAMES, BLOCKS, strict=True)),
        BLOCK_NAMES,
    ),
    "upper_limit": Call(
        lambda level, **parts: bound_estimates.BoundEstimate(**parts).upper_limit(level),
        {"value": 1.0, "standard_error": 0.5, "freedom": 7.0, "level": 0.9},
    ),
    "shapley": Call(attribution.shapley, {"values": CELLS}, ("values",)),
    "attribute": Call(
        attribution.attribute,
        {"values": CELLS, "errors": np.abs(CELLS), "freedom": 9.0, "level": 0.9},
    ),
    "contribution_table": Call(
        attribution.contribution_table,
        {
            "sample_ids": [f"s{i}" for i in range(N)],
            "contributions": np.diag(S),
            "lengths": np.arange(1, 1 + N),
        },
    ),
    "clusters": Call(lambda labels: uncertainty.clusters(labels), {"labels": list("aabbcd")}),
    "clustered_negatives": Call(uncertainty.clustered_negatives, {"groups": GROUPS}),
    "delete_one": Call(uncertainty.delete_one, {"statistic": _mean_length, "groups": GROUPS}),
    "jackknife": Call(uncertainty.jackknife, {"statistic": _mean_length, "groups": GROUPS}),
    "jackknife_error": Call(uncertainty.jackknife_error, {"replicates": VALUES}, ("replicates",)),
    "t_interval": Call(
        uncertainty.t_interval,
        {"value": 1.0, "standard_error": 2.0, "freedom": 5.0, "level": 0.9},
        ("value", "standard_error"),
    ),
    "t_test": Call(uncertainty.t_test, {"value": 1.0, "standard_error": 2.0, "freedom": 5.0}),
    "combined_error": Call(
        uncertainty.combined_error,
        {"error_a": 1.0, "freedom_a": 4.0, "error_b": 2.0, "freedom_b": 5.0},
    ),
    "contributions": Call(
        significance.contributions,
        {**MASKED, "negatives": mutual_information.cyclic_negatives(N, 2)},
        ("scores", "lengths"),
    ),
    "sign_flip_test": Call(
        significance.sign_flip_test,
        {"differences": np.diag(S) + 40, "flips": 50, "seed": 1, "groups": GROUPS},
    ),
    "independence_test": Call(
        significance.independence_test, {**MASKED, "permutations": 19, "seed": 1}
    ),
    "holm": Call(significance.holm, {"p_values": [0.01, 0.04, 0.03]}),
    "worst_set": Call(
        significance.worst_set,
        {"values": [5.0, 4.5, 0.0], "errors": ERRORS, "freedom": 9.0, "level": 0.9},
    ),
    "power": Call(power.power, {**POWER, "n": 64}),
    "samples_needed": Call(power.samples_needed, {**POWER, "power": 0.7}),
    "detectable": Call(
        power.detectable, {"standard_error": 1.0, "freedom": 9.0, "power": 0.7, "level": 0.1}
    ),
    "noisy": Call(channels.noisy, {"channel": CHANNEL, "noise": 0.2}, ("channel", "noise")),
    "cold": Call(
        channels.cold, {"channel": CHANNEL, "temperature": 0.5}, ("channel", "temperature")
    ),
    "greedy": Call(channels.greedy, {"channel": CHANNEL}, ("channel",)),
    "ignores": Call(
        channels.ignores,
        {"channel": CHANNEL, "distribution": P, "factor": "user"},
        ("channel", "distribution"),
    ),
    "wrong": Call(
        channels.wrong, {"channel": CHANNEL, "sizes": (2, 2, 2), "factor": "user"}, ("channel",)
    ),
    "logit_noise": Call(
        channels.logit_noise,
        {"key": KEY, "channel": CHANNEL, "strength": 0.5},
        ("channel", "strength"),
    ),
    "joint_distribution": Call(
        lambda **mechanisms: distributions.joint_distribution(tuple(mechanisms.values())),
        dict(zip(FACTORS, MECHANISMS, strict=True)),
        FACTORS,
    ),
    "mechanisms_of": Call(distributions.mechanisms_of, {"joint": P}, ("joint",)),
    "mixed_distributions": Call(
        distributions.mixed_distributions, {"mechanisms_P": MECHANISMS, "mechanisms_Q": OTHERS}
    ),
    "draw_contexts": Call(
        draws.draw_contexts, {"key": KEY, "mechanisms": MECHANISMS, "n": 6, "clusters": 3}
    ),
    "draw": Call(
        draws.draw,
        {
            "key": KEY,
            "mechanisms": MECHANISMS,
            "channel": CHANNEL,
            "model": MODEL,
            "n": 6,
            "clusters": 3,
        },
    ),
    "respond": Call(draws.respond, {"key": KEY, "channel": CHANNEL, "x": X}),
    "pair_matrix": Call(draws.pair_matrix, {"log_q": np.log(CHANNEL), "x": X, "y": Y}, ("log_q",)),
    "sums_from_counts": Call(
        draws.sums_from_counts,
        {"log_q": np.log(CHANNEL), "x": X, "y": Y, "group": GROUPS, "num_groups": 4},
        ("log_q",),
    ),
    "exact_quantities": Call(
        exact.exact_quantities, {**JOINT, "mechanisms_P": MECHANISMS, "mechanisms_Q": OTHERS}
    ),
    "quantities": Call(exact.quantities, {"world": WORLD, "P": P, "Q": Q}),
    "exact_emid": Call(exact.exact_emid, {"world": WORLD}),
    "scored_information": Call(
        exact.scored_information,
        {"distribution": P.ravel(), "channel": CHANNEL, "log_q": np.log(MODEL)},
        ("distribution", "channel", "log_q"),
    ),
    **{f"family {name}": _family(make) for name, make in families.FAMILIES.items()},
    "role_play_channel": Call(
        families.role_play_channel, {"key": KEY, "sizes": SIZES, "sharpness": 2.0}, ("sharpness",)
    ),
    "random_model": Call(
        families.random_model, {"key": KEY, "channel": CHANNEL, "distribution": P}, ("channel",)
    ),
    "random_world": Call(
        families.random_world,
        {"key": KEY, "family": "cascade", "strength": 0.5, "sizes": SIZES, "sharpness": 2.0},
        ("strength", "sharpness"),
    ),
}
"""Name -> call. Functions that take tuples of arrays or functions are given an argument a part."""

NOT_FINITE = {  # where NaN or infinity is documented
    "contributions", "repeated_contributions", "factor_terms", "expected_kl", "holm", "phi", "kl",
    "factor_gaps", "profile_information", "share",
    "responses_worth_it", "pair_matrix", "linear_bound",
    "bound linear", "bound linear_tv", "bound linear_js", "bound factor", "delete_one",
}  # fmt: skip


def is_finite(result: Any) -> bool:
    """Whether all floating-point numbers of a result are."""
    if dataclasses.is_dataclass(result) and not isinstance(result, distributions.World):
        result = dataclasses.asdict(result)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(result)]
    return all(np.isfinite(leaf).all() for leaf in leaves if leaf.dtype.kind == "f")

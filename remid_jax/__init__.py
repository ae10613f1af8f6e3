"""How much a role-playing language model degrades when the world shifts, in nats, with error bars.

Names are loaded when they are first used: importing the package loads nothing else.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "information.mutual_information": (
        "all_negatives", "club", "cyclic_negatives", "effective", "emid", "estimator", "infonce",
        "leave_one_out", "likelihood_baseline", "random_negatives", "retained",
    ),
    "information.cross_information": (
        "calibrate_scale", "context_sets", "cross_information", "cross_information_replicates",
        "factor_information", "factor_terms", "is_saturated", "saturation",
    ),
    "information.repeated": (
        "expected_kl", "rank_agreement", "repeated_club", "repeated_contributions",
        "responses_worth_it", "variance_parts",
    ),
    "information.group_sums": (
        "club_replicates", "group_sums", "streamed_group_sums", "streamed_infonce",
    ),
    "information.divergences": (
        "chain_rule_js", "entropy", "factor_js", "jensen_shannon", "kl", "mutual_information",
        "output_law", "total_variation",
    ),
    "information.representation": (
        "equal_size", "representation_jsd", "representation_jsd_test", "von_neumann_entropy",
    ),
    "information.classifier": ("classifier_js",),
    "information.bounds": (
        "factor_bound", "linear_bound", "mixture_bound", "paper_bound", "phi", "psi",
    ),
    "information.bound_estimates": ("BoundBlocks", "linear_bound_estimate", "predict_worst_case"),
    "information.profile": ("factor_gaps", "profile_information"),
    "information.profile_shares": (
        "factor_uncertainty", "has_collapsed", "lost", "share", "share_change",
    ),
    "information.profile_flags": ("profile_flags",),
    "information.attribution": ("attribute", "contribution_table", "shapley"),
    "information.uncertainty": (
        "clustered_negatives", "clusters", "combined_error", "delete_one", "jackknife",
        "jackknife_error", "t_interval", "t_test",
    ),
    "information.significance": (
        "contributions", "holm", "independence_test", "sign_flip_test", "worst_set",
    ),
    "information.power": ("detectable", "power", "samples_needed"),
    "data.samples": ("Sample",),
    "data.own_words": ("copied_tokens",),
    "data.reading": ("load_benchmark", "load_responses"),
    "models.pretrained": ("load_language_model",),
    "inference.likelihood": ("pair_log_likelihoods",),
    "inference.token_sampling": ("SamplingConfig",),
    "inference.engine": ("JaxEngine",),
    "inference.sampling": ("sample",),
    "diagnosis": ("diagnose",),
    "evaluation.config": ("default_config",),
    "errors": ("UserError",),
}  # fmt: skip
_LOCATIONS = {name: f"remid_jax.{module}" for module, names in _NAMES.items() for name in names}

__all__ = sorted(_LOCATIONS)


def __getattr__(name: str) -> Any:
    if name not in _LOCATIONS:
        raise AttributeError(f"module 'remid_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_LOCATIONS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

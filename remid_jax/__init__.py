"""How much a role-playing language model degrades when the world shifts, in nats, with error bars.

Names are loaded when first used, so that importing the package costs little more than jax.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_INFORMATION = "remid_jax.information.mutual_information"
_UNCERTAINTY = "remid_jax.information.uncertainty"
_LOCATIONS = {
    **dict.fromkeys(
        (
            "all_negatives", "club", "cyclic_negatives", "effective", "emid", "infonce",
            "leave_one_out", "likelihood_baseline", "random_negatives", "retained",
        ),
        _INFORMATION,
    ),
    **dict.fromkeys(("combined_error", "jackknife", "t_interval"), _UNCERTAINTY),
    "Sample": "remid_jax.benchmark.samples",
    "load_benchmark": "remid_jax.benchmark.reading",
    "load_responses": "remid_jax.benchmark.reading",
    "load_language_model": "remid_jax.models.pretrained",
    "pair_log_likelihoods": "remid_jax.inference.likelihood",
    "sample": "remid_jax.inference.sampling",
    "SamplingConfig": "remid_jax.inference.sampling",
    "diagnose": "remid_jax.diagnosis.run",
    "default_config": "remid_jax.diagnosis.config",
    "UserError": "remid_jax.errors",
}  # fmt: skip

__all__ = sorted(_LOCATIONS)


def __getattr__(name: str) -> Any:
    if name not in _LOCATIONS:
        raise AttributeError(f"module 'remid_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_LOCATIONS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""Validity and tightness of every bound on worlds with known truth; `:runlocal` is a small run."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from remid_jax.settings import ExperimentKeys, defaults_of, group, key, keys_of


@dataclasses.dataclass(frozen=True)
class _Sampled:
    contexts: int = key(256, "N a distribution", "[3, inf) contexts")
    draws: int = key(1000, "a family, one sample each", "[2, inf) worlds")


@dataclasses.dataclass(frozen=True)
class _Prediction:
    contexts: int = key(256, "N a distribution", "[3, inf) contexts")
    worlds: int = key(40, "a family", "[2, inf) worlds")
    shifts: int = key(12, "graded shifts a world", "[3, inf)")
    logit_noise: float = key(
        0.5, "s.d. of the error of q's logits", "[0, inf) nats", formerly="prediction.misfit"
    )


@dataclasses.dataclass(frozen=True)
class BoundsConfig(ExperimentKeys):
    """All keys of the study."""

    bounds: tuple[str, ...] = key(
        ("linear", "linear_tv", "linear_js", "mixture", "mixture_tv", "mixture_js", "factor"),
        "names in remid_jax.information.bounds.BOUNDS; the printed formula joins them",
    )
    worlds: int = key(10_000, "in all families together, rounded up", "[1, inf) worlds")
    sampled: Any = group("the linear bound from samples", _Sampled)
    # No golden responses out of distribution, and q in place of the channel.
    prediction: Any = group("of the order of shifts before deployment", _Prediction)


KEYS = keys_of(BoundsConfig, experiment="bounds")


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `runlocal` shrinks everything."""
    c = defaults_of(KEYS)
    if variant == "runlocal":
        c.worlds = 500
        c.sampled.update(contexts=64, draws=20)
        c.prediction.update(contexts=64, worlds=3, shifts=6)
    elif variant:
        raise ValueError(f"unknown variant {variant!r}; there is only 'runlocal'")
    return c

"""Estimators and intervals measured on worlds with known truth; `:runlocal` is a small run."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from remid_jax.settings import ExperimentKeys, defaults_of, group, key, keys_of

NOISE = "s.d. of the error of q's logits"


@dataclasses.dataclass(frozen=True)
class _Coverage:
    contexts: tuple[int, ...] = key((64, 256, 1024), "N a subset", "[10, inf) contexts")
    clusters: tuple[int, ...] = key((0, 8, 16), "drawn; 0: iid", "[0, inf) characters")
    worlds: int = key(20, "in all", "[1, inf) worlds")
    draws: int = key(4000, "in all worlds together", "[1, inf) draws")
    logit_noise: float = key(0.5, NOISE, "[0, inf) nats", formerly="coverage.misfit")


@dataclasses.dataclass(frozen=True)
class _Negatives:
    contexts: int = key(250, "N", "[3, inf) contexts")
    shifts: int = key(4, "cyclic; N times shifts pairs a side for both procedures", "[1, inf)")
    worlds: int = key(4, "in all", "[1, inf) worlds")
    data_sets: int = key(40, "in all worlds together", "[2, inf) data sets")
    choices: int = key(200, "of negatives a data set", "[2, inf)")
    logit_noise: float = key(0.5, NOISE, "[0, inf) nats", formerly="negatives.misfit")
    surfaces: tuple[float, ...] = key((0.0, 10.0), "s.d. of surface forms", "[0, inf) nats")


@dataclasses.dataclass(frozen=True)
class _Accuracy:
    contexts: tuple[int, ...] = key((16, 64, 256, 1024), "N a subset", "[10, inf) contexts")
    logit_noises: tuple[float, ...] = key(
        (0.0, 0.5, 1.0), NOISE, "[0, inf) nats", formerly="accuracy.misfits"
    )
    draws: int = key(500, "one sample each", "[2, inf) worlds")
    sets: int = key(32, "a response, for cross-information", "[1, inf) context sets")
    calibration_contexts: int = key(256, "held out, for the scale of q", "[10, inf) contexts")


@dataclasses.dataclass(frozen=True)
class _Faults:
    contexts: int = key(64, "N", "[3, inf) contexts")
    worlds: int = key(20, "in all", "[1, inf) worlds")
    draws: int = key(1000, "in all worlds together", "[1, inf) draws")
    logit_noise: float = key(0.3, NOISE, "[0, inf) nats", formerly="faults.misfit")


@dataclasses.dataclass(frozen=True)
class _Shapley:
    contexts: int = key(128, "a cell", "[3, inf) contexts")
    worlds: int = key(1000, "in all", "[1, inf) worlds")
    logit_noises: tuple[float, ...] = key(
        (0.0, 0.5, 1.0), NOISE, "[0, inf) nats", formerly="shapley.misfits"
    )


@dataclasses.dataclass(frozen=True)
class CalibrateConfig(ExperimentKeys):
    """All keys of the study."""

    coverage: Any = group("do the intervals hold their population values?", _Coverage)
    negatives: Any = group("noise from choosing negatives", _Negatives)
    accuracy: Any = group("error of each estimator against exact EMID", _Accuracy)
    faults: Any = group("power of the columns against faulty models", _Faults)
    shapley: Any = group("attribution to factors", _Shapley)


KEYS = keys_of(CalibrateConfig, experiment="calibrate")


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `runlocal` shrinks everything."""
    c = defaults_of(KEYS)
    if variant == "runlocal":
        c.coverage.update(contexts=(64,), clusters=(0, 8), worlds=2, draws=40)
        c.negatives.update(data_sets=8, choices=20)
        c.accuracy.update(contexts=(16, 64), logit_noises=(0.5,), draws=40)
        c.faults.update(worlds=2, draws=40)
        c.shapley.update(worlds=40, logit_noises=(0.5,))
    elif variant:
        raise ValueError(f"unknown variant {variant!r}; there is only 'runlocal'")
    return c

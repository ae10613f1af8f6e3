"""A trained estimator of a textual world against what is known there exactly.

Only the estimator's error is measured: the true p and the estimated q are asked about the same
contexts and the same responses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from remid_jax.data import shifts
from remid_jax.data.samples import Sample
from remid_jax.information.mutual_information import club
from remid_jax.training.corl import Corl
from remid_jax.worlds.textual import facts, rendering, truth

CONTEXTS = 32  # of each subset, for matrices
COLUMNS = ("id", "user", "character", "dialogue")
RPMS = ("noisy", "other character", "other user")
NOISE = 0.4  # share of slots that the noisy RPM gets wrong on purpose


def column_of(tag: str) -> str:
    """The column of a subset: `id`, or the name of its shift."""
    return "id" if tag == shifts.ID_TEST else shifts.SHIFT_OF[tag]


def measure(loop: Corl, roles: dict[str, Any]) -> dict[str, Any]:
    """Per subset: E[log p − log q] and perplexities; R-EMI of faulty RPMs by q and by p."""
    world = loop.experiment.task.world
    subsets = {}
    for tag, samples in loop.experiment.tests.items():
        predicted = loop.worker.predict(samples, roles)
        x, golden = np.array([rendering.parse_sample(world, s) for s in samples], np.int64).T
        rng = np.random.default_rng([loop.config.seed, shifts.ALL_TAGS.index(tag)])
        subsets[tag] = {
            **predicted.summary(),
            "log_q_of_samples": predicted.sums.tolist(),
            "log_p_of_samples": truth.log_prob(world, golden, x).tolist(),
            "slots": len(facts.SLOTS),
            "r_emi": _r_emi(loop, roles, samples[:CONTEXTS], x[:CONTEXTS], golden[:CONTEXTS], rng),
        }
    return subsets


def _r_emi(
    loop: Corl, roles: dict[str, Any], samples: Sequence[Sample], x: np.ndarray,
    golden: np.ndarray, rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """RPM -> R-EMI by the estimated q and by the true p, on the same contexts and responses."""
    world = loop.experiment.task.world
    answers = {"golden": golden, **{rpm: _answers(world, x, rpm, rng) for rpm in RPMS}}
    texts = [rendering.response_text(int(j)) for y in answers.values() for j in y]
    estimated = np.split(loop.worker.pairs(samples, texts, roles), len(answers), axis=1)
    values = {}
    for name, y, block in zip(answers, answers.values(), estimated, strict=True):
        exact = truth.log_prob(world, y[None, :], x[:, None])
        values[name] = {"q": float(club(block)), "p": float(club(exact))}
    return {rpm: {by: values[rpm][by] - values["golden"][by] for by in ("q", "p")} for rpm in RPMS}


def _answers(
    world: facts.TextualWorld, x: np.ndarray, rpm: str, rng: np.random.Generator
) -> np.ndarray:
    """Responses of an RPM with a fault; the noisy one knows all and errs, the others misread."""
    u, c, d = truth.context_parts(world, x)
    if rpm == "other character":
        c = rng.permutation(c)
    if rpm == "other user":
        u = rng.permutation(u)
    right = truth.right_slots(world, np.ravel_multi_index((u, c, d), world.shape))
    sizes = np.array(facts.SLOTS)
    noise = np.maximum(world.noise, NOISE) if rpm == "noisy" else world.noise
    wrong = rng.random(right.shape) < noise
    slots = (right + rng.integers(1, sizes, size=right.shape) * wrong) % sizes
    return np.ravel_multi_index(slots.T, facts.SLOTS)


def columns(subsets: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Measure -> column -> mean over the column's samples, for one seed.

    Measures: `perplexity` per slot of a response, `perplexity_token` per token, `kl` in nats a
    response, `emid_error`: mean over subsets and RPMs of |R-EMID by q − R-EMID by p| in nats a
    response, which in the column `id` is that of R-EMI: there is no R-EMID in distribution.
    """
    log_q: dict[str, list[float]] = {}
    log_p: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    tokens: dict[str, float] = {}
    home = subsets[shifts.ID_TEST]["r_emi"]
    for tag, subset in subsets.items():
        column = column_of(tag)
        log_q.setdefault(column, []).extend(subset["log_q_of_samples"])
        log_p.setdefault(column, []).extend(subset["log_p_of_samples"])
        tokens[column] = subset["tokens_per_response"]
        for rpm, value in subset["r_emi"].items():
            error = value["q"] - value["p"]
            if tag != shifts.ID_TEST:
                error = (home[rpm]["q"] - home[rpm]["p"]) - error
            errors.setdefault(column, []).append(abs(error))
    slots = len(facts.SLOTS)
    mean = {c: float(np.mean(v)) for c, v in log_q.items()}
    return {
        "perplexity": {c: float(np.exp(-m / slots)) for c, m in mean.items()},
        "perplexity_token": {c: float(np.exp(-m / tokens[c])) for c, m in mean.items()},
        "kl": {c: float(np.mean(log_p[c]) - m) for c, m in mean.items()},
        "emid_error": {c: float(np.mean(e)) for c, e in errors.items()},
    }

"""A trained estimator of a textual world against what is known there exactly.

Only the estimator's error is measured: the true p and the estimated q are asked about the same
contexts and the same responses. q is formed in two ways: one thought a context, trusted, as the
paper has it, and the mixture that `config.scoring` describes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from remid_jax.data import shifts
from remid_jax.data.samples import Sample
from remid_jax.information.mutual_information import club
from remid_jax.training.corl import Corl
from remid_jax.worlds.textual import facts, rendering, truth

CONTEXTS = 32  # of each subset, for matrices
COLUMNS = ("id", "user", "character", "dialogue")
RPMS = ("noisy", "other character", "other user")
SCORINGS = ("one_thought", "mixture")
NOISE = 0.4  # share of slots that the noisy RPM gets wrong on purpose


def column_of(tag: str) -> str:
    """The column of a subset: `id`, or the name of its shift."""
    return "id" if tag == shifts.ID_TEST else shifts.SHIFT_OF[tag]


def measure(loop: Corl, roles: dict[str, Any]) -> dict[str, Any]:
    """Per subset: log p and log q of samples, R-EMI of faulty RPMs by both, and thoughts' doubt.

    With one thought, log q of a sample is its mean over the draws of the mixture, R-EMI is of the
    first draw of each context.
    """
    world = loop.experiment.task.world
    subsets = {}
    for tag, samples in loop.experiment.tests.items():
        predicted = loop.worker.predict(samples, roles)
        x, golden = np.array([rendering.parse_sample(world, s) for s in samples], np.int64).T
        rng = np.random.default_rng([loop.config.seed, shifts.ALL_TAGS.index(tag)])
        subsets[tag] = {
            **predicted.summary(),
            "log_q_of_samples": {
                "one_thought": predicted.sums.tolist(), "mixture": predicted.mixture.tolist()
            },
            "doubt_of_samples": {
                "agreement": predicted.agreement.tolist(), "entropy": predicted.entropy.tolist()
            },
            "log_p_of_samples": truth.log_prob(world, golden, x).tolist(),
            "slots": len(facts.SLOTS),
            "r_emi": _r_emi(loop, roles, samples[:CONTEXTS], x[:CONTEXTS], golden[:CONTEXTS], rng),
        }  # fmt: skip
    return subsets


def _r_emi(
    loop: Corl, roles: dict[str, Any], samples: Sequence[Sample], x: np.ndarray,
    golden: np.ndarray, rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """RPM -> R-EMI by the true p and, in each way, by q, on the same contexts and responses."""
    world = loop.experiment.task.world
    answers = {"golden": golden, **{rpm: _answers(world, x, rpm, rng) for rpm in RPMS}}
    texts = [rendering.response_text(int(j)) for y in answers.values() for j in y]
    exact = truth.log_prob(world, np.concatenate([*answers.values()])[None], x[:, None])
    scores = loop.worker.pairs(samples, texts, roles)
    matrices = {"p": exact, **dict(zip(SCORINGS, scores, strict=True))}
    values = {
        by: [float(club(block)) for block in np.split(matrix, len(answers), axis=1)]
        for by, matrix in matrices.items()
    }  # golden first
    return {rpm: {by: v[k] - v[0] for by, v in values.items()} for k, rpm in enumerate(RPMS, 1)}


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


def columns(subsets: Mapping[str, Any], scoring: str) -> dict[str, dict[str, float]]:
    """Measure -> column -> mean over the column's samples, for one seed and one way to score.

    Measures: `perplexity` per slot of a response, `kl` in nats a response, `emid_error`: mean over
    subsets and RPMs of |R-EMID by q − R-EMID by p| in nats a response, which in the column `id` is
    that of R-EMI: there is no R-EMID in distribution; and `floor`, the perplexity of the exact p.
    """
    log_q: dict[str, list[float]] = {}
    log_p: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    home = subsets[shifts.ID_TEST]["r_emi"]
    for tag, subset in subsets.items():
        column = column_of(tag)
        log_q.setdefault(column, []).extend(subset["log_q_of_samples"][scoring])
        log_p.setdefault(column, []).extend(subset["log_p_of_samples"])
        for rpm, value in subset["r_emi"].items():
            error = value[scoring] - value["p"]
            if tag != shifts.ID_TEST:
                error = (home[rpm][scoring] - home[rpm]["p"]) - error
            errors.setdefault(column, []).append(abs(error))
    mean, exact = ({c: np.mean(v) for c, v in log.items()} for log in (log_q, log_p))
    return {
        "perplexity": {c: _per_slot(m) for c, m in mean.items()},
        "kl": {c: float(exact[c] - m) for c, m in mean.items()},
        "emid_error": {c: float(np.mean(e)) for c, e in errors.items()},
        "floor": {c: _per_slot(m) for c, m in exact.items()},
    }


def _per_slot(log_prob: float) -> float:
    return float(np.exp(-log_prob / len(facts.SLOTS)))


def doubt(subsets: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Tag -> how far the thoughts about a context agree, and whether this tells its loss.

    Means of `agreement` and `entropy`, and Spearman's rank correlation of each over contexts with
    the loss log p − log q in both ways to score, as `entropy_kl_mixture`; None where either is the
    same for all contexts, or there are no several thoughts.
    """
    return {tag: _doubt(subset) for tag, subset in subsets.items()}


def _doubt(subset: Mapping[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    exact = np.array(subset["log_p_of_samples"])
    for name, values in subset["doubt_of_samples"].items():
        values = np.array(values, float)
        known = np.isfinite(values).all()
        found[name] = float(values.mean()) if known else None
        for scoring, log_q in subset["log_q_of_samples"].items():
            loss = exact - np.array(log_q)
            varies = known and np.ptp(values) > 0 and np.ptp(loss) > 0
            rank = float(spearmanr(values, loss).statistic) if varies else None
            found[f"{name}_kl_{scoring}"] = rank
    return found

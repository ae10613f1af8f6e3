"""A trained RPM of a textual world against the world's exact p, and scores of a trained pair.

The truth needs no estimator: p(y|x) is known. p_θ(y|x) of an RPM is computed, the end of its answer
included; of one that thinks it is the mean over K drawn thoughts, which makes −log p_θ too large on
average, less so with more thoughts. Answers that are no response of the world have p = 0 in every
context: they are left out of R-EMI, and counted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from remid_jax.data import shifts
from remid_jax.data.samples import Sample
from remid_jax.information.mixture import thought_mixture
from remid_jax.information.mutual_information import club
from remid_jax.information.profile import factor_gaps
from remid_jax.information.repeated import repeated_club
from remid_jax.training.groups import Example
from remid_jax.training.judge import Judge
from remid_jax.training.rewards import exact_match_reward
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.worlds.textual import export, rendering, truth

GOLDEN = "golden"
Subsets = Mapping[str, Sequence[Sample]]


def measure_rpm(
    worker: RolloutWorker, params: Any, subsets: Subsets, draws: int, thoughts: int
) -> dict[str, Any]:
    """Subset -> what is true of an RPM there.

    Returns:
      `kl` [n], log p − log p_θ of golden answers in nats, mean over `draws` of a context; `r_emi`
      by the true p in nats, of `draws` answers a context; `malformed`, the share of answers that
      are no response; `answers`, the first to each context.
    """
    task, found = worker.experiment.task, {}
    for tag, samples in subsets.items():
        seed = [worker.config.seed, shifts.ALL_TAGS.index(tag)]
        key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])
        x, golden = _golden_draws(task.plain.world, samples, draws, seed)
        exact = truth.log_prob(task.plain.world, golden, x[:, None])
        own = _log_probs(worker, params, samples, golden, thoughts, key)
        prompts = [task.policy_prompt(s, None) for s in samples]
        _, _, texts = worker.draw(params, prompts, worker.config.policy, key, draws)
        answers = [[task.answer_of(text) for text in group] for group in texts]
        known = np.array([[_number(y) for y in group] for group in answers])
        found[tag] = {
            "kl": (exact - own).mean(1).tolist(),
            "r_emi": _exact_r_emi(task.plain.world, x, golden, known),
            "malformed": float(np.mean(known < 0)),
            "answers": [group[0] for group in answers],
        }
    return found


def _golden_draws(
    world: Any, samples: Sequence[Sample], draws: int, seed: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Contexts [n], and golden answers [n, draws] to them, that of the sample first."""
    x, y = export.indices_of(world, samples)
    rows = truth.channel(world, x)
    more = np.repeat(np.arange(len(x)), draws - 1)
    drawn = export.sample_responses(rows, more, np.random.SeedSequence(seed))
    return x, np.concatenate([y[:, None], drawn.reshape(len(x), -1)], axis=1)


def _log_probs(
    worker: RolloutWorker, params: Any, samples: Sequence[Sample], responses: np.ndarray,
    thoughts: int, key: jax.Array,
) -> np.ndarray:  # fmt: skip
    """log p_θ of whole responses [n, M] in nats: of one that thinks, by the mixture."""
    task, notes = worker.experiment.task, [[None]] * len(samples)
    if worker.config.notes != "none":
        notes = worker.thoughts(params, samples, key, thoughts, 1.0)
    examples = [
        [
            Example(task.policy_prompt(s, r), task.encode(rendering.response_text(int(y))))
            for r in own
            for y in row
        ]
        for s, own, row in zip(samples, notes, responses, strict=True)
    ]
    values = worker.score(params, worker.batch(examples, worker.max_golden)).astype(np.float64)
    sums = values.sum(-1).reshape(len(samples), -1, responses.shape[1])
    return thought_mixture(np.moveaxis(sums, 1, 0))


def _number(text: str) -> int:
    """The flat response of a text, or −1 where it is none of the world."""
    try:
        return rendering.parse_response(text)
    except ValueError:
        return -1


def _exact_r_emi(world: Any, x: np.ndarray, golden: np.ndarray, known: np.ndarray) -> float | None:
    """By the true p, in nats; None where fewer than two contexts have an answer."""
    if np.sum(np.any(known >= 0, axis=1)) < 2:
        return None
    contexts = x[:, None, None]
    values = [
        float(repeated_club(truth.log_prob(world, np.maximum(y, 0)[None], contexts), y >= 0))
        for y in (known, golden)
    ]
    return values[0] - values[1]


def measure_scores(
    worker: RolloutWorker, roles: Mapping[str, Any], subsets: Subsets,
    answers: Mapping[str, Mapping[str, Sequence[str]]],
) -> dict[str, dict[str, dict[str, float]]]:  # fmt: skip
    """Method -> subset -> scores by a trained pair, as a diagnosis forms them; higher is better.

    Args:
      worker: of the pair.
      roles: its parameters.
      subsets: contexts.
      answers: method -> subset -> an answer to each context.

    Returns:
      `profile`, minus what is lost of golden's information, mean over factors; `r_emi`; `retained`;
      `baseline`, log q a token minus golden's; `reference_match`, the share of golden's words in
      their places. `r_emid` (minus R-EMI's fall from the subset that is not shifted) is in shifted
      subsets alone.
    """
    found: dict[str, dict[str, dict[str, float]]] = {method: {} for method in answers}
    for tag, samples in subsets.items():
        texts = {GOLDEN: [s.golden for s in samples], **{m: a[tag] for m, a in answers.items()}}
        own = _of_pairs(worker, roles, samples, texts)
        info = _profile(worker, roles["policy"], samples, texts)
        for method in answers:
            matrix, tokens = own[method]
            golden, golden_tokens = own[GOLDEN]
            emi, best = float(club(matrix)), float(club(golden))
            level = np.mean(np.diag(matrix) / tokens) - np.mean(np.diag(golden) / golden_tokens)
            found[method][tag] = {
                "profile": float(info[method] - info[GOLDEN]),
                "r_emi": emi - best,
                "retained": emi / best,
                "baseline": float(level),
                "reference_match": float(exact_match_reward(texts[method], texts[GOLDEN]).mean()),
            }
    for by_tag in found.values():
        home = by_tag[shifts.ID_TEST]["r_emi"]
        for tag, scores in by_tag.items():
            if tag != shifts.ID_TEST:
                scores["r_emid"] = scores["r_emi"] - home
    return found


def _of_pairs(
    worker: RolloutWorker, roles: Mapping[str, Any], samples: Sequence[Sample],
    texts: Mapping[str, Sequence[str]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Who answered -> log q(y_j | x_i) [n, n] by the mixture over thoughts, and tokens [n]."""
    distinct = list(dict.fromkeys(y for column in texts.values() for y in column))
    _, mixture = worker.pairs(samples, distinct, roles)
    place = {y: k for k, y in enumerate(distinct)}
    lengths = np.array([max(1, len(worker.experiment.task.encode(y)) - 1) for y in distinct])
    at = {who: [place[y] for y in column] for who, column in texts.items()}
    return {who: (mixture[:, columns], lengths[columns]) for who, columns in at.items()}


def _profile(
    worker: RolloutWorker, policy: Any, samples: Sequence[Sample],
    texts: Mapping[str, Sequence[str]],
) -> dict[str, float]:  # fmt: skip
    """Who answered -> information of the answers in nats, mean over the factors."""
    encode = worker.experiment.task.encode
    completed = [[encode(column[k]) for column in texts.values()] for k in range(len(samples))]
    scored = Judge(worker.config, worker).swapped(policy, samples, completed)
    by_who = {k: v.reshape(len(samples), len(texts), -1) for k, v in scored.items()}
    found = {}
    for g, who in enumerate(texts):
        plain, swapped, weights = (by_who[k][:, g] for k in ("plain", "swapped", "swap_weights"))
        gaps = [
            np.asarray(factor_gaps(plain[:, 0], swapped[:, f : f + 1], weights[:, f]))
            for f in range(swapped.shape[1])
        ]
        found[who] = float(np.mean([np.nanmean(x) for x in gaps if np.isfinite(x).any()]))
    return found

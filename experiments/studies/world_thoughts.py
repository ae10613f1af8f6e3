"""Where a trained pair on a textual world errs: in its thoughts, or in what it makes of them.

Both are read off the same held-out samples: which facts of the drawn thoughts are right, and how
far log q lies from log p in each slot of the response, with the drawn thoughts and with right ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from remid_jax.data.samples import Sample
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.training.tasks import notes_of
from remid_jax.worlds.textual import facts, reasoning, rendering, truth

from .world_truth import column_of

SLOTS = ("greeting", "voice", "verb", "item")
FACTS = ("mood", *SLOTS)
WORD_PLACES = (0, 2, 4, 6)  # tokens of "Hello, surely, buy the lantern."
Means = dict[str, float]


def measure_pair(actors: RolloutWorker, roles: Mapping[str, Any]) -> dict[str, dict[str, Means]]:
    """Column -> measure -> name -> mean over samples of the column's subsets, equally weighted.

    Measures: `right`, share of drawn thoughts in which a fact is right (a malformed thought is
    wrong in all), `kl`, E[log p − log q] of each slot in nats with the drawn thoughts, and
    `kl_right`, the same with right thoughts. Those of thoughts are left out where there are none.
    """
    found: dict[str, list[dict[str, Means]]] = {}
    for tag, samples in actors.experiment.tests.items():
        found.setdefault(tag, []).append(_subset(actors, samples, roles))
        found.setdefault(column_of(tag), []).append(found[tag][0])
    return {place: _mean(several) for place, several in found.items()}


def _mean(several: Sequence[Mapping[str, Means]]) -> dict[str, Means]:
    return {
        measure: {name: float(np.mean([s[measure][name] for s in several])) for name in means}
        for measure, means in several[0].items()
    }


def _subset(
    actors: RolloutWorker, samples: Sequence[Sample], roles: Mapping[str, Any]
) -> dict[str, Means]:
    world, size = actors.experiment.task.world, actors.config.evaluate.batch
    x, y = np.array([rendering.parse_sample(world, s) for s in samples]).T
    exact = truth.slot_log_prob(world, y, x)
    right = [rendering.thought_text(int(r)) for r in reasoning.right_thought(world, x)]
    plain = actors.config.notes == "none"
    rights, by_drawn, by_right = [], [], []
    for a in range(0, len(samples), size):
        places = [k % len(samples) for k in range(a, a + size)]  # the last batch is whole
        part = [samples[k] for k in places]
        if plain:
            by_drawn.append(_slot_log_q(actors, part, [[None]] * size, roles["policy"]))
            continue
        e = actors.config.evaluate
        thoughts = actors.thoughts(
            roles["reasoner"], part, jax.random.key(a), e.thoughts, e.temperature
        )
        for blocks, texts in ((by_drawn, thoughts), (by_right, [[right[k]] for k in places])):
            notes = notes_of(texts, actors.config.notes)
            blocks.append(_slot_log_q(actors, part, notes, roles["policy"]))
        rights += [right_facts(world, x[k], t) for k, t in zip(places, thoughts, strict=True)]

    def kl(blocks: list[np.ndarray]) -> Means:
        apart = exact - np.concatenate(blocks)[: len(samples)]
        return dict(zip(SLOTS, apart.mean(0).tolist(), strict=True))

    if plain:
        return {"kl": kl(by_drawn)}
    share = np.array(rights)[: len(samples)].mean(0)
    return {
        "kl": kl(by_drawn), "kl_right": kl(by_right),
        "right": dict(zip(FACTS, share.tolist(), strict=True)),
    }  # fmt: skip


def _slot_log_q(
    actors: RolloutWorker, samples: Sequence[Sample], notes: list[list[str | None]], policy: Any
) -> np.ndarray:
    """log q of each slot's word, mean over notes: [n, 4]."""
    rows = actors.answer_examples(samples, notes)
    values = actors.score(policy, actors.batch(rows, actors.max_golden)).astype(np.float64)
    return values[..., list(WORD_PLACES)].mean(1)


def right_facts(world: facts.TextualWorld, x: int, thoughts: Sequence[str]) -> np.ndarray:
    """Share of thoughts about context x in which each fact is right: [5]."""
    wanted = reasoning.thought_facts(reasoning.right_thought(world, x))
    rows = []
    for text in thoughts:
        try:
            rows.append(reasoning.thought_facts(rendering.parse_thought(text)) == wanted)
        except ValueError:
            rows.append(np.zeros(len(FACTS), bool))
    return np.mean(rows, axis=0)

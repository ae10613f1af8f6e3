"""Why variants of the world study differ: right facts of thoughts, and log q slot by slot.

Reads the pairs that `configs/corl_world.py` trained; --workdir is that study's folder. On the same
held-out samples: which facts of drawn thoughts are right, how far log q lies from log p in each
slot of the response, with the drawn thoughts and with right ones, and how far the log of the mean
q of several thoughts lies from log p.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.samples import Sample
from remid_jax.data.shifts import SHIFTS
from remid_jax.errors import UserError
from remid_jax.files import open_workdir, write_atomically
from remid_jax.information.mixture import log_mixture
from remid_jax.progress import progress
from remid_jax.provenance import provenance
from remid_jax.report.tables import new_table, print_whole
from remid_jax.training.experiment import make_experiment
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.training.tasks import notes_of
from remid_jax.worlds.textual import facts, reasoning, rendering, truth

from .configurations import packaged_module
from .corl import ESTIMATOR
from .corl_world import base_of, check
from .studies.children import header
from .studies.corl_tables import mean_and_error
from .studies.world_truth import COLUMNS, column_of

THOUGHTS = "thoughts.json"
PLACES = (*COLUMNS, *SHIFTS["dialogue"])
SLOTS = ("greeting", "voice", "verb", "item")
FACTS = ("mood", *SLOTS)
WORD_PLACES = (0, 2, 4, 6)  # tokens of "Hello, surely, buy the lantern."
DRAWS = (1, 2, 4, 8)  # thoughts of a mixture
FREE = 0.02  # weight of the prompt without a thought beside the most of them
MIXED = (*map(str, DRAWS), f"{DRAWS[-1]} and {FREE:g} free")
TITLES = {
    "right": ("share of drawn thoughts in which a fact is right", FACTS),
    "kl": ("E[log p - log q] of a slot in nats, drawn thoughts", SLOTS),
    "kl_right": ("the same with right thoughts", SLOTS),
    "mixture": ("E KL(p || q) of a response in nats, q a mixture over so many thoughts", MIXED),
}
Means = dict[str, float]


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, prints tables and writes `workdir/thoughts.json`."""
    check(config)
    started, folder = time.monotonic(), open_workdir(workdir)
    origin = provenance(config)
    variants, seeds = config.study.variants, config.study.seeds
    found: dict[str, list[Any]] = {v: [] for v in variants}
    with progress("trained pairs", len(variants) * len(seeds)) as advance:
        for variant, seed in ((v, int(s)) for v in variants for s in seeds):
            found[variant].append(_measured(variant, seed, folder))
            advance(1)
    means = {v: jax.tree.map(lambda *s: mean_and_error(s), *runs) for v, runs in found.items()}
    table = {
        m: {v: {p: at[p][m] for p in PLACES if m in at[p]} for v, at in means.items()}
        for m in TITLES
    }  # measure -> variant -> place -> fact or slot
    content = {**header(config.study.seeds, origin, time.monotonic() - started), **table}
    write_atomically(folder / THOUGHTS, [json.dumps(content, indent=1).encode() + b"\n"])
    print_tables(table)


def _measured(variant: str, seed: int, folder: Path) -> Any:
    """Measures of one run, from its file where they stand there."""
    where = folder / f"{variant}-{seed}"
    config = packaged_module("corl_world").get_config(f"{variant},{seed}")
    if (where / THOUGHTS).exists():
        known = json.loads((where / THOUGHTS).read_text(encoding="utf-8"))
        if config.notes == "none" or all("mixture" in v for v in known.values()):
            return known  # a file of an earlier version has no mixtures
    if not (where / ESTIMATOR).exists():
        raise UserError(f"{where} holds no trained pair: run configs/corl_world.py here first")
    config.pretraining.folder = str(base_of(folder, seed))
    config.init_from = str(where / ESTIMATOR)
    experiment = make_experiment(config, where)
    values = measure_pair(RolloutWorker(config, experiment), experiment.start)
    write_atomically(where / THOUGHTS, [json.dumps(values).encode()])
    return values


def print_tables(table: Mapping[str, Any]) -> None:
    """One table a measure: variants and places down, facts or slots across."""
    texts = ("variant", "where")
    for measure, (title, names) in TITLES.items():
        rows = [
            (variant, place, *(f"{v[n]['mean']:.3f} ± {v[n]['se'] or np.nan:.3f}" for n in names))
            for variant, places in table[measure].items()
            for place, v in places.items()
        ]
        print_whole(new_table(title, (*texts, *names), rows, left=texts))


def measure_pair(worker: RolloutWorker, roles: Mapping[str, Any]) -> dict[str, dict[str, Means]]:
    """Column or subset -> measure -> name -> mean, where subsets of a column weigh the same.

    Measures: `right`, share of drawn thoughts in which a fact is right (a malformed thought is
    wrong in all), `kl`, E[log p − log q] of each slot in nats with the drawn thoughts, `kl_right`,
    the same with right thoughts, and `mixture`, E[log p − log mean_k q(y|x, r_k)] of a response for
    numbers of thoughts. Those of thoughts are left out where there are none.
    """
    found: dict[str, list[dict[str, Means]]] = {}
    for tag, samples in worker.experiment.tests.items():
        found.setdefault(tag, []).append(_subset(worker, samples, roles))
        found.setdefault(column_of(tag), []).append(found[tag][0])
    return {
        place: jax.tree.map(lambda *values: float(np.mean(values)), *several)
        for place, several in found.items()
    }


def _subset(
    worker: RolloutWorker, samples: Sequence[Sample], roles: Mapping[str, Any]
) -> dict[str, Means]:
    world, e = worker.experiment.task.world, worker.config.evaluate
    drawn = worker.config.scoring
    x, y = np.array([rendering.parse_sample(world, s) for s in samples]).T
    exact = truth.slot_log_prob(world, y, x)
    right = [rendering.thought_text(int(r)) for r in reasoning.right_thought(world, x)]
    plain = worker.config.notes == "none"
    rights, by_drawn, by_right, mixed = [], [], [], []
    for a in range(0, len(samples), e.batch):
        places = [k % len(samples) for k in range(a, a + e.batch)]  # the last batch is whole
        part = [samples[k] for k in places]
        if plain:
            by_drawn.append(_slot_log_q(worker, part, [[None]] * e.batch, roles["policy"]))
            continue
        thoughts = worker.thoughts(
            roles["reasoner"], part, jax.random.key(a), drawn.draws, drawn.temperature
        )
        for blocks, texts in ((by_drawn, thoughts), (by_right, [[right[k]] for k in places])):
            notes = notes_of(texts, worker.config.notes)
            blocks.append(_slot_log_q(worker, part, notes, roles["policy"]))
        mixed.append(_mixtures(worker, part, roles, a))
        rights += [right_facts(world, x[k], t) for k, t in zip(places, thoughts, strict=True)]

    def kl(blocks: list[np.ndarray]) -> Means:
        apart = exact - np.concatenate(blocks)[: len(samples)]
        return dict(zip(SLOTS, apart.mean(0).tolist(), strict=True))

    if plain:
        return {"kl": kl(by_drawn)}
    share = dict(zip(FACTS, np.array(rights)[: len(samples)].mean(0).tolist(), strict=True))
    apart = truth.log_prob(world, y, x)[:, None] - np.concatenate(mixed)[: len(samples)]
    mixture = dict(zip(MIXED, apart.mean(0).tolist(), strict=True))
    return {"kl": kl(by_drawn), "kl_right": kl(by_right), "right": share, "mixture": mixture}


def _mixtures(
    worker: RolloutWorker, samples: Sequence[Sample], roles: Mapping[str, Any], seed: int
) -> np.ndarray:
    """log q of golden responses as `MIXED`: [n, 5].

    Of fewer than all thoughts, the mean over the mixtures that are made of all.
    """
    most = DRAWS[-1]
    thoughts = worker.thoughts(roles["reasoner"], samples, jax.random.key(seed), most, 1.0)
    notes = [[*own, None] for own in notes_of(thoughts, worker.config.notes)]
    sums, _ = worker.answers(roles["policy"], worker.answer_examples(samples, notes))
    by_draw, free = sums[:, :most].T, sums[:, most]  # [8, n], [n]
    columns = [
        np.mean([log_mixture(part, np.full(k, 1 / k)) for part in np.split(by_draw, most // k)], 0)
        for k in DRAWS
    ]
    both = np.stack([columns[-1], free])
    return np.stack([*columns, log_mixture(both, np.array([1 - FREE, FREE]))], axis=1)


def _slot_log_q(
    worker: RolloutWorker, samples: Sequence[Sample], notes: list[list[str | None]], policy: Any
) -> np.ndarray:
    """log q of each slot's word, mean over notes: [n, 4]."""
    batch = worker.batch(worker.answer_examples(samples, notes), worker.max_golden)
    values = worker.score(policy, batch).astype(np.float64)
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

"""The base of a world's estimators: a small decoder that has read many other worlds.

As a language model has read much before it is tuned, the base has seen every culture, category
and kind of dialogue, in worlds whose facts are others. It reads replies with and without notes,
and thoughts that err as often as those of the cold start.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from remid_jax.benchmark import shifts
from remid_jax.benchmark.thoughts import policy_notes
from remid_jax.checkpoints import load_tree, newest, read_record, save_newest
from remid_jax.errors import UserError
from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.progress import progress
from remid_jax.training.groups import Row, group
from remid_jax.training.optimiser import OptimiserConfig, begin
from remid_jax.training.tasks import WorldTask
from remid_jax.training.updates import Running, sft_update
from remid_jax.worlds.textual import export, facts, tokenisation

WINDOW = 256  # tokens
FIRST_WORLD = 10_000  # seeds of the worlds that the base reads: no experiment uses them
KEEP_EVERY = 500  # steps between checkpoints
SOURCES = 4  # pairs of a world and a subset in one batch


def world_of(config: ConfigDict, seed: int) -> facts.TextualWorld:
    """A world of the configured sizes."""
    w = config.world
    return facts.textual_world(
        personas=w.personas, characters=w.characters, noise=w.noise, seed=seed
    )


def shape_of(config: ConfigDict) -> DecoderConfig:
    """The decoder's shape.

    Raises:
      UserError: width and heads do not go together.
    """
    d = config.decoder
    if d.width % (2 * d.heads):
        raise UserError(f"config.decoder.width {d.width} must be a multiple of twice its heads")
    return DecoderConfig(
        vocab_size=len(tokenisation.vocabulary()), num_layers=d.layers, width=d.width,
        num_heads=d.heads, num_kv_heads=d.heads, head_dim=d.width // d.heads,
        mlp_width=3 * d.width, max_positions=WINDOW, rope_theta=10000.0, norm_eps=1e-5,
        tie_embeddings=True,
    )  # fmt: skip


def base_identity(config: ConfigDict) -> str:
    """Digest of everything that decides the base."""
    w, p = config.world, config.pretraining
    content = (
        shape_of(config),
        w.personas,
        w.characters,
        w.noise,
        w.error,
        p.to_json_best_effort(),
    )
    return hashlib.sha256(repr(content).encode()).hexdigest()


def base_params(config: ConfigDict, folder: Path) -> Any:
    """The base's parameters: read from `folder` where they stand, else trained and kept there.

    A killed training goes on from its last checkpoint to the same bits.

    Raises:
      UserError: the folder holds another base, or training diverges.
    """
    p, identity = config.pretraining, base_identity(config)
    optimiser = OptimiserConfig(p.learning_rate, p.steps, warmup=0.05, clip=1.0)
    decoder = Decoder(shape_of(config), nnx.Rngs(p.seed))
    graphdef, params = nnx.split(decoder)
    state = begin(params, optimiser)
    done = 0
    kept = newest(folder)
    if kept is not None:
        record = read_record(kept)
        if record.get("base") != identity:
            raise UserError(
                f"{folder} holds a base of another configuration; choose another folder"
            )
        state, done = load_tree(kept, state), record["step"]
    worlds = [world_of(config, FIRST_WORLD + i) for i in range(p.worlds)]
    tasks = [WorldTask(w, config.world.error, p.seed) for w in worlds]
    with progress("base of the world", p.steps - done) as advance:
        for step in range(done, p.steps):
            groups = group(_rows(tasks, config, step), WINDOW)
            key = jax.random.key(0)
            state, said = sft_update(
                nnx.State({}), state, groups, key, graphdef=graphdef, optimiser=optimiser,
                running=Running(),
            )  # fmt: skip
            last = step + 1 == p.steps
            if last or (step + 1) % KEEP_EVERY == 0:
                if not said["finite"]:
                    raise UserError("the base's training diverges: lower pretraining.learning_rate")
                record = {"kind": "base", "base": identity, "step": step + 1}
                save_newest(folder, f"{step + 1:06}", state, record)
            advance(1, f"loss {float(said['loss']):.3f}")
    return state.params


def _rows(tasks: list[WorldTask], config: ConfigDict, step: int) -> list[list[Row]]:
    """A batch of one step: direct replies, thoughts, and replies to notes."""
    p = config.pretraining
    rng = np.random.default_rng([p.seed, step])
    rows = []
    for _ in range(SOURCES):
        task = tasks[rng.integers(len(tasks))]
        tag = shifts.ALL_TAGS[rng.integers(len(shifts.ALL_TAGS))]
        n = p.batch // SOURCES
        x, y = export.sample(task.world, tag, n, seed=int(rng.integers(2**31)))
        for s, form in zip(
            export.to_samples(task.world, tag, x, y), rng.choice(3, n, p=p.forms), strict=True
        ):
            task_k = dataclasses.replace(task, seed=int(rng.integers(2**31)))
            rows.append([_row(task_k, s, int(form))])
    return rows


def _row(task: WorldTask, sample: Any, form: int) -> Row:
    if form == 0:
        return Row(task.policy_prompt(sample, None), task.encode(sample.golden))
    thought = task.cold_thought(sample)
    if form == 1:
        return Row(task.reason_prompt(sample), task.encode(thought))
    notes = policy_notes(thought)
    return Row(task.policy_prompt(sample, notes), task.encode(sample.golden))

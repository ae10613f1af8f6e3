"""The base of a world's scorers: a small decoder that has read many worlds with other facts.

It reads replies with and without notes, right thoughts, and lists of what persona and profile say.
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from remid_jax.checkpoints import latest_checkpoint, load_tree, read_record, save_latest
from remid_jax.data import shifts
from remid_jax.data.samples import Sample
from remid_jax.data.thoughts import scorer_notes
from remid_jax.errors import UserError
from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.models.sharding import on_mesh, place, place_rows, using
from remid_jax.progress import progress
from remid_jax.training.groups import Example, group_examples
from remid_jax.training.optimiser import OptimiserConfig, init_state
from remid_jax.training.tasks import WorldTask
from remid_jax.training.updates import sft_update
from remid_jax.worlds.textual import export, facts, tokenisation
from remid_jax.worlds.textual.words import ITEMS, MOODS, TOPICS

WINDOW = 256  # tokens
FIRST_WORLD = 10_000  # seeds of the worlds that the base reads: no experiment uses them
CHECKPOINT_EVERY = 500  # steps
KINDS = ((shifts.ID_TRAIN,), *shifts.SHIFTS.values())  # equally frequent
SOURCES = 4  # pairs of a world and a subset in one batch


def world_of(config: ConfigDict, seed: int) -> facts.TextualWorld:
    """A world of the configured sizes."""
    w = config.world
    return facts.textual_world(
        personas=w.personas, characters=w.characters, noise=w.noise, seed=seed
    )


def shape_of(config: ConfigDict) -> DecoderConfig:
    """The decoder's shape."""
    d = config.decoder
    return DecoderConfig(
        vocab_size=len(tokenisation.vocabulary()), num_layers=d.layers, width=d.width,
        num_heads=d.heads, num_kv_heads=d.heads, head_dim=d.width // d.heads,
        mlp_width=3 * d.width, max_positions=WINDOW, rope_theta=10000.0, norm_eps=1e-5,
        tie_embeddings=True,
    )  # fmt: skip


def base_identity(config: ConfigDict) -> str:
    """Digest of everything that the base depends on."""
    w = config.world
    read = {k: v for k, v in config.pretraining.to_dict().items() if k != "folder"}
    content = (shape_of(config), w.personas, w.characters, w.noise, sorted(read.items()))
    return hashlib.sha256(repr(content).encode()).hexdigest()


def base_params(config: ConfigDict, folder: Path, mesh: Mesh | None = None) -> Any:
    """The base's parameters: read from `folder`, or trained and kept there.

    A killed training goes on from its last checkpoint to the same bits.

    Raises:
      UserError: the folder holds another base, or training diverges.
    """
    p, identity = config.pretraining, base_identity(config)
    optimiser = OptimiserConfig(p.learning_rate, p.steps, warmup=0.05, clip=1.0)
    graphdef, params = nnx.split(Decoder(shape_of(config), nnx.Rngs(p.seed)))
    with using(mesh):
        state, done = on_mesh(init_state(place(params, mesh), optimiser), mesh), 0
    kept = latest_checkpoint(folder)
    if kept is not None:
        record = read_record(kept)
        if record.get("base") != identity:
            raise UserError(
                f"{folder} holds a base of another configuration; choose another folder"
            )
        state, done = load_tree(kept, state), record["step"]
    worlds = (world_of(config, FIRST_WORLD + i) for i in range(p.worlds))
    tasks = [WorldTask(world, error=0.0) for world in worlds]
    with progress("base of the world", p.steps - done) as advance:
        for step in range(done + 1, p.steps + 1):
            examples = _examples(tasks, config, step - 1)
            batch = place_rows(group_examples(examples, WINDOW), mesh)
            with using(mesh):
                state, metrics = sft_update(
                    nnx.State({}), state, batch, jax.random.key(0), graphdef=graphdef,
                    optimiser=optimiser, micro_batches=1, remat=False,
                )  # fmt: skip
            if step == p.steps or step % CHECKPOINT_EVERY == 0:
                if not metrics["finite"]:
                    raise UserError("the base's training diverges: lower pretraining.learning_rate")
                record = {"kind": "base", "base": identity, "step": step}
                save_latest(folder, f"{step:06}", state, record)
            advance(1, f"loss {float(metrics['loss']):.3f}")
    return state.params


def _examples(tasks: list[WorldTask], config: ConfigDict, step: int) -> list[list[Example]]:
    """A batch: for each context a reply, a thought, a reply given its notes, and a recall."""
    p = config.pretraining
    rng = np.random.default_rng([p.seed, step])
    examples = []
    for _ in range(SOURCES):
        task = tasks[rng.integers(len(tasks))]
        tags = KINDS[rng.integers(len(KINDS))]
        tag = tags[rng.integers(len(tags))]
        x, y = export.sample(task.world, tag, p.batch // SOURCES, seed=int(rng.integers(2**31)))
        for s in export.to_samples(task.world, tag, x, y):
            thought, reply = task.cold_thought(s), task.encode(s.golden)
            examples.append([
                Example(task.policy_prompt(s, None), reply),
                Example(task.reason_prompt(s), task.encode(thought)),
                Example(task.policy_prompt(s, scorer_notes(thought)), reply),
                Example(task.recall_prompt(s), task.encode(_recalled(task.world, s, rng))),
            ])  # fmt: skip
    return examples


def _recalled(world: facts.TextualWorld, sample: Sample, rng: np.random.Generator) -> str:
    """Every pair of place and mood, then of mood and item; those of this dialogue come first."""
    u, c, d = (sample.extra["world"][k] for k in ("user", "character", "dialogue"))
    moods = [f"{TOPICS[t]} {MOODS[m]}" for t, m in enumerate(world.moods[u])]
    items = [f"{MOODS[m]} {ITEMS[i]}" for m, i in enumerate(world.items[c])]
    topic = world.topics[d]
    first = moods.pop(topic), items.pop(world.moods[u, topic])
    pairs = [first[0], *rng.permutation(moods), first[1], *rng.permutation(items)]
    return ", ".join(pairs) + "."

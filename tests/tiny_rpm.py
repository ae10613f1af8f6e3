"""The smallest runs of RPM training on a textual world."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.models.rpm import RPM
from remid_jax.training.loop import State
from remid_jax.training.rpm_config import default_config


def tiny_rpm(method: str, base: Path, **changes: Any) -> ConfigDict:
    """A run of a method whose base is kept in a folder that all share."""
    c = default_config()
    c.task, c.method, c.steps = "world", method, 2
    c.world.personas = c.world.characters = 2
    c.world.train, c.world.test = 12, 4
    c.decoder.layers, c.decoder.width, c.decoder.heads = 1, 32, 2
    c.pretraining.steps, c.pretraining.batch, c.pretraining.worlds = 4, 8, 2
    c.pretraining.folder = str(base)
    c.lora.rank, c.lora.dropout = 2, 0.1
    c.sft.batch = c.dpo.batch = c.answers.prompts = 4
    c.sft.learning_rate = c.dpo.learning_rate = c.answers.learning_rate = 0.01
    c.answers.group, c.answers.max_tokens, c.thoughts.max_tokens = 2, 10, 6
    c.evaluate.tags, c.evaluate.batch, c.scoring.draws = ("IDTest",), 4, 2
    c.checkpoint.every = 1
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        (c[group] if group else c)[key] = value
    return c


def train(config: ConfigDict, folder: Path) -> State:
    """Runs to the end, or goes on, and keeps the RPM."""
    from remid_jax.training.rpm import RpmTraining
    from remid_jax.training.rpm_experiment import make_rpm_experiment

    made = make_rpm_experiment(config, folder)
    state = RpmTraining(config, made, folder).run()
    made.save(folder / RPM, state.roles["policy"])
    return state

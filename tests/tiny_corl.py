"""The smallest run of CoRL on a textual world."""

import json
import sys
from pathlib import Path

from ml_collections import ConfigDict

from remid_jax.training.config import default_config


def tiny_config() -> ConfigDict:
    c = default_config()
    c.task = "world"
    c.world.personas = c.world.characters = 2
    c.world.train, c.world.test = 12, 4
    c.decoder.layers, c.decoder.width, c.decoder.heads = 1, 32, 2
    c.pretraining.steps, c.pretraining.batch, c.pretraining.worlds = 4, 8, 2
    c.lora.rank, c.lora.dropout = 2, 0.1
    c.cold_start = ("reasoner_sft:2", "policy_sft:2")
    c.round = ("reasoner_grpo:3", "policy_sft:2", "policy_grpo:2")
    c.sft.batch = 4
    for role in ("reasoner", "policy"):
        c[role].prompts, c[role].group, c[role].max_tokens = 4, 2, 6
        c[role].kl_coefficient = 0.1
        c[role].learning_rate = 0.01
    c.reasoner.inner_epochs = 2
    c.evaluate.tags = ("IDTest", "german")
    c.evaluate.batch, c.evaluate.every, c.scoring.draws = 4, 2, 2
    c.checkpoint.every = 1
    c.log_samples_every = 2
    return c


def lines(folder: Path, name: str) -> list[dict]:
    """RunLogger without what depends on the clock."""
    found = [json.loads(t) for t in (folder / name).read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "time"} for line in found]


def run(folder: Path) -> None:
    """Runs to the end, or goes on."""
    from remid_jax.training.corl import Corl
    from remid_jax.training.experiment import make_experiment

    config = tiny_config()
    Corl(config, make_experiment(config, folder), folder).run()


if __name__ == "__main__":
    run(Path(sys.argv[1]))

"""Training methods for RPMs on textual worlds, against known truth; `development` is the smallest.

`NAME,SEED` is one run of the study, as `dpo,0` or `judge,0`; `NAME,SEED,small` one of the smallest.
"""

import dataclasses

from ml_collections import ConfigDict

from remid_jax.settings import SEEDS, ExperimentKeys, defaults_of, key, keys_of
from remid_jax.training import config as corl
from remid_jax.training.rpm_config import default_config

BASE = "base"  # the RPM that nobody trained
STARTS = {  # method -> what it begins from; None: the base
    "sft": None, "sft_augmented": None, "thinking_sft": None, "dpo": "sft", "grpo": "sft",
    "migrpo": "sft", "thinking_grpo": "thinking_sft",
}  # fmt: skip
OVER = {  # method -> what its gain is told over: its start, and of what begins from the base, SFT
    m: start or (BASE if m == "sft" else "sft") for m, start in STARTS.items()
}  # fmt: skip
JUDGED = ("grpo", "migrpo")  # by a pair that does not evaluate
# Trained pairs, each with samples of its own: one rewards, the other evaluates.
ESTIMATORS = {"judge": 10_000, "evaluator": 20_000}
# Steps. Like learning rates and the weight of the KL they were chosen on seed 1000, which the study
# does not use.
SFT, LATER = 120, 60


@dataclasses.dataclass(frozen=True)
class MethodsConfig(ExperimentKeys):
    """All keys of the study."""

    seeds: tuple[int, ...] = key((0, 1, 2, 3, 4), "of worlds, bases and runs", SEEDS)
    methods: tuple[str, ...] = key((BASE, *STARTS), "that are compared", (BASE, *STARTS))
    contexts: int = key(24, "of each subset that are measured", "[3, inf) contexts")
    draws: int = key(8, "golden and own answers to a context, for the truth", "[2, inf) answers")
    thoughts: int = key(16, "a context, whose mean is p of an RPM that thinks", "[1, inf) thoughts")
    workers: int = key(2, "at once", "[1, inf) processes")
    size: str = key("whole", "of each run", ("whole", "small"))


KEYS = keys_of(MethodsConfig, experiment="study_methods_world")


def get_config(variant: str = "") -> ConfigDict:
    """The configuration of the study, or of one of its runs."""
    name, _, rest = variant.partition(",")
    seed, _, size = rest.partition(",")
    if variant in ("", "development"):
        c = defaults_of(KEYS)
        if variant:
            c.seeds, c.size = (1000,), "small"
            c.contexts, c.draws, c.thoughts = 4, 2, 2
        return c
    if name not in (*STARTS, *ESTIMATORS) or not seed.isdigit() or size not in ("", "small"):
        known = ", ".join((*STARTS, *ESTIMATORS))
        raise ValueError(f"unknown variant {variant!r}; give NAME,SEED with NAME among {known}")
    c = _estimator(name, int(seed)) if name in ESTIMATORS else _method(name, int(seed))
    return _small(c) if size else c


def _estimator(name: str, seed: int) -> ConfigDict:
    c = corl.default_config()
    _world(c, seed)
    c.seed = seed + ESTIMATORS[name]  # other samples of the same world, from the same base
    c.cold_start = ("reasoner_sft:80", "policy_sft:80")
    c.round = ("reasoner_grpo:60", "policy_sft:60")
    c.reasoner.prompts, c.reasoner.group, c.reasoner.max_tokens = 16, 8, 24
    c.reasoner.learning_rate = 1e-3
    c.reasoner.rewards = ConfigDict({"likelihood": 1.0})
    c.scoring.draws, c.scoring.thought_free = 8, 0.02
    c.evaluate.tags = ("IDTest",)
    return c


def _world(c: ConfigDict, seed: int) -> None:
    """What all runs of a seed share."""
    c.task = "world"
    c.world.seed = c.seed = c.pretraining.seed = seed
    c.lora.rank, c.lora.dropout = 16, 0.0
    c.sft.batch, c.sft.learning_rate, c.sft.clip = 32, 1e-3, 1.0
    c.evaluate.ends = False  # the study measures once, at the end
    c.checkpoint.every, c.log_samples_every = 100, 50


def _method(name: str, seed: int) -> ConfigDict:
    c = default_config()
    _world(c, seed)
    c.method, c.max_prompt_tokens = name, 0
    c.steps = LATER if STARTS[name] else SFT
    c.dpo.batch, c.dpo.learning_rate = 32, 5e-5
    thinks = name.startswith("thinking")
    c.thoughts.max_tokens, c.answers.max_tokens = 26, 38 if thinks else 10
    c.answers.prompts, c.answers.group, c.answers.learning_rate = 16, 8, 5e-4
    c.answers.kl_coefficient = 0.5
    reward = "cross_information" if name == "migrpo" else "likelihood"
    c.answers.rewards = ConfigDict({reward: 1.0, "finished": 0.5})
    c.scoring.draws = 8
    c.evaluate.tags, c.evaluate.batch = (), 32
    return c


def _small(c: ConfigDict) -> ConfigDict:
    """The same in a world of few people, with one step of each stage."""
    c.world.personas = c.world.characters = 2
    c.world.train, c.world.test = 32, 2
    c.decoder.layers, c.decoder.width, c.decoder.heads = 1, 32, 2
    c.pretraining.steps, c.pretraining.batch, c.pretraining.worlds = 4, 8, 2
    c.lora.rank = 2
    if c.experiment == "rpm":
        c.steps = 1
    else:
        c.cold_start, c.round = ("reasoner_sft:1", "policy_sft:1"), ("reasoner_grpo:1",)
        c.scoring.draws = 2
    return c

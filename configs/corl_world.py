"""CoRL on a textual world, against known truth.

Without a variant: all seeds and variants, and their table. `thoughts`: why they differ, from the
trained pairs of a finished study. `VARIANT,SEED` is one run of the study, as `corl,0`;
`development` a world that the study does not use, to choose settings on.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data.shifts import TEST_TAGS
from remid_jax.settings import SEEDS, defaults_of, group, key, keys_of
from remid_jax.training.config import CorlConfig, default_config

COLD, GRPO, SFT = 80, 60, 60  # steps
TIMES = 4  # 128 completions of an update of GRPO are so many batches of 32 drafts
COLD_PAIR, DIRECT = (f"reasoner_sft:{COLD}", f"policy_sft:{COLD}"), (f"policy_sft:{COLD}",)
CORL = (f"reasoner_grpo:{GRPO}", f"policy_sft:{SFT}")
# Chosen on seed 1000, `development`, before the seeds of the study ran. From 4 to 8 thoughts E KL
# still falls by .04 to .08 nats in each column after SFT, after CoRL by .00; the weight costs .01
# (`:thoughts` with study.seeds=(1000,)). `sft.without_notes` of .1 gained nothing there: the base
# has read replies without notes.
DRAWS, THOUGHT_FREE = 8, 0.02
# What each variant's rounds are, and how else it differs from CoRL.
VARIANTS = {
    # As many updates of the policy as CoRL has.
    "without_reasoning": {"notes": "none", "cold": DIRECT, "round": (f"policy_sft:{SFT}",)},
    "without_corl": {"round": ()},
    "corl": {},
    # Thoughts are rewarded for what they add to their group's mixture.
    "marginal": {"reward": "marginal_likelihood"},
    # As many trained tokens of thoughts as GRPO has, on drafts.
    "equal_sft": {"round": (f"reasoner_sft:{TIMES * GRPO}", f"policy_sft:{SFT}")},
    "shuffled": {"notes": "shuffled"},
    # Filler earns every thought the same, so that GRPO would change nothing.
    "filler": {"notes": "filler", "round": (f"policy_sft:{SFT}",)},
    "leaky": {"train_on_test": True},
}
EXPLAINED = ("without_reasoning", "without_corl", "equal_sft", "corl", "leaky")
GO_ON = ("corl", "marginal", "equal_sft", "shuffled", "filler", "leaky")


@dataclasses.dataclass(frozen=True)
class _Study:
    seeds: tuple[int, ...] = key((0, 1, 2, 3, 4), "of worlds and runs", SEEDS)
    variants: tuple[str, ...] = key(tuple(VARIANTS), "runs of each seed", tuple(VARIANTS))
    # Such a variant repeats no cold start.
    begins: dict[str, str] = key(
        dict.fromkeys(GO_ON, "without_corl"),
        "variant -> whose pair it goes on from",
        tuple(VARIANTS),
    )
    workers: int = key(2, "at once", "[1, inf) processes")


@dataclasses.dataclass(frozen=True)
class StudyConfig(CorlConfig):
    """All keys of the study; those of its runs are fixed by the study."""

    study: Any = group("which runs there are", _Study)


KEYS = keys_of(StudyConfig, experiment="corl_world")


def get_config(variant: str = "") -> ConfigDict:
    """The configuration of the study, or of one of its runs."""
    name, _, seed = variant.partition(",")
    if variant in ("", "thoughts"):
        c = _run("corl", 0)
        c.study = defaults_of(KEYS["study"].keys)
        c.experiment = "corl_world"
        if variant:
            c.experiment, c.study.variants = "corl_world_thoughts", EXPLAINED
        return c
    if name == "development":
        return _run(seed or "corl", 1000)
    if name not in VARIANTS or not seed.isdigit():
        known = ", ".join(VARIANTS)
        raise ValueError(f"unknown variant {variant!r}; give NAME,SEED with NAME among {known}")
    return _run(name, int(seed))


def _run(name: str, seed: int) -> ConfigDict:
    changes = VARIANTS[name]
    c = default_config()
    c.task = "world"
    c.world.seed = c.seed = c.pretraining.seed = seed  # a base of its own
    c.world.test = 50
    c.notes = changes.get("notes", "own")
    c.train_on_test = changes.get("train_on_test", False)
    c.cold_start, c.round = changes.get("cold", COLD_PAIR), changes.get("round", CORL)
    c.lora.rank, c.lora.dropout = 16, 0.0
    c.sft.batch, c.sft.learning_rate, c.sft.clip = 32, 1e-3, 1.0
    c.reasoner.prompts, c.reasoner.group, c.reasoner.max_tokens = 16, 8, 24
    c.reasoner.learning_rate = 1e-3
    c.reasoner.rewards = ConfigDict({changes.get("reward", "likelihood"): 1.0})
    c.scoring.draws, c.scoring.thought_free = DRAWS, THOUGHT_FREE
    c.evaluate.tags, c.evaluate.ends = TEST_TAGS, False  # the study measures once, at the end
    c.checkpoint.every = 100
    c.log_samples_every = 50
    return c

"""CoRL on a textual world, against known truth.

Without a variant: all seeds and variants, and their table. `VARIANT,SEED` is one run of the study,
as `corl,0`; `development` a world that the study does not use, to choose settings on.
"""

from ml_collections import ConfigDict

from remid_jax.benchmark.shifts import TEST_TAGS
from remid_jax.training.config import default_config

SEEDS = (0, 1, 2, 3, 4)
COLD, GRPO, SFT, ROUNDS = 200, 120, 80, 1  # steps
VARIANTS = {
    "without_reasoning": {"notes": "none", "cold": ("policy_sft",), "round": ()},
    "without_corl": {"round": ()},
    "corl": {},
    "equal_sft": {"round": (f"reasoner_sft:{GRPO}", f"policy_sft:{SFT}")},
    "shuffled": {"notes": "shuffled"},
    "filler": {"notes": "filler"},
    "leaky": {"leaky": True},
}


def get_config(variant: str = "") -> ConfigDict:
    """The configuration of the study, or of one of its runs."""
    name, _, seed = variant.partition(",")
    if not variant:
        c = _run("corl", 0)
        c.experiment = "corl_world"
        c.study = ConfigDict()
        c.study.seeds = SEEDS
        c.study.variants = tuple(VARIANTS)
        c.study.workers = 2  # processes at once
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
    c.world.seed = c.seed = seed
    c.notes = changes.get("notes", "own")
    c.leaky = changes.get("leaky", False)
    c.cold_start = (f"reasoner_sft:{COLD}", f"policy_sft:{COLD}")
    c.round = changes.get("round", (f"reasoner_grpo:{GRPO}", f"policy_sft:{SFT}"))
    c.rounds = ROUNDS
    if name == "without_reasoning":  # as many updates of the policy as CoRL has
        c.cold_start, c.round = (f"policy_sft:{COLD + ROUNDS * SFT}",), ()
    c.lora.rank, c.lora.dropout = 16, 0.0
    c.sft.batch, c.sft.learning_rate, c.sft.clip = 32, 2e-3, 1.0
    c.reasoner.prompts, c.reasoner.group, c.reasoner.max_tokens = 16, 8, 24
    c.reasoner.learning_rate = 1e-3
    c.reasoner.rewards = ConfigDict({"likelihood": 1.0})
    c.evaluate.tags = TEST_TAGS
    c.checkpoint.every = 100
    c.texts_every = 50
    return c

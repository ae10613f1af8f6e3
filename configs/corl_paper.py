"""CoRL with the hyper-parameters of the paper's release, for Qwen3-8B on accelerators.

`model.path` must name a local Hugging Face directory of Qwen3-8B, `benchmark` an RPGBench file.
"""

from ml_collections import ConfigDict

from remid_jax.data.shifts import TEST_TAGS
from remid_jax.training.config import default_config

SAMPLES, EPOCHS, PROMPTS = 1000, 3, 1000  # of the cold start, its passes, prompts of a stage
SFT_BATCH, GRPO_BATCH = 16, 8


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `leaky` trains on test subsets too, as the release does."""
    if variant not in ("", "leaky"):
        raise ValueError(f"unknown variant {variant!r}; there is only 'leaky'")
    c = default_config()
    c.model.path, c.model.dtype = "models/Qwen3-8B", "bfloat16"
    c.benchmark = "data/rpgbench.json"
    c.train_on_test = variant == "leaky"
    c.max_prompt_tokens = 3072
    c.mesh.fsdp, c.mesh.tensor = 2, 4  # eight chips; see docs/scaling.md
    cold, stage = SAMPLES * EPOCHS // SFT_BATCH, PROMPTS // GRPO_BATCH
    c.cold_start = (f"reasoner_sft:{cold}", f"policy_sft:{cold}")
    c.round = (f"reasoner_grpo:{stage}", f"policy_sft:{SAMPLES // SFT_BATCH}",
               f"policy_grpo:{stage}")  # fmt: skip
    c.rounds = 2
    c.lora.rank, c.lora.alpha, c.lora.dropout, c.lora.targets = 16, 32.0, 0.05, ".*"
    c.sft.batch, c.sft.micro_batches, c.sft.remat = SFT_BATCH, 4, True
    c.sft.learning_rate, c.sft.schedule, c.sft.warmup, c.sft.clip = 2e-4, "cosine", 0.03, 0.3
    for role, tokens in (("reasoner", 2048), ("policy", 256)):
        part = c[role]
        part.prompts, part.group, part.max_tokens = GRPO_BATCH, 8, tokens
        part.learning_rate, part.micro_batches, part.remat = 1e-5, GRPO_BATCH // 2, True
    c.reasoner.rewards = ConfigDict({"likelihood": 1.0, "format": 1.0, "length": 1.0})
    c.policy.rewards = ConfigDict({"reference_match": 1.0, "finished": 1.0})
    c.evaluate.tags, c.evaluate.samples, c.evaluate.batch = TEST_TAGS, 100, 8
    c.checkpoint.every = 10
    return c

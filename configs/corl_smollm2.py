"""CoRL on the bundled benchmark with SmolLM2 and LoRA: 30 steps of each phase, for a laptop.

`equal_sft` is its control: as many supervised steps on drafts in the place of GRPO. With
--config.compare_with=FOLDER of the first run, paired differences of log q are printed.
"""

from ml_collections import ConfigDict

from remid_jax.training.config import default_config


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `runlocal` shrinks everything."""
    if variant not in ("", "equal_sft", "runlocal"):
        raise ValueError(f"unknown variant {variant!r}; choose among equal_sft, runlocal")
    steps, small = (1, True) if variant == "runlocal" else (30, False)
    taught = "reasoner_sft" if variant == "equal_sft" else "reasoner_grpo"
    c = default_config()
    c.cold_start = (f"reasoner_sft:{steps}", f"policy_sft:{steps}")
    c.round = (f"{taught}:{steps}", f"policy_sft:{steps}")
    c.sft.batch = 4
    c.reasoner.prompts, c.reasoner.group, c.reasoner.max_tokens = 2, 4, 64
    c.reasoner.learning_rate = 5e-5
    c.reasoner.rewards = ConfigDict({"likelihood": 1.0, "format": 1.0})
    c.max_prompt_tokens = 448  # none of the bundled prompts fits 256, even without its oldest turns
    c.evaluate.tags = ("IDTest", "german", "Literature", "TurnLevelComposition")
    c.evaluate.batch, c.scoring.draws = 4, 4
    c.checkpoint.every = 5
    c.log_samples_every = 5
    if small:
        c.evaluate.tags, c.evaluate.samples = ("IDTest",), 4
    return c

"""CoRL on the bundled benchmark with SmolLM2 and LoRA: 30 steps of each phase, for a laptop."""

from ml_collections import ConfigDict

from remid_jax.training.config import default_config


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `runlocal` shrinks everything."""
    steps = {"": 30, "runlocal": 1}.get(variant)
    if steps is None:
        raise ValueError(f"unknown variant {variant!r}; there is only 'runlocal'")
    c = default_config()
    c.cold_start = (f"reasoner_sft:{steps}", f"policy_sft:{steps}")
    c.round = (f"reasoner_grpo:{steps}", f"policy_sft:{steps}")
    c.sft.batch = 4
    c.reasoner.prompts, c.reasoner.group, c.reasoner.max_tokens = 2, 4, 64
    c.reasoner.learning_rate = 5e-5
    c.reasoner.rewards = ConfigDict({"likelihood": 1.0, "format": 1.0})
    c.max_prompt_tokens = 448  # none of the bundled prompts fits 256, even without its oldest turns
    c.evaluate.tags = ("IDTest", "german", "Literature", "TurnLevelComposition")
    c.evaluate.batch, c.scoring.draws = 4, 4
    c.checkpoint.every = 5
    c.log_samples_every = 5
    if variant:
        c.evaluate.tags, c.evaluate.samples = ("IDTest",), 4
    return c

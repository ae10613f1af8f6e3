"""An RPM by supervised fine-tuning on golden answers, from the base.

`augmented`: with words recombined and personas in other styles. `thinking`: a thought of the base's
own before each answer. `rejection`: from an RPM, on the best of its own answers.
`runlocal` is a small run.
"""

from ml_collections import ConfigDict

from remid_jax.training.rpm_config import default_config

VARIANTS = {
    "": "sft", "augmented": "sft_augmented", "thinking": "thinking_sft",
    "rejection": "rejection_sft",
}  # fmt: skip


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, for SmolLM2 on the bundled benchmark."""
    small = variant == "runlocal"
    if not small and variant not in VARIANTS:
        known = ", ".join([*filter(None, VARIANTS), "runlocal"])
        raise ValueError(f"unknown variant {variant!r}; choose among {known}")
    c = default_config()
    c.method = "sft" if small else VARIANTS[variant]
    c.steps = 1 if small else 30
    c.max_prompt_tokens = 448  # as corl_smollm2
    c.sft.batch = c.dpo.batch = c.answers.prompts = 4
    c.answers.group = 4
    c.augmentation.styles = ("reordered", "listed", "terse")
    if c.method == "rejection_sft":
        c.answers.rewards = ConfigDict({"exact_match": 1.0, "finished": 0.5})
    c.evaluate.batch = 4
    c.checkpoint.every = 5
    if small:
        c.evaluate.tags, c.evaluate.samples = ("IDTest",), 4
    return c

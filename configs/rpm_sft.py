"""An RPM by supervised fine-tuning on golden answers, from the base.

`augmented`: with words recombined and personas in other styles. `thinking`: a thought of the base's
own before each answer. `rejection`: from an RPM, on the best of its own answers. `runlocal`: small.
"""

from ml_collections import ConfigDict

from remid_jax.training.rpm_config import default_config

METHODS = {
    "": "sft", "runlocal": "sft", "augmented": "sft_augmented", "thinking": "thinking_sft",
    "rejection": "rejection_sft",
}  # fmt: skip


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, for SmolLM2 on the bundled benchmark."""
    if variant not in METHODS:
        known = ", ".join(filter(None, METHODS))
        raise ValueError(f"unknown variant {variant!r}; choose among {known}")
    c = default_config()
    c.method = METHODS[variant]
    c.augmentation.styles = ("reordered", "listed", "terse")
    if variant == "rejection":
        c.answers.rewards = ConfigDict({"exact_match": 1.0, "finished": 0.5})
    if variant == "runlocal":
        c.steps, c.evaluate.tags, c.evaluate.samples = 1, ("IDTest",), 4
    return c

"""An RPM by direct preference optimisation, of golden answers over its own.

config.start is the run of SFT. `runlocal`: small.
"""

from ml_collections import ConfigDict

from remid_jax.training.rpm_config import default_config


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, for SmolLM2 on the bundled benchmark."""
    if variant not in ("", "runlocal"):
        raise ValueError(f"unknown variant {variant!r}; there is only 'runlocal'")
    c = default_config()
    c.method = "dpo"
    if variant:
        c.steps, c.evaluate.tags, c.evaluate.samples = 1, ("IDTest",), 4
    return c

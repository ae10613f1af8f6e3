"""An RPM by direct preference optimisation: golden answers against its own; config.start is SFT's.

`runlocal` is a small run.
"""

from ml_collections import ConfigDict

from configs import rpm_sft


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, for SmolLM2 on the bundled benchmark."""
    if variant not in ("", "runlocal"):
        raise ValueError(f"unknown variant {variant!r}; there is only 'runlocal'")
    c = rpm_sft.get_config(variant)
    c.method = "dpo"
    return c

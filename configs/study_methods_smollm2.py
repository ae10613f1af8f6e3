"""Training methods for RPMs with SmolLM2 on the bundled benchmark; `runlocal` is a small run."""

import dataclasses

from ml_collections import ConfigDict

from remid_jax.settings import ExperimentKeys, defaults_of, key, keys_of

BASE = "base"  # the RPM that nobody trained
METHODS = {  # method -> (configuration, what it begins from; None: the base)
    "sft": ("rpm_sft", None), "sft_augmented": ("rpm_sft:augmented", None),
    "dpo": ("rpm_dpo", "sft"), "grpo": ("rpm_grpo", "sft"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TextMethodsConfig(ExperimentKeys):
    """All keys of the study."""

    methods: tuple[str, ...] = key((BASE, *METHODS), "that are compared", (BASE, *METHODS))
    steps: int = key(30, "of each method", "[1, inf)")
    shifts: tuple[str, ...] = key(
        ("german", "Literature", "TurnLevelComposition"), "tags of the shifted subsets"
    )
    contexts: int = key(0, "diagnosed in each subset; 0: all", "[0, inf) contexts")
    answer_tokens: int = key(48, "of a diagnosed answer, at most", "[1, inf) tokens")


KEYS = keys_of(TextMethodsConfig, experiment="study_methods_smollm2")


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `runlocal` shrinks everything."""
    if variant not in ("", "runlocal"):
        raise ValueError(f"unknown variant {variant!r}; there is only 'runlocal'")
    c = defaults_of(KEYS)
    if variant:
        c.methods, c.steps = (BASE, "sft"), 1
        c.shifts, c.contexts, c.answer_tokens = ("german",), 3, 4
    return c

"""An RPM by group-relative policy optimisation; config.start is the run of SFT.

Answers are worth their likelihood, by config.estimator or else by the start. `information`: what
they say about their context, by config.estimator. `thinking`: from an RPM that thinks, its thoughts
are worth what they make of golden answers; with config.estimator, its answers their likelihood.
`runlocal`: small.
"""

from ml_collections import ConfigDict

from remid_jax.training.rpm_config import default_config

METHODS = {"": "grpo", "information": "migrpo", "thinking": "thinking_grpo", "runlocal": "grpo"}


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, for SmolLM2 on the bundled benchmark."""
    if variant not in METHODS:
        known = ", ".join(filter(None, METHODS))
        raise ValueError(f"unknown variant {variant!r}; choose among {known}")
    c = default_config()
    c.method = METHODS[variant]
    if variant == "information":
        c.answers.rewards = ConfigDict({"cross_information": 1.0, "finished": 0.5})
    elif variant == "thinking":
        c.answers.max_tokens = 160
        c.answers.rewards = ConfigDict({"likelihood": 1.0, "finished": 0.5})
    elif variant == "runlocal":
        c.steps, c.evaluate.tags, c.evaluate.samples = 1, ("IDTest",), 4
    return c

"""The main job on a laptop: two shifts of the bundled benchmark; `:runlocal` is a small one."""

from ml_collections import ConfigDict

from remid_jax.evaluation.config import default_config


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `runlocal` shrinks everything."""
    c = default_config()
    c.shifts = ("german", "Literature")
    c.limits.contexts = 6  # per subset
    c.sampling.max_tokens = 24  # tokens
    c.sampling.batch_rows = 6
    c.reasoning.max_tokens = 24  # tokens
    c.estimator.negatives = "cyclic"  # R-EMI on 2 of 5 cyclic shifts, for time
    c.estimator.num_negatives = 2
    c.estimator.emi_shifts = -1  # no EMI, for time
    if variant == "runlocal":
        c.limits.contexts = 3
        c.sampling.max_tokens = 8
        c.sampling.batch_rows = 3
        c.reasoning.max_tokens = 8
    elif variant:
        raise ValueError(f"unknown variant {variant!r}; there is only 'runlocal'")
    return c

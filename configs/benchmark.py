"""All twelve subsets; resumable. `--config.benchmark=PATH` takes another RPGBench file."""

from ml_collections import ConfigDict

from remid_jax.evaluation.config import default_config


def get_config() -> ConfigDict:
    """The configuration."""
    c = default_config()
    c.limits.contexts = 12  # per subset; 0 takes all
    c.sampling.max_tokens = 32  # tokens
    c.sampling.batch_rows = 12
    c.reasoning.max_tokens = 32  # tokens
    c.estimator.emi_shifts = 4  # EMI without reasoning on 4 of 11 cyclic shifts, for time
    c.limits.too_long = "drop_oldest_turns"
    return c

"""Your RPM behind a URL: `--config.server.url=... --config.server.model=...`."""

from ml_collections import ConfigDict

from remid_jax.evaluation.config import default_config


def get_config() -> ConfigDict:
    """The configuration: one RPM, which answers behind an OpenAI-compatible server."""
    c = default_config()
    c.rpms = ConfigDict()
    c.limits.contexts = 12  # per subset; 0 takes all
    c.limits.too_long = "drop_oldest_turns"
    c.sampling.max_tokens = 256  # tokens of the server's
    c.sampling.repetition_penalty = 1.0  # the API has no name for another one
    c.reasoning.max_tokens = 32  # tokens
    c.estimator.emi_shifts = 4  # EMI without reasoning on 4 of 11 cyclic shifts, for time
    return c

"""What collapsed in production? `--config.before=FILE --config.after=FILE`: logged dialogues."""

import dataclasses

from ml_collections import ConfigDict

from remid_jax.evaluation.config import DiagnosisConfig
from remid_jax.settings import defaults_of, key, keys_of

GIVEN = (
    "benchmark",
    "in_distribution",
    "subset_shifts",
    "shifts",
    "responses",
    "rpms",
    "server",
)  # by logs


@dataclasses.dataclass(frozen=True)
class _Logs:
    before: str = key("", "file of dialogues with their logged answers, the state to compare with")
    after: str = key("", "the same, of the time that is watched")


KEYS = keys_of(_Logs, DiagnosisConfig, without=GIVEN, experiment="monitor")


def get_config() -> ConfigDict:
    """The configuration. What needs golden responses is kept cheap: logs seldom have them."""
    c = defaults_of(KEYS)
    c.limits.contexts = 32  # of each file, at even distances; 0 takes all
    c.limits.too_long = "drop_oldest_turns"
    c.reasoning.max_tokens = 1  # token
    c.estimator.negatives = "cyclic"
    c.estimator.num_negatives = 1
    c.estimator.emi_shifts = -1  # no EMI
    return c

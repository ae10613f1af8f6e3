"""A tiny model on disk and a small configuration that runs the whole line in seconds."""

import pytest
from tiny_checkpoint import write_reader

from remid_jax.diagnosis.config import default_config


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory):
    """A random Llama whose window holds the bundled prompts.

    With this seed golden's own information is not near 0, so that ratios to it keep their digits.
    """
    return str(write_reader(tmp_path_factory.mktemp("tiny") / "model", seed=1))


@pytest.fixture
def small_config(tiny_path):
    """Two shifted subsets, three contexts each."""
    c = default_config()
    c.model.path = tiny_path
    c.shifts = ("german", "Literature")
    c.limits.contexts = 3
    c.sampling.max_tokens = 6
    c.sampling.batch_rows = 3
    c.reasoning.max_tokens = 5
    return c

"""A tiny model on disk and a small configuration that runs the whole line in seconds."""

import pytest
from short_benchmark import write_benchmark
from tiny_checkpoint import write_reader

from remid_jax.evaluation.config import default_config


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory):
    """A random Llama whose window holds the bundled prompts.

    With this seed golden's own information is not near 0, so that ratios to it keep their digits.
    """
    return str(write_reader(tmp_path_factory.mktemp("tiny") / "model", seed=1))


@pytest.fixture(scope="session")
def short_benchmark(tmp_path_factory):
    """A file of short samples: programs are few, and small to compile."""
    return write_benchmark(tmp_path_factory.mktemp("short") / "benchmark.json", count=8)


@pytest.fixture
def small_config(tiny_path, short_benchmark):
    """Two shifted subsets, three contexts each."""
    c = default_config()
    c.model.path = tiny_path
    c.benchmark = short_benchmark
    c.shifts = ("german", "Literature")
    c.limits.contexts = 3
    c.sampling.max_tokens = 6
    c.sampling.batch_rows = 3
    c.reasoning.max_tokens = 5
    return c

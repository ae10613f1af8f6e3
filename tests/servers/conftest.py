"""A server that wants a key."""

import pytest
from chat_server import chat_server, write_speaker


@pytest.fixture(scope="session")
def keyed_url(tmp_path_factory):
    """URL of the API of a real server that takes the key `sk-right` alone."""
    file = write_speaker(tmp_path_factory.mktemp("keyed") / "a.gguf")
    with chat_server(file, key="sk-right") as url:
        yield url

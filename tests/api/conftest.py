"""What several tests of the server share."""

import contextlib
import socket

import pytest


@pytest.fixture
def taken_port():
    """A port that somebody else listens on."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]

"""A tiny real model behind the real server, in this process."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nmri3d.app.serve import WebServer
from nmri3d.client import connect
from nmri3d.service import Service
from tests.models.tiny import tiny_checkpoint_folder

TOKEN = "a secret of the tests".replace(" ", "-")


@pytest.fixture(scope="package")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NMRI3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NMRI3D_SESSIONS", str(tmp_path_factory.mktemp("sessions")))
        shared = Service()
        shared.load(str(tiny_checkpoint_folder("llama", tmp_path_factory.mktemp("tiny"))))
        yield shared
        shared.close()


@pytest.fixture(scope="package")
def server(service, tmp_path_factory):
    running = WebServer(service, port=0, token=TOKEN, sessions=tmp_path_factory.mktemp("kept"))
    answering = threading.Event()
    running.on_answering(answering.set)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve()), daemon=True)
    thread.start()
    assert answering.wait(60)
    yield running
    running.stop()
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def remote(server):
    with connect(server.url) as model:
        yield model

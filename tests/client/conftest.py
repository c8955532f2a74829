"""A tiny real model behind the real server, in this process."""

import pytest

from nmri3d.client import connect
from nmri3d.service import Service
from tests.app.conftest import serving
from tests.models.tiny import tiny_checkpoint_folder


@pytest.fixture(scope="package")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NMRI3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        shared = Service()
        shared.load(str(tiny_checkpoint_folder("llama", tmp_path_factory.mktemp("tiny"))))
        yield shared
        shared.close()


@pytest.fixture(scope="package")
def server(service, tmp_path_factory):
    with serving(service, token="a-secret-of-the-tests", sessions=tmp_path_factory.mktemp("kept")) as running:
        yield running


@pytest.fixture
def remote(server):
    with connect(server.url) as model:
        yield model

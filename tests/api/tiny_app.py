"""The whole application over a tiny real network, and a second copy of that network to compare with."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import nmri3d
import nmri3d.template
from nmri3d.api import Security, create_app
from nmri3d.models.backend import Backend
from nmri3d.service import Service
from nmri3d.service.sessions import SessionStore
from tests.models.tiny import tiny_checkpoint_folder

ADDRESS = "http://127.0.0.1:8765"
PROMPT = "The capital of France is"
OTHER = "The capital of Italy is"
REFERENCE = (
    "The quick brown fox jumps over the lazy dog.",
    "A radiologist opens a patient.",
    "Mary and John went home.",
)


@dataclass
class TinyApp:
    """An application, a client of it, and the same weights once more, on which nobody else works."""

    app: FastAPI
    client: TestClient
    service: Service
    store: SessionStore
    folder: Path
    copy: Backend

    def ok(self, method: str, path: str, body=None, **options):
        """The JSON of an answer that must be 200."""
        answer = self.client.request(method, path, json=body, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, method: str, path: str, body=None, *, status: int = 422, **options) -> str:
        """The sentence of a refusal of this status."""
        answer = self.client.request(method, path, json=body, **options)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.json()["detail"]


@contextlib.contextmanager
def short_template(backend: Backend):
    """Edits take a template from three sentences meanwhile, so that no test waits for the whole reference text."""
    template = nmri3d.template.build_template(backend, texts=REFERENCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nmri3d.template, "template_of", lambda model, progress=None: template)
        yield


@contextlib.contextmanager
def tiny_app(root: Path, family: str = "llama"):
    """A TinyApp whose model is loaded. Models and sessions lie under `root`."""
    folder = tiny_checkpoint_folder(family, root / "models" / family)
    service, store = Service(), SessionStore(root / "sessions")
    service.load(str(folder), device="cpu")
    copy = nmri3d.load(folder, device="cpu")
    security = Security.for_address("127.0.0.1", 8765, token="")
    service.model_folders = ((root / "models").resolve(),)
    app = create_app(service, security=security, store=store)
    client = TestClient(app, base_url=ADDRESS)
    try:
        yield TinyApp(app, client, service, store, folder, copy)
    finally:
        client.close()
        store.close()
        copy.close()
        assert service.close(), "work was left over"

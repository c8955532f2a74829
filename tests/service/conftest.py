"""A service over planted models."""

from __future__ import annotations

import numpy as np
import pytest

from nmri3d import scans
from nmri3d.results import Provenance, Scan
from nmri3d.service import Service
from tests.service.fakes import FakeLoader


@pytest.fixture
def loader():
    return FakeLoader()


@pytest.fixture
def a_service(loader, monkeypatch):
    """A service whose scans run the fake backend once and return its planted values."""

    def planted_scan(backend, mode, prompt=None, *, progress, **config):
        stimulus = backend.stimulus("weights" if prompt is None else prompt)
        backend.run(stimulus, {}, progress=progress)
        steps = 1 if prompt is None else len(stimulus)
        values = np.ones((steps, len(backend.components)), dtype=np.float32)
        tokens = () if prompt is None else stimulus.labels
        provenance = Provenance(backend.info.model_id, backend.info.fingerprint, prompt, config)
        return Scan(mode, values, "planted", backend.components, tokens, provenance)

    monkeypatch.setattr(scans, "scan", planted_scan)
    service = Service(loader=loader)
    yield service
    assert service.close(), "work was left over"


@pytest.fixture
def a_loaded_service(a_service):
    a_service.load("fake")
    return a_service


@pytest.fixture
def backend(a_loaded_service):
    return a_loaded_service.backend

"""Health, the loaded model, errors as problem details, and the list of what there is."""

from __future__ import annotations

import threading

import pytest
from fastapi import Query
from starlette.testclient import TestClient

import nmri3d
from nmri3d import errors
from nmri3d.api import Security, create_app
from nmri3d.errors import ModelNotFoundError
from nmri3d.service import Service
from tests.service.fakes import PATIENCE, FakeLoader


@pytest.fixture
def loader():
    return FakeLoader()


@pytest.fixture
def service(loader):
    service = Service(loader=loader)
    yield service
    assert service.close()


@pytest.fixture
def app(service):
    return create_app(service, security=Security.for_address("127.0.0.1", 8765, token=""))


@pytest.fixture
def client(app):
    return TestClient(app, base_url="http://127.0.0.1:8765")


def test_the_loaded_model_is_described(client, service):
    service.load("fake")
    answer = client.get("/api/model/info")
    assert answer.status_code == 200
    body = answer.json()
    assert body["info"]["model_id"] == "fake"
    assert body["info"]["n_layers"] == 4
    assert body["components"] == {
        "embed": {"components": 1, "parameters": 1},
        "mlp": {"components": 4, "parameters": 2 + 3 + 4 + 5},
        "unembed": {"components": 1, "parameters": 6},
    }
    assert (body["neurons"], body["step_axis"], body["abilities"]) == (24, "token", ["residual"])


def test_while_the_first_model_loads_one_is_told_to_come_back(client, service, loader):
    loader.gate = threading.Event()
    job = service.run(lambda progress: service.load("slow", progress=progress))
    assert loader.begun.wait(PATIENCE)
    info = client.get("/api/model/info")
    assert (info.status_code, info.headers["retry-after"]) == (503, "2")
    assert info.json()["detail"] == "slow is still being loaded (25%); ask again when it is ready."
    health = client.get("/healthz")
    assert (health.status_code, health.headers["retry-after"]) == (503, "2")
    assert health.json() == {
        "status": "loading",
        "model": "slow",
        "share": 0.25,
        "detail": "reading",
        "version": nmri3d.__version__,
    }
    loader.gate.set()
    job.result(PATIENCE)
    assert client.get("/healthz").json()["status"] == "ok"


def test_while_a_second_model_loads_the_first_answers(client, service, loader):
    service.load("fake")
    loader.gate = threading.Event()
    loader.begun.clear()
    job = service.run(lambda progress: service.load("slow", progress=progress))
    assert loader.begun.wait(PATIENCE)
    assert client.get("/api/model/info").json()["info"]["model_id"] == "fake"
    assert client.get("/healthz").status_code == 200
    loader.gate.set()
    job.result(PATIENCE)


def test_without_a_model_the_reason_is_told(client, service, loader):
    assert client.get("/healthz").status_code == 200
    empty = client.get("/api/model/info")
    assert (empty.status_code, empty.json()["detail"]) == (409, "No model is loaded; choose one first.")
    loader.errors["missing"] = [ModelNotFoundError("There is no model missing.")]
    with pytest.raises(ModelNotFoundError):
        service.load("missing")
    assert "There is no model missing." in client.get("/api/model/info").json()["detail"]
    health = client.get("/healthz")
    assert (health.status_code, health.json()["status"], health.json()["detail"]) == (
        503,
        "failed",
        "There is no model missing.",
    )
    assert "retry-after" not in health.headers


EXPECTED = {
    "InputError": 422,
    "NotFoundError": 404,
    "ModelError": 409,
    "ModelNotFoundError": 404,
    "ModelAccessError": 403,
    "ModelFormatError": 422,
    "ModelTooLargeError": 507,
    "UnsupportedModelError": 422,
    "AlignmentError": 409,
    "BusyError": 503,
    "Cancelled": 409,
    "MachineError": 500,
    "Nmri3dError": 500,
}


def test_every_error_class_is_in_the_table():
    classes = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.Nmri3dError)
    }
    assert classes == set(EXPECTED)


@pytest.mark.parametrize(("name", "status"), EXPECTED.items())
def test_an_error_becomes_problem_details_by_its_class(app, client, name, status):
    @app.get("/raises")
    def raises():
        raise getattr(errors, name)("The cause, and the remedy.")

    answer = client.get("/raises")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.pop("title")
    assert body == {"type": f"urn:nmri3d:error:{name}", "status": status, "detail": "The cause, and the remedy."}
    assert ("retry-after" in answer.headers) == (status == 503)


def test_what_is_not_there_or_not_so_is_told_in_words(app, client):
    @app.get("/typed")
    def typed(layer: int = Query()):
        return layer

    assert client.get("/nothing").json()["detail"] == "There is nothing at /nothing; the API is listed at /docs."
    assert client.post("/healthz").json()["detail"].startswith("/healthz does not take POST")
    wrong = client.get("/typed", params={"layer": "x"})
    assert (wrong.status_code, wrong.json()["type"]) == (422, "urn:nmri3d:error:InputError")
    assert wrong.json()["detail"].startswith("layer: ")


def test_a_person_gets_a_page_whose_text_is_escaped(client):
    answer = client.get("/<script>alert(1)", headers={"accept": "text/html"})
    assert answer.status_code == 404
    assert "<script>" not in answer.text
    assert "There is nothing at /&lt;script&gt;alert(1)" in answer.text


SPECIFIED = {
    *(("post", f"/api/scan/{name}") for name in ("structural", "weights", "activation", "circuits", "anomaly")),
    *(("post", f"/api/perturb/{name}") for name in ("zero", "amplify", "ablate", "inject", "patch", "reset")),
    *(("post", path) for path in ("/api/model/load", "/api/features/activate")),
    *(("get", path) for path in ("/api/model/info", "/api/features/list")),
    ("delete", "/api/model/unload"),
}
"""The paths of neural-mri.md 4.1."""


def test_docs_list_every_route_and_need_nothing_from_elsewhere(app, client):
    page = client.get("/docs")
    assert page.status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} >= SPECIFIED
    for path, methods in paths.items():
        for method in methods:
            assert f"<h2>{method.upper()} {path}</h2>" in page.text
    assert "abilities" in page.text
    assert "<script" not in page.text
    assert "http" not in page.text.replace('http-equiv="refresh"', "")

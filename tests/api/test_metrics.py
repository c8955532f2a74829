"""The figures of the running server, and what the observer adds to each answer."""

from __future__ import annotations

import re
import threading

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from nmri3d.api import Security, create_app
from nmri3d.api.metrics import Metrics
from nmri3d.service import Service
from tests.api.wire import Person, running
from tests.service.fakes import PATIENCE, FakeLoader

TOKEN = "right-token_123"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def service():
    service = Service(loader=FakeLoader())
    yield service
    assert service.close()


@pytest.fixture
def client(service):
    app = create_app(service, security=Security.for_address("127.0.0.1", 8765, token=TOKEN))

    @app.get("/api/breaks")
    def breaks():
        raise ZeroDivisionError

    return TestClient(app, base_url="http://127.0.0.1:8765", headers=BEARER, raise_server_exceptions=False)


def samples(text):
    """Prometheus' text as (name, labels) -> value, by Prometheus' own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def requests(found, **labels):
    return found.get(("nmri3d_http_requests_total", tuple(sorted(labels.items()))), 0)


def test_requests_are_counted_by_route_method_and_status(client):
    for _ in range(3):
        client.get("/healthz")
    client.get("/api/breaks")
    client.post("/healthz")
    client.request("MADEUP", "/healthz")
    client.get("/healthz", headers={"authorization": "Bearer wrong"})
    for number in range(20):  # paths that a caller makes up must not become series of their own
        client.get(f"/made/up/{number}")
    found = samples(client.get("/metrics").text)
    assert requests(found, method="GET", route="/healthz", status="200") == 3
    assert requests(found, method="GET", route="/api/breaks", status="500") == 1
    assert requests(found, method="POST", route="/healthz", status="405") == 1
    assert requests(found, method="other", route="/healthz", status="405") == 1
    assert requests(found, method="GET", route="none", status="403") == 1
    assert requests(found, method="GET", route="none", status="404") == 20
    counted = ("nmri3d_http_request_seconds_count", (("method", "GET"), ("route", "/healthz")))
    assert found[counted] == 3
    assert "made" not in client.get("/metrics").text


def test_a_route_with_a_parameter_is_one_series(client):
    for number in range(3):
        client.get(f"/api/jobs/{number:016d}")
    found = samples(client.get("/metrics").text)
    assert (
        sum(requests(found, method="GET", route="/api/jobs/{job_id}", status=status) for status in ("404", "422")) == 3
    )


def test_the_service_is_told_of(client, service):
    assert ("nmri3d_model_loaded", ()) not in samples(client.get("/metrics").text)
    service.load("fake")
    backend = service.backend
    backend.gates[0] = threading.Event()
    running_jobs = [service.run(lambda progress: service.predict("a b", progress=progress)) for _ in range(2)]
    other = service.run(lambda progress: service.predict("c", progress=progress))
    assert backend.reached[0].wait(PATIENCE)
    try:
        for _ in range(200):
            busy = samples(client.get("/metrics").text)
            if busy["nmri3d_queue_length", ()] == 1:
                break
        # two equal requests are one piece of work; the other one waits for its turn
        assert busy["nmri3d_queue_length", ()] == 1
        assert busy["nmri3d_jobs", ()] == 3
    finally:
        backend.gates[0].set()
    for job in (*running_jobs, other):
        job.result(PATIENCE)
    service.predict("c")
    found = samples(client.get("/metrics").text)
    model = (("device", "cpu"), ("dtype", "float32"), ("model_id", "fake"))
    assert found["nmri3d_model_loaded", model] == 1
    assert found["nmri3d_queue_length", ()] == 0
    assert found["nmri3d_cache_hits_total", ()] == service.figures()["cache_hits"] >= 1
    assert found["nmri3d_cache_misses_total", ()] == 2
    assert found["nmri3d_cache_bytes", ()] == service.figures()["cache_bytes"]
    assert found["nmri3d_cache_prompts", ()] == 2
    assert found["nmri3d_process_memory_bytes", ()] > 10e6


def test_two_servers_in_one_process_count_apart(service):
    one, other = Metrics(service), Metrics(service)
    one.count_request("GET", "/healthz", 200, 0.01)
    assert requests(samples(one.text().decode()), method="GET", route="/healthz", status="200") == 1
    assert requests(samples(other.text().decode()), method="GET", route="/healthz", status="200") == 0


def test_the_figures_are_behind_the_token(client):
    assert client.get("/metrics", headers={"authorization": ""}).status_code == 401
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")


def test_visitors_and_their_sockets_come_and_go(service):
    with running(service) as server:
        headers = {"authorization": f"Bearer {server.security.token}"}

        def figures():
            found = samples(httpx.get(f"{server.address}metrics", headers=headers, timeout=PATIENCE).text)
            socket = ("nmri3d_websocket_connections", (("route", "/v/{visitor_id}/ws"),))
            return found["nmri3d_visitors", ()], found.get(socket, 0)

        assert figures() == (0, 0)
        wire, _, _ = Person(server).visit()
        assert figures() == (1, 1)
        wire.close()
        for _ in range(200):
            if figures() == (1, 0):  # gone, but kept for the grace time
                break
        assert figures() == (1, 0)


# -- what the observer adds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/api/breaks", "/docs"])
@pytest.mark.parametrize("headers", [BEARER, {"authorization": "Bearer wrong"}])
def test_every_answer_tells_its_server_work_and_its_id(client, path, headers):
    answer = client.get(path, headers=headers)
    assert re.fullmatch(r"app;dur=\d+\.\d\d", answer.headers["server-timing"])
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])


@pytest.mark.parametrize("given", ["abc-123", "A_b.c:d", "x" * 128])
def test_a_sane_id_of_the_caller_is_kept(client, given):
    assert client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "é", "a,b", '"'])
def test_any_other_id_is_replaced(client, given):
    answer = client.get("/healthz", headers={"x-request-id": given.encode("latin-1")})
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])


def test_a_method_that_is_not_there_is_told_which_are(client):
    @client.app.get("/api/thing/{name}")
    def get_thing(name: str):
        return name

    @client.app.delete("/api/thing/{name}")
    def delete_thing(name: str):
        return name

    for method in ("OPTIONS", "TRACE", "POST", "MADEUP", "HEAD"):
        answer = client.request(method, "/api/thing/1")
        assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")
        assert client.request(method, "/docs").headers["allow"] == "GET"

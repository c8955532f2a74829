"""The server's log: one line a request, as text or JSON, and never a secret."""

from __future__ import annotations

import json
import logging

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from nmri3d.app.logs import BLOT, LogFormatter, ServerLog
from nmri3d.errors import ModelAccessError
from nmri3d.service import Service
from tests.api.wire import Person, running
from tests.service.fakes import PATIENCE, FakeLoader

TOKEN = 'tok"en/with&signs_0123456789'
HUB_TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWx"


@pytest.fixture
def service():
    service = Service(loader=FakeLoader())
    yield service
    assert service.close()


@pytest.fixture
def stderr(capsys):
    """What was written to stderr since it was asked for last."""
    return lambda: capsys.readouterr().err


def lines(stderr):
    return [json.loads(line) for line in stderr().splitlines()]


def test_a_request_is_one_json_line(service, stderr):
    with ServerLog(service, "json", "info"), running(service, token=TOKEN) as server:
        headers = {"authorization": f"Bearer {TOKEN}", "x-request-id": "mine-1", "nmri3d-client": "tester"}
        httpx.get(f"{server.address}healthz?secret=no&prompt=private", headers=headers)
    (line,) = [line for line in lines(stderr) if line["event"] == "request"]
    assert line.pop("time").endswith("+00:00")
    assert line.pop("ms") >= 0
    assert line.pop("message").startswith("GET /healthz 200 ")
    assert line == {
        "level": "info",
        "event": "request",
        "logger": "nmri3d.requests",
        "request_id": "mine-1",
        "method": "GET",
        "route": "/healthz",
        "status": 200,
        "client": "client tester",
    }


def test_an_unexpected_error_is_one_line_with_its_traceback_and_the_id_of_its_request(service, stderr):
    from starlette.testclient import TestClient

    from nmri3d.api import Security, create_app

    app = create_app(service, security=Security.for_address("127.0.0.1", 8765, token=""))

    @app.get("/breaks")
    def breaks():
        raise ZeroDivisionError("inner detail")

    client = TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False)
    with ServerLog(service, "json", "warning"):
        assert client.get("/breaks", headers={"x-request-id": "mine-2"}).status_code == 500
    (line,) = [line for line in lines(stderr) if line["level"] == "error"]
    assert "ZeroDivisionError: inner detail" in line["traceback"]
    assert line["request_id"] == "mine-2"


def test_the_models_comings_and_goings_are_lines(service, stderr):
    service._slot._loader.errors["missing"] = [ModelAccessError("No access to missing.")]
    with ServerLog(service, "json", "info"):
        service.load("fake")
        with pytest.raises(ModelAccessError):
            service.load("missing")
        service.unload()
    service.load("late")  # after the log was left: not told
    told = [(line["event"], line["level"], line["message"]) for line in lines(stderr)]
    assert told == [
        ("model_loading", "info", "fake: Looking for fake"),
        ("model_loading", "info", "fake: reading"),
        ("model_loading", "info", "fake: checking"),
        ("model_ready", "info", "Fake is ready (1,000 parameters, float32, cpu)"),
        ("model_loading", "info", "missing: Looking for missing"),
        ("model_loading", "info", "missing: reading"),
        ("model_failed", "error", "No access to missing."),
        ("model_unloaded", "info", "fake was unloaded"),
    ]


def test_text_tells_requests_when_it_is_asked_to(service, stderr):
    with ServerLog(service, "text", "info"), running(service, token="") as server:
        httpx.get(f"{server.address}healthz")
    assert " INFO GET /healthz 200 " in stderr()


def test_text_is_silent_by_default(service, stderr):
    with ServerLog(service, "text", "warning"), running(service, token="") as server:
        httpx.get(f"{server.address}healthz")
    assert stderr() == ""


def test_leaving_the_log_leaves_logging_as_it_was(service):
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = (root.level, list(root.handlers), uvicorn.level)
    with ServerLog(service, "json", "debug"):
        assert (root.level, uvicorn.level) == (logging.DEBUG, logging.WARNING)
    assert (root.level, list(root.handlers), uvicorn.level) == before


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_in_the_log_of_a_whole_session_at_its_most_talkative(service, stderr, form, caplog):
    """Tokens right and wrong, in header, address and body, over HTTP and WebSocket, and an error that quotes them."""
    caplog.set_level(logging.DEBUG)
    loader = service._slot._loader
    loader.errors["gated"] = [ValueError(f"the hub said no to {HUB_TOKEN} and {TOKEN}")]
    secrets = {
        TOKEN,
        HUB_TOKEN,
        httpx.QueryParams({"token": TOKEN})["token"],
        str(httpx.QueryParams({"token": TOKEN}))[6:],
    }
    with ServerLog(service, form, "debug", [TOKEN]), running(service, token=TOKEN) as server:
        person = Person(server)
        _, _, visit_secret = person.visit()
        person.http.get("/healthz")
        httpx.get(server.url)
        httpx.get(server.address, params={"token": "wrong-guess"})
        for address in (f"/v/none/ws?token={TOKEN}", "/v/none/ws?token=wrong-guess"):
            with pytest.raises((InvalidStatus, Exception)), connect(f"ws://127.0.0.1:{server.port}{address}") as socket:
                socket.recv(PATIENCE)
        bearer = {"authorization": f"Bearer {TOKEN}"}
        body = {"model_id": "gated", "hf_token": HUB_TOKEN}
        httpx.post(f"{server.address}api/model/load", json=body, headers=bearer, timeout=PATIENCE)
        httpx.post(f"{server.address}api/model/load", json={**body, "wrong": HUB_TOKEN}, headers=bearer)
        loader.errors["gated"] = [ValueError(f"the hub said no to {HUB_TOKEN} and {TOKEN}")]
        with pytest.raises(ValueError, match="the hub said no"):
            service.load("gated", token=HUB_TOKEN)
        logging.getLogger("nmri3d.test").error("asked %s", server.url, exc_info=ValueError(HUB_TOKEN))
    written = stderr()
    assert BLOT in written  # the last line, at least, had something to hide
    assert "Traceback" not in written or "ValueError" in written
    for secret in (*secrets, visit_secret, json.dumps(TOKEN)[1:-1], "wrong-guess"):
        assert secret not in written


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=6, max_size=40), st.text())
def test_a_secret_is_blotted_out_in_every_form_in_which_it_may_be_written(secret, around):
    formatter = LogFormatter("json", [secret])
    record = logging.LogRecord("x", logging.INFO, "f", 1, "%s", (f"{around} {secret} {around}",), None)
    line = json.loads(formatter.format(record))
    assert line["message"].count(BLOT) >= 1
    if secret not in around and secret not in BLOT:
        before, _, after = line["message"].partition(BLOT)
        assert secret not in before + after
    address = f"http://localhost/?token={httpx.URL('http://x', params={'t': secret}).query.decode()[2:]}"
    assert BLOT in formatter.blotted(address)

"""What one caller may ask for: bytes, requests a second, requests at once; and bodies that would break a parser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from nmri3d.api import Security, create_app
from nmri3d.api.limits import IMPORT_PATH, Bucket, Limiter, Limits
from nmri3d.api.schema import Body, Prompt
from nmri3d.errors import InputError
from nmri3d.service import Service
from tests.api.wire import running
from tests.service.fakes import PATIENCE, FakeLoader

HERE = "http://127.0.0.1:8765"


class Question(Body):
    prompt: Prompt
    n: int = 3
    share: float = 0.5


def an_app(limits):
    app = FastAPI()
    app.add_middleware(Limiter, limits=limits)

    @app.post("/size")
    @app.post(IMPORT_PATH)
    async def size(request: Request):
        return len(await request.body())

    @app.get("/")
    def root():
        return "in"

    @app.websocket("/ws")
    async def ws(websocket: WebSocket):
        await websocket.accept()
        await websocket.close()

    return app


@pytest.fixture
def service():
    service = Service(loader=FakeLoader())
    yield service
    assert service.close()


# -- bodies --------------------------------------------------------------------------------------------------------------


def pieces(n_bytes, piece=1000):
    """A body whose length is not told."""
    for start in range(0, n_bytes, piece):
        yield b"x" * min(piece, n_bytes - start)


@pytest.mark.parametrize(("n_bytes", "status"), [(0, 200), (10_000, 200), (10_001, 413), (50_000, 413)])
@pytest.mark.parametrize("told", [True, False])
def test_a_body_is_bounded_whether_its_length_is_told_or_not(n_bytes, status, told):
    client = TestClient(an_app(Limits(body_bytes=10_000)))
    answer = client.post("/size", content=b"x" * n_bytes if told else pieces(n_bytes))
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == n_bytes
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].startswith("A body may have at most 10,000 bytes")


def test_sessions_that_are_brought_along_may_be_larger():
    client = TestClient(an_app(Limits(body_bytes=10_000, body_bytes_at={IMPORT_PATH: 20_000})))
    assert client.post(IMPORT_PATH, content=b"x" * 20_000).json() == 20_000
    assert client.post(IMPORT_PATH, content=b"x" * 20_001).status_code == 413
    assert Limits().body_limit(IMPORT_PATH) == 512 * 2**20
    assert Limits().body_limit("/api/scan/activation") == 8 * 2**20


@pytest.mark.parametrize("length", ["1" * 30, "9" * 5000, "99999999"])
def test_a_length_that_is_only_claimed_is_refused_before_anything_is_read(length):
    async def ask():
        sent = []

        async def receive():
            raise AssertionError("the body was read")

        async def send(message):
            sent.append(message)

        headers = [(b"content-length", length.encode())]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/size",
            "headers": headers,
            "query_string": b"",
            "client": None,
        }
        await Limiter(an_app(Limits()), limits=Limits())(scope, receive, send)
        return sent[0]["status"]

    assert asyncio.run(ask()) == 413


def test_over_the_wire_a_body_that_is_too_large_gets_its_answer_and_the_server_lives(service):
    with running(service, token="") as server:
        server.limits.body_bytes = 100_000

        def endless():
            for _ in range(10_000):
                yield b"x" * 10_000

        with httpx.Client(base_url=server.address, timeout=PATIENCE) as client:
            # the server may close before all is sent, as it should; then there is no answer to read
            with contextlib.suppress(httpx.WriteError):
                assert client.post("/api/model/load", content=endless()).status_code == 413
            assert client.post("/api/model/load", content=b"x" * 200_000).status_code == 413
            assert client.get("/healthz").status_code == 200


# -- bodies that would break a parser ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 200_000, id="nested lists"),
        pytest.param(b'{"prompt":' * 100_000, id="nested objects"),
        pytest.param(b'{"prompt":"a","n":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="nested value"),
        pytest.param(b'{"prompt":"a","n":' + b"9" * 5000 + b"}", id="5,000 digits"),
        pytest.param(b'{"prompt":"a","share":1e400}', id="1e400"),
        pytest.param(b'{"prompt":"a","share":NaN}', id="NaN"),
        pytest.param(b'{"prompt":"a","n":1.0}', id="a float for an int"),
        pytest.param(b'{"prompt":"\\ud800"}', id="a lone surrogate"),
        pytest.param(b'{"prompt":"a","\\ud800":1}', id="a lone surrogate as a name"),
        pytest.param(b"\xff\xfe\x00", id="no UTF-8"),
        pytest.param(b"\x00", id="NUL"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"prompt":"a"', id="cut off"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_hostile_body_is_refused_in_words(service, body, accept):
    app = create_app(service, security=Security.for_address("127.0.0.1", 8765, token=""))

    @app.post("/question")
    def question(asked: Question):
        return asked.n

    client = TestClient(app, base_url=HERE)
    answer = client.post("/question", content=body, headers={"content-type": "application/json", "accept": accept})
    assert answer.status_code == 422
    assert "This cannot be asked" in answer.text
    good = json.dumps({"prompt": "a"})
    assert client.post("/question", content=good, headers={"content-type": "application/json"}).json() == 3


# -- requests a second ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.floats(0.1, 100),
    st.integers(1, 50),
    st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_a_bucket_never_lets_more_through_than_burst_and_rate(per_second, burst, pauses):
    now, taken, times = 100.0, 0, []
    bucket = Bucket(burst, now)
    for pause in pauses:
        now += pause
        wait = bucket.take(per_second, burst, now)
        assert wait >= 0
        taken += wait == 0
        times.append(now)
        assert taken <= burst + (now - 100.0) * per_second + 1e-6
        if wait:  # the wait that is told is enough, and no longer than one takes to grow
            assert wait <= 1 / per_second + 1e-9
            copy = Bucket(burst, now)
            copy._left, copy._seen = bucket._left, bucket._seen
            assert copy.take(per_second, burst, now + wait + 1e-6) == 0


def test_too_many_requests_are_told_when_to_come_back():
    client = TestClient(an_app(Limits(per_second=0.5, burst=3)))
    mine, yours = {"nmri3d-client": "me"}, {"nmri3d-client": "you"}
    assert [client.get("/", headers=mine).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = client.get("/", headers=mine)
    assert refused.headers["retry-after"] in ("1", "2")
    assert refused.headers["content-type"] == "application/problem+json"
    assert "--rate" in refused.json()["detail"]
    assert client.get("/", headers=yours).status_code == 200  # others are not held up


def test_the_files_of_the_page_do_not_count(service):
    limits = Limits(per_second=0.5, burst=3)
    app = create_app(service, security=Security.for_address("127.0.0.1", 8765, token=""), limits=limits)

    @app.get("/static/{name}")
    def file(name: str):
        return name

    client = TestClient(app, base_url=HERE)
    assert {client.get("/static/x.js").status_code for _ in range(20)} == {200}
    assert [client.get("/healthz").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_the_limit_can_be_turned_off_and_is_generous_by_default():
    off = TestClient(an_app(Limits.at_rate(0)))
    assert {off.get("/").status_code for _ in range(300)} == {200}
    usual = TestClient(an_app(Limits.at_rate(50)))
    assert {usual.get("/").status_code for _ in range(200)} == {200}


@pytest.mark.parametrize("rate", [-1, float("nan"), float("inf")])
def test_a_rate_that_cannot_be_is_refused(rate):
    with pytest.raises(InputError, match="requests a second"):
        Limits.at_rate(rate)


def test_callers_are_forgotten_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr("nmri3d.api.limits.MOST_CALLERS", 10)
    limiter = Limiter(an_app(Limits()), limits=Limits(burst=1))
    for number in range(50):
        limiter._caller(f"client {number}")
    assert list(limiter._callers) == [f"client {number}" for number in range(40, 50)]


# -- requests at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limits", "status"), [(Limits(at_once=2), 429), (Limits(in_all=2), 503)])
def test_requests_at_once_are_bounded_and_the_place_is_given_back(limits, status):
    async def ask():
        gate = asyncio.Event()
        app = FastAPI()
        app.add_middleware(Limiter, limits=limits)

        @app.get("/")
        async def root():
            await gate.wait()

        @app.get("/fails")
        async def fails():
            raise ZeroDivisionError

        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            waiting = [asyncio.create_task(client.get("/")) for _ in range(2)]
            await asyncio.sleep(0.05)
            refused = await client.get("/")
            gate.set()
            ended = [(await task).status_code for task in waiting]
            for _ in range(3):
                assert (await client.get("/fails")).status_code == 500
            return refused, ended, (await client.get("/")).status_code

    refused, ended, after = asyncio.run(ask())
    assert (refused.status_code, ended, after) == (status, [200, 200], 200)
    assert int(refused.headers["retry-after"]) >= 1


# -- the end -------------------------------------------------------------------------------------------------------------


def test_a_server_that_ends_takes_no_request_and_no_socket():
    limits = Limits()
    client = TestClient(an_app(limits))
    assert client.get("/").status_code == 200
    limits.closing = True
    refused = client.get("/")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["detail"].startswith("The server is being stopped")
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/ws"):
        pass
    assert closed.value.code == 1012


# -- headers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"X-Long: " + b"x" * 200_000 + b"\r\n", id="one of 200 kB"),
        pytest.param(b"".join(b"X-%d: y\r\n" % number for number in range(20_000)), id="20,000"),
    ],
)
def test_headers_are_bounded(service, head):
    with running(service, token="") as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as line:
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            try:
                line.sendall(head)
                line.sendall(b"\r\n")
                answer = line.recv(1000)
            except ConnectionError:  # closed on us before all was sent
                answer = b""
        assert not answer or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
        assert httpx.get(f"{server.address}healthz").status_code == 200

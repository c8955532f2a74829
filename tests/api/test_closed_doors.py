"""The whole server, as `nmri3d serve` starts it, against those who must not get in: each door is tried by its own means."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pickle as pickled_on_purpose  # noqa: TID251  # what is refused here has to be made first
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from nmri3d.errors import ModelAccessError
from nmri3d.service import Service
from tests.api.wire import Person, running
from tests.service.fakes import PATIENCE, FakeLoader

TOKEN = "right-token_123"
SENTINEL = "the secret that lies outside"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """allowed/ (with a model, and links out), outside/ (with a secret), sessions/."""
    top = tmp_path_factory.mktemp("disk")
    for name in ("allowed/model", "outside/model", "sessions"):
        (top / name).mkdir(parents=True)
    (top / "outside/secret.txt").write_text(SENTINEL)
    (top / "outside/model.gguf").write_text(SENTINEL)
    (top / "allowed/link").symlink_to(top / "outside")
    (top / "allowed/link.gguf").symlink_to(top / "outside/model.gguf")
    (top / "allowed/circle").symlink_to(top / "allowed/circle")
    return top


@pytest.fixture(scope="module")
def server(folders):
    service = Service(loader=FakeLoader())
    service.load("fake")
    options = {"token": TOKEN, "sessions": folders / "sessions", "models_from": [folders / "allowed"], "rate": 0}
    with running(service, **options) as server:
        server.service = service
        yield server
    assert service.close()


def bearer(token=TOKEN):
    return {"Authorization": f"Bearer {token}"}


def ask(server, method, target, headers=None, body=None):
    """Status, headers and body; the target goes out as it is written, with no cleaning by a client."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection._validate_path = lambda url: None
    with contextlib.closing(connection):
        connection.putrequest(method, target, skip_host=bool(headers and "Host" in headers))
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


# -- the doors -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visit(server):
    """A visit that is open, as a target to break into."""
    person = Person(server)
    _, path, _ = person.visit()
    return path


HTTP_DOORS = [
    "/",
    "visit",
    "/static/index.html",
    "/docs",
    "/openapi.json",
    "/healthz",
    "/metrics",
    "/api/model/info",
    "/nothing",
]
SOCKET_DOORS = ["visit", "/ws/stream"]

WRONG = {
    "no token": ({}, "", 401),
    "wrong token": (bearer("wrong"), "", 403),
    "wrong token in the address": ({}, "?token=wrong", 403),
    "a cookie of another server": ({"Cookie": "nmri3d-1=x"}, "", 401),
    "DNS rebinding": ({**bearer(), "Host": "rebound.evil.example:8765"}, "", 403),
    "no Host": ({**bearer(), "Host": ""}, "", 403),
    "cross-origin": ({**bearer(), "Origin": "http://evil.example"}, "", 403),
    "another port": ({**bearer(), "Origin": "http://127.0.0.1:1"}, "", 403),
    "Origin null": ({**bearer(), "Origin": "null"}, "", 403),
    "loaded by another site": ({**bearer(), "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "", 403),
}


@pytest.mark.parametrize("door", HTTP_DOORS)
@pytest.mark.parametrize("trick", WRONG)
def test_no_door_opens_to_a_stranger(server, visit, door, trick):
    headers, query, status = WRONG[trick]
    path = visit if door == "visit" else door
    found, answered, body = ask(server, "GET", path + query, headers)
    assert found == status
    assert json.loads(body)["status"] == status
    assert "set-cookie" not in answered
    for method in ("POST", "DELETE"):
        assert ask(server, method, path + query, headers)[0] == status


@pytest.mark.parametrize("door", HTTP_DOORS)
def test_each_door_is_one_that_opens_to_those_who_may(server, visit, door):
    """Otherwise the refusals above would say nothing."""
    status, headers, _ = ask(server, "GET", visit if door == "visit" else door, bearer())
    assert status == {"/": 303, "visit": 303, "/nothing": 404}.get(door, 200)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("door", SOCKET_DOORS)
@pytest.mark.parametrize("trick", WRONG)
def test_no_socket_opens_to_a_stranger(server, visit, door, trick):
    headers, query, _ = WRONG[trick]
    path = f"{visit}ws" if door == "visit" else door
    sent = {
        "Host": f"127.0.0.1:{server.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        **headers,
    }
    assert ask(server, "GET", path + query, sent)[0] == 403


@pytest.mark.parametrize("door", SOCKET_DOORS)
def test_each_socket_is_one_that_opens_to_those_who_may(server, visit, door):
    path = f"{visit}ws" if door == "visit" else door
    origin = f"http://127.0.0.1:{server.port}"
    with connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=bearer(), origin=origin) as socket:
        assert socket.protocol.state.name == "OPEN"


# -- paths that lead out -------------------------------------------------------------------------------------------------

TARGETS = ("outside/secret.txt", "../outside/secret.txt", "../../../../../../../etc/hostname")


def hostile_paths(top: Path):
    """Ways to write a path that leads out, as they would stand in an address."""
    for target in (*TARGETS, str(top / "outside/secret.txt")):
        up = target if target.startswith(("/", "..")) else f"../{target}"
        yield up
        yield up.replace("..", "%2e%2e")
        yield up.replace("/", "%2f")
        yield up.replace("..", "%2e%2e").replace("/", "%2F")
        yield up.replace("..", "%252e%252e").replace("/", "%252f")
        yield up.replace("/", "\\")
        yield up.replace("/", "%5c")
        yield up.replace("..", "....//")
        yield up.replace("..", "..;")
        yield up.replace("..", "%c0%ae%c0%ae")
        yield f"{up}%00.js"
    yield from ("..", ".", "%2e", "%2e%2e", "%00", "~", "~root", ".hidden", "C:%5cWindows", "%ff%fe", "x" * 5000)


def routes_with_a_path_field(server):
    paths = httpx.get(f"{server.address}openapi.json", headers=bearer(), timeout=PATIENCE).json()["paths"]
    found = [(path, method) for path, methods in paths.items() if "{" in path for method in methods]
    return [*found, ("/static/{path}", "get"), ("/v/{visitor_id}/", "get"), ("/static/link/{path}", "get")]


def test_no_path_field_leads_out(server, folders):
    """Every route of the API that has a field in its path, and the page's own, with every way to write `../`."""
    before = sorted(path for path in folders.rglob("*") if not path.is_relative_to(folders / "sessions"))
    routes = routes_with_a_path_field(server)
    assert {"/api/sessions/{session_id}", "/api/tensor/{address}", "/api/jobs/{job_id}"} <= {path for path, _ in routes}
    for template, method in routes:
        head, _, tail = template.partition("{")
        tail = tail.partition("}")[2]
        while "{" in tail:  # further fields, as an event's number
            tail = tail[: tail.index("{")] + "0" + tail[tail.index("}") + 1 :]
        body = None if method in ("get", "delete", "head") else b"{}"
        for hostile in hostile_paths(folders):
            status, headers, answer = ask(server, method.upper(), f"{head}{hostile}{tail}", bearer(), body)
            # 303: a visit that is not there leads to the front door, whatever stands in its place
            allowed = (303, 400, 404, 405, 415, 422) if template.startswith("/v/") else (400, 404, 405, 415, 422)
            assert status in allowed, (method, template, hostile, status, answer[:200])
            assert SENTINEL.encode() not in answer
            assert headers.get("Location", "../../") == "../../"
    assert sorted(path for path in folders.rglob("*") if not path.is_relative_to(folders / "sessions")) == before
    assert (folders / "outside/secret.txt").read_text() == SENTINEL


def test_no_session_header_leads_out(server, folders):
    body = json.dumps({"prompt": "a b"}).encode()
    for hostile in hostile_paths(folders):
        headers = {**bearer(), "Nmri3d-Session": hostile}
        status, _, answer = ask(server, "POST", "/api/scan/structural", headers, body)
        assert status in (404, 422), (hostile, answer[:200])
        assert SENTINEL.encode() not in answer


# -- models that must not be loaded --------------------------------------------------------------------------------------


def names_outside(top):
    relative = os.path.relpath(top / "outside/model")
    return [
        str(top / "outside/model"),
        str(top / "outside/model.gguf"),
        str(top / "outside"),
        str(top / "missing"),
        f"{top}/allowed/../outside/model",
        f"{top}/allowed/link/model",
        f"{top}/allowed/link",
        f"{top}/allowed/link.gguf",
        f"{top}/allowed/circle",
        f"{top}/allowed-not/model",
        f"{top}/ALLOWED/model",
        f"//{str(top).lstrip('/')}/outside/model",
        relative,
        f"./{relative}",
        "../outside",
        "..",
        ".",
        "~",
        "~/model",
        "/",
        "/etc/passwd",
        "\\\\server\\share\\model",
        "C:\\models\\x",
        "file:///etc/passwd",
        "models/../../outside",
    ]


def test_a_model_outside_of_the_allowed_folders_is_refused_whether_it_is_there_or_not(server, folders):
    loads = len(server.service._slot._loader.calls)
    answers = set()
    for name in names_outside(folders):
        status, _, answer = ask(server, "POST", "/api/model/load", bearer(), json.dumps({"model_id": name}).encode())
        assert status == 403, (name, answer)
        answers.add(answer)
        with pytest.raises(ModelAccessError):
            server.service.load(name)
    assert len(answers) == 1  # so that nobody can ask what is on the disk
    assert len(server.service._slot._loader.calls) == loads


def test_names_that_are_no_path_on_the_disk_are_refused_in_words(server):
    for name in ("~no-such-person/model", "a\0b", "x\n", "x" * 5000, "\x1b[31m"):
        body = json.dumps({"model_id": name}).encode()
        assert ask(server, "POST", "/api/model/load", bearer(), body)[0] == 422, name


class Bomb:
    """What a pickle runs when it is read."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "model.pt"])
def test_a_pickled_checkpoint_is_refused_and_never_read(folders, tmp_path, name):
    from tests.models.tiny import tiny_checkpoint_folder

    folder = tiny_checkpoint_folder("gpt2", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickled_on_purpose.dumps(Bomb(tmp_path / "went off")))
    service = Service()
    with running(service, token=TOKEN, models_from=[tmp_path]) as server:
        body = json.dumps({"model_id": str(folder)}).encode()
        status, _, answer = ask(server, "POST", "/api/model/load", bearer(), body)
        assert status == 422, answer
        assert json.loads(answer)["type"] == "urn:nmri3d:error:ModelFormatError"
        status, _, answer = ask(
            server, "POST", "/api/model/load", bearer(), json.dumps({"model_id": f"{folder}/{name}"}).encode()
        )
        assert status in (404, 422), answer
    assert service.close()
    assert not (tmp_path / "went off").exists()
    pickled_on_purpose.loads((folder / name).read_bytes()).close()  # noqa: S301
    assert (tmp_path / "went off").exists()  # it would have gone off

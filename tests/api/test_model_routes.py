"""Loading over HTTP: what may be loaded and from where, how far it is, how it is withdrawn; the model's description."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.testclient import TestClient

import nmri3d
from nmri3d.api import Security, create_app
from nmri3d.api.routes.model import LoadRequest
from nmri3d.service import Service
from nmri3d.service.catalog import offered_models
from nmri3d.service.sessions import SessionStore
from tests.api.tiny_app import ADDRESS, TinyApp
from tests.models.tiny import tiny_checkpoint_folder, tiny_tokenizer
from tests.service.fakes import PATIENCE, FakeLoader

SECRET = "hf_do-not-tell-anybody"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Models that may be loaded, and beside them one that may not."""
    root = tmp_path_factory.mktemp("root")
    tiny_checkpoint_folder("gpt2", root / "models" / "gpt2")
    tiny_checkpoint_folder("gpt2", root / "secret" / "gpt2")
    (root / "models" / "link").symlink_to(root / "secret" / "gpt2", target_is_directory=True)
    (root / "models" / "also").symlink_to(root / "models" / "gpt2", target_is_directory=True)
    return root


@pytest.fixture
def real(root, tmp_path):
    """An application that loads real models, and none is loaded."""
    service, store = Service(), SessionStore(tmp_path / "sessions")
    security = Security.for_address("127.0.0.1", 8765, token="")
    service.model_folders = ((root / "models").resolve(),)
    app = create_app(service, security=security, store=store)
    client = TestClient(app, base_url=ADDRESS)
    yield TinyApp(app, client, service, store, root / "models" / "gpt2", None)
    client.close()
    store.close()
    assert service.close()


@pytest.fixture
def loader():
    return FakeLoader()


@pytest.fixture
def fake(loader, tmp_path):
    """An application that loads fakes, from anywhere."""
    service, store = Service(loader=loader), SessionStore(tmp_path / "sessions")
    app = create_app(service, security=Security.for_address("127.0.0.1", 8765, token=""), store=store)
    yield TinyApp(app, TestClient(app, base_url=ADDRESS), service, store, tmp_path, None)
    store.close()
    assert service.close()


# -- loading -----------------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_described_and_dropped(real):
    assert real.ok("GET", "/api/model/status")["state"] == "empty"
    for path in ("/api/model/info", "/api/model/components"):
        assert "No model is loaded" in real.refused("GET", path, status=409)
    described = real.ok("POST", "/api/model/load", {"model_id": str(real.folder), "device": "cpu"})
    copy = nmri3d.load(real.folder, device="cpu")
    assert described["info"]["fingerprint"] == copy.fingerprint()
    assert described["info"]["n_params"] == sum(parameter.numel() for parameter in copy.hf_model.parameters())
    assert sum(kind["parameters"] for kind in described["components"].values()) == described["info"]["n_params"]
    assert described == real.ok("GET", "/api/model/info")
    status = real.ok("GET", "/api/model/status")
    assert (status["state"], status["share"], status["answering"]) == ("ready", 1.0, str(real.folder))
    for level, table in (("component", copy.components), ("neuron", copy.neurons)):
        columns = real.ok("GET", "/api/model/components", params={"level": level})
        assert columns["id"] == list(table.ids)
        assert columns["kind"] == table.kind.tolist()
        assert columns["layer"] == table.layer.tolist()
        assert columns["index"] == table.index.tolist()
        assert columns["n_params"] == table.n_params.tolist()
    real.refused("GET", "/api/model/components", params={"level": "layer"})
    assert real.ok("DELETE", "/api/model/unload")["state"] == "empty"
    assert real.service.backend is None
    assert real.ok("DELETE", "/api/model/unload")["state"] == "empty"


def test_a_load_is_recorded_in_the_session_that_it_names(real):
    session = real.store.create("loads")
    body = {"model_id": str(real.folder), "device": "cpu"}
    described = real.ok("POST", "/api/model/load", body, headers={"Nmri3d-Session": session.id})
    [event] = real.store.open(session.id).events
    assert (event.kind, event.data) == (
        "model",
        {
            "model_id": str(real.folder),
            "fingerprint": described["info"]["fingerprint"],
            "step_axis": "token",
        },
    )


def test_what_is_asked_for_reaches_the_loader(fake, loader):
    body = {"model_id": "org/name", "dtype": "bfloat16", "revision": "refs/pr/1", "hf_token": SECRET}
    assert fake.ok("POST", "/api/model/load", body)["info"]["model_id"] == "org/name"
    [(name, options)] = loader.calls
    expected = {"device": "auto", "dtype": "bfloat16", "revision": "refs/pr/1", "token": SECRET, "backend": "auto"}
    assert (name, {option: options[option] for option in expected}) == ("org/name", expected)
    assert not options["trust_remote_code"]
    assert not options["remote"]


def test_the_token_is_told_to_nobody(fake, loader, caplog):
    loader.errors["org/name"] = [RuntimeError("the hub hung up")]
    caplog.set_level(logging.DEBUG)
    client = TestClient(fake.app, base_url=ADDRESS, raise_server_exceptions=False)
    answers = [
        client.post("/api/model/load", json={"model_id": "org/name", "hf_token": SECRET}),
        client.post("/api/model/load", json={"model_id": "org/name", "hf_token": f"{SECRET} {SECRET}"}),
        client.post("/api/model/load", json={"model_id": "org/name", "hf_token": [SECRET]}),
        client.post("/api/model/load", json={"model_id": 3, "hf_token": SECRET}),
        client.get("/api/model/status"),
    ]
    assert [answer.status_code for answer in answers] == [500, 422, 422, 422, 200]
    assert SECRET not in "".join(answer.text for answer in answers) + caplog.text
    body = LoadRequest(model_id="x", hf_token=SECRET)
    assert SECRET not in repr(body) + body.model_dump_json()


def test_a_device_that_the_server_has_not_is_the_callers_slip(fake, loader):
    assert "no device cuda:99" in fake.refused("POST", "/api/model/load", {"model_id": "a", "device": "cuda:99"})
    assert "device" in fake.refused("POST", "/api/model/load", {"model_id": "a", "device": "tpu"})
    assert loader.calls == []


STRANGE = {
    "remote code": {"trust_remote_code": True},
    "another dtype": {"dtype": "int8"},
    "another machine": {"backend": "ndif"},
    "a path as revision": {"revision": "../../main"},
    "two dots in a revision": {"revision": "a..b"},
    "an absolute revision": {"revision": "/etc"},
    "a revision with a line break": {"revision": "main\n"},
    "no name": {"model_id": ""},
    "a number as name": {"model_id": 7},
    "a token with a line break": {"hf_token": "hf_a\r\nHost: b"},
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_is_no_request_reaches_no_loader(fake, loader, case):
    fake.refused("POST", "/api/model/load", {"model_id": "a", **STRANGE[case]})
    assert loader.calls == []


@settings(deadline=None)
@given(st.text(max_size=40))
def test_a_revision_never_leads_out_of_its_folder(text):
    try:
        revision = LoadRequest(model_id="a", revision=text).revision
    except ValidationError:
        return
    parts = revision.split("/")
    assert all(part and part.strip(".") == part for part in parts)


def test_a_load_is_watched_and_withdrawn(fake, loader):
    loader.gate = threading.Event()
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(fake.client.post("/api/model/load", json={"model_id": "slow"}))
    )
    thread.start()
    assert loader.begun.wait(PATIENCE)
    other = TestClient(fake.app, base_url=ADDRESS)
    status = other.get("/api/model/status").json()
    assert status == {
        "state": "loading",
        "model": "slow",
        "share": 0.25,
        "what": "reading",
        "error": None,
        "answering": None,
    }
    for method, path in (("POST", "/api/model/load"), ("DELETE", "/api/model/unload")):
        busy = other.request(method, path, json={"model_id": "other"} if method == "POST" else None)
        assert busy.status_code == 503
        assert int(busy.headers["retry-after"]) > 0
    assert other.delete("/api/model/load").status_code == 200
    loader.gate.set()
    thread.join(PATIENCE)
    assert (answers[0].status_code, answers[0].json()["detail"]) == (409, "Loading slow was cancelled.")
    assert other.get("/api/model/status").json()["state"] == "empty"
    assert other.delete("/api/model/load").json()["state"] == "empty"


def test_a_load_is_withdrawn_when_its_caller_hangs_up(fake, loader):
    loader.gate = threading.Event()
    body = json.dumps({"model_id": "slow"}).encode()

    async def hang_up():
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/api/model/load", "raw_path": b"", "root_path": "", "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:8765"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8765), "state": {},
        }  # fmt: skip
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive():
            if message := next(received, None):
                return message
            await asyncio.to_thread(loader.begun.wait, PATIENCE)
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        answering = asyncio.ensure_future(fake.app(scope, receive, send))
        await asyncio.to_thread(loader.begun.wait, PATIENCE)
        await asyncio.sleep(0.2)  # the server hears of it
        loader.gate.set()
        await answering

    asyncio.run(hang_up())
    assert fake.service.backend is None
    assert fake.service.status.state == "empty"


def test_a_load_can_go_on_without_its_caller(fake, loader):
    loader.gate = threading.Event()
    headers = {"prefer": "respond-async"}

    async def call():
        transport = httpx.ASGITransport(app=fake.app)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            return await client.post("/api/model/load", json={"model_id": "slow"}, headers=headers)

    answer = asyncio.run(call())
    assert answer.status_code == 202
    loader.gate.set()
    deadline = time.monotonic() + PATIENCE
    while fake.ok("GET", "/api/model/status")["state"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert fake.ok("GET", "/api/model/info")["info"]["model_id"] == "slow"


# -- where from --------------------------------------------------------------------------------------------------------


def refusal(real, name):
    answer = real.client.post("/api/model/load", json={"model_id": name, "device": "cpu"})
    return answer.status_code, answer.json()["detail"]


def test_no_path_leads_out_of_the_allowed_folders(real, root, monkeypatch):
    monkeypatch.chdir(root)
    inside, outside = root / "models", root / "secret"
    out = [
        str(outside / "gpt2"),
        str(outside / "nothing"),
        str(inside / ".." / "secret" / "gpt2"),
        str(inside / "link"),
        str(inside / "link" / "config.json"),
        "/etc/passwd",
        "/",
        "..",
        ".",
        "./secret/gpt2",
        "../root/secret/gpt2",
        "models/../secret/gpt2",
        "secret/gpt2",
        "secret",
        "~",
        "~/model.gguf",
        "~root",
        "C:\\models\\gpt2",
        "\\\\host\\share",
        "//host/share",
        "secret/nothing.gguf",
        "a/b/c",
    ]
    answers = {name: refusal(real, name) for name in out}
    assert {status for status, _ in answers.values()} == {403}, answers
    assert len({detail for _, detail in answers.values()}) == 1, "the answer tells whether there is something"
    assert real.service.backend is None


def test_a_model_of_an_allowed_folder_is_loaded_however_it_is_reached(real, root, monkeypatch):
    monkeypatch.chdir(root)
    for name in (str(root / "models" / "also"), "models/gpt2", "secret/../models/gpt2"):
        assert real.ok("POST", "/api/model/load", {"model_id": name, "device": "cpu"})["info"]["n_layers"] == 3
    status, detail = refusal(real, str(root / "models" / "nothing"))
    assert (status, "there is no model file or folder" in detail) == (404, True)


@pytest.mark.parametrize("name", ["a" * 300, "./" + "a" * 900, "a\0b", "~nobody-of-this-name", "a\nb", "é" * 200, "🧠"])
def test_a_name_that_no_disk_can_hold_is_refused(real, name):
    assert refusal(real, name)[0] in (403, 404, 422)


def test_an_id_that_is_not_here_is_not_found_without_a_network(real):
    status, detail = refusal(real, "nobody/nothing-of-this-name")
    assert status == 404
    assert "nobody/nothing-of-this-name" in detail
    assert refusal(real, "phantom:nobody")[0] == 404


def test_pickled_weights_are_never_read(real, root):
    folder = tiny_checkpoint_folder("gpt2", root / "models" / "pickled")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/nmri3d-was-here'\ntR.")
    status, detail = refusal(real, str(folder))
    assert (status, "pickle" in detail) == (422, True)


def test_code_that_comes_with_a_model_is_never_run(real, root):
    folder = root / "models" / "remote"
    folder.mkdir(exist_ok=True)
    tiny_tokenizer().save_pretrained(folder)
    ran = root / "ran"
    (folder / "modeling.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = {
        "model_type": "strange",
        "architectures": ["StrangeLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling.S"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    status, detail = refusal(real, str(folder))
    assert status == 422
    assert "code" in detail
    assert not ran.exists()


# -- what there is -----------------------------------------------------------------------------------------------------


def test_the_catalog_is_listed(fake):
    models = fake.ok("GET", "/api/models")["models"]
    assert [one["model_id"] for one in models] == [entry.model_id for entry in offered_models()]
    default = models[0]
    assert (default["model_id"], default["n_params"]) == ("smollm2-135m", 134_515_008)
    assert default["cached"] == offered_models()[0].cached
    assert default["memory_bytes"] > 4 * default["n_params"]


def test_memory_is_that_of_the_process(fake):
    import psutil

    found = fake.ok("GET", "/api/memory")
    assert found["process_bytes"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    assert 0 < found["free_bytes"] <= found["total_bytes"] <= psutil.virtual_memory().total

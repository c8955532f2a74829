"""/api/sessions over HTTP, and requests that are recorded by their header."""

from __future__ import annotations

import io
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.testclient import TestClient

import nmri3d
from nmri3d.api import Security, create_app
from nmri3d.api.recording import recording_of
from nmri3d.errors import NotFoundError
from nmri3d.service import Service
from nmri3d.service.sessions import SessionStore
from tests.api.tiny_app import ADDRESS, PROMPT, tiny_app
from tests.service import planted

CAMERA = {"position": [0, -300.5, 0], "focalPoint": [0, 0, 0], "viewUp": [0, 0, 1]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with tiny_app(tmp_path_factory.mktemp("sessions")) as made:
        yield made


@pytest.fixture
def store(tmp_path):
    return SessionStore(tmp_path / "sessions")


@pytest.fixture
def client(store):
    """An application without a model: sessions need none."""
    service = Service()
    app = create_app(service, security=Security.for_address("127.0.0.1", 8765, token=""), store=store)
    with TestClient(app, base_url=ADDRESS) as client:
        yield client
    assert service.close()


def created(client, title="from a test"):
    answer = client.post("/api/sessions", json={"title": title})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def refused(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


def test_a_session_is_made_listed_renamed_and_deleted(client, store):
    answer = client.post("/api/sessions", json={"title": "first"})
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/sessions/{made['id']}"
    assert (made["title"], made["n_events"], made["events"], made["next_after"]) == ("first", 0, [], None)
    assert SessionStore(store._folder).open(made["id"]).title == "first"  # on the disk before it was answered
    assert [one["id"] for one in client.get("/api/sessions").json()["sessions"]] == [made["id"]]
    assert client.patch(f"/api/sessions/{made['id']}", json={"title": "é東"}).json()["title"] == "é東"
    assert client.get("/api/sessions").json()["sessions"][0]["title"] == "é東"
    gone = client.delete(f"/api/sessions/{made['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert "There is no session" in refused(client.get(f"/api/sessions/{made['id']}"), 404)
    assert client.get("/api/sessions").json() == {"sessions": []}


def test_notes_and_views_are_added_and_read_in_pages(client, store):
    path = f"/api/sessions/{created(client)}"
    note = client.post(f"{path}/events", json={"kind": "note", "data": {"text": "look here 🧠\x00"}})
    assert note.status_code == 201
    assert note.json()["data"] == {"text": "look here 🧠\x00"}
    view = client.post(f"{path}/events", json={"kind": "view", "data": {"mode": "fMRI", "step": 3, "camera": CAMERA}})
    assert view.json()["data"]["camera"]["position"] == [0.0, -300.5, 0.0]
    for number in range(5):
        client.post(f"{path}/events", json={"kind": "note", "data": {"text": str(number)}})
    seen, after, pages = [], -1, 0
    while after is not None:
        page = client.get(path, params={"after": after, "limit": 3}).json()
        seen += page["events"]
        after, pages = page["next_after"], pages + 1
        assert page["n_events"] == 7
    assert pages == 3
    recorded = SessionStore(store._folder).open(path.rpartition("/")[2]).events
    assert [(one["number"], one["at"], one["kind"], one["data"]) for one in seen] == [
        (event.number, event.at, event.kind, event.data) for event in recorded
    ]
    assert client.get(path, params={"after": 6}).json()["events"] == []
    assert client.get(path, params={"after": 2**31 - 1}).json()["events"] == []


def test_a_page_of_large_events_ends_early(client, store):
    session = store.create()
    for _ in range(3):
        session.record("view", {"large": "x" * 3_000_000})
    page = client.get(f"/api/sessions/{session.id}").json()
    assert ([one["number"] for one in page["events"]], page["next_after"]) == ([0], 0)
    rest = client.get(f"/api/sessions/{session.id}", params={"after": 1}).json()
    assert ([one["number"] for one in rest["events"]], rest["next_after"]) == ([2], None)


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "note", "data": {"text": ""}},
        {"kind": "note", "data": {"text": 5}},
        {"kind": "note", "data": {"text": "x", "more": 1}},
        {"kind": "note", "data": {}},
        {"kind": "scan", "data": {}},
        {"data": {"text": "x"}},
        {"kind": "view", "data": {"mode": "fMRI"}},
        {"kind": "view", "data": {"mode": "PET", "camera": CAMERA}},
        {"kind": "view", "data": {"mode": "fMRI", "step": 10**30, "camera": CAMERA}},
        {"kind": "view", "data": {"mode": "fMRI", "camera": {**CAMERA, "position": [0, 0]}}},
        [],
        None,
    ],
)
def test_other_events_are_refused(client, store, body):
    name = created(client)
    refused(client.post(f"/api/sessions/{name}/events", json=body), 422)
    assert store.open(name).events == ()


def test_half_characters_and_what_is_no_number_are_refused(client, store):
    name = created(client)
    headers = {"content-type": "application/json"}
    for text in (
        r'{"kind":"note","data":{"text":"\ud800"}}',
        '{"kind":"view","data":{"mode":"T1","camera":{"position":[NaN,0,0],"focalPoint":[0,0,0],"viewUp":[0,0,1]}}}',
        '{"kind":"view","data":{"mode":"T1","camera":{"position":[1e999,0,0],"focalPoint":[0,0,0],"viewUp":[0,0,1]}}}',
    ):
        refused(client.post(f"/api/sessions/{name}/events", content=text, headers=headers), 422)
    refused(client.post("/api/sessions", content=r'{"title":"\udfff"}', headers=headers), 422)
    refused(client.post("/api/sessions", json={"title": "two\nlines"}), 422)
    refused(client.post("/api/sessions", json={"title": "x" * 201}), 422)
    assert store.open(name).events == ()


@pytest.mark.parametrize(
    "name",
    ["..", "%2e%2e", "..%2f..%2fetc", "%5c..%5c", "x", "import", "%00", "%ff", "20261122-093536-1ade9134", "a" * 5000],
)
def test_a_name_that_is_no_id_is_not_there(client, store, tmp_path, name):
    (tmp_path / "session.json").write_text("{}")
    for method, path, options in (
        ("GET", "", {}),
        ("PATCH", "", {"json": {"title": "x"}}),
        ("DELETE", "", {}),
        ("POST", "/events", {"json": {"kind": "note", "data": {"text": "x"}}}),
        ("GET", "/events/0/result", {}),
        ("GET", "/export", {}),
    ):
        answer = client.request(method, f"{ADDRESS}/api/sessions/{name}{path}", **options)
        if name not in (
            "..",
            "%2e%2e",
            "import",
        ):  # a client resolves the first two, and imports are POSTed to the third
            refused(answer, 404)
        assert answer.status_code in (404, 405)
    assert (tmp_path / "session.json").exists()


def test_results_leave_as_their_own_files(client, store):
    session = store.create()
    session.record("note", {"text": "x"})
    session.record("scan", {"mode": "fMRI"}, planted.scan())
    path = f"/api/sessions/{session.id}"
    listed = client.get(path).json()["events"]
    assert [event["result_url"] for event in listed] == [None, f"{path}/events/1/result"]
    answer = client.get(listed[1]["result_url"])
    assert answer.headers["content-type"] == "application/vnd.nmri3d+npz"
    np.testing.assert_array_equal(nmri3d.open_scan(answer.content).values, planted.scan().values)
    for number in (0, 2, 2**31 - 1):
        assert f"no event {number} with a result" in refused(client.get(f"{path}/events/{number}/result"), 404)
    for number in ("-1", "x", "9" * 30):
        refused(client.get(f"{path}/events/{number}/result"), 422)
    next((store._folder / session.id / "results").iterdir()).write_bytes(b"x")
    assert "damaged" in refused(client.get(listed[1]["result_url"]), 422)
    assert "damaged" in refused(client.get(f"{path}/export"), 422)


def test_a_damaged_session_says_so(client, store):
    session = store.create()
    for text in "abc":
        session.record("note", {"text": text})
    log = store._folder / session.id / "events.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"b"', b'"B"'))
    told = client.get(f"/api/sessions/{session.id}").json()
    assert (told["n_events"], told["damaged"][:6]) == (1, "Line 2")
    detail = refused(
        client.post(f"/api/sessions/{session.id}/events", json={"kind": "note", "data": {"text": "x"}}), 422
    )
    assert "takes no more events" in detail


def test_a_session_goes_out_and_comes_in(client, store):
    session = store.create("out and in")
    for seed in range(3):
        session.record("scan", {"mode": "fMRI", "seed": seed}, planted.scan(seed))
    answer = client.get(f"/api/sessions/{session.id}/export")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    disposition = answer.headers["content-disposition"]
    assert disposition == f'attachment; filename="nmri3d-session-{session.id}.zip"'
    assert answer.content == store.export(session.id)
    taken = client.post("/api/sessions/import", content=answer.content, headers={"content-type": "application/zip"})
    assert taken.status_code == 201, taken.text
    made = taken.json()
    assert taken.headers["location"] == f"/api/sessions/{made['id']}"
    assert made["id"] != session.id
    assert store.open(made["id"]).events == session.events
    one = client.get(made["events"][2]["result_url"]).content
    assert one == planted.scan(2).to_bytes()


def test_what_is_no_session_is_not_taken_in(client, store):
    zip_type = {"content-type": "application/zip"}
    evil = io.BytesIO()
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("../evil", "x")
    assert "is not a session" in refused(client.post("/api/sessions/import", content=b"PK", headers=zip_type), 422)
    assert "../evil" in refused(client.post("/api/sessions/import", content=evil.getvalue(), headers=zip_type), 422)
    assert "is not a session" in refused(client.post("/api/sessions/import", headers=zip_type), 422)
    for kind in ({}, {"content-type": "application/json"}, {"content-type": "multipart/form-data"}):
        detail = refused(client.post("/api/sessions/import", content=evil.getvalue(), headers=kind), 422)
        assert "Content-Type application/zip" in detail
    assert store.list() == []


def test_requests_are_recorded_by_their_header(tiny):
    name = created(tiny.client)
    body = {"prompt": PROMPT, "n_tokens": 2}
    written = tiny.ok("POST", "/api/generate", body, headers={"Nmri3d-Session": name})
    tiny.ok("POST", "/api/generate", body)
    tiny.ok("POST", "/api/generate", body, headers={"Nmri3d-Session": ""})
    session = SessionStore(tiny.store._folder).open(name)
    info = tiny.service.require_backend().info
    assert [event.kind for event in session.events] == ["model", "generate"]
    known = {"model_id": info.model_id, "fingerprint": info.fingerprint, "step_axis": "token"}
    assert session.events[0].data == known
    event = session.events[1]
    assert event.data["tokens"] == [token["token_id"] for token in written["written"]]
    scan = session.result(event)
    assert list(scan.tokens) == written["tokens"]
    np.testing.assert_allclose(scan.values, np.array(written["values"]["data"], dtype=np.float32))
    for unknown in ("x", "../x", "20261122-093536-1ade9134"):
        assert "There is no session" in tiny.refused(
            "POST", "/api/generate", body, status=404, headers={"Nmri3d-Session": unknown}
        )


def test_without_a_session_nothing_is_recorded_and_no_model_is_asked_for(store):
    context = SimpleNamespace(service=Service(), sessions=store)
    recording = recording_of(context)("")
    assert recording.session is None
    recording.record("scan", {"mode": "T1"})
    assert store.list() == []
    with pytest.raises(NotFoundError):
        recording_of(context)("x")


def test_the_model_is_recorded_once_and_again_when_it_is_another(store):
    session = store.create()
    recording = recording_of(SimpleNamespace(service=Service(), sessions=store))(session.id)
    recording.record("scan", {"mode": "fMRI"}, planted.scan())
    recording.record("undo", {})
    recording.record("scan", {"mode": "fMRI"}, planted.scan(1))
    assert [event.kind for event in session.events] == ["model", "scan", "undo", "scan"]
    assert session.events[0].data == {"model_id": "planted", "fingerprint": "0" * 64}


def test_a_replay_tells_what_is_equal(tiny):
    session = tiny.store.create()
    session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, nmri3d.scan(tiny.copy, "fMRI", PROMPT))
    session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, planted.scan())
    path = f"/api/sessions/{session.id}/replay"
    told = tiny.ok("POST", path)
    assert (told["equal"], told["differing"], told["skipped"]) == (1, 0, 1)
    assert told["fingerprint"] == tiny.copy.info.fingerprint
    assert [one["state"] for one in told["events"]] == ["equal", "skipped"]
    assert told["events"][0]["difference"] == 0.0
    assert "another model, planted" in told["events"][1]["reason"]
    later = tiny.client.post(path, headers={"Prefer": "respond-async"})
    assert later.status_code == 202
    job = later.headers["location"]
    while tiny.ok("GET", job)["state"] == "running":
        pass
    assert tiny.ok("GET", f"{job}/result") == told
    tiny.refused("POST", "/api/sessions/20261122-093536-1ade9134/replay", status=404)


def test_a_replay_needs_a_model(client):
    detail = refused(client.post(f"/api/sessions/{created(client)}/replay"), 409)
    assert detail == "No model is loaded; choose one first."


def test_the_description_tells_of_bodies_files_and_refusals(client):
    paths = client.get("/openapi.json").json()["paths"]
    ours = {path: set(methods) for path, methods in paths.items() if path.startswith("/api/sessions")}
    one = "/api/sessions/{session_id}"
    assert ours == {
        "/api/sessions": {"get", "post"},
        "/api/sessions/import": {"post"},
        one: {"get", "patch", "delete"},
        f"{one}/events": {"post"},
        f"{one}/events/{{number}}/result": {"get"},
        f"{one}/export": {"get"},
        f"{one}/replay": {"post"},
    }
    assert list(paths["/api/sessions/import"]["post"]["requestBody"]["content"]) == ["application/zip"]
    assert set(paths[f"{one}/export"]["get"]["responses"]["200"]["content"]) == {"application/zip"}
    assert set(paths[f"{one}/events/{{number}}/result"]["get"]["responses"]["200"]["content"]) == {
        "application/vnd.nmri3d+npz"
    }
    for path, methods in ours.items():
        for method in methods:
            responses = set(paths[path][method]["responses"])
            assert {"401", "403", "422", "429", "503"} <= responses
            assert ("404" in responses) == (one in path)
    assert "content" not in paths[one]["delete"]["responses"]["204"]
    [header] = [item for item in paths["/api/generate"]["post"]["parameters"] if item["in"] == "header"]
    assert header["name"] == "Nmri3d-Session"
    assert header["required"] is False
    assert "recorded" in header["description"]

"""`nmri3d sessions`: what it prints and writes, its exit codes, and a replay on a real network."""

import io
import json
import sys

import pytest

import nmri3d
import nmri3d.cli.sessions
from nmri3d import cli
from nmri3d.service.sessions import SessionStore
from tests.models.tiny import tiny_checkpoint_folder
from tests.service import planted

PROMPT = "The capital of France is"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("NMRI3D_SESSIONS", str(tmp_path / "sessions"))
    return SessionStore()


@pytest.fixture
def run(capsys, monkeypatch):
    """Run `nmri3d sessions …` in this process; returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nmri3d", "sessions", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture
def recorded(store):
    session = store.create("Where Mary comes from")
    session.record("model", {"model_id": "planted", "fingerprint": "0" * 64})
    session.record("scan", {"mode": "fMRI", "prompt": "Two words", "options": {}}, planted.scan())
    session.record("note", {"text": "look \x1b[31mhere\x9b"})
    return session


def test_sessions_are_listed_and_shown(run, recorded, store):
    code, out, _ = run("list")
    assert code == 0
    assert out.startswith(f"{recorded.id}  ")
    assert out.rstrip().endswith("planted  Where Mary comes from")
    assert "3 events" in out
    [listed] = json.loads(run("list", "--json")[1])
    assert (listed["id"], listed["n_events"]) == (recorded.id, 3)
    code, out, _ = run("show", recorded.id)
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 4)
    assert lines[2].endswith('scan      mode "fMRI", prompt "Two words"')
    assert "\x1b" not in out
    assert "\x9b" not in out
    shown = json.loads(run("show", recorded.id, "--json")[1])
    assert [event["data"] for event in shown["events"]] == [event.data for event in recorded.events]
    assert shown["damaged"] == ""


def test_an_empty_list_says_so(run, store):
    assert run("list") == (0, "", "no sessions are recorded\n")
    assert json.loads(run("list", "--json")[1]) == []


def test_a_session_goes_out_and_comes_in(run, recorded, store, tmp_path):
    code, out, _ = run("export", recorded.id, "--out", tmp_path / "given.zip")
    assert (code, out.strip()) == (0, str(tmp_path / "given.zip"))
    assert (tmp_path / "given.zip").read_bytes() == store.export(recorded.id)
    code, out, _ = run("import", tmp_path / "given.zip", "--folder", tmp_path / "other")
    assert code == 0
    assert SessionStore(tmp_path / "other").open(out.strip()).events == recorded.events
    (tmp_path / "given.zip").write_bytes(b"PK")
    for file in ("given.zip", "missing.zip", "."):
        code, out, err = run("import", tmp_path / file)
        assert (code, out) == (2, "")
        assert err.startswith("nmri3d: ")
        assert "\n" not in err.strip()


def test_a_wrong_name_is_told_and_no_file_is_begun(run, store, tmp_path):
    for command in ("show", "export", "replay", "delete"):
        code, out, err = run(command, "../x")
        assert (code, out) == (2, "")
        assert "There is no session '../x'" in err
    code, _, err = run("export", "20261122-093536-1ade9134", "-o", tmp_path / "no.zip")
    assert code == 2
    assert not (tmp_path / "no.zip").exists()


def test_deleting_asks(run, recorded, store, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, err = run("delete", recorded.id)
    assert code == 2
    assert "pass --yes" in err
    assert len(store.list()) == 1
    assert run("delete", recorded.id, "--yes")[0] == 0
    assert store.list() == []


def test_a_damaged_session_says_so(run, recorded, store):
    log = store._folder / recorded.id / "events.jsonl"
    log.write_bytes(log.read_bytes().replace(b"Two", b"two"))
    code, out, err = run("show", recorded.id)
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "Line 2 of this session's log is damaged" in err


def test_a_replay_measures_on_the_model_that_is_named(run, store, tmp_path):
    folder = str(tiny_checkpoint_folder("llama", tmp_path / "tiny-llama"))
    session = store.create()
    scan = nmri3d.scan(nmri3d.load(folder), "fMRI", PROMPT)
    session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, scan)
    session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, planted.scan())
    code, out, err = run("replay", session.id)
    assert code == 2
    assert "does not say which model" in err
    code, out, err = run("replay", session.id, "--model", folder)
    assert code == 0, err
    assert out.splitlines()[0].split() == ["0", "scan", "equal"]
    assert out.splitlines()[-1] == "1 equal, 0 differ, 1 skipped"
    session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {"aggregation": "max"}}, scan)
    code, out, _ = run("replay", session.id, "-m", folder, "--json")
    assert code == 1
    assert [one["state"] for one in json.loads(out)] == ["equal", "skipped", "differs"]

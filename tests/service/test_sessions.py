"""Recorded sessions: what is acknowledged is on the disk, what is not whole is not taken for it, and nothing leads out."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmri3d.errors import BusyError, InputError, MachineError, NotFoundError
from nmri3d.service.sessions import EVENT_KINDS, SessionStore
from nmri3d.service.sessions import session as session_module
from nmri3d.service.sessions.log_file import line_of
from tests.service import planted

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)
mappings = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), plain, max_size=5)


@pytest.fixture
def store(tmp_path):
    return SessionStore(tmp_path / "sessions")


def log_of(store: SessionStore, session_id: str) -> Path:
    return store._folder / session_id / "events.jsonl"


def opened_anew(store: SessionStore, session_id: str):
    """As another process would see it."""
    return SessionStore(store._folder).open(session_id)


def recorded_notes(store: SessionStore, count: int):
    session = store.create("notes")
    for number in range(count):
        session.record("note", {"text": f"note {number} – é東"})
    return session


def record_until_refused(session):
    for _ in range(1000):
        session.record("note", {"text": "x" * 1000})


def exact(value):
    """Plain values with their types: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(value, dict):
        return {name: exact(item) for name, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return (type(value), repr(value))


# -- what is recorded is there -----------------------------------------------------------------------------------------


def test_nothing_is_on_the_disk_before_the_first_event(store):
    session = store.create("first")
    assert not store._folder.exists()
    assert store.list() == []
    assert store.open(session.id) is session
    session.record("note", {"text": "now"})
    assert [one.id for one in store.list()] == [session.id]


def test_a_session_opens_elsewhere_as_it_was_recorded(store):
    session = store.create("all kinds of results")
    results = [planted.scan(), planted.comparison(), planted.heatmap(), planted.sweep()]
    for result in results:
        session.record("scan", {"mode": "fMRI"}, result)
    again = opened_anew(store, session.id)
    assert again is not session
    assert again.events == session.events
    assert (again.title, again.created, again.damaged) == ("all kinds of results", session.created, "")
    for event, result in zip(again.events, results, strict=True):
        found = again.result(event)
        assert type(found) is type(result)
        assert found.to_bytes() == result.to_bytes()
    np.testing.assert_array_equal(again.result(again.events[0]).values, results[0].values)
    assert [event.number for event in again.events] == [0, 1, 2, 3]


def test_a_session_that_is_used_again_is_not_read_again(store, monkeypatch):
    name = recorded_notes(store, 2).id
    other = SessionStore(store._folder)
    reads = []
    read_log = session_module.read_log
    monkeypatch.setattr(session_module, "read_log", lambda path: reads.append(path) or read_log(path))
    for _ in range(3):
        assert len(other.open(name).events) == 2
    assert len(reads) == 1


def test_an_equal_result_is_one_file(store):
    session = store.create()
    for _ in range(3):
        session.record("scan", {}, planted.scan())
    assert len(list((store._folder / session.id / "results").iterdir())) == 1
    assert len({event.result for event in session.events}) == 1


@FEW
@given(st.sampled_from([kind for kind in EVENT_KINDS if kind not in ("edit", "model")]), mappings)
def test_any_plain_data_come_back_as_they_were(store, kind, data):
    session = store.create()
    event = session.record(kind, data)
    assert exact(dict(event.data)) == exact(data)
    [again] = opened_anew(store, session.id).events
    assert again == event
    assert exact(dict(again.data)) == exact(data)


def test_tuples_become_lists_and_numpys_numbers_plain_ones(store):
    data = {"a": (1, 2), "b": np.float32(0.5), "c": np.int64(7), "d": np.bool_(True)}
    event = store.create().record("view", data)
    assert exact(dict(event.data)) == exact({"a": [1, 2], "b": 0.5, "c": 7, "d": True})


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("view", {"x": float("nan")}, "data.x is nan, which JSON cannot say"),
        ("view", {"x": [1.0, float("inf")]}, r"data.x\[1\] is inf"),
        ("view", {"x": np.float32("nan")}, "cannot say"),
        ("note", {"text": "\ud800"}, "lone surrogate"),
        ("note", {"\udc00": 1}, "lone surrogate"),
        ("note", {"\udc00": {"x": object()}}, "lone surrogate"),
        ("note", {1: "x"}, "names of an event's data are texts"),
        ("note", {"text": 2**63}, "more than 64 bits"),
        ("note", {"text": 10**5000}, "more than 64 bits"),
        ("note", {"text": b"x"}, "is a bytes"),
        ("note", {"text": np.ones(2)}, "is a ndarray"),
        ("note", ["text"], "mapping of names to values"),
        ("party", {}, "no event 'party'; the events are model, scan"),
        ("edit", {"prompt": "x"}, "needs its edit"),
        ("model", {"model_id": "x"}, "needs the texts"),
    ],
)
def test_what_an_event_cannot_hold_is_refused_in_words_and_not_written(store, kind, data, words):
    session = store.create()
    with pytest.raises(InputError, match=words):
        session.record(kind, data)
    assert session.events == ()
    assert not store._folder.exists()


def test_an_event_that_is_too_large_is_refused(store):
    session = store.create()
    with pytest.raises(InputError, match="16,777,216 bytes, this one has 20,000,"):
        session.record("note", {"text": 20_000_000 * "x"})
    session.record("note", {"text": "x"})
    assert len(opened_anew(store, session.id).events) == 1


def test_data_that_are_nested_too_deep_are_refused(store):
    deep = nested = {}
    for _ in range(10_000):
        nested["x"] = nested = {}
    with pytest.raises(InputError, match="nested more than"):
        store.create().record("view", deep)


def test_the_stack_of_edits_follows_the_events(store):
    session = store.create()
    zero, amplify = ({"component": "embed", "kind": kind} for kind in ("zero", "amplify"))

    def after(kind, **data):
        session.record(kind, data)
        return [edit["kind"] for edit in session.edits]

    assert after("undo") == []
    assert after("edit", edit=zero) == ["zero"]
    assert after("edit", edit=amplify) == ["zero", "amplify"]
    assert after("note", text="x") == ["zero", "amplify"]
    assert after("undo") == ["zero"]
    assert after("edit", edit=amplify) == ["zero", "amplify"]
    assert after("reset") == []
    assert after("edit", edit=amplify) == ["amplify"]
    assert after("model", model_id="other", fingerprint="1") == []
    assert opened_anew(store, session.id).edits == ()


def test_a_model_is_told_before_what_was_done_on_it_when_it_is_another(store):
    session = store.create()
    first, second = ({"model_id": name, "fingerprint": 64 * name} for name in "ab")
    for model in (first, first, second, second, first):
        session.record("scan", {}, model=model)
    kinds = [(event.kind, event.data.get("model_id")) for event in session.events]
    scan = ("scan", None)
    assert kinds == [("model", "a"), scan, scan, ("model", "b"), scan, scan, ("model", "a"), scan]
    assert store.list()[0].model_id == "a"


def test_many_threads_record_without_losing_one(store):
    session = store.create()

    def record(thread):
        for at in range(10):
            session.record("note", {"thread": thread, "at": at})

    threads = [threading.Thread(target=record, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = opened_anew(store, session.id).events
    assert [event.number for event in events] == list(range(60))
    for thread in range(6):
        assert [event.data["at"] for event in events if event.data["thread"] == thread] == list(range(10))


def test_two_processes_take_turns_event_by_event(store):
    mine = store.create()
    mine.record("note", {"text": "mine"})
    theirs = opened_anew(store, mine.id)
    theirs.record("note", {"text": "theirs"})
    mine.record("note", {"text": "mine again"})
    theirs.refresh()
    assert [event.data["text"] for event in theirs.events] == ["mine", "theirs", "mine again"]
    assert theirs.events == mine.events


def test_a_session_that_another_program_keeps_is_told_of(store, monkeypatch):
    monkeypatch.setattr(session_module, "LOCK_SECONDS", 0.05)
    session = recorded_notes(store, 1)
    with (
        FileLock(store._folder / ".locks" / f"{session.id}.lock"),
        pytest.raises(BusyError, match="Another program is writing"),
    ):
        session.record("note", {"text": "x"})
    session.record("note", {"text": "y"})
    assert [event.data["text"] for event in session.events][1:] == ["y"]


def test_an_event_is_on_the_disk_before_record_returns(store, monkeypatch):
    """The order: the result, the folder that names it, then the log that names the result."""
    session = store.create()
    session.record("scan", {}, planted.scan())
    synced = []
    fsync = os.fsync

    def spy(descriptor):
        fsync(descriptor)
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", spy)
    event = session.record("scan", {}, planted.scan(1))
    part, folder, log = synced
    assert part.startswith(f".{event.result}.npz.")
    assert (folder, log) == ("results", "events.jsonl")


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_full_session_and_a_full_folder_are_told_and_nothing_is_deleted(tmp_path):
    store = SessionStore(tmp_path, most=40_000, most_session=20_000)
    sessions = []
    for _ in range(2):
        session = store.create()
        sessions.append(session)
        with pytest.raises(MachineError, match="This session is full: it may take"):
            record_until_refused(session)
    counts = [len(one.events) for one in sessions]
    line = len(line_of(sessions[0].events[-1]))
    for summary in store.list():
        assert 20_000 - line < summary.n_bytes <= 20_000
    third = store.create()
    with pytest.raises(MachineError, match="export and delete some"):
        record_until_refused(third)
    assert [len(opened_anew(store, one.id).events) for one in sessions] == counts
    store.delete(sessions[0].id)
    third.record("note", {"text": "room again"})


# -- the folder --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/etc", "20261122-093536-1ade9134/../x", "20261122-093536-1ADE9134", "20261122-093536-1ade9134",
     "20261122-093536-1ade9134\n", "a\0b", "\ud800", "٢٠٢٦١١٢٢-093536-1ade9134", ".locks", "x" * 100_000],
)  # fmt: skip
def test_a_name_that_is_no_id_leads_nowhere(store, tmp_path, name):
    recorded_notes(store, 1)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "session.json").write_text("{}")
    for ask in (store.open, store.delete, store.export, lambda name: store.rename(name, "t")):
        with pytest.raises(NotFoundError, match="There is no session") as caught:
            ask(name)
        str(caught.value).encode()
        assert len(str(caught.value)) < 400
    assert (tmp_path / "x" / "session.json").exists()


def test_the_last_changed_comes_first_however_soon(store):
    sessions = [recorded_notes(store, 1) for _ in range(4)]
    for session in [*sessions, *sessions]:  # faster than a thousandth of a second each, mostly
        session.record("note", {"text": "again"})
    assert [summary.id for summary in store.list()] == [session.id for session in reversed(sessions)]


def test_sessions_are_listed_renamed_and_deleted(store):
    one, two = recorded_notes(store, 2), recorded_notes(store, 1)
    one.record("note", {"text": "the last"})
    assert [summary.id for summary in store.list()] == [one.id, two.id]
    summary = store.list()[0]
    assert (summary.n_events, summary.title, summary.changed) == (3, "notes", one.events[-1].at)
    assert summary.n_bytes == sum(path.stat().st_size for path in (store._folder / one.id).rglob("*") if path.is_file())
    store.rename(one.id, "  renamed ")
    assert one.title == opened_anew(store, one.id).title == store.list()[0].title == "renamed"
    with pytest.raises(InputError, match="one line"):
        store.rename(one.id, "two\nlines")
    with pytest.raises(InputError, match="200 characters"):
        store.rename(one.id, 201 * "x")
    other = opened_anew(store, one.id)
    store.delete(one.id)
    assert [summary.id for summary in store.list()] == [two.id]
    for session in (one, other):
        with pytest.raises(NotFoundError, match="was deleted"):
            session.record("note", {"text": "too late"})
    with pytest.raises(NotFoundError):
        store.open(one.id)
    assert sorted(path.name for path in store._folder.iterdir()) == sorted([".locks", two.id])


def test_a_session_that_was_never_written_can_be_deleted(store):
    session = store.create()
    store.delete(session.id)
    with pytest.raises(NotFoundError):
        session.record("note", {"text": "x"})
    assert store.list() == []


def test_an_empty_session_is_kept_when_asked(store):
    session = store.create("empty")
    session.keep()
    again = opened_anew(store, session.id)
    assert (again.title, again.events) == ("empty", ())
    [summary] = store.list()
    assert (summary.n_events, summary.changed) == (0, session.created)


def test_the_list_reads_the_end_of_long_lines_and_passes_torn_ones_over(store):
    session = store.create()
    session.record("note", {"text": "short"})
    long = session.record("note", {"text": "x" * 100_000})
    with open(log_of(store, session.id), "ab") as file:
        file.write(b'{"sum":"torn')
    [summary] = store.list()
    assert (summary.n_events, summary.changed) == (2, long.at)


def test_a_damaged_card_costs_the_title_only(store):
    session = recorded_notes(store, 1)
    (store._folder / session.id / "session.json").write_bytes(b"\xff{")
    again = opened_anew(store, session.id)
    assert (again.title, again.events) == ("", session.events)


def test_after_close_nothing_is_written(store):
    session = recorded_notes(store, 1)
    store.close()
    for one in (session, store.create()):
        with pytest.raises(BusyError, match="being stopped"):
            one.record("note", {"text": "x"})
    assert len(opened_anew(store, session.id).events) == 1


def test_the_folder_is_the_users_own_and_can_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("NMRI3D_SESSIONS", str(tmp_path / "named"))
    session = recorded_notes(SessionStore(), 1)
    folder = tmp_path / "named" / session.id
    assert json.loads((folder / "session.json").read_text())["title"] == "notes"
    assert (tmp_path / "named").stat().st_mode & 0o077 == 0

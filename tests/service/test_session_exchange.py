"""Giving a session away and taking one in: equal on the other side, and what is no session is refused in words."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmri3d.errors import InputError, NotFoundError
from nmri3d.service.sessions import SessionStore
from nmri3d.service.sessions.result_files import result_name
from tests.service import planted
from tests.service.test_sessions import mappings

RESULTS = [None, planted.scan(), planted.scan(1), planted.comparison(), planted.heatmap(), planted.sweep()]


@pytest.fixture
def store(tmp_path):
    return SessionStore(tmp_path / "sessions")


@pytest.fixture
def exported(store):
    """An exported session as its entries: name to content."""
    session = store.create("exported")
    session.record("note", {"text": "first"})
    session.record("scan", {"mode": "fMRI"}, planted.scan())
    session.record("model", {"model_id": "planted", "fingerprint": "0" * 64})
    with zipfile.ZipFile(io.BytesIO(store.export(session.id))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries, compression=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, content)
    return file.getvalue()


def refused(store, content, words):
    before = sorted(path.name for path in store._folder.rglob("*"))
    outside = sorted(path.name for path in store._folder.parent.iterdir())
    with pytest.raises(InputError, match=words) as caught:
        store.import_(content)
    str(caught.value).encode()
    assert sorted(path.name for path in store._folder.rglob("*")) == before
    assert sorted(path.name for path in store._folder.parent.iterdir()) == outside


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(mappings, st.sampled_from(RESULTS)), max_size=5), st.sampled_from(["", "title – é東"]))
def test_what_goes_out_comes_in_as_it_was(tmp_path_factory, events, title):
    here, there = (SessionStore(tmp_path_factory.mktemp("store")) for _ in range(2))
    session = here.create(title)
    session.keep()
    for data, result in events:
        session.record("view", data, result)
    taken = there.import_(here.export(session.id))
    assert taken.id != session.id
    assert (taken.events, taken.title, taken.created) == (session.events, session.title, session.created)
    for event, (_, result) in zip(taken.events, events, strict=True):
        found = taken.result(event)
        assert (found is None) == (result is None)
        if result is not None:
            assert type(found) is type(result)
            assert found.to_bytes() == result.to_bytes()
    taken.record("note", {"text": "goes on"})


def test_the_same_session_gives_the_same_file_and_comes_in_as_often_as_wanted(store):
    session = store.create()
    session.record("model", {"model_id": "planted", "fingerprint": "0"})
    content = store.export(session.id)
    assert store.export(session.id) == content
    ids = {store.import_(content).id for _ in range(3)}
    assert len(ids | {session.id}) == 4
    assert {summary.model_id for summary in store.list()} == {"planted"}


def test_a_file_that_is_open_is_taken_in_too(store, exported):
    assert len(store.import_(io.BytesIO(zipped(exported, zipfile.ZIP_DEFLATED))).events) == 3
    with pytest.raises(NotFoundError):
        store.export_to("20261122-093536-1ade9134", io.BytesIO())


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "..\\evil", "C:\\evil", "results/../../evil.npz", "results/x.npz", "results/", "evil.txt",
     "results/" + 64 * "A" + ".npz", "results/" + 64 * "0" + ".npz/x", "session.json/", "\udcff"],
)  # fmt: skip
def test_other_names_are_refused(store, exported, name):
    try:
        content = zipped({**exported, name: b"x"})
    except UnicodeEncodeError:  # zipfile itself does not write such a name: put its bytes there
        content = zipped({**exported, "?" * 3: b"x"}).replace(b"???", b"\xff\xfe\xff")
    refused(store, content, "which no exported session has")


def test_a_name_that_comes_twice_is_refused(store, exported):
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = zipped([*exported.items(), ("events.jsonl", b"")])
    refused(store, content, "'events.jsonl', which no exported session has")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO])
def test_a_link_is_refused(store, exported, kind):
    link = zipfile.ZipInfo("events.jsonl")
    link.external_attr = (kind | 0o777) << 16
    del exported["events.jsonl"]
    refused(store, zipped([*exported.items(), (link, b"/etc/passwd")]), "which no exported session has as a file")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_refused_before_it_is_unpacked(store, exported, compression):
    exported["events.jsonl"] = bytes(64 * 2**20)
    refused(store, zipped(exported, compression), "far more than its own size")


def test_a_session_that_is_too_large_is_refused(tmp_path, exported):
    small = SessionStore(tmp_path / "small", most_session=1000)
    small._folder.mkdir()
    refused(small, zipped(exported), "is the most")


def test_a_file_that_lies_about_its_size_is_refused(store, exported):
    """The entry says that it is small; what is read never exceeds what it says, and then its CRC does not fit."""
    exported["events.jsonl"] = bytes(10 * 2**20)
    content = zipped(exported, zipfile.ZIP_DEFLATED)
    true, told = (10 * 2**20).to_bytes(4, "little"), (300).to_bytes(4, "little")
    assert content.count(true) == 2
    refused(store, content.replace(true, told), "damaged")


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"not a zip", b"PK\x05\x06" + bytes(18), bytes(100), b"\x93NUMPY" + bytes(100)]
)
def test_what_is_no_zip_or_an_empty_one_is_refused(store, content):
    store._folder.mkdir()
    refused(store, content, "not a session|not an exported session")


def test_every_cut_of_the_file_is_refused(store, exported):
    content = zipped(exported)
    for cut in range(0, len(content), 97):
        refused(store, content[:cut], "is not a session|exported session|damaged")  # a result in it is a zip itself


def test_missing_and_unknown_results_are_refused(store, exported):
    [result] = [name for name in exported if name.startswith("results/")]
    refused(
        store, zipped({name: content for name, content in exported.items() if name != result}), "1 of its results are"
    )
    other = planted.scan(5).to_bytes()
    refused(store, zipped({**exported, f"results/{result_name(other)}.npz": other}), "results that no event names")
    refused(store, zipped({**exported, result: other}), "checksum of results/.* does not fit")


def test_a_changed_log_is_refused(store, exported):
    log = exported["events.jsonl"]
    for changed, words in (
        (log.replace(b"first", b"First"), "Line 1 .* checksum does not fit"),
        (log[:-1], "torn"),
        (log + b"{", "torn"),
        (log + b"\n", "Line 4"),
        (b"\n".join(log.split(b"\n")[1:]), "number 1 where 0 is due"),
    ):
        refused(store, zipped({**exported, "events.jsonl": changed}), words)


def signed(record) -> bytes:
    """A line with the right checksum, whatever it holds."""
    rest = (record if isinstance(record, bytes) else json.dumps(record).encode())[1:]
    return b'{"sum":"%s",' % sha256(rest).hexdigest()[:16].encode() + rest + b"\n"


GOOD = {"number": 0, "at": "2026-11-22T10:00:00.000+01:00", "kind": "note", "data": {"text": "x"}, "result": ""}


@pytest.mark.parametrize(
    "record",
    [
        {**GOOD, "kind": "party"},
        {**GOOD, "number": True},
        {**GOOD, "number": 0.0},
        {**GOOD, "number": -1},
        {**GOOD, "at": "yesterday"},
        {**GOOD, "at": "2026-11-22T10:00:00"},
        {**GOOD, "at": 5},
        {**GOOD, "result": "../../etc/passwd"},
        {**GOOD, "result": 64 * "A"},
        {**GOOD, "result": None},
        {**GOOD, "data": []},
        {**GOOD, "data": {"x": float("nan")}},
        {**GOOD, "data": {"x": "\ud800"}},
        {**GOOD, "data": {"x": 2**64}},
        {**GOOD, "more": 1},
        {"number": 0},
        json.dumps(GOOD).replace('"x"', "1" * 5000).encode(),
        json.dumps(GOOD).replace('"x"', "[" * 100_000 + "]" * 100_000).encode(),
        json.dumps(GOOD).replace('"x"', "[" * 50 + "]" * 50).encode(),
        {**GOOD, "kind": "edit", "data": {"edit": "zero"}},
        b"{[]}",
        b"{\xff\xfe}",
    ],
)
def test_an_event_that_cannot_be_is_refused_though_its_checksum_fits(store, exported, record):
    card = {"session.json": exported["session.json"]}
    assert len(store.import_(zipped({**card, "events.jsonl": signed(GOOD)})).events) == 1
    refused(store, zipped({**card, "events.jsonl": signed(record)}), "Line 1 of this session's log is damaged")


@pytest.mark.parametrize(
    "card",
    [b"", b"[]", b"{}", b'{"format":"nmri3d-session-1"}', b"\xff", b"[" * 100_000,
     b'{"format":"nmri3d-session-1","title":"x","created":"now","model_id":""}',
     b'{"format":"nmri3d-session-1","title":"\\ud800","created":"2026-11-22T10:00:00+01:00","model_id":""}',
     b'{"format":"nmri3d-session-1","title":5,"created":"2026-11-22T10:00:00+01:00","model_id":""}',
     b'{"format":"nmri3d-session-9","title":"x","created":"2026-11-22T10:00:00+01:00","model_id":""}'],
)  # fmt: skip
def test_a_card_that_is_none_is_refused(store, exported, card):
    refused(store, zipped({**exported, "session.json": card}), "session.json is damaged|title is a text")


def with_result(exported, content: bytes) -> bytes:
    """The session with these bytes as its result, named by their right checksum."""
    event = {**GOOD, "kind": "scan", "data": {}, "result": result_name(content)}
    entries = {"session.json": exported["session.json"], "events.jsonl": signed(event)}
    return zipped({**entries, f"results/{result_name(content)}.npz": content})


def test_a_pickle_is_never_opened(store, exported, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "evil"), "w"))

    with np.load(io.BytesIO(planted.scan().to_bytes())) as good:
        arrays = dict(good)
    for name in ("values", "meta"):
        file = io.BytesIO()
        np.savez(file, **{**arrays, name: np.array([Evil()], dtype=object)})
        refused(store, with_result(exported, file.getvalue()), "Object arrays cannot be loaded when allow_pickle=False")
    assert not (tmp_path / "evil").exists()


def test_a_result_that_is_none_is_refused(store, exported):
    assert len(store.import_(with_result(exported, planted.scan().to_bytes())).events) == 1
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        archive.writestr("meta.npy", npy_header((2**50,)))
    other = io.BytesIO()
    np.savez(other, meta=np.frombuffer(b'{"format":"other"}', np.uint8))
    for content in (b"", b"x", b"\x93NUMPY", huge.getvalue(), other.getvalue(), zipped({"meta": b"{}"})):
        refused(store, with_result(exported, content), "a result of this session is damaged")


def npy_header(shape) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()

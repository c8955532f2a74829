"""What is not whole: torn and damaged logs, a full disk, damaged results. Nothing wrong is taken for what was recorded."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmri3d.errors import InputError, MachineError
from nmri3d.service.sessions import SessionStore, result_files
from nmri3d.service.sessions.log_file import line_of
from tests.service import planted
from tests.service.test_sessions import FEW, log_of, opened_anew, recorded_notes


@pytest.fixture
def store(tmp_path):
    return SessionStore(tmp_path / "sessions")


@FEW
@given(st.data())
def test_a_log_cut_anywhere_opens_as_what_was_recorded_before_and_goes_on(store, data):
    session = recorded_notes(store, 4)
    log = log_of(store, session.id)
    content = log.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    log.write_bytes(content[:cut])
    again = opened_anew(store, session.id)
    whole = content[:cut].count(b"\n")
    assert again.events == session.events[:whole]
    assert again.damaged == ""
    again.record("note", {"text": "on"})
    last = opened_anew(store, session.id)
    assert last.events == (*session.events[:whole], again.events[-1])
    torn = content[:cut].rpartition(b"\n")[2]
    assert b"".join(path.read_bytes() for path in log.parent.glob("torn-*.bin")) == torn
    assert log.read_bytes().startswith(content[: cut - len(torn)])
    store.delete(session.id)


@FEW
@given(st.data())
def test_a_changed_byte_never_becomes_an_event(store, data):
    session = recorded_notes(store, 3)
    log = log_of(store, session.id)
    content = bytearray(log.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    log.write_bytes(content)
    again = opened_anew(store, session.id)
    line = b"".join(map(line_of, session.events))[:at].count(b"\n")
    assert again.events == session.events[:line]
    if at < len(content) - 1:  # without its very last byte, the last line is torn
        assert again.damaged.startswith(f"Line {line + 1} of this session's log is damaged")
    store.delete(session.id)


def test_a_damaged_session_shows_what_is_before_and_takes_no_more(store):
    session = recorded_notes(store, 3)
    log = log_of(store, session.id)
    lines = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join([lines[0], lines[1].replace(b"note 1", b"Note 1"), lines[2], b""]))
    again = opened_anew(store, session.id)
    assert again.events == session.events[:1]
    assert again.damaged == (
        "Line 2 of this session's log is damaged (its checksum does not fit); what is before it is shown."
    )
    before = log.read_bytes()
    with pytest.raises(InputError, match="takes no more events: export it and import that"):
        again.record("note", {"text": "x"})
    assert log.read_bytes() == before
    mended = store.import_(store.export(session.id))
    mended.record("note", {"text": "on"})
    assert mended.events[:1] == session.events[:1]
    assert len(mended.events) == 2


def test_a_line_that_is_missing_or_twice_is_damage(store):
    session = recorded_notes(store, 3)
    log = log_of(store, session.id)
    first, second, third, _ = log.read_bytes().split(b"\n")
    for lines, count in (([first, third], 1), ([first, first, second], 1), ([second], 0)):
        log.write_bytes(b"\n".join([*lines, b""]))
        again = opened_anew(store, session.id)
        assert again.events == session.events[:count]
        assert f"where {count} is due" in again.damaged


def test_a_full_disk_is_told_and_leaves_what_was_there(store, monkeypatch):
    session = recorded_notes(store, 2)
    before = log_of(store, session.id).read_bytes()
    write = os.write

    def full(descriptor, content):
        if len(content) > 20:
            return write(descriptor, bytes(content[:20]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(MachineError, match="No space left on device"):
        session.record("note", {"text": "x" * 10})
    monkeypatch.setattr(os, "write", write)
    assert log_of(store, session.id).read_bytes() == before
    assert len(session.events) == 2
    session.record("note", {"text": "there is room again"})
    assert len(opened_anew(store, session.id).events) == 3


def test_a_damaged_result_is_told_and_hurts_no_other(store):
    session = store.create()
    for seed in range(3):
        session.record("scan", {}, planted.scan(seed))
    first, second, third = session.events
    paths = [result_files.result_path(store._folder / session.id, event.result) for event in session.events]
    paths[0].write_bytes(paths[1].read_bytes())
    paths[2].unlink()
    with pytest.raises(InputError, match="result of event 0 is damaged"):
        session.result(first)
    np.testing.assert_array_equal(session.result(second).values, planted.scan(1).values)
    with pytest.raises(InputError, match="result of event 2 cannot be read"):
        session.result(third)
    with pytest.raises(InputError, match="result of event 0 is damaged"):
        store.export(session.id)

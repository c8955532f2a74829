"""The log of a session: one line an event, each with its checksum, appended and on the disk before anyone is told.

A line is JSON: `{"sum":"<16 hex>","number":0,"at":"…","kind":"…","data":{…},"result":"…"}`; the sum is the first 16 digits of
the SHA-256 of all that follows `"sum":"…",`.

Convention. A last line without its end is torn: it was being written when the process or the machine stopped, nobody was
told of it, and it does not count. It is moved into a file `torn-….bin` beside the log before the log goes on. Any other line
that is wrong is damage: the log is read up to there, says so, and takes no more events.

Left out: locks and threads, which are the session's.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nmri3d.errors import InputError
from nmri3d.service.sessions.event import SessionEvent, json_text, plain_data
from nmri3d.service.sessions.result_files import is_result_name, sync_folder, write_durably

LOG_NAME = "events.jsonl"

_HEAD = b'{"sum":"%s",'
_HEAD_LENGTH = len(_HEAD % (b"0" * 16))


@dataclass(frozen=True)
class LogContent:
    """What a log holds: its good events, the bytes that they take, and a sentence about damage after them ("": none)."""

    events: tuple[SessionEvent, ...] = ()
    size: int = 0
    damaged: str = ""


def line_of(event: SessionEvent) -> bytes:
    """The line of an event whose data are plain."""
    text = json_text(
        {"number": event.number, "at": event.at, "kind": event.kind, "data": event.data, "result": event.result}
    )
    rest = text[1:].encode()
    return _HEAD % _sum(rest) + rest + b"\n"


def event_of(line: bytes) -> SessionEvent:
    """The event of a line with its end. Raises InputError where the line is not one that `line_of` made."""
    rest = line[_HEAD_LENGTH:-1]
    if line != _HEAD % _sum(rest) + rest + b"\n":
        raise InputError("its checksum does not fit")
    try:
        record = json.loads(b"{" + rest)
        event = SessionEvent(**record)
        number, at, result = event.number, datetime.fromisoformat(event.at), event.result
    except (ValueError, TypeError, RecursionError):
        raise InputError("it is not an event that this version of nmri3d knows") from None
    if type(number) is not int or number < 0 or at.tzinfo is None or not (result == "" or is_result_name(result)):
        raise InputError("its number, time or result is not one")
    return SessionEvent(number, event.at, event.kind, plain_data(event.kind, event.data), result)


def parse_log(content: bytes) -> LogContent:
    """Read the bytes of a log. What is good before a torn or a damaged line is returned, nothing is raised."""
    events: list[SessionEvent] = []
    start = 0
    while (end := content.find(b"\n", start) + 1) > 0:
        try:
            event = event_of(content[start:end])
            if event.number != len(events):
                raise InputError(f"it has number {event.number} where {len(events)} is due")
        except InputError as error:
            sentence = f"Line {len(events) + 1} of this session's log is damaged ({error}); what is before it is shown."
            return LogContent(tuple(events), start, sentence)
        events.append(event)
        start = end
    return LogContent(tuple(events), start)


def read_log(path: Path) -> LogContent:
    """Read a log; one that is not there is empty. Raises OSError."""
    try:
        return parse_log(path.read_bytes())
    except FileNotFoundError:
        return LogContent()


def last_event(path: Path) -> SessionEvent | None:
    """The last whole event, read from the log's end; None where there is none, or where it is damaged. Raises OSError."""
    size = path.stat().st_size if path.exists() else 0
    reach = min(size, 2**14)
    while reach:
        with open(path, "rb") as file:
            file.seek(size - reach)
            lines = file.read(reach).split(b"\n")[:-1]  # what stands after the last end is torn
        if len(lines) > (1 if reach < size else 0):  # the first one may be a part only
            try:
                return event_of(lines[-1] + b"\n")
            except InputError:
                return None
        if reach == size:
            break
        reach = min(size, 8 * reach)
    return None


def append_line(path: Path, line: bytes, size: int) -> None:
    """Append a line to a log that is `size` bytes long; returns when it is on the disk.

    Bytes after `size` are a torn line: they are moved away first. Raises OSError, and leaves the log as it was.
    """
    is_new = not path.exists()
    if not is_new and path.stat().st_size > size:
        _move_torn(path, size)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    try:
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)


def _move_torn(path: Path, size: int) -> None:
    """Move what stands after `size` bytes into a file of its own; each step is on the disk before the next."""
    with open(path, "r+b") as file:
        file.seek(size)
        torn = file.read()
        write_durably(path.with_name(f"torn-{size}-{hashlib.sha256(torn).hexdigest()[:16]}.bin"), torn)
        file.truncate(size)
        os.fsync(file.fileno())


def _sum(rest: bytes) -> bytes:
    return hashlib.sha256(rest).hexdigest()[:16].encode()

"""Recorded sessions: what was scanned, edited, looked at and noted, append-only on disk, to be replayed and given away.

A session is a folder: `events.jsonl`, one line an event with its checksum, and `results/`, the measured results by hash.

Convention. `Session.record` returns when its event (and its result) is on the disk: what was acknowledged survives a kill at
any moment. A torn last line is what was not acknowledged, and is dropped on opening. Times are ISO 8601 with offset.

Left out: running anything again, which is the caller's (nmri3d.service.replay).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmri3d.results import Comparison, Heatmap, Scan, Sweep

Result = Scan | Comparison | Heatmap | Sweep

EVENT_KINDS = ("model", "scan", "edit", "undo", "reset", "trace", "sweep", "generate", "view", "note")


@dataclass(frozen=True)
class SessionEvent:
    """One thing that happened.

    number  from 0 on, without gaps
    at      time, ISO 8601 with offset
    kind    one of EVENT_KINDS
    data    plain JSON values: for a scan {"mode", "prompt", "options"}, an edit {"prompt", "edit"} (`Edit.as_record()`), a view
            {"camera", "step", "mode", "surface", "selected"}, a note {"text"}, a model {"model_id", "fingerprint"}, …
    result  hash of its result's file, "" without one
    """

    number: int
    at: str
    kind: str
    data: Mapping[str, Any]
    result: str = ""


@dataclass(frozen=True)
class SessionSummary:
    """What a list shows of a session."""

    id: str
    title: str
    created: str
    changed: str
    n_events: int
    n_bytes: int
    model_id: str


class Session:
    """One session, open for recording. Thread-safe. Made by `SessionStore`."""

    id: str
    title: str
    created: str

    @property
    def events(self) -> tuple[SessionEvent, ...]:
        """All events, oldest first."""
        raise NotImplementedError

    @property
    def edits(self) -> tuple[Mapping[str, Any], ...]:
        """The stack of edits as the events leave it, as plain records (edit pushes, undo pops, reset and model clear)."""
        raise NotImplementedError

    def record(self, kind: str, data: Mapping[str, Any], result: Result | None = None) -> SessionEvent:
        """Append an event; returns when it is on the disk. Raises InputError for an unknown kind or data that is not JSON,
        MachineError when the disk is full or cannot be written."""
        raise NotImplementedError

    def result(self, event: SessionEvent) -> Result | None:
        """The result that came with an event. Raises InputError when its file is damaged."""
        raise NotImplementedError


class SessionStore:
    """All sessions of a folder. Thread-safe; several processes may use one folder, one session is written by one.

    folder  None: `sessions` in nmri3d's data folder (NMRI3D_SESSIONS, else platformdirs' user_data_path)
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def create(self, title: str = "") -> Session:
        """A new session; nothing is on the disk before its first event."""
        raise NotImplementedError

    def open(self, session_id: str) -> Session:
        """A session to look at and go on recording. Raises NotFoundError."""
        raise NotImplementedError

    def list(self) -> list[SessionSummary]:
        """All sessions, the last changed first."""
        raise NotImplementedError

    def rename(self, session_id: str, title: str) -> None:
        """Raises NotFoundError."""
        raise NotImplementedError

    def delete(self, session_id: str) -> None:
        """Raises NotFoundError."""
        raise NotImplementedError

    def export(self, session_id: str) -> bytes:
        """The whole session as one zip file. Raises NotFoundError."""
        raise NotImplementedError

    def import_(self, content: bytes) -> Session:
        """A session from what `export` gave, under a new id. Raises InputError for anything else (other files, paths that lead
        out, checksums that do not fit, too large)."""
        raise NotImplementedError

    def close(self) -> None:
        """Close all files."""
        raise NotImplementedError

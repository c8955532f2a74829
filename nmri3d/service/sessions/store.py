"""All sessions of a folder: making, finding, naming, deleting them, and giving them away.

Convention. An id is generated, and nothing else is an id: what a caller sends never becomes part of a path before it has that
form. One process has one `Session` object a session.

Left out: what a session holds (session.py) and the form in which it is given away (exchange.py).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from nmri3d.errors import NotFoundError
from nmri3d.service.sessions.card import Card, valid_title
from nmri3d.service.sessions.exchange import export_session, unpack_session
from nmri3d.service.sessions.log_file import LOG_NAME, last_event
from nmri3d.service.sessions.result_files import sync_folder
from nmri3d.service.sessions.room import Room, folder_bytes
from nmri3d.service.sessions.session import LOCK_FOLDER, Session, telling

RECENT = 8
"""Sessions that stay in memory after the last one that uses them, so that not each request reads their logs again."""

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}", re.ASCII)

_DELETED, _COMING = ".deleted-", ".import-"
"""How folders begin that are on their way out or in."""


@dataclass(frozen=True)
class SessionSummary:
    """What a list shows of a session.

    created, changed  ISO 8601 with offset; changed is the time of the last event, or of its making
    n_events          events that were recorded, by the number of the last
    model_id          model of the last "model" event, "" without one
    """

    id: str
    title: str
    created: str
    changed: str
    n_events: int
    n_bytes: int
    model_id: str


class SessionStore:
    """All sessions of a folder. Thread-safe; several processes may use one folder, and write to one session in turns.

    folder        None: `sessions` in nmri3d's data folder (NMRI3D_SESSIONS, else platformdirs' user_data_path)
    most          bytes that all sessions together may take; recording is refused beyond
    most_session  bytes that one session may take
    """

    def __init__(self, folder: Path | None = None, *, most: int = 20 * 2**30, most_session: int = 2 * 2**30) -> None:
        self._folder = _default_folder() if folder is None else Path(folder).expanduser().absolute()
        self._room = Room(self._folder, most=most, most_session=most_session)
        self._sessions: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()
        self._recent: deque[Session] = deque(maxlen=RECENT)
        self._lock = threading.Lock()
        self._closed = False

    def create(self, title: str = "") -> Session:
        """A new session; nothing is on the disk before its first event, or `Session.keep`.

        Raises InputError for a title that is too long or not one line.
        """
        card = Card(valid_title(title), datetime.now().astimezone().isoformat(timespec="microseconds"))
        session = Session(self._folder / _new_id(), card, self._room)
        with self._lock:
            self._hold(session)
        return session

    def open(self, session_id: str) -> Session:
        """A session to look at and go on recording. Raises NotFoundError."""
        with telling(), self._lock:
            session = self._sessions.get(session_id) or self._hold(self._found(session_id))
            if session in self._recent:
                self._recent.remove(session)
            self._recent.append(session)
        session.refresh()
        return session

    def list(self) -> list[SessionSummary]:
        """All sessions on the disk, the last changed first."""
        with telling():
            found = [summary for folder in self._folders() if (summary := _summary(folder)) is not None]
        return sorted(found, key=lambda one: (datetime.fromisoformat(one.changed), one.id), reverse=True)

    def rename(self, session_id: str, title: str) -> None:
        """Raises NotFoundError, and InputError for a title that is too long or not one line."""
        title = valid_title(title)
        self.open(session_id).rename(title)

    def delete(self, session_id: str) -> None:
        """Delete a session with all that it holds. Raises NotFoundError."""
        session = self.open(session_id)
        with telling(), session.locked():
            session.discard()
            folder = self._folder / session_id
            if folder.exists():
                away = folder.with_name(_DELETED + session_id)
                os.replace(folder, away)  # from here on it is deleted, whatever happens to the rest
                sync_folder(self._folder)
                shutil.rmtree(away, ignore_errors=True)
        with self._lock:
            self._sessions.pop(session_id, None)
            if session in self._recent:
                self._recent.remove(session)
        with telling():
            (self._folder / LOCK_FOLDER / f"{session_id}.lock").unlink(missing_ok=True)
            self._sweep()

    def export(self, session_id: str) -> bytes:
        """The whole session as one zip file. Raises NotFoundError, and InputError where a result of it is damaged."""
        file = io.BytesIO()
        self.export_to(session_id, file)
        return file.getvalue()

    def export_to(self, session_id: str, file: BinaryIO) -> None:
        """As `export`, into a file that is open for writing."""
        with telling():
            export_session(self.open(session_id), file)

    def import_(self, content: bytes | BinaryIO) -> Session:
        """A session from what `export` gave, or a file open for reading, under a new id.

        Raises InputError for anything else (other files, paths that lead out, checksums that do not fit, too large), and
        MachineError where there is no room.
        """
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        session_id = _new_id()
        with telling():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            coming = Path(tempfile.mkdtemp(prefix=_COMING, dir=self._folder))
            try:
                unpack_session(file, coming, self._room)
                os.replace(coming, self._folder / session_id)
                sync_folder(self._folder)
            except BaseException:
                shutil.rmtree(coming, ignore_errors=True)
                raise
            self._sweep()
        return self.open(session_id)

    def close(self) -> None:
        """Wait for what is being written, and write no more. Nothing is left open: sessions are closed between events."""
        with self._lock:
            self._closed = True
            sessions = tuple(self._sessions.values())
        for session in sessions:
            session.close()

    def _hold(self, session: Session) -> Session:
        """The one object of this session."""
        self._sessions[session.id] = session
        if self._closed:
            session.close()
        return session

    def _found(self, session_id: str) -> Session:
        """A session that is on the disk. Raises NotFoundError."""
        if isinstance(session_id, str) and _ID.fullmatch(session_id):
            folder = self._folder / session_id
            with contextlib.suppress(FileNotFoundError):
                return Session(folder, Card.read(folder), self._room)
        raise NotFoundError(
            f"There is no session {str(session_id)[:60]!r}; the list of sessions has those that there are."
        )

    def _folders(self) -> Iterator[Path]:
        if self._folder.exists():
            yield from (path for path in self._folder.iterdir() if _ID.fullmatch(path.name))

    def _sweep(self) -> None:
        """Remove what deletions and imports left that were stopped half-way."""
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another one sweeps too
                stale = path.name.startswith(_COMING) and time.time() - path.stat().st_mtime > 86_400
                if stale or path.name.startswith(_DELETED):
                    shutil.rmtree(path, ignore_errors=True)


def _summary(folder: Path) -> SessionSummary | None:
    """None where it is being deleted."""
    try:
        card = Card.read(folder)
        last = last_event(folder / LOG_NAME)
    except FileNotFoundError:
        return None
    return SessionSummary(
        id=folder.name,
        title=card.title,
        created=card.created,
        changed=last.at if last else card.created,
        n_events=last.number + 1 if last else 0,
        n_bytes=folder_bytes(folder),
        model_id=card.model_id,
    )


def _new_id() -> str:
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def _default_folder() -> Path:
    if named := os.environ.get("NMRI3D_SESSIONS"):
        return Path(named).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("nmri3d") / "sessions"

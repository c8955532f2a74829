"""The sessions' part of the page: the list of what was recorded; rename, delete, export and import.

Convention. The list is read when it is asked for, and after every change that is made here. A file is bounded by FILE_LIMIT,
since it passes whole through the visitor's connection; larger ones pass by the command line.

Left out: recording (recording.py), replaying (replaying.py), the files (nmri3d/service/sessions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from nmri3d.app.parts.recording import Recording
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.state import require_text
from nmri3d.errors import InputError
from nmri3d.service.sessions import SessionStore, SessionSummary

T = TypeVar("T")

FILE_LIMIT = 64 * 2**20
"""Bytes of a file that comes in or goes out; web/sessions.js has the same."""

LONGEST_TITLE = 200


class Sessions:
    """The list of sessions, and what can be done with one. `store`: None offers nothing."""

    def __init__(self, visit: Visit, store: SessionStore | None, recording: Recording) -> None:
        self._visit = visit
        self._store = store
        self._recording = recording

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        if self._store is None:
            return {}
        return {
            "sessions": lambda: self._visit.task(self._list(), "sessions"),
            "session_rename": self._on_rename,
            "session_delete": self._on_delete,
            "session_export": self._on_export,
            "session_import": self._on_import,
        }

    def _on_rename(self, session_id: Any, title: Any) -> None:
        session_id, title = require_text(session_id, "session's name"), require_text(title, "title").strip()
        if not title or len(title) > LONGEST_TITLE:
            raise InputError(f"a title has from 1 to {LONGEST_TITLE} characters; this one has {len(title):,}")
        self._change(lambda store: store.rename(session_id, title))

    def _on_delete(self, session_id: Any) -> None:
        session_id = require_text(session_id, "session's name")
        if session_id == self._recording.session_id:
            raise InputError("this session is being recorded; press REC to end that first, then delete it")
        self._change(lambda store: store.delete(session_id))

    async def _on_export(self, session_id: Any) -> bytes | None:
        """The session as one zip file; None where it cannot be had, and then the error is in the state."""
        session_id = require_text(session_id, "session's name")
        self._visit.show_error("sessions", "")
        return await self._visit.supervise(self._run(lambda store: _exported(store, session_id)), "sessions")

    async def _on_import(self, content: Any) -> bool:
        """Take in a session that was exported; whether it is there now."""
        self._visit.show_error("sessions", "")
        return await self._visit.supervise(self._import(content), "sessions") is True

    async def _import(self, content: Any) -> bool:
        if not isinstance(content, bytes):
            raise InputError("this is no file; choose one that was exported from the list of sessions")
        if len(content) > FILE_LIMIT:
            raise InputError(f"the file has more than {FILE_LIMIT >> 20} MB; import it with `nmri3d sessions import`")
        session = await self._run(lambda store: store.import_(content))
        self._visit.log.add(f"Session imported: {session.title}, {len(session.events)} events")
        await self._list()
        return True

    def _change(self, change: Callable[[SessionStore], None]) -> None:
        """Change something in the store, then tell the list anew, also where it could not be changed."""

        async def work() -> None:
            try:
                await self._run(change)
            finally:
                await self._list()

        self._visit.show_error("sessions", "")
        self._visit.task(work(), "sessions")

    async def _list(self) -> None:
        found = await self._run(lambda store: store.list())
        self._visit.set(sessions=[_row(summary) for summary in found])

    async def _run(self, work: Callable[[SessionStore], T]) -> T:
        """Work on the disk, in a thread."""
        store = self._store
        assert store is not None  # without one there are no handlers
        return await self._visit.run(lambda progress: work(store), "The list of sessions")


def _exported(store: SessionStore, session_id: str) -> bytes:
    if any(one.n_bytes > FILE_LIMIT for one in store.list() if one.id == session_id):
        raise InputError(f"this session has more than {FILE_LIMIT >> 20} MB; export it with `nmri3d sessions export`")
    return store.export(session_id)


def _row(summary: SessionSummary) -> dict[str, Any]:
    return {
        "id": summary.id,
        "title": summary.title,
        "created": summary.created,
        "changed": summary.changed,
        "events": summary.n_events,
        "bytes": summary.n_bytes,
        "model": summary.model_id,
    }

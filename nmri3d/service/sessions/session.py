"""One session: its events in memory, and the way of a new one onto the disk.

Convention. Nothing is kept open between two events: each is written under the session's file lock, after a look at whether
another process has written since. So two processes never mix their lines; they take turns event by event.

Left out: finding, naming, deleting and giving away sessions, which is `SessionStore`'s.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nmri3d.errors import BusyError, InputError, MachineError, NotFoundError
from nmri3d.service.sessions.card import CARD_NAME, Card
from nmri3d.service.sessions.event import MOST_EVENT_BYTES, SessionEvent, last_fingerprint, plain_data, stack_of_edits
from nmri3d.service.sessions.log_file import LOG_NAME, LogContent, append_line, line_of, read_log
from nmri3d.service.sessions.result_files import (
    Result,
    open_result,
    result_name,
    result_path,
    sync_folder,
    write_durably,
)
from nmri3d.service.sessions.room import Room, folder_bytes

LOCK_SECONDS = 10.0
"""How long one waits for another process that writes to the same session."""

LOCK_FOLDER = ".locks"


class Session:
    """One session, open for recording. Thread-safe. Made by `SessionStore`."""

    def __init__(self, folder: Path, card: Card, room: Room) -> None:
        self.id = folder.name
        self._folder, self._card, self._room = folder, card, room
        self._log_path = folder / LOG_NAME
        self._lock = threading.RLock()
        self._log = LogContent()
        self._stamp: tuple[int, ...] | None = None
        self._bytes = 0
        self._on_disk = self._gone = self._closed = False

    @property
    def title(self) -> str:
        """What it is called, "" without a title."""
        return self._card.title

    @property
    def created(self) -> str:
        """When it was made, ISO 8601 with offset."""
        return self._card.created

    @property
    def model_id(self) -> str:
        """The model of the last "model" event, "" without one."""
        return self._card.model_id

    @property
    def events(self) -> tuple[SessionEvent, ...]:
        """All events, oldest first."""
        return self._log.events

    @property
    def edits(self) -> tuple[Mapping[str, Any], ...]:
        """The stack of edits as the events leave it, as plain records (edit pushes, undo pops, reset and model clear)."""
        return stack_of_edits(self.events)

    @property
    def damaged(self) -> str:
        """ "" for a whole log; else a sentence: the session shows what is before the damage, and takes no more events."""
        return self._log.damaged

    def record(
        self,
        kind: str,
        data: Mapping[str, Any],
        result: Result | None = None,
        *,
        model: Mapping[str, Any] | None = None,
    ) -> SessionEvent:
        """Append an event; returns when it is on the disk.

        model  {"model_id", "fingerprint"} of what it was done on: recorded first, as a "model" event, where the session's
               last one is another

        Raises InputError for an unknown kind, data that is not JSON, and a damaged session; MachineError when the disk or
        the session is full or cannot be written; NotFoundError when the session was deleted; BusyError when another process
        keeps it.
        """
        plain = plain_data(kind, data)
        before = None if model is None else plain_data("model", model)
        content = b"" if result is None else result.to_bytes()  # the slow part, before anyone is kept waiting
        with self._writing():
            if before is not None and before["fingerprint"] != last_fingerprint(self.events):
                self._append("model", before, b"")
            return self._append(kind, plain, content)

    def keep(self) -> None:
        """Put the session on the disk though nothing has happened in it. Raises as `record`."""
        with self._writing():
            pass

    def rename(self, title: str) -> None:
        """Another title, which `Card` has checked. Raises as `record`."""
        with self._writing(even_damaged=True):
            self._put_card(replace(self._card, title=title))

    def result(self, event: SessionEvent) -> Result | None:
        """The result that came with an event. Raises InputError when its file is damaged."""
        content = self.result_bytes(event)
        return None if content is None else open_result(content)

    def result_bytes(self, event: SessionEvent) -> bytes | None:
        """The file of an event's result, its checksum proved. Raises InputError when it is damaged or missing."""
        if not event.result:
            return None
        try:
            content = result_path(self._folder, event.result).read_bytes()
        except OSError as error:
            raise InputError(
                f"the result of event {event.number} cannot be read ({error.strerror}); the other events are not touched"
            ) from error
        if result_name(content) != event.result:
            raise InputError(
                f"the result of event {event.number} is damaged: its checksum does not fit; the other events are not touched"
            )
        return content

    def refresh(self) -> None:
        """Look at the disk: another process may have written. Raises NotFoundError when the session was deleted."""
        with telling(), self._lock:
            if self._gone:
                raise self._missing()
            if self._on_disk or (self._folder / CARD_NAME).exists():
                self._reload()

    def discard(self) -> None:
        """The session was deleted."""
        with self._lock:
            self._gone = True

    def close(self) -> None:
        """Wait for an event that is being written; take no more."""
        with self._lock:
            self._closed = True

    # -- the disk ------------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the session's folder among all threads and processes. Raises BusyError after LOCK_SECONDS."""
        locks = self._folder.parent / LOCK_FOLDER
        with self._lock:
            locks.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # prompts are the user's own
            locks.mkdir(mode=0o700, exist_ok=True)
            try:
                lock = FileLock(locks / f"{self.id}.lock", timeout=LOCK_SECONDS)
                lock.acquire(poll_interval=0.005)
            except Timeout:
                raise BusyError("Another program is writing to this session; wait until it is done.") from None
            except NotImplementedError:
                raise MachineError(
                    "The disk with the recorded sessions knows no file locks; set NMRI3D_SESSIONS to a folder on another."
                ) from None
            try:
                yield
            finally:
                lock.release()

    @contextmanager
    def _writing(self, *, even_damaged: bool = False) -> Iterator[None]:
        """Alone with the session, which is on the disk and looked at anew. What the disk refuses is told in words."""
        with telling(), self.locked():
            if self._closed:
                raise BusyError("The server is being stopped and records no more; start it again first.")
            if self._gone:
                raise self._missing()
            if self._on_disk:
                self._reload()
            else:
                self._make()
            if self._log.damaged and not even_damaged:
                raise InputError(
                    f"{self._log.damaged} It takes no more events: export it and import that, to go on from there."
                )
            yield

    def _make(self) -> None:
        self._folder.mkdir(mode=0o700)
        self._card.write(self._folder)
        sync_folder(self._folder.parent)
        self._on_disk = True
        self._reload()

    def _reload(self) -> None:
        """Read the log and the card again where they have changed."""
        self._on_disk = True
        if (stamp := self._stamp_now()) == self._stamp:
            return
        try:
            self._card = Card.read(self._folder)
        except FileNotFoundError:  # deleted a moment ago
            self._gone = True
            raise self._missing() from None
        self._log = read_log(self._log_path)
        self._bytes = folder_bytes(self._folder)
        self._stamp = stamp

    def _stamp_now(self) -> tuple[int, ...]:
        """Changes whenever the log or the card does."""
        stamp: list[int] = []
        for path in (self._log_path, self._folder / CARD_NAME):
            try:
                found = os.stat(path)
                stamp += [found.st_size, found.st_mtime_ns, found.st_ino]
            except FileNotFoundError:
                stamp += [-1]
        return tuple(stamp)

    def _put_card(self, card: Card) -> None:
        card.write(self._folder)
        self._card = card
        self._stamp = self._stamp_now()

    def _append(self, kind: str, plain: dict[str, Any], content: bytes) -> SessionEvent:
        """Put an event with its result onto the disk: the result first, so that no line names what is not there."""
        event = SessionEvent(len(self.events), _now(), kind, plain, result_name(content) if content else "")
        line = line_of(event)
        if len(line) > MOST_EVENT_BYTES:
            raise InputError(
                f"an event may take {MOST_EVENT_BYTES:,} bytes, this one has {len(line):,}; record less of it"
            )
        self._require_room(event.result, content, line)
        self._write_result(event.result, content)
        if kind == "model" and plain["model_id"] != self._card.model_id:
            self._put_card(replace(self._card, model_id=plain["model_id"]))
        append_line(self._log_path, line, self._log.size)
        self._log = LogContent((*self._log.events, event), self._log.size + len(line))
        self._bytes += len(line)
        self._stamp = self._stamp_now()
        return event

    def _require_room(self, name: str, content: bytes, line: bytes) -> None:
        there = bool(name) and result_path(self._folder, name).exists()
        more = len(line) + (0 if there else len(content))
        self._room.take(more, self._bytes + more, self._log.size + len(line))

    def _write_result(self, name: str, content: bytes) -> None:
        """Put a result into its file, unless the same one is there whole."""
        if not name:
            return
        path = result_path(self._folder, name)
        if path.exists() and path.stat().st_size == len(content):
            return
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700)
            sync_folder(self._folder)
        write_durably(path, content)
        self._bytes += len(content)

    def _missing(self) -> NotFoundError:
        return NotFoundError(f"The session {self.id} is not there any more; it was deleted.")


@contextmanager
def telling() -> Iterator[None]:
    """What the disk refuses is told in words: MachineError instead of OSError."""
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"The disk does not take or give the session ({error.strerror or error}); what was recorded before is safe."
        ) from error


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="microseconds")

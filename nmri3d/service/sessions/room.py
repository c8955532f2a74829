"""How much disk recorded sessions may take. Sessions are never deleted to make room: recording is refused in words.

Convention. The folder is counted when it is first written to and whenever it seems full; between two counts only this
process' own writing is added, so that the bound is kept to within what other processes write meanwhile.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from nmri3d.errors import MachineError
from nmri3d.models.budget import human_bytes


class Room:
    """Bounds in bytes. Thread-safe.

    most          of all sessions of the folder together
    most_session  of one session
    most_log      of one session's log, which is read as a whole
    """

    def __init__(self, folder: Path, *, most: int, most_session: int, most_log: int = 64 * 2**20) -> None:
        self._folder, self._most = folder, most
        self.most_session, self.most_log = most_session, most_log
        self._used: int | None = None
        self._lock = threading.Lock()

    def take(self, more: int, session: int, log: int) -> None:
        """Ask for `more` bytes, by which a session grows to `session` bytes and its log to `log`. Raises MachineError."""
        if session > self.most_session or log > self.most_log:
            most = self.most_log if log > self.most_log else self.most_session
            raise MachineError(
                f"This session is full: it may take {human_bytes(most)}. What was recorded is safe; begin a new session."
            )
        with self._lock:
            if self._used is None or self._used + more > self._most:
                self._used = folder_bytes(self._folder)
            if self._used + more > self._most:
                raise MachineError(
                    f"The recorded sessions take {human_bytes(self._used)} and may take {human_bytes(self._most)} together; "
                    "export and delete some, then record on."
                )
            self._used += more


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and its folders; those that vanish meanwhile do not count."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                continue
    return total

"""The log of one visitor: a bounded list of lines with the time since the session began.

Convention. Times come from a monotonic clock and are seconds since the Log was made. The oldest lines fall out when the
list is full. Left out: files and levels to filter by; the process's own log is Python's `logging`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from nmri3d.errors import InputError
from nmri3d.service.events import Broadcaster, Listener, LogLine

LEVELS = ("info", "warning", "error")


class Log:
    """Lines of one session. Thread-safe; `subscribe` delivers as `Broadcaster` says."""

    def __init__(self, *, limit: int = 500, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._lines: deque[LogLine] = deque(maxlen=limit)
        self._lock = threading.Lock()
        self._listeners = Broadcaster()

    def add(self, text: str, level: str = "info") -> LogLine:
        """Append a line and tell the listeners. Raises InputError for a level that is not one of LEVELS."""
        if level not in LEVELS:
            raise InputError(f"{level!r} is not a level of the log; use one of {', '.join(LEVELS)}")
        with self._lock:
            line = LogLine(self._clock() - self._start, level, text)
            self._lines.append(line)
        self._listeners.send(line)
        return line

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """All lines that are kept, oldest first."""
        with self._lock:
            return tuple(self._lines)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(LogLine)` for every new line; returns the function that stops it."""
        return self._listeners.subscribe(listener)

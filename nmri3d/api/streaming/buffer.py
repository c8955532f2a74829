"""The messages of one stream between the thread that makes them and the connection that sends them.

Convention. Messages are texts, numbered from 1. What is made and not yet sent *waits*; what is sent is *kept* so that it can
come again after a broken connection, until the client acknowledges it. A client that has acknowledged once is held to it:
what it has not acknowledged waits too, and nothing is forgotten. One that never does is paced by its connection alone, and
the oldest of what is kept falls out at `kept_bytes`; a resume from before that is refused in words.

The bounds hold to within one message: a message is never split, and one alone is always let through.

Left out: threads, connections and time-outs other than the maker's own wait. One thread makes, one loop sends.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from nmri3d.api.streaming.limits import StreamLimits
from nmri3d.errors import Cancelled, InputError

POLL_SECONDS = 0.1
"""How often a maker who waits looks whether the stream was cancelled."""


class Buffer:
    """Numbered messages on their way to one client. Thread-safe."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._messages: deque[tuple[str, int]] = deque()  # text and bytes; the first is number self._dropped + 1
        self._dropped = 0
        self._sent = 0
        self._last = 0
        self._acknowledges = False
        self._unsent_bytes = 0
        self._kept_bytes = 0

    # -- the maker's side ------------------------------------------------------------------------------------------------

    @property
    def last(self) -> int:
        """Number of the newest message, 0 before the first."""
        return self._last

    def append(self, text: str) -> None:
        """Add a message; never waits."""
        size = len(text.encode())
        with self._changed:
            self._messages.append((text, size))
            self._last += 1
            self._unsent_bytes += size

    def wait_for_room(self, check: Callable[[], None]) -> None:
        """Return when the client has taken enough. `check` is called meanwhile and may raise.

        Raises Cancelled when the client takes nothing for `stall_seconds`.
        """
        with self._changed:
            progress, since = self._place, time.monotonic()
            while self._is_full:
                self._changed.wait(POLL_SECONDS)
                check()
                if self._place != progress:
                    progress, since = self._place, time.monotonic()
                elif time.monotonic() - since > self._limits.stall_seconds:
                    raise Cancelled(
                        f"The client took nothing of this stream for {self._limits.stall_seconds:.0f} seconds, so it was "
                        "ended; read what comes, acknowledge it if you acknowledge at all, and ask again."
                    )

    @property
    def _place(self) -> tuple[int, int]:
        return self._sent, self._dropped

    @property
    def _is_full(self) -> bool:
        n, size = self._last - self._sent, self._unsent_bytes
        if self._acknowledges:
            n, size = len(self._messages), size + self._kept_bytes
        return n > 0 and (n >= self._limits.waiting_messages or size >= self._limits.waiting_bytes)

    # -- the connection's side -------------------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether a message is there that was not sent."""
        return self._last > self._sent

    @property
    def is_empty(self) -> bool:
        """Whether every message was acknowledged."""
        return not self._messages

    @property
    def nbytes(self) -> int:
        """Bytes of all messages that are held."""
        return self._unsent_bytes + self._kept_bytes

    def take(self) -> str | None:
        """The next message to send, None where none waits. From now on it counts as sent."""
        with self._changed:
            if not self.waits:
                return None
            text, size = self._messages[self._sent - self._dropped]
            self._sent += 1
            self._unsent_bytes -= size
            self._kept_bytes += size
            if not self._acknowledges:
                while self._kept_bytes > self._limits.kept_bytes and self._sent - self._dropped > 1:
                    self._drop_first()
            self._changed.notify_all()
            return text

    def acknowledge(self, seq: int) -> None:
        """The client has everything up to `seq`. Raises InputError for what was not sent."""
        with self._changed:
            if seq > self._sent:
                raise InputError(
                    f"message {seq} of this stream was not sent yet, the last one is {self._sent}; acknowledge what came"
                )
            self._acknowledges = True
            while self._dropped < seq:
                self._drop_first()
            self._changed.notify_all()

    def rewind(self, after: int) -> None:
        """Send again from the message after `after`, which the client has, and all before it. Raises InputError for what is
        not there."""
        with self._changed:
            if after > self._last:
                raise InputError(
                    f"this stream has come to message {self._last}, not {after}; resume after the last one that came"
                )
            if after < self._dropped:
                raise InputError(
                    f"the messages of this stream up to {self._dropped} are no longer kept, so those after {after} cannot "
                    "all come again; ask anew, and acknowledge messages as they come"
                )
            while self._sent > after:
                self._sent -= 1
                size = self._messages[self._sent - self._dropped][1]
                self._unsent_bytes += size
                self._kept_bytes -= size
            while self._sent < after:  # it came although the connection broke before we knew
                size = self._messages[self._sent - self._dropped][1]
                self._sent += 1
                self._unsent_bytes -= size
                self._kept_bytes += size
            while self._dropped < after:
                self._drop_first()
            self._changed.notify_all()

    def _drop_first(self) -> None:
        _, size = self._messages.popleft()
        self._dropped += 1
        self._kept_bytes -= size

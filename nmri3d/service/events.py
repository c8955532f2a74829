"""What the service and a visitor's log tell their listeners: small frozen dataclasses, plain values only.

Convention. Times are seconds, shares run from 0 to 1, texts are sentences that can be shown as they are. Listeners
compare by class. `Broadcaster` delivers in the event loop in which a listener subscribed, else in the sender's thread.

Left out: results. A scan is returned by the call that asked for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from nmri3d.models.backend import ModelInfo

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelLoading:
    """A model is on its way: `share` of the work is done, `what` says what is being done now."""

    name: str
    share: float
    what: str


@dataclass(frozen=True)
class ModelReady:
    """From now on every scan is one of this model; results of the model before it no longer fit."""

    info: ModelInfo


@dataclass(frozen=True)
class ModelFailed:
    """A load ended without its model. `kept` is the id of the model that is still there, None where there is none."""

    name: str
    message: str
    kept: str | None = None
    cancelled: bool = False


@dataclass(frozen=True)
class ModelUnloaded:
    """The model was dropped and there is none now."""

    name: str


@dataclass(frozen=True)
class LogLine:
    """One line of a visitor's log. `seconds` since the session began; `level` is "info", "warning" or "error"."""

    seconds: float
    level: str
    text: str

    @property
    def stamp(self) -> str:
        """Time as the log panel shows it: `[mm:ss]`, minutes running on past an hour."""
        minutes, seconds = divmod(int(self.seconds), 60)
        return f"[{minutes:02d}:{seconds:02d}]"

    def __str__(self) -> str:
        return f"{self.stamp} {self.text}"


Event = ModelLoading | ModelReady | ModelFailed | ModelUnloaded | LogLine
Listener = Callable[[Event], None]


class Broadcaster:
    """Listeners and the way to each of them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[object, tuple[Listener, asyncio.AbstractEventLoop | None]] = {}

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; returns the function that removes it again (calling that twice does no harm)."""
        ticket = object()
        loop = running_loop()
        with self._lock:
            self._listeners[ticket] = (listener, loop)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.pop(ticket, None)

        return unsubscribe

    def send(self, event: Event) -> None:
        """Tell every listener, in the order in which they came. What one raises is logged and goes no further."""
        with self._lock:
            tickets = list(self._listeners.items())
        for ticket, (listener, loop) in tickets:
            if loop is None:
                _deliver(listener, event)
                continue
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to hear it
                loop.call_soon_threadsafe(self._deliver_later, ticket, event)

    def _deliver_later(self, ticket: object, event: Event) -> None:
        with self._lock:
            entry = self._listeners.get(ticket)
        if entry is not None:  # it may have unsubscribed while the event waited in the loop
            _deliver(entry[0], event)


def _deliver(listener: Listener, event: Event) -> None:
    try:
        listener(event)
    except Exception:
        logger.exception("a listener failed on %s", type(event).__name__)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, None in a plain thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

"""The line before the one model: a lock that serves visitors in turn, and requests that are computed once for all.

Convention. Whoever waits reports progress while waiting, so that it can be withdrawn; `Cancelled` then leaves the line.
The owner of a request is `nmri3d.service.runner.OWNER`. The next turn goes to the owner who was served longest ago, and
among equals to the request that came first: a visitor who asks for a hundred things delays nobody by more than one.

Left out: priorities.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nmri3d.errors import BusyError, Cancelled
from nmri3d.models.backend import Progress
from nmri3d.service.runner import OWNER

T = TypeVar("T")

POLL_SECONDS = 0.05
"""How often one who waits looks whether it was withdrawn."""


@dataclass(eq=False)
class _Waiter:
    owner: Hashable


class TurnLock:
    """Mutual exclusion in turns. Not re-entrant.

    limit  how many may wait; one more raises BusyError
    """

    def __init__(self, *, limit: int = 32) -> None:
        self._limit = limit
        self._condition = threading.Condition()
        self._held = False
        self._waiters: list[_Waiter] = []
        self._turn = 0
        self._last_turn: OrderedDict[Hashable, int] = OrderedDict()

    @contextlib.contextmanager
    def hold(self, progress: Progress) -> Iterator[None]:
        """Wait for the turn and hold the lock. Raises BusyError when the line is full, and what `progress` raises."""
        self._acquire(progress)
        try:
            yield
        finally:
            with self._condition:
                self._held = False
                self._condition.notify_all()

    def _acquire(self, progress: Progress) -> None:
        me = _Waiter(OWNER.get())
        with self._condition:
            if len(self._waiters) >= self._limit:
                raise BusyError(f"The model is at work and {self._limit} requests wait already; try again in a moment.")
            self._waiters.append(me)
        try:
            while True:
                with self._condition:
                    if self._take(me):
                        return
                    self._condition.wait(POLL_SECONDS)
                    if self._take(me):
                        return
                    others = len(self._waiters) - 1
                progress(0.0, "Waiting for the model" + (f", {others} more in line" if others else ""))
        except BaseException:
            with self._condition:
                self._waiters.remove(me)
                self._condition.notify_all()
            raise

    def _take(self, me: _Waiter) -> bool:
        """Take the lock if it is free and `me` is next."""
        if self._held or min(self._waiters, key=lambda waiter: self._last_turn.get(waiter.owner, -1)) is not me:
            return False
        self._held = True
        self._waiters.remove(me)
        self._turn += 1
        self._last_turn[me.owner] = self._turn
        self._last_turn.move_to_end(me.owner)
        while len(self._last_turn) > 1024:  # visitors who left long ago
            self._last_turn.popitem(last=False)
        return True


@dataclass(eq=False)
class _Flight:
    ended: threading.Event = field(default_factory=threading.Event)
    latest: tuple[float, str] = (0.0, "")
    value: Any = None
    error: BaseException | None = None


class Flights:
    """Equal requests at the same time are computed once: the first computes, the others wait for it.

    When the first is withdrawn, one of those who wait starts anew; an error is everybody's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight] = {}

    def run(self, key: Hashable, compute: Callable[[Progress], T], progress: Progress) -> T:
        """`compute(progress)`, or the value of an equal request that is already under way."""
        while True:
            with self._lock:
                flight = self._flights.get(key)
                first = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if first:
                return self._lead(key, flight, compute, progress)
            while not flight.ended.wait(POLL_SECONDS):
                progress(*flight.latest)
            if flight.error is None:
                return flight.value
            if not isinstance(flight.error, Cancelled):
                raise flight.error

    def _lead(self, key: Hashable, flight: _Flight, compute: Callable[[Progress], T], progress: Progress) -> T:
        def report(share: float, what: str) -> None:
            flight.latest = (share, what)
            progress(share, what)

        try:
            flight.value = compute(report)
        except BaseException as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.ended.set()
        return flight.value

"""The line before the one model: a lock that serves visitors in turn, and requests that are computed once for all.

Convention. Whoever waits reports progress while waiting, so that it can be withdrawn; `Cancelled` then leaves the line.
The owner of a request is `nmri3d.service.runner.OWNER`. The next turn goes to the owner who was served longest ago, and
among equals to the request that came first: a visitor who asks for a hundred things delays nobody by more than one.

Left out: priorities.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nmri3d.errors import BusyError, Cancelled
from nmri3d.models.backend import Progress
from nmri3d.service.runner import OWNER, WORK, Job

T = TypeVar("T")

POLL_SECONDS = 0.05
"""How often one who waits looks whether it was withdrawn."""

LONGEST_RETRY = 60
"""Seconds after which one who was refused may ask again at the latest."""

_NEWEST_SHARE = 0.2
"""Weight of the newest turn in the mean length of a turn."""


@dataclass(eq=False)
class _Waiter:
    owner: Hashable
    work: Job[Any] | None


class TurnLock:
    """Mutual exclusion in turns. Not re-entrant.

    limit  how many may wait; one more raises BusyError, but an owner's first always finds a place, so that one who asks
           for much shuts nobody out, and work that had a turn already is not sent away half-way
    """

    def __init__(self, *, limit: int = 32) -> None:
        self._limit = limit
        self._condition = threading.Condition()
        self._held = False
        self._waiters: list[_Waiter] = []
        self._turn = 0
        self._since = 0.0
        self._seconds = 0.0
        self._begun: weakref.WeakSet[Job[Any]] = weakref.WeakSet()
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
                self._seconds = self._mean_with(time.monotonic() - self._since)
                self._condition.notify_all()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiters)

    @property
    def turns(self) -> int:
        """How many turns there were."""
        return self._turn

    @property
    def seconds_a_turn(self) -> float:
        """How long a turn takes, a running mean of the last ones; the turn that lasts now counts once it is longer."""
        with self._condition:
            return max(self._seconds, time.monotonic() - self._since) if self._held else self._seconds

    def retry_after(self) -> int:
        """In how many whole seconds, 1 to LONGEST_RETRY, all that wait now may have had their turn."""
        ahead = self.waiting + int(self._held)
        return min(max(math.ceil(ahead * self.seconds_a_turn), 1), LONGEST_RETRY)

    def _mean_with(self, seconds: float) -> float:
        """The mean length of a turn with one more; the first one alone is the mean."""
        return seconds if self._turn == 1 else self._seconds + _NEWEST_SHARE * (seconds - self._seconds)

    def _acquire(self, progress: Progress) -> None:
        me = _Waiter(OWNER.get(), WORK.get())
        with self._condition:
            if len(self._waiters) >= self._limit and not self._is_welcome(me):
                seconds = self.retry_after()
                raise BusyError(
                    f"The model is at work and {self._limit} requests wait already; try again in {seconds} s.",
                    retry_after=seconds,
                )
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

    def _is_welcome(self, me: _Waiter) -> bool:
        """Whether one may wait although the line is full."""
        first = me.owner is not None and all(waiter.owner != me.owner for waiter in self._waiters)
        return first or me.work in self._begun

    def _take(self, me: _Waiter) -> bool:
        """Take the lock if it is free and `me` is next."""
        if self._held or min(self._waiters, key=lambda waiter: self._last_turn.get(waiter.owner, -1)) is not me:
            return False
        self._held, self._since = True, time.monotonic()
        self._waiters.remove(me)
        if me.work is not None:
            self._begun.add(me.work)
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
        self._shared = 0

    @property
    def shared(self) -> int:
        """How many requests were answered by an equal one that was under way."""
        return self._shared

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
                with self._lock:
                    self._shared += 1
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

"""Worker threads: the only place that starts them, and the Job by which work is watched, withdrawn and awaited.

Convention. Work is a function of one argument, `progress(share, what)`; it calls progress often, and progress raises
`Cancelled` in it once the job was cancelled. A job belongs to an `owner` (a visitor's id), which the model lock reads
to serve owners in turn. `progress_cb` is called in the event loop that started the job (many reports in one turn of the
loop become one, the newest), in the worker thread where no loop started it.

Left out: killing a thread. Work that ends without another report has happened, and its result stands.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
import time
import traceback
from collections.abc import Callable, Generator, Hashable
from typing import Any, Generic, TypeVar

from nmri3d.errors import BusyError, Cancelled
from nmri3d.models.backend import Progress
from nmri3d.service.events import running_loop

T = TypeVar("T")

OWNER: contextvars.ContextVar[Hashable] = contextvars.ContextVar("nmri3d_owner", default=None)
"""Whose work the present thread does."""

WORK: contextvars.ContextVar[Job[Any] | None] = contextvars.ContextVar("nmri3d_work", default=None)
"""Which work the present thread does."""


class Job(Generic[T]):
    """One piece of work on its way. Made by `Runner.run`; await it, or call `result()` in a plain thread."""

    def __init__(self, name: str, owner: Hashable, progress_cb: Progress | None) -> None:
        self.name = name
        self.owner = owner
        self._progress: tuple[float, str] = (0.0, "")
        self._changes = 0
        self._progress_cb = progress_cb
        self._loop = running_loop()
        self._report_waits = False
        self._withdrawn = threading.Event()
        self._future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._future.set_running_or_notify_cancel()  # an awaiting task that is cancelled must not cancel the work

    @property
    def progress(self) -> tuple[float, str]:
        """Share done (0 to 1) and what is being done, as last reported."""
        return self._progress

    @property
    def changes(self) -> int:
        """Counts what can be told of it: each report that says something new, and its end."""
        return self._changes + self.done

    @property
    def done(self) -> bool:
        """Whether it has ended: with a result, an error, or cancelled."""
        return self._future.done()

    @property
    def cancelled(self) -> bool:
        """Whether it ended because it was withdrawn."""
        return self.done and isinstance(self._future.exception(), Cancelled)

    @property
    def failed(self) -> bool:
        """Whether it ended in an error of its own."""
        return self.done and self._future.exception() is not None and not self.cancelled

    def cancel(self) -> None:
        """Withdraw the work: its next report raises `Cancelled` in it. Does nothing once it has ended."""
        self._withdrawn.set()

    def result(self, timeout: float | None = None) -> T:
        """Wait (seconds, None: for ever) and return what the work returned, or raise what it raised."""
        return self._future.result(timeout)

    @property
    def error(self) -> BaseException | None:
        """What the work raised, once it has ended."""
        return self._future.exception() if self.done else None

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back when it has ended, in its thread; at once where it has ended already."""
        self._future.add_done_callback(lambda _: callback())

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self._future).__await__()

    def _report(self, share: float, what: str) -> None:
        """The `progress` that the work is given; called in the worker thread."""
        if self._withdrawn.is_set():
            raise Cancelled(f"{self.name} was cancelled.")
        if (share, what) != self._progress:
            self._progress = (share, what)
            self._changes += 1
        if self._progress_cb is None:
            return
        if self._loop is None:
            self._progress_cb(share, what)
        elif not self._report_waits:
            self._report_waits = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody watches any more
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._report_waits = False
        if self._progress_cb is not None and not self._withdrawn.is_set():
            self._progress_cb(*self._progress)

    def _work(self, fn: Callable[[Progress], T]) -> None:
        try:
            self._report(self._progress[0], self._progress[1])
            value = fn(self._report)
        except BaseException as error:
            _let_go(error)
            self._future.set_exception(error)
        else:
            self._future.set_result(value)


def _let_go(error: BaseException) -> None:
    """Free what the frames of an error hold: else arrays, even a model that was dropped, stay as long as the error does."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__


class Runner:
    """Starts jobs, one thread each, and knows those that are alive. Thread-safe.

    limit        jobs that may be alive at once; one more raises BusyError. One owner may have three quarters of them, so
                 that one who asks for much shuts nobody out
    retry_after  in how many seconds one who was refused for that may ask again; None: no estimate
    """

    def __init__(self, *, limit: int = 64, retry_after: Callable[[], int] | None = None) -> None:
        self._limit = limit
        self._retry_after = retry_after
        self._jobs: set[Job[Any]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(
        self,
        fn: Callable[[Progress], T],
        *,
        progress_cb: Progress | None = None,
        owner: Hashable = None,
        name: str = "The request",
    ) -> Job[T]:
        """Start `fn(progress)` in a thread of its own and return at once.

        name   subject of the sentence that a cancelled job ends with
        owner  whose work it is; owners take turns at the model

        Raises BusyError when too many jobs are alive or the runner is closed.
        """
        job: Job[T] = Job(name, owner, progress_cb)
        with self._lock:
            if self._closed:
                raise BusyError("The server is shutting down and takes no more requests; start it again first.")
            own = 0 if owner is None else sum(one.owner == owner for one in self._jobs)
            if len(self._jobs) >= self._limit or own >= max(1, self._limit * 3 // 4):
                whose = f"{own} requests of yours" if len(self._jobs) < self._limit else f"{self._limit} requests"
                raise BusyError(
                    f"{whose} are already under way; wait until some have ended, then ask again.",
                    retry_after=self._retry_after() if self._retry_after else None,
                )
            self._jobs.add(job)
        context = contextvars.copy_context()
        context.run(OWNER.set, owner)
        context.run(WORK.set, job)
        thread = threading.Thread(
            target=lambda: context.run(self._supervise, job, fn), name=f"nmri3d: {name}", daemon=True
        )
        thread.start()
        return job

    def _supervise(self, job: Job[T], fn: Callable[[Progress], T]) -> None:
        try:
            job._work(fn)
        finally:
            with self._lock:
                self._jobs.discard(job)

    def jobs(self, owner: Hashable = None) -> tuple[Job[Any], ...]:
        """Jobs that are alive; with an owner, only those of that owner."""
        with self._lock:
            return tuple(job for job in self._jobs if owner is None or job.owner == owner)

    def cancel(self, owner: Hashable = None) -> None:
        """Withdraw every job, or every job of one owner."""
        for job in self.jobs(owner):
            job.cancel()

    def close(self, timeout: float = 5.0) -> bool:
        """Take no more jobs, withdraw all, and wait for their end, `timeout` seconds at most. True when all ended."""
        with self._lock:
            self._closed = True
        deadline = time.monotonic() + timeout
        self.cancel()
        while jobs := self.jobs():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            concurrent.futures.wait([job._future for job in jobs], timeout=min(remaining, 0.05))
            time.sleep(0.001)  # a job is done a moment before its thread takes it off the list
        return True

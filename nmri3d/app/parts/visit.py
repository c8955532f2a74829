"""What the parts of one visitor's page share: the state, the log, the errors in words, and work in threads.

Convention. Work is a coroutine; what goes wrong in it is shown at a `place` of the page: errors of nmri3d/errors.py as they
are, any other exception as a defect, with its traceback in the server's log. `epoch` counts the models that were shown: a
result that comes back in a later epoch than it was asked for belongs to a model that has gone, and is dropped.

Left out: what is asked of the model (the other parts).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from nmri3d.app.brain import PageBrain
from nmri3d.errors import BusyError, Cancelled, InputError, Nmri3dError
from nmri3d.models.backend import Backend, Progress
from nmri3d.results import Scan
from nmri3d.scene.colors import DisplayRange
from nmri3d.service import Job, Log, Service
from nmri3d.service.sessions import Result

logger = logging.getLogger(__name__)

T = TypeVar("T")

Handler = Callable[..., Any]
Handlers = Mapping[str, Handler]

PROGRESS_INTERVAL = 0.1
"""Seconds between two messages about the progress of a piece of work; nobody reads faster, and each costs traffic."""


@dataclass(frozen=True, eq=False)
class Offer:
    """A scan to be painted, and its display range where that is not its own."""

    scan: Scan
    display: DisplayRange | None = None


class Shown(Protocol):
    """What is painted instead of what was measured last: the moment of a recorded session."""

    @property
    def scans(self) -> Mapping[str, Scan]:
        """Scans by mode."""

    def shown_in(self, mode: str) -> Offer | None:
        """What is painted in a tab instead of its scan, None for the scan."""


class Visit:
    """One visitor's state, log and work.

    brain     the brain that is shown, None before there is one
    scans     what was scanned, by mode
    recorder  told of all that went well: (kind, data, result), as `Session.record`; None where nothing is recorded
    replayed  what is shown of a recorded session, None while there is no replay
    """

    def __init__(self, server: Any, service: Service) -> None:
        self.server = server
        self.service = service
        self.log = Log()
        self.brain: PageBrain | None = None
        self.scans: dict[str, Scan] = {}
        self.recorder: Callable[[str, Mapping[str, Any], Result | None], None] | None = None
        self.replayed: Shown | None = None
        self._behind: dict[str, Any] | None = None
        self.epoch = 0
        self.closed = False
        self._n_brains = 0
        self._job: Job[Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def next_brain(self) -> int:
        """A number that no brain of this page had before."""
        self._n_brains += 1
        return self._n_brains

    # -- the state -----------------------------------------------------------------------------------------------------

    @property
    def owner(self) -> str:
        """Whose work it is, for the service."""
        return str(self.server.name)

    @property
    def mode(self) -> str:
        """The open tab."""
        return str(self.read("mode"))

    def read(self, name: str) -> Any:
        """A variable of the state, as it was last set."""
        behind = self._behind
        return behind[name] if behind is not None and name in behind else self.server.state[name]

    def set(self, **values: Any) -> None:
        """Put values into trame's state and send them now, whether or not trame began this call."""
        if self._behind is not None:
            hidden = values.keys() & self._behind.keys()
            self._behind.update({name: values.pop(name) for name in hidden})
        self._send(values)

    def cover(self, names: Iterable[str]) -> None:
        """From now on these variables show something else (`show_over`); what is set of them is kept until `uncover`."""
        if self._behind is None:
            self._behind = {name: self.server.state[name] for name in names}

    def show_over(self, **values: Any) -> None:
        """Put values into trame's state, those that are covered too, and send them now."""
        self._send(values)

    def uncover(self, **values: Any) -> None:
        """Show what is behind again, and further values with it."""
        behind, self._behind = self._behind or {}, None
        self._send({**behind, **values})

    def _send(self, values: Mapping[str, Any]) -> None:
        if self.closed:
            return
        self.server.state.update(values)
        self.server.state.flush()

    def record(self, kind: str, data: Mapping[str, Any], result: Result | None = None) -> None:
        """Something happened and went well: it is recorded where that is wanted."""
        if self.recorder is not None:
            self.recorder(kind, data, result)

    def show_error(self, place: str, sentence: str) -> None:
        """What is wrong at a place of the page; an empty sentence takes it away."""
        errors = dict(self.server.state.errors)
        if errors.pop(place, "") != sentence:
            self.set(errors={**errors, place: sentence} if sentence else errors)

    def with_brain(self, act: Callable[[PageBrain], Any], otherwise: Any = None) -> Any:
        """Act on the brain, where there is one."""
        return otherwise if self.brain is None else act(self.brain)

    def require_backend(self) -> Backend:
        """The model whose brain is shown. Raises InputError while there is none."""
        backend = self.service.backend
        if backend is None or self.brain is None:
            raise InputError("there is no model yet; wait until its brain is shown, or choose one in the menu")
        return backend

    # -- work ----------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether work that the visitor can cancel is under way."""
        return self._job is not None

    def require_idle(self) -> None:
        """Raises BusyError while work that the visitor can cancel is under way."""
        if self._job is not None:
            raise BusyError(f"{self._job.name} is still under way; wait until it is done, or cancel it first")

    def cancel(self) -> None:
        """Withdraw the work that the visitor can cancel."""
        if self._job is not None:
            self._job.cancel()

    async def run(self, work: Callable[[Progress], T], name: str, *, progress: Progress | None = None) -> T:
        """Run work in a thread of the service, on behalf of this visitor. `name` begins the sentence of a withdrawal."""
        return await self.service.run(work, progress_cb=progress, owner=self.owner, name=name)

    def telling(self, name: str, *, patience: float = 0.3) -> Progress:
        """Progress that is put into a variable of the state, {"share", "what"}; `patience`: seconds before the first time."""
        next_at = time.monotonic() + patience

        def show(share: float, what: str) -> None:
            nonlocal next_at
            now = time.monotonic()
            if now >= next_at:
                next_at = now + PROGRESS_INTERVAL
                self.set(**{name: {"share": share, "what": what}})

        return show

    async def run_shown(self, kind: str, work: Callable[[Progress], T], name: str, *, patience: float = 0.0) -> T:
        """As `run`, one at a time, with a progress bar and a button that cancels it.

        kind      names it on the bar
        patience  seconds that it may take before the bar comes up
        """
        self.require_idle()
        next_at = time.monotonic() + patience

        def show(share: float, what: str) -> None:
            nonlocal next_at
            now = time.monotonic()
            if now >= next_at:
                next_at = now + PROGRESS_INTERVAL
                self.set(job={"mode": kind, "share": share, "what": what})

        show(0.0, "waiting for the model")
        job = self.service.run(work, progress_cb=show, owner=self.owner, name=name)
        self._job = job
        try:
            return await job
        finally:
            self._job = None
            self.set(job=None)

    def task(self, work: Coroutine[Any, Any, None], place: str) -> None:
        """Start work of this visitor; what goes wrong is shown at `place`."""
        task = asyncio.get_running_loop().create_task(self.supervise(work, place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def supervise(self, work: Coroutine[Any, Any, T], place: str) -> T | None:
        """What the work returns, None when it went wrong; that is shown at `place`."""
        try:
            return await work
        except Cancelled as error:
            self.log.add(str(error), "warning")
        except Nmri3dError as error:
            self.show_error(place, str(error))
            self.log.add(str(error), "error")
        except Exception as error:
            logger.exception("the page failed")
            sentence = f"This is a defect of nmri3d ({type(error).__name__}: {error}); please report it."
            self.show_error(place, sentence)
            self.log.add(sentence, "error")
        return None

    def guarded(self, name: str, handler: Handler) -> Handler:
        """A handler whose deliberate errors (and wrong arguments, from a browser) become lines of the log."""

        def run(*arguments: Any) -> Any:
            try:
                return handler(*arguments)
            except (Nmri3dError, TypeError) as error:
                logger.info("trigger %s refused: %s", name, error)
                self.log.add(f"{name}: {error}", "error")
                return None

        return run

    async def end(self) -> None:
        """Stop all work of this visitor."""
        self.closed = True
        self.epoch += 1
        self.service.cancel_jobs(self.owner)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def duration(seconds: float) -> str:
    """Seconds in words."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"

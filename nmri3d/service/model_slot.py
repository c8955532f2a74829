"""The place of the one model: what stands in it, how a model gets into it and out of it, and who is told.

Convention. The model before answers until the new one is there; only when both do not fit in memory at once it goes
first. The exchange happens between two requests, under the turn lock. An error or a withdrawal leaves what was there.
Status and events always agree: the status changes first, then listeners are told.

Left out: where models come from, which is `nmri3d.models.load`.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from nmri3d.errors import BusyError, Cancelled, ModelError, ModelTooLargeError
from nmri3d.models.backend import Backend, ModelInfo, Progress
from nmri3d.service.cache import ResultCache
from nmri3d.service.events import Broadcaster, ModelFailed, ModelLoading, ModelReady, ModelUnloaded
from nmri3d.service.queueing import TurnLock

VISIBLE_STEP = 0.005
"""Shares of a load that differ by less are not told to listeners: nobody could see the difference."""


@dataclass(frozen=True)
class ServiceStatus:
    """Where the model stands.

    state   "empty" (none yet), "loading", "ready", or "failed" (the load ended in an error and there is no model)
    name    model that is being loaded, or that failed, or that is ready; "" when empty
    share   0 to 1, and `what`: how far the load is and what it does; 1 when ready
    error   sentence of the last load that failed, until another begins
    info    the model that answers requests now: while another is loading it is still the one before
    """

    state: Literal["empty", "loading", "ready", "failed"] = "empty"
    name: str = ""
    share: float = 0.0
    what: str = ""
    error: str | None = None
    info: ModelInfo | None = None


@dataclass(eq=False)
class Loaded:
    """A backend, what it was asked for by, and its results."""

    backend: Backend
    request: tuple[Any, ...]
    cache: ResultCache


class ModelSlot:
    """Holder of at most one `Loaded`. Thread-safe; one load at a time."""

    def __init__(
        self, turns: TurnLock, events: Broadcaster, cache_prompts: int, loader: Callable[..., Backend] | None
    ) -> None:
        self._turns = turns
        self._events = events
        self._cache_prompts = cache_prompts
        self._loader = loader
        self._loading = threading.Lock()
        self._withdrawn = threading.Event()
        self._told: tuple[float, str] = (-1.0, "")
        self.loaded: Loaded | None = None
        self.status = ServiceStatus()

    def require(self) -> Loaded:
        """What is there. Raises BusyError while the first model loads, ModelError where there is none."""
        loaded, status = self.loaded, self.status
        if loaded is not None:
            return loaded
        if status.state == "loading":
            raise BusyError(f"{status.name} is still being loaded ({status.share:.0%}); ask again when it is ready.")
        if status.state == "failed":
            raise ModelError(f"There is no model, because the load of {status.name} failed: {status.error}")
        raise ModelError("No model is loaded; choose one first.")

    def load(self, name: str, options: dict[str, Any], progress: Progress) -> ModelInfo:
        """Put a model in the place of the one before; see `Service.load`."""
        request = (name, *(value for option, value in sorted(options.items()) if option != "token"))
        self._begin("wait until it is ready, or cancel that, then ask again")
        try:
            if self.loaded is not None and self.loaded.request == request:
                return self.loaded.backend.info
            self._withdrawn.clear()

            def report(share: float, what: str) -> None:
                self._tell_loading(name, share, what)
                if self._withdrawn.is_set():
                    raise Cancelled(f"Loading {name} was cancelled.")
                progress(share, what)

            try:
                report(0.0, f"Looking for {name}")
                backend = self._obtain(name, options, report)
                self._install(backend, request, report)
            except BaseException as error:
                self._settle_failure(name, error)
                raise
            return backend.info
        finally:
            self._loading.release()

    def cancel_load(self) -> None:
        """Withdraw the load that is under way; its next report raises `Cancelled`."""
        self._withdrawn.set()

    def unload(self, progress: Progress) -> None:
        """Drop the model between two requests."""
        self._begin("cancel that first, then unload")
        try:
            self._drop(progress, ServiceStatus())
        finally:
            self._loading.release()

    def _begin(self, remedy: str) -> None:
        if not self._loading.acquire(blocking=False):
            raise BusyError(f"{self.status.name or 'A model'} is being loaded or dropped; {remedy}.")

    def _obtain(self, name: str, options: dict[str, Any], report: Progress) -> Backend:
        """The new backend, beside the old one where both fit, else in its place."""
        loader = self._loader
        if loader is None:
            report(0.0, "Importing the libraries")
            from nmri3d import models

            loader = models.load
        try:
            return loader(name, progress=report, **options)
        except ModelTooLargeError as error:
            if self.loaded is None or not _fits_without(self.loaded.backend.info, error):
                raise
        report(0.0, f"Dropping {self.loaded.backend.info.title} to make room")
        self._drop(report, ServiceStatus("loading", name, 0.0, self.status.what))
        return loader(name, progress=report, **options)

    def _install(self, backend: Backend, request: tuple[Any, ...], report: Progress) -> None:
        """Put a backend in the place of the one before, between two requests."""
        try:
            with self._turns.hold(lambda _share, what: report(1.0, what)):
                before = self.loaded
                self.loaded = Loaded(backend, request, ResultCache(prompts=self._cache_prompts))
                self.status = ServiceStatus("ready", request[0], 1.0, "", None, backend.info)
                if before is not None:
                    before.backend.close()
        except BaseException:
            if self.loaded is None or self.loaded.backend is not backend:
                backend.close()
            raise
        del before
        gc.collect()  # a model is full of cycles: without this its memory waits for the next collection
        self._events.send(ModelReady(backend.info))

    def _drop(self, progress: Progress, status: ServiceStatus) -> None:
        with self._turns.hold(progress):
            before, self.loaded, self.status = self.loaded, None, status
            if before is not None:
                before.backend.close()
        if before is not None:
            model_id = before.backend.info.model_id
            del before
            gc.collect()
            self._events.send(ModelUnloaded(model_id))

    def _tell_loading(self, name: str, share: float, what: str) -> None:
        info = None if self.loaded is None else self.loaded.backend.info
        before, self.status = self.status, ServiceStatus("loading", name, share, what, None, info)
        told_share, told_what = self._told
        if before.state != "loading" or what != told_what or abs(share - told_share) >= VISIBLE_STEP:
            self._told = (share, what)
            self._events.send(ModelLoading(name, share, what))

    def _settle_failure(self, name: str, error: BaseException) -> None:
        """The status after a load that ended without its model."""
        cancelled = isinstance(error, Cancelled)
        message = str(error) or type(error).__name__
        sentence = None if cancelled else message
        loaded = self.loaded
        if loaded is not None:
            self.status = ServiceStatus("ready", loaded.request[0], 1.0, "", sentence, loaded.backend.info)
        else:
            self.status = ServiceStatus() if cancelled else ServiceStatus("failed", name, 0.0, "", sentence)
        kept = None if loaded is None else loaded.backend.info.model_id
        self._events.send(ModelFailed(name, message, kept, cancelled))


def _fits_without(info: ModelInfo, error: ModelTooLargeError) -> bool:
    """Whether the model that was too large fits once this one is dropped; where the error has no figures, perhaps."""
    return error.needed is None or error.free is None or error.needed <= error.free + info.memory_bytes

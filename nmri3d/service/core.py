"""All that can be asked of the one loaded model, by many visitors: load, swap, scan, predict. One `Service` a process.

Convention. Methods block and are safe to call from many threads; a page calls them through `Service.run`, which gives a
`Job`. Each takes `progress`, by which the caller watches and withdraws it. The model does one thing at a time, visitors
in turn; a result that is still kept is returned at once, without waiting for the model. An error or a withdrawal leaves
everything as it was before the call.

Left out: perturbation stacks (each visitor's own) and recordings, and everything that draws or listens on a port.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nmri3d.errors import Cancelled, InputError
from nmri3d.models.backend import Backend, ModelInfo, Progress, no_progress
from nmri3d.models.location import require_allowed
from nmri3d.models.residual_backend import require_residual
from nmri3d.results import Prediction, Scan
from nmri3d.service.answers import (
    mlp_activations,
    naming_memory,
    next_tokens,
    require_integer,
    step_outputs,
    strongest_neurons,
)
from nmri3d.service.cache import option_key
from nmri3d.service.events import Broadcaster, Listener
from nmri3d.service.measuring import Measuring
from nmri3d.service.model_slot import Loaded, ModelSlot, ServiceStatus
from nmri3d.service.queueing import Flights, TurnLock
from nmri3d.service.runner import Job, Runner

if TYPE_CHECKING:
    from nmri3d.results import TopNeuron

T = TypeVar("T")


LISTED = 10
"""So many answers may be asked for even of a network that has fewer."""


class Service(Measuring):
    """Owner of the model, its turns, its results and its events.

    cache_prompts  for how many prompts results are kept
    loader         what loads a model; `nmri3d.models.load` where none is given
    model_folders  where local models may be loaded from, an attribute that a public server sets; None: anywhere
    """

    model_folders: tuple[Path, ...] | None = None

    def __init__(self, *, cache_prompts: int = 5, loader: Callable[..., Backend] | None = None) -> None:
        self._turns = TurnLock()
        self._flights = Flights()
        self._events = Broadcaster()
        self._runner = Runner(retry_after=self._turns.retry_after)
        self._slot = ModelSlot(self._turns, self._events, cache_prompts, loader)

    # -- what is there -----------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend | None:
        """The model that answers requests now, None while there is none."""
        loaded = self._slot.loaded
        return None if loaded is None else loaded.backend

    @property
    def status(self) -> ServiceStatus:
        """Where the model stands; listeners hear of each change."""
        return self._slot.status

    def require_backend(self) -> Backend:
        """The model. Raises BusyError while the first one loads, ModelError where there is none."""
        return self._slot.require().backend

    def memory(self) -> dict[str, Any]:
        """Memory in use and free, as `nmri3d.models.memory` counts it."""
        from nmri3d import models

        return models.memory()

    def figures(self) -> dict[str, float]:
        """How busy it is, cheaply: the line before the model, work alive, and the kept results of the present model.

        waiting, turns, seconds_a_turn   of the one model: requests in line, turns so far, mean length of the last ones
        jobs                             requests that are alive, in line or not
        shared                           requests that were answered by an equal one under way
        cache_hits, cache_misses         requests answered by what was kept, results that had to be measured
        cache_bytes, cache_prompts       what is kept now
        """
        loaded = self._slot.loaded
        cache = None if loaded is None else loaded.cache
        return {
            "waiting": self._turns.waiting,
            "turns": self._turns.turns,
            "seconds_a_turn": self._turns.seconds_a_turn,
            "jobs": len(self._runner.jobs()),
            "shared": self._flights.shared,
            "cache_hits": cache.hits if cache else 0,
            "cache_misses": cache.misses if cache else 0,
            "cache_bytes": cache.nbytes if cache else 0,
            "cache_prompts": len(cache.prompts) if cache else 0,
        }

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(event)` for each event of `nmri3d.service.events`; returns the function that stops it.

        Called from a coroutine or callback of an event loop, it delivers in that loop; otherwise in whichever thread
        causes the event.
        """
        return self._events.subscribe(listener)

    # -- work in threads ---------------------------------------------------------------------------------------------

    def run(
        self,
        fn: Callable[[Progress], T],
        *,
        progress_cb: Progress | None = None,
        owner: Hashable = None,
        name: str = "The request",
    ) -> Job[T]:
        """Run `fn(progress)` in a worker thread; see `Runner.run`. Give the visitor's id as `owner`."""
        return self._runner.run(fn, progress_cb=progress_cb, owner=owner, name=name)

    def cancel_jobs(self, owner: Hashable) -> None:
        """Withdraw all work of one visitor."""
        self._runner.cancel(owner)

    def close(self, timeout: float = 5.0) -> bool:
        """Withdraw all work, wait for its end (`timeout` seconds at most) and drop the model. True when all ended."""
        self._slot.cancel_load()
        ended = self._runner.close(timeout)
        if ended:
            self.unload()
        return ended

    # -- the model ---------------------------------------------------------------------------------------------------

    def load(
        self,
        name: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        backend: str = "auto",
        token: str | None = None,
        trust_remote_code: bool = False,
        progress: Progress = no_progress,
    ) -> ModelInfo:
        """Load a model and put it in the place of the one before; all listeners hear of it.

        backend  as `nmri3d.models.load` takes it, or "ndif" for a model that runs on NDIF's machines

        The model before it answers until the new one is there. Only when both do not fit in memory at once is it
        dropped first. Asking for the model that is there already changes nothing.

        Raises BusyError while another load is under way, ModelAccessError for a local model outside of `model_folders`,
        what `nmri3d.models.load` raises, and `Cancelled`.
        """
        require_allowed(name, self.model_folders)
        remote = backend == "ndif"
        options = {
            "device": device,
            "dtype": dtype,
            "revision": revision,
            "backend": "auto" if remote else backend,
            "remote": remote,
            "token": token,
            "trust_remote_code": trust_remote_code,
        }
        return self._slot.load(name, options, progress)

    def cancel_load(self) -> None:
        """Withdraw the load that is under way, whoever began it; does nothing where there is none."""
        self._slot.cancel_load()

    def unload(self, *, progress: Progress = no_progress) -> None:
        """Drop the model and its results once the work on it has ended. Raises BusyError during a load."""
        self._slot.unload(progress)

    # -- what is asked of it -----------------------------------------------------------------------------------------

    def scan(self, mode: str, prompt: str | None = None, *, progress: Progress = no_progress, **config: Any) -> Scan:
        """One scan, `nmri3d.scans.scan(backend, mode, prompt, **config)`, or the kept result of an equal request.

        Equal requests at the same time are measured once. The arrays are read-only: all visitors share them.

        Raises what the scan raises, BusyError and ModelError as `require_backend`, MachineError when memory runs out,
        and `Cancelled`.
        """

        def measure(backend: Backend, report: Progress) -> Scan:
            from nmri3d import scans

            return scans.scan(backend, mode, prompt, progress=report, **config)

        self._slot.require()  # before torch is imported below
        if config.get("template") == "ready":  # what is ready may change, so it is no key to a kept result
            config = {**config, "template": "auto" if self.template_ready() else "off"}
        return self._answer(prompt, _scan_key(mode, config), measure, progress)

    def predict(self, prompt: str, *, k: int = 5, progress: Progress = no_progress) -> list[Prediction]:
        """The k likeliest next tokens after the prompt, likeliest first; of fewer there are, or of signals, all.

        Raises InputError for a bad prompt or k, and else as `scan`.
        """
        count = require_integer(k, "k", 1, max(LISTED, self.require_backend().info.d_vocab))

        def measure(backend: Backend, report: Progress) -> list[Prediction]:
            return next_tokens(backend, prompt, count, report)

        return list(self._answer(prompt, ("predict", count), measure, progress))

    def outputs(self, prompt: str, *, progress: Progress = no_progress) -> np.ndarray:
        """Float32 [steps, outputs]: the logits, or the signals, at every step of a prompt. Raises as `scan`."""

        def measure(backend: Backend, report: Progress) -> np.ndarray:
            return step_outputs(backend, prompt, report)

        return self._answer(prompt, "outputs", measure, progress)

    def top_neurons(
        self, prompt: str, layer: int, position: int, k: int = 10, *, progress: Progress = no_progress
    ) -> list[TopNeuron]:
        """The k neurons of one MLP with the largest |activation| at one position, largest first.

        position  index of a token, from the end where negative

        Raises InputError for a layer, position or k that does not exist and for a model without MLP neurons, and else as
        `scan`.
        """
        model = require_residual(self.require_backend(), "neurons")
        layer = require_integer(layer, "layer", 0, model.info.n_layers - 1)

        def measure(backend: Backend, report: Progress) -> np.ndarray:
            return mlp_activations(backend, prompt, layer, report)

        return strongest_neurons(self._answer(prompt, ("neurons", layer), measure, progress), layer, position, k)

    def derive(self, key: Hashable, make: Callable[[Backend, Progress], T], *, progress: Progress = no_progress) -> T:
        """Something made of the model once for all visitors (an atlas, say): `make(backend, progress)` in its turn.

        Kept under `key` as long as the model stays; arrays that it holds in dataclasses, lists or mappings become
        read-only. Raises what `make` raises, and else as `scan`.
        """
        return self._answer(None, ("derived", key), make, progress)

    def measure_anew(self, work: Callable[[Backend], T], *, progress: Progress = no_progress) -> T:
        """`work(backend)` in its turn: nothing that is kept is used, and nothing is kept. Raises as `scan`."""
        return self._in_turn(work, progress)

    def _in_turn(self, work: Callable[[Backend], T], progress: Progress) -> T:
        """Work on the model in its turn, not kept."""
        loaded = self._slot.require()
        with self._turn_of(loaded, progress):
            return naming_memory(lambda: work(loaded.backend))

    @contextmanager
    def _turn_of(self, loaded: Loaded, progress: Progress) -> Iterator[None]:
        """The model's turn. Raises Cancelled where another model has taken its place meanwhile."""
        with self._turns.hold(progress):
            if self._slot.loaded is not loaded:
                raise Cancelled("The model was changed while this request waited; ask again on the new one.")
            yield

    def _answer(
        self, prompt: str | None, key: Hashable, measure: Callable[[Backend, Progress], T], progress: Progress
    ) -> T:
        """A kept result, or that of an equal request under way, or a new measurement in its turn."""
        if prompt is not None and not isinstance(prompt, str):
            raise InputError(f"the prompt must be a text, not {type(prompt).__name__}; give the sentence itself")
        loaded = self._slot.require()

        def compute(report: Progress) -> T:
            kept = loaded.cache.get(prompt, key)  # an equal request may have ended a moment ago
            if kept is not None:
                return kept
            with self._turn_of(loaded, report):
                value = naming_memory(lambda: measure(loaded.backend, report))
                loaded.cache.put(prompt, key, value)
            return value

        kept = loaded.cache.get(prompt, key)
        return kept if kept is not None else self._flights.run((loaded, prompt, key), compute, progress)


def _scan_key(mode: str, options: dict[str, Any]) -> Hashable:
    """Key of a scan: its mode and *all* its options, so that an option left out equals its default given."""
    from nmri3d.scans.dispatch import canonical_mode, resolve_mode

    defaults = {
        field.name: field.default for field in fields(resolve_mode(mode).config) if field.default is not MISSING
    }
    return ("scan", canonical_mode(mode), option_key({**defaults, **options}))

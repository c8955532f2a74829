"""The long runs' part of the page: causal tracing, and the sweep that silences every component.

Convention. How long a run would take is measured, by replaying a little of it, when its tool is open and its options rest.
One of over a minute does not start without a yes.

Left out: how they are measured (nmri3d/perturbation).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nmri3d.app.findings import heatmap_finding, sweep_finding, sweep_scan
from nmri3d.app.parts.experiments import read_metric, require_fit
from nmri3d.app.parts.painting import Painting
from nmri3d.app.parts.visit import Handlers, Offer, Visit, duration
from nmri3d.app.state import require_choice, require_message, require_text, require_whole
from nmri3d.errors import Cancelled, InputError, Nmri3dError
from nmri3d.models.backend import Backend
from nmri3d.results import Heatmap

RUNS = ("trace", "sweep")
METHODS = ("counterfactual", "noise")
EFFECTS = ("zero", "mean", "patch")
MOST_DRAWS = 100
REMEMBERED = 20

ASK_ABOVE = 60.0
"""Seconds above which a run asks before it starts."""


@dataclass(frozen=True, eq=False)
class Run:
    """What is to be run: "trace" or "sweep", on which prompt, how."""

    what: str
    prompt: str
    options: dict[str, Any]

    @property
    def key(self) -> str:
        """Equal for equal runs."""
        return json.dumps([self.what, self.prompt, self.options])


class Runs:
    """Trace and sweep."""

    def __init__(self, visit: Visit, painting: Painting) -> None:
        self._visit = visit
        self._painting = painting
        self._told: dict[str, float] = {}
        self._wanted: dict[str, object] = {}

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {
            "trace": lambda prompt, message, sure: self._begin("trace", prompt, message, sure),
            "sweep": lambda prompt, message, sure: self._begin("sweep", prompt, message, sure),
            "estimate": self._on_estimate,
            "withdraw_question": lambda: self._visit.set(ask=None),
        }

    def forget(self) -> None:
        """The model has gone."""
        self._told.clear()
        self._painting.withdraw("sweep")
        self._visit.set(trace=None, sweep=None, ask=None, estimates={})

    def _begin(self, what: str, prompt: Any, message: Any, sure: Any) -> None:
        self._visit.require_idle()
        self._visit.set(ask=None)
        self._visit.show_error(what, "")
        self._visit.show_error("corrupt", "")
        self._visit.task(self._run(what, prompt, message, sure is True), what)

    def _on_estimate(self, what: Any, prompt: Any, message: Any) -> None:
        what = require_choice(what, RUNS, "run")
        self._visit.task(self._estimate(what, prompt, message), what)

    async def _estimate(self, what: str, prompt: Any, message: Any) -> None:
        """Tell how long a run would take; why it cannot be run, where it cannot."""
        visit, epoch = self._visit, self._visit.epoch
        self._wanted[what] = wanted = object()
        visit.set(estimates={**visit.read("estimates"), what: None})
        try:
            run = self._read(what, prompt, message)
            await self._check(run)
            told: dict[str, float | str] = {"seconds": await self._seconds(run)}
        except Cancelled:
            return
        except Nmri3dError as error:
            told = {"error": str(error)}
        if wanted is self._wanted.get(what) and epoch == visit.epoch:  # else a newer question was asked
            visit.set(estimates={**visit.read("estimates"), what: told})

    async def _run(self, what: str, prompt: Any, message: Any, sure: bool) -> None:
        visit, epoch = self._visit, self._visit.epoch
        run = self._read(what, prompt, message)
        try:
            await self._check(run)
        except InputError as error:
            if run.options["corrupt"] is not None:
                visit.show_error("corrupt", str(error))
            raise
        if not sure:
            seconds = await self._seconds(run)
            visit.set(estimates={**visit.read("estimates"), what: {"seconds": seconds}})
            if seconds > ASK_ABOVE:
                visit.set(ask={"what": what, "seconds": seconds})
                return
        measure = visit.service.trace if what == "trace" else visit.service.sweep
        result = await visit.run_shown(
            what.upper(), lambda progress: measure(run.prompt, progress=progress, **run.options), f"The {what}"
        )
        if epoch != visit.epoch:
            return
        visit.record(what, _recorded(run), result)
        if isinstance(result, Heatmap):
            visit.set(trace=heatmap_finding(result))
            visit.log.add(f"Causal trace complete — {result.method}, {duration(result.provenance.seconds)}")
        else:
            visit.set(sweep=sweep_finding(result))
            visit.log.add(f"Sweep complete — {result.effect}, {duration(result.provenance.seconds)}")
            self._painting.offer(sweep=Offer(sweep_scan(result)))
            self._painting.show_open("sweep")

    def _read(self, what: str, prompt: Any, message: Any) -> Run:
        backend = self._visit.require_backend()
        options = _trace_options(backend, message) if what == "trace" else _sweep_options(backend, message)
        return Run(what, require_text(prompt, "prompt"), options)

    async def _check(self, run: Run) -> None:
        backend, corrupt = self._visit.require_backend(), run.options["corrupt"]
        await self._visit.run(lambda progress: require_fit(backend, run.prompt, corrupt), "The check of the prompts")

    async def _seconds(self, run: Run) -> float:
        """How long a run would take. The last answers are remembered, so that a click does not measure it again."""
        if run.key not in self._told:
            service = self._visit.service
            ask = service.estimate_trace if run.what == "trace" else service.estimate_sweep
            seconds = await self._visit.run(
                lambda progress: ask(run.prompt, progress=progress, **run.options), "The estimate"
            )
            while len(self._told) >= REMEMBERED:
                self._told.pop(next(iter(self._told)))
            self._told[run.key] = seconds
        return self._told[run.key]


def _recorded(run: Run) -> dict[str, Any]:
    """A run as the data of an event."""
    if run.what == "sweep":
        return {"prompt": run.prompt, "options": run.options}
    options = {name: value for name, value in run.options.items() if name != "corrupt"}
    return {"clean": run.prompt, "corrupt": run.options["corrupt"], "options": options}


def _trace_options(backend: Backend, message: Any) -> dict[str, Any]:
    message = require_message(message)
    method = require_choice(message.get("method"), METHODS, "way to corrupt")
    options = {"method": method, **read_metric(backend, message)}
    if method == "counterfactual" and options["corrupt"] is None:
        raise InputError("this needs a corrupted prompt: type one beside CORRUPTED, or choose noise instead")
    if method == "noise":
        options["corrupt"] = None
        options["draws"] = require_whole(message.get("draws"), 1, MOST_DRAWS, "number of draws")
    n_layers = backend.info.n_layers
    options["window"] = require_whole(message.get("window"), 1, n_layers, "window")
    first = require_whole(message.get("first"), 0, n_layers, "first layer")
    last = require_whole(message.get("last"), -1, n_layers, "last layer")
    last = n_layers if last == -1 else last
    if first > last:
        raise InputError(f"the first layer, {first}, lies after the last one, {last}; exchange them")
    if (first, last) != (0, n_layers):
        options["layers"] = list(range(first, last + 1))
    return options


def _sweep_options(backend: Backend, message: Any) -> dict[str, Any]:
    message = require_message(message)
    options = read_metric(backend, message)
    options["effect"] = require_choice(message.get("effect"), EFFECTS, "effect")
    if options["effect"] != "patch":
        options["corrupt"] = None
    elif options["corrupt"] is None:
        raise InputError("this needs a corrupted prompt: type one beside CORRUPTED, or choose zero or mean")
    return options

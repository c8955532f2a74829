"""One visitor's page: builds the markup on a trame server, runs what the visitor asks for, and shows what comes of it.

Convention. The browser keeps everything that needs no measuring (web/store.js); what arrives here is checked (state.py),
run in a worker thread through the shared `Service`, and put into trame's state. Errors of nmri3d/errors.py are shown as
they are, beside what they concern; any other exception is a defect: it is logged with its traceback and named as one.

Left out: ports, tokens and visitors (visitors.py, serve.py), the brain's view (brain.py), markup (panels/).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from trame.modules import vtk as vtk_in_the_browser
from trame.ui.html import DivLayout
from trame.widgets import html
from trame_vtk.modules import vtk as vtk_on_the_server

from nmri3d.app import web
from nmri3d.app.brain import PageBrain, build_scene
from nmri3d.app.facts import STATISTICS, component_facts, model_facts
from nmri3d.app.panels import canvas, log, mode_tabs, prompt_bar, side, top_bar
from nmri3d.app.payloads import palettes_payload, scan_payload
from nmri3d.app.pictures import SIZE, read_wish
from nmri3d.app.state import (
    AGGREGATIONS,
    PageState,
    require_choice,
    require_index,
    require_mode,
    require_text,
)
from nmri3d.errors import BusyError, Cancelled, InputError, Nmri3dError
from nmri3d.models.backend import Progress
from nmri3d.results import Scan
from nmri3d.service import Job, Log, Service
from nmri3d.service.events import Event, LogLine, ModelFailed, ModelLoading, ModelReady, ModelUnloaded

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOG_TAIL = 4
"""Newest log lines that are sent; the browser keeps the older ones."""

TOP_NEURONS = 10

PROGRESS_INTERVAL = 0.1
"""Seconds between two messages about the progress of a scan; nobody reads faster, and each costs traffic."""


class Page:
    """The page of one visitor.

    server   trame server (vue3) that only this visitor uses
    service  the shared model
    render   "client": the browser draws, and stepping costs no traffic; "remote": the server draws and sends pictures

    Built inside a running event loop it starts at once, else when the server is ready.
    """

    def __init__(self, server: Any, service: Service, *, render: str = "client") -> None:
        require_choice(render, ("client", "remote"), "way to render")
        self.server = server
        self.service = service
        self.remote = render == "remote"
        self.log = Log()
        self._brain: PageBrain | None = None
        self._scans: dict[str, Scan] = {}
        self._job: Job[Any] | None = None
        self._prediction: Job[Any] | None = None
        self._drawing = False
        self._selected = -1
        self._epoch = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._tail: deque[dict[str, Any]] = deque(maxlen=LOG_TAIL)
        self._n_lines = 0
        self._unsubscribe: list[Callable[[], None]] = []
        self._started = self._closed = False

        # The view comes later, with the model; what it needs must be there when the server starts.
        for module in (vtk_in_the_browser, vtk_on_the_server, web):
            server.enable_module(module)
        statistics = [[name, label] for name, label in STATISTICS]
        state = PageState(remote=self.remote, palettes=palettes_payload(), statistics=statistics)
        server.state.update(state.as_dict())
        server.state.brain_template = ""
        server.state.trame__title = "Neural MRI 3D"
        for name, handler in self._handlers().items():
            server.trigger(name)(self._guarded(name, handler))
        self._build()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            server.controller.on_server_ready.add(lambda **_: self._start())
        else:
            self._start()

    async def close(self) -> None:
        """Stop this visitor's work and free the VTK objects; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._epoch += 1
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self.service.cancel_jobs(self._owner)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._drop_brain()

    # -- frame -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        with DivLayout(self.server, classes="nmri"):
            top_bar.build()
            mode_tabs.build()
            with html.Main(classes="scan-column"):
                canvas.build()
                prompt_bar.build()
            side.build()
            log.build()

    def _handlers(self) -> dict[str, Callable[..., Any]]:
        """What the browser may ask for, by trigger name."""
        return {
            "load_model": self._on_load_model,
            "open_mode": self._on_open_mode,
            "scan": self._on_scan,
            "aggregate": self._on_aggregate,
            "statistic": self._on_statistic,
            "picture": self._on_picture,
            "cancel": self._on_cancel,
            "select": self._on_select,
            "top_neurons": self._on_top_neurons,
            "dismiss": self._on_dismiss,
            "remote_step": lambda step: self._with_brain(lambda brain: brain.step(step)),
            "remote_look": lambda share, locked: self._with_brain(lambda brain: brain.look(share, locked)),
            "remote_palette": lambda name: self._with_brain(lambda brain: brain.color(name)),
            "remote_view": lambda name: self._with_brain(lambda brain: brain.turn(name)),
            "remote_surface": lambda name: self._with_brain(lambda brain: brain.show_surface(name)),
            "remote_turned": lambda: self._with_brain(lambda brain: brain.turned()),
            "remote_pick": lambda x, y: self._with_brain(lambda brain: brain.pick(x, y), -1),
        }

    def _guarded(self, name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        """A handler whose deliberate errors (and wrong arguments, from a browser) become lines of the log."""

        def run(*arguments: Any) -> Any:
            try:
                return handler(*arguments)
            except (Nmri3dError, TypeError) as error:
                logger.info("trigger %s refused: %s", name, error)
                self.log.add(f"{name}: {error}", "error")
                return None

        return run

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        self._unsubscribe += [self.service.subscribe(self._on_event), self.log.subscribe(self._on_log_line)]
        self._task(self._show_catalog(), "model")
        self._show_status()
        if self.service.backend is not None:
            self._task(self._install(), "model")

    # -- what the service tells --------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        self._show_status()
        match event:
            case ModelLoading(share=share, what=what, name=name) if share == 0.0:
                self.log.add(f"{name}: {what}")
            case ModelReady():
                self._task(self._install(), "model")
            case ModelUnloaded():
                self._forget_model()
            case ModelFailed(message=message, cancelled=cancelled):
                self.log.add(message, "warning" if cancelled else "error")

    def _on_log_line(self, line: Event) -> None:
        if isinstance(line, LogLine):
            self._tail.append({"number": self._n_lines, "stamp": line.stamp, "level": line.level, "text": line.text})
            self._n_lines += 1
            self._set(log_tail=list(self._tail))

    def _show_status(self) -> None:
        status = self.service.status
        shown = {
            "state": status.state,
            "name": status.name,
            "share": status.share,
            "what": status.what,
            "error": status.error,
        }
        self._set(status=shown)

    async def _show_catalog(self) -> None:
        groups = await self._run(lambda progress: _catalog_groups(), "Listing the models")
        self._set(catalog=groups, memory=_memory_text(self.service.memory()))

    # -- the model ---------------------------------------------------------------------------------------------------

    async def _install(self) -> None:
        """Map the service's model onto a cortex of its own and paint T1."""
        backend = self.service.backend
        if backend is None:
            return
        self._forget_model()
        epoch = self._epoch
        self._set(model=model_facts(backend))
        scene = await self._run(
            lambda progress: build_scene(self.service, remote=self.remote, progress=progress),
            "Mapping the model onto the cortex",
        )
        scan = await self._run(lambda progress: self.service.scan("T1", progress=progress), "The T1 scan")
        if epoch != self._epoch:  # another model came meanwhile
            scene.close()
            return
        brain = PageBrain(self.server, scene, epoch, remote=self.remote)
        self._brain = brain
        self._keep(scan)
        self._set(brain_template=brain.template, geometry=brain.payload(), memory=_memory_text(self.service.memory()))
        info = backend.info
        self.log.add(f"{info.title} ready: {info.n_params:,} parameters, {len(scene.atlas.components)} components")
        for warning in info.warnings:
            self.log.add(warning, "warning")
        self._scan_open_mode()

    def _forget_model(self) -> None:
        self._epoch += 1
        self._scans.clear()
        self._selected = -1
        self._set(
            model=None,
            geometry=None,
            brain_template="",
            scan_t1=None,
            scan_t2=None,
            scan_fmri=None,
            facts=None,
            neurons=None,
            prediction=None,
            errors={},
        )
        self._drop_brain()

    def _drop_brain(self) -> None:
        brain, self._brain = self._brain, None
        if brain is not None:
            brain.close()

    def _on_load_model(self, name: Any) -> None:
        name = require_text(name, "model's name").strip()
        if not name:
            raise InputError("no model was named; type a Hugging Face id or the path of a folder")
        self._show_error("model", "")

        async def load() -> None:
            try:
                await self._run(lambda progress: self.service.load(name, progress=progress), f"Loading {name}")
            except BusyError:
                raise
            except Nmri3dError as error:  # every visitor's log hears of it by ModelFailed
                if not isinstance(error, Cancelled):
                    self._show_error("model", str(error))

        self._task(load(), "model")

    # -- scans -------------------------------------------------------------------------------------------------------

    def _on_open_mode(self, mode: Any) -> None:
        mode = require_mode(mode)
        self._set(mode=mode)
        self._with_brain(lambda brain: brain.show(mode))
        self._scan_open_mode()

    def _scan_open_mode(self) -> None:
        """Scan what the open tab shows, if it needs no prompt and is not there yet; after the scan under way, if any."""
        mode = self.server.state.mode
        if mode in ("T1", "T2") and mode not in self._scans and self._brain is not None and self._job is None:
            self._open_scan(mode)

    def _on_scan(self, prompt: Any) -> None:
        prompt = require_text(prompt, "prompt")
        self._show_error("prompt", "")
        self._open_scan("fMRI", prompt)

    def _on_aggregate(self, name: Any) -> None:
        self._set(aggregation=require_choice(name, AGGREGATIONS, "measure"))
        scan = self._scans.get("fMRI")
        if scan is not None:
            self._open_scan("fMRI", scan.provenance.prompt)

    def _on_statistic(self, name: Any) -> None:
        """Paint another statistic of T2. A T2 scan holds them all, so nothing is measured."""
        name = require_choice(name, tuple(known for known, _ in STATISTICS), "statistic")
        scan = self._scans.get("T2")
        if scan is not None:
            self._keep(_with_statistic(scan, name))
        self._set(statistic=name)

    def _on_cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _open_scan(self, mode: str, prompt: str | None = None) -> None:
        if self._job is not None:
            raise BusyError("a scan is still under way; wait until it is done, or cancel it first")
        if self._prediction is not None:
            self._prediction.cancel()
        self._task(self._scan(mode, prompt), "prompt" if mode == "fMRI" else mode)

    async def _scan(self, mode: str, prompt: str | None) -> None:
        epoch, opened_in = self._epoch, self.server.state.mode
        options = {"aggregation": self.server.state.aggregation} if mode == "fMRI" else {}
        self._show_error(mode, "")

        shown_at = 0.0

        def show(share: float, what: str) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at >= PROGRESS_INTERVAL:
                shown_at = time.monotonic()
                self._set(job={"mode": mode, "share": share, "what": what})

        show(0.0, "waiting for the model")
        try:
            scan = await self._run(
                lambda progress: self.service.scan(mode, prompt, progress=progress, **options),
                f"The {mode} scan",
                progress=show,
                cancellable=True,
            )
        finally:
            self._set(job=None)
        if epoch != self._epoch:
            return
        if mode == "T2":  # every statistic comes with each T2 scan; all visitors share the one
            scan = _with_statistic(scan, self.server.state.statistic)
        moved_on = self.server.state.mode != opened_in  # the person has opened another tab meanwhile
        self._keep(scan)
        tokens = f", {scan.n_steps} {scan.step_axis}s processed" if scan.tokens else ""
        self.log.add(f"Scan complete — Mode: {mode}{tokens}, {_duration(scan.provenance.seconds)}")
        if mode == "fMRI":
            if not moved_on:
                self._set(mode=mode)
            await self._predict(str(prompt), epoch)
        self._set(memory=_memory_text(self.service.memory()))
        self._scan_open_mode()

    def _keep(self, scan: Scan) -> None:
        """Show a scan, and what follows from it."""
        payload = scan_payload(scan)
        self._scans[scan.mode] = scan
        self._set(**{f"scan_{scan.mode.lower()}": payload})
        self._with_brain(lambda brain: brain.keep(scan))
        if scan.mode == "fMRI":
            self._set(neurons=None)
        if scan.mode == "T2":
            self._show_facts()

    async def _predict(self, prompt: str, epoch: int) -> None:
        job = self.service.run(
            lambda progress: self.service.predict(prompt, progress=progress), owner=self._owner, name="The prediction"
        )
        self._prediction = job
        try:
            best = await job
        except Cancelled:  # a newer scan wants the model
            return
        except Nmri3dError as error:
            self._set(prediction=None)
            self._show_error("prediction", str(error))
            return
        finally:
            if self._prediction is job:
                self._prediction = None
        if epoch != self._epoch:
            return
        self._show_error("prediction", "")
        tokens = [{"id": one.token_id, "text": one.token, "probability": one.probability} for one in best]
        self._set(prediction={"prompt": prompt, "tokens": tokens})

    # -- selection ---------------------------------------------------------------------------------------------------

    def _on_select(self, row: Any) -> None:
        backend = self.service.backend
        if backend is None or self._brain is None:
            return
        self._selected = -1 if row == -1 else require_index(row, len(backend.components), "component's row")
        self._with_brain(lambda brain: brain.select(self._selected))
        self._show_error("neurons", "")
        self._show_facts()
        if self._selected >= 0:
            self.log.add(f"Selected {backend.components.ids[self._selected]}")

    def _show_facts(self) -> None:
        backend = self.service.backend
        if self._selected < 0 or backend is None:
            self._set(facts=None, neurons=None)
        else:
            self._set(facts=component_facts(backend, self._selected, self._scans.get("T2")))

    def _on_top_neurons(self, row: Any, step: Any) -> None:
        backend, scan = self.service.backend, self._scans.get("fMRI")
        if backend is None or scan is None:
            raise InputError("the strongest neurons are those of an fMRI scan; scan a prompt first")
        row = require_index(row, len(backend.components), "component's row")
        step = require_index(step, scan.n_steps, "token")
        if backend.components.kind[row] != "mlp":
            raise InputError(f"{backend.components.ids[row]} has no neurons; select an MLP")
        layer, prompt = int(backend.components.layer[row]), str(scan.provenance.prompt)

        async def ask() -> None:
            found = await self._run(
                lambda progress: self.service.top_neurons(prompt, layer, step, TOP_NEURONS, progress=progress),
                "The strongest neurons",
            )
            items = [{"index": one.index, "activation": one.activation} for one in found]
            self._set(neurons={"row": row, "step": step, "token": scan.tokens[step], "items": items})

        self._task(ask(), "neurons")

    def _on_dismiss(self, place: Any) -> None:
        self._show_error(require_text(place, "place"), "")

    # -- pictures ----------------------------------------------------------------------------------------------------

    async def _on_picture(self, mode: Any, message: Any) -> bytes | None:
        """A PNG of what the browser shows; None where it cannot be, and then the error is in the state."""
        self._show_error("picture", "")
        return await self._supervise(self._picture(mode, message), "picture")

    async def _picture(self, mode: Any, message: Any) -> bytes:
        mode, brain = require_mode(mode), self._brain
        scan = self._scans.get(mode)
        if scan is None or brain is None:
            raise InputError(f"there is no {mode} scan to take a picture of; scan first")
        if self._drawing:
            raise BusyError("a picture is under way; wait until it is done")
        wish = read_wish(message, scan, self._selected, brain.pose)
        self._drawing = True
        try:
            png: bytes = await self._run(lambda progress: brain.pictures.draw(scan, wish), "The picture")
        finally:
            self._drawing = False
        token = f", token {wish.step}" if scan.tokens else ""
        self.log.add(f"Picture saved — {mode}{token}, {SIZE[0]} × {SIZE[1]}")
        return png

    # -- helpers -----------------------------------------------------------------------------------------------------

    @property
    def _owner(self) -> str:
        return str(self.server.name)

    def _set(self, **values: Any) -> None:
        """Put values into trame's state and send them now, whether or not trame began this call."""
        if self._closed:
            return
        self.server.state.update(values)
        self.server.state.flush()

    def _show_error(self, place: str, sentence: str) -> None:
        errors = dict(self.server.state.errors)
        if errors.pop(place, "") != sentence:
            self._set(errors={**errors, place: sentence} if sentence else errors)

    def _with_brain(self, act: Callable[[PageBrain], Any], otherwise: Any = None) -> Any:
        return otherwise if self._brain is None else act(self._brain)

    async def _run(
        self,
        work: Callable[[Progress], Any],
        name: str,
        *,
        progress: Progress | None = None,
        cancellable: bool = False,
    ) -> Any:
        """Run work in a thread of the service, on behalf of this visitor."""
        job = self.service.run(work, progress_cb=progress, owner=self._owner, name=name)
        if cancellable:
            self._job = job
        try:
            return await job
        finally:
            if self._job is job:
                self._job = None

    def _task(self, work: Coroutine[Any, Any, None], place: str) -> None:
        """Start work of this visitor; what goes wrong is shown at `place`."""

        task = asyncio.get_running_loop().create_task(self._supervise(work, place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _supervise(self, work: Coroutine[Any, Any, T], place: str) -> T | None:
        """What the work returns, None when it went wrong; that is shown at `place`."""
        try:
            return await work
        except Cancelled as error:
            self.log.add(str(error), "warning")
        except Nmri3dError as error:
            self._show_error(place, str(error))
            self.log.add(str(error), "error")
        except Exception as error:
            logger.exception("the page failed")
            sentence = f"This is a defect of nmri3d ({type(error).__name__}: {error}); please report it."
            self._show_error(place, sentence)
            self.log.add(sentence, "error")
        return None


def _with_statistic(scan: Scan, name: str) -> Scan:
    """A T2 scan with another of its statistics as values; as if it had been scanned so."""
    from nmri3d.scans.t2 import STATISTICS as UNITS

    provenance = replace(scan.provenance, config={**scan.provenance.config, "statistic": name})
    values = scan.details[name][None, :]
    return replace(scan, values=values, units=UNITS[name], signed=name == "mean", provenance=provenance)


def _catalog_groups() -> list[dict[str, Any]]:
    """The model menu: what is on this machine, and what needs the network."""
    from nmri3d.models import catalog
    from nmri3d.models.budget import human_bytes

    groups: dict[str, list[dict[str, str]]] = {"On this machine": [], "Needs the network": []}
    for entry in catalog():
        notes = []
        if entry.needs_network and entry.download_bytes:
            notes.append(human_bytes(entry.download_bytes))
        if entry.gated:
            notes.append("gated")
        label = f"{entry.title} ({', '.join(notes)})" if notes else entry.title
        place = "Needs the network" if entry.needs_network else "On this machine"
        groups[place].append({"value": entry.model_id, "label": label})
    return [{"group": name, "entries": entries} for name, entries in groups.items() if entries]


def _memory_text(memory: dict[str, Any]) -> str:
    from nmri3d.models.budget import human_bytes

    parts = [f"RAM {human_bytes(memory['process'])} / {human_bytes(memory['total'])}"]
    parts += [f"GPU {human_bytes(gpu['used'])} / {human_bytes(gpu['total'])}" for gpu in memory["gpus"]]
    return " · ".join(parts)


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"

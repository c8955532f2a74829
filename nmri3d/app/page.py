"""One visitor's page: builds the markup on a trame server and joins the parts that do what the visitor asks for.

Convention. The browser keeps everything that needs no measuring (web/store.js); what arrives here is checked (state.py),
run in a worker thread through the shared `Service`, and put into trame's state (parts/). Errors of nmri3d/errors.py are
shown as they are, beside what they concern; any other exception is a defect: it is logged with its traceback and named
as one.

Left out: ports, tokens and visitors (visitors.py, serve.py), the brain's view (brain.py), markup (panels/).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import pyvista.plotting  # noqa: F401  # whole, before two threads ask pyvista for it at once and one finds it half there
from trame.modules import vtk as vtk_in_the_browser
from trame.ui.html import DivLayout
from trame.widgets import html
from trame_vtk.modules import vtk as vtk_on_the_server

from nmri3d.app import web
from nmri3d.app.facts import STATISTICS
from nmri3d.app.panels import canvas, log, mode_tabs, prompt_bar, replay, side, top_bar
from nmri3d.app.parts.experiments import Experiments
from nmri3d.app.parts.generating import Generating
from nmri3d.app.parts.insight import Insight
from nmri3d.app.parts.layout import LayoutPart
from nmri3d.app.parts.model import ModelPart
from nmri3d.app.parts.neurons import NeuronPart
from nmri3d.app.parts.painting import Painting
from nmri3d.app.parts.picturing import Picturing
from nmri3d.app.parts.prediction import PredictionPart
from nmri3d.app.parts.recording import Recording
from nmri3d.app.parts.remote import remote_handlers
from nmri3d.app.parts.replaying import Replaying
from nmri3d.app.parts.runs import Runs
from nmri3d.app.parts.scanning import Neighbors, Scanning
from nmri3d.app.parts.selection import Selection
from nmri3d.app.parts.sessions import Sessions
from nmri3d.app.parts.stimulation import Stimulation
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.parts.volume import VolumePart
from nmri3d.app.payloads import palettes_payload
from nmri3d.app.state import PageState, require_choice, require_text
from nmri3d.service import Log, Service
from nmri3d.service.events import Event, LogLine
from nmri3d.service.sessions import SessionStore

LOG_TAIL = 4
"""Newest log lines that are sent; the browser keeps the older ones."""


class Page:
    """The page of one visitor.

    server   trame server (vue3) that only this visitor uses
    service  the shared model
    render   "client": the browser draws, and stepping costs no traffic; "remote": the server draws and sends pictures
    store    where sessions are recorded and replayed from; None: the page offers no recording

    Built inside a running event loop it starts at once, else when the server is ready.
    """

    def __init__(
        self, server: Any, service: Service, *, render: str = "client", store: SessionStore | None = None
    ) -> None:
        require_choice(render, ("client", "remote"), "way to render")
        remote = render == "remote"
        self._visit = visit = Visit(server, service)
        self._tail: deque[dict[str, Any]] = deque(maxlen=LOG_TAIL)
        self._n_lines = 0
        self._unsubscribe: list[Callable[[], None]] = []
        self._started = False

        # The view comes later, with the model; what it needs must be there when the server starts.
        for module in (vtk_in_the_browser, vtk_on_the_server, web):
            server.enable_module(module)
        statistics = [[name, label] for name, label in STATISTICS]
        state = PageState(remote=remote, palettes=palettes_payload(), statistics=statistics)
        server.state.update(state.as_dict())
        server.state.brain_template = ""
        server.state.trame__title = "Neural MRI 3D"

        self._recording, self._replaying = Recording(visit, store), Replaying(visit, store)
        parts = (*self._join(visit, remote), self._recording, self._replaying, Sessions(visit, store, self._recording))
        own: Handlers = {"dismiss": self._on_dismiss}
        for handlers in (own, remote_handlers(visit), *(part.handlers() for part in parts)):
            for name, handler in self._replaying.covering(handlers).items():
                server.trigger(name)(visit.guarded(name, handler))
        self._build()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            server.controller.on_server_ready.add(lambda **_: self._start())
        else:
            self._start()

    def _join(self, visit: Visit, remote: bool) -> tuple[Any, ...]:
        """Make the parts. Returns those that the browser may ask something of."""
        experiments, painting = Experiments(visit), Painting(visit)
        near = Neighbors(
            selection=Selection(visit),
            prediction=PredictionPart(visit),
            experiments=experiments,
            painting=painting,
            stimulation=Stimulation(visit, experiments, painting),
            insight=Insight(visit, experiments),
        )
        scanning = Scanning(visit, near)
        runs = Runs(visit, painting)
        neurons = NeuronPart(visit)
        self._forgetful = (
            scanning,
            near.selection,
            near.prediction,
            experiments,
            near.stimulation,
            near.insight,
            runs,
            painting,
            self._recording,
            self._replaying,
        )
        self._model = ModelPart(
            visit, scanning, remote=remote, forget_others=self._forget, tell_others=self._replaying.on_brain
        )
        layout = LayoutPart(visit, remote=remote)
        return (
            self._model,
            layout,
            scanning,
            near.selection,
            experiments,
            painting,
            near.stimulation,
            near.insight,
            runs,
            Generating(visit, scanning),
            VolumePart(visit),
            neurons,
            Picturing(visit, near.selection, painting, neurons),
        )

    @property
    def log(self) -> Log:
        """This visitor's log."""
        return self._visit.log

    async def close(self) -> None:
        """Stop this visitor's work and free the VTK objects; safe to call twice."""
        if self._visit.closed:
            return
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        await self._recording.close()
        await self._visit.end()
        self._model.drop_brain()

    def _build(self) -> None:
        with DivLayout(self._visit.server, classes="nmri"):
            top_bar.build()
            mode_tabs.build()
            with html.Main(classes="scan-column"):
                canvas.build()
                prompt_bar.build()
            side.build()
            log.build()
            replay.build()

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        visit = self._visit
        self._unsubscribe += [visit.service.subscribe(self._model.on_event), visit.log.subscribe(self._on_log_line)]
        self._model.start()

    def _forget(self) -> None:
        for part in self._forgetful:
            part.forget()

    def _on_log_line(self, line: Event) -> None:
        if isinstance(line, LogLine):
            self._tail.append({"number": self._n_lines, "stamp": line.stamp, "level": line.level, "text": line.text})
            self._n_lines += 1
            self._visit.set(log_tail=list(self._tail))

    def _on_dismiss(self, place: Any) -> None:
        self._visit.show_error(require_text(place, "place"), "")

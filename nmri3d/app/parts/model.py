"""The model's part of the page: the menu, a load, and the brain onto which the model is mapped.

Convention. What the service tells of the model reaches every visitor; each maps the model onto a scene of their own.

Left out: what a brain is (nmri3d/app/brain.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nmri3d.app.brain import PageBrain, build_scene
from nmri3d.app.facts import model_facts
from nmri3d.app.layouts import layout_finding
from nmri3d.app.parts.scanning import Scanning
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.state import require_text
from nmri3d.errors import BusyError, Cancelled, InputError, Nmri3dError
from nmri3d.service.catalog import PHANTOM, offered_models
from nmri3d.service.events import Event, ModelFailed, ModelLoading, ModelReady, ModelUnloaded

HERE, PHANTOMS, FETCHED = "On this machine", "Phantoms: networks with known truth", "Needs the network"
"""Groups of the model menu."""


class ModelPart:
    """The model that is shown.

    forget_others  called when the model goes, so that the other parts drop what belonged to it
    tell_others    called when another brain is shown
    """

    def __init__(
        self,
        visit: Visit,
        scanning: Scanning,
        *,
        remote: bool,
        forget_others: Callable[[], None],
        tell_others: Callable[[], None],
    ) -> None:
        self._visit = visit
        self._scanning = scanning
        self._remote = remote
        self._forget_others = forget_others
        self._tell_others = tell_others

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {"load_model": self._on_load}

    def start(self) -> None:
        """Show where the model stands, the menu, and the model if it is there already."""
        visit = self._visit
        visit.task(self._show_catalog(), "model")
        self._show_status()
        if visit.service.backend is not None:
            visit.task(self._install(), "model")

    def on_event(self, event: Event) -> None:
        """Follow what the service tells."""
        visit = self._visit
        self._show_status()
        match event:
            case ModelLoading(share=share, what=what, name=name) if share == 0.0:
                visit.log.add(f"{name}: {what}")
            case ModelReady():
                visit.task(self._install(), "model")
            case ModelUnloaded():
                self._forget()
            case ModelFailed(message=message, cancelled=cancelled):
                visit.log.add(message, "warning" if cancelled else "error")

    def drop_brain(self) -> None:
        """Free the brain."""
        brain, self._visit.brain = self._visit.brain, None
        if brain is not None:
            brain.close()

    def _show_status(self) -> None:
        status = self._visit.service.status
        shown = {
            "state": status.state,
            "name": status.name,
            "share": status.share,
            "what": status.what,
            "error": status.error,
        }
        self._visit.set(status=shown)

    async def _show_catalog(self) -> None:
        groups = await self._visit.run(lambda progress: _catalog_groups(), "Listing the models")
        self._visit.set(catalog=groups)
        self._scanning.show_memory()

    async def _install(self) -> None:
        """Map the service's model onto a cortex of its own and paint T1."""
        visit = self._visit
        backend = visit.service.backend
        if backend is None:
            return
        self._forget()
        epoch = visit.epoch
        visit.set(model=model_facts(backend), layers=backend.info.n_layers)
        try:
            scene = await visit.run(
                lambda progress: build_scene(visit.service, remote=self._remote, progress=progress),
                "Mapping the model onto the cortex",
                progress=visit.telling("placing"),
            )
        finally:
            visit.set(placing=None)
        scan = await visit.run(lambda progress: visit.service.scan("T1", progress=progress), "The T1 scan")
        if epoch != visit.epoch:  # another model came meanwhile
            scene.close()
            return
        brain = PageBrain(visit.server, scene, visit.next_brain(), remote=self._remote)
        visit.brain = brain
        info = backend.info
        known = {"model_id": info.model_id, "fingerprint": info.fingerprint, "title": info.title}
        visit.record("model", known | {"step_axis": backend.step_axis})
        self._scanning.keep(scan, {})
        visit.set(
            brain_template=brain.template,
            geometry=brain.payload(),
            layout=layout_finding(brain.atlas, brain.choice),
        )
        self._scanning.show_memory()
        visit.log.add(f"{info.title} ready: {info.n_params:,} parameters, {len(scene.atlas.components)} components")
        for warning in info.warnings:
            visit.log.add(warning, "warning")
        self._scanning.scan_open_mode()
        self._tell_others()

    def _forget(self) -> None:
        self._visit.epoch += 1
        self._forget_others()
        self._visit.set(model=None, geometry=None, flight=None, layout=None, moran=None, brain_template="", errors={})
        self.drop_brain()

    def _on_load(self, name: Any) -> None:
        visit = self._visit
        name = require_text(name, "model's name").strip()
        if not name:
            raise InputError("no model was named; type a Hugging Face id or the path of a folder")
        visit.show_error("model", "")

        async def load() -> None:
            try:
                await visit.run(lambda progress: visit.service.load(name, progress=progress), f"Loading {name}")
            except BusyError:
                raise
            except Nmri3dError as error:  # every visitor's log hears of it by ModelFailed
                if not isinstance(error, Cancelled):
                    visit.show_error("model", str(error))

        visit.task(load(), "model")


def _catalog_groups() -> list[dict[str, Any]]:
    """The model menu: what is on this machine, phantoms, and what needs the network."""
    from nmri3d.models.budget import human_bytes

    groups: dict[str, list[dict[str, str]]] = {name: [] for name in (HERE, PHANTOMS, FETCHED)}
    for entry in offered_models():
        notes = []
        if entry.needs_network and entry.download_bytes:
            notes.append(human_bytes(entry.download_bytes))
        if entry.gated:
            notes.append("gated")
        label = f"{entry.title} ({', '.join(notes)})" if notes else entry.title
        place = FETCHED if entry.needs_network else HERE
        if entry.family == PHANTOM:
            label, place = f"{entry.title}: {entry.note}", PHANTOMS
        groups[place].append({"value": entry.model_id, "label": label})
    return [{"group": name, "entries": entries} for name, entries in groups.items() if entries]

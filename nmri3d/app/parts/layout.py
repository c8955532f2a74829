"""The layout's part of the page: another cortical layout, further forms of the brain, and how good a layout is.

Convention. Another cortical layout is another brain of the same model: scans, selection and experiments stay. With client
rendering the browser is first told where the new parcels lie; it lets the old ones fly there and says when they have
landed, and the new brain takes the place of the old. A form is sent once, when it is first wanted.

Left out: what layouts there are (nmri3d/app/layouts.py), the flight (web/shape.js).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from nmri3d.app.brain import FORMS, PageBrain, build_scene
from nmri3d.app.layouts import LayoutChoice, layout_finding, parcel_balls, read_choice
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.payloads import FIRST_SURFACE
from nmri3d.app.state import require_choice
from nmri3d.atlas.moran import Moran, spatial_clustering
from nmri3d.errors import Cancelled, InputError
from nmri3d.models.backend import Progress
from nmri3d.results import Scan
from nmri3d.scene.brain import BrainScene
from nmri3d.service import Service
from nmri3d.template import template_of

LANDING = 8.0
"""Seconds to wait for a browser that says nothing, before the new brain is shown all the same."""


class LayoutPart:
    """The brain's shape."""

    def __init__(self, visit: Visit, *, remote: bool) -> None:
        self._visit = visit
        self._remote = remote
        self._landed = asyncio.Event()
        self._shown = asyncio.Event()
        self._n_refused = 0

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {
            "layout": self._on_layout,
            "flown": self._on_flown,
            "brain_shown": self._on_shown,
            "form": self._on_form,
            "ball_directions": self._on_directions,
            "remote_form": self._on_remote_form,
            "moran": self._on_moran,
        }

    # -- another cortical layout -----------------------------------------------------------------------------------------

    def _on_layout(self, message: Any) -> None:
        choice = read_choice(message)
        self._visit.show_error("layout", "")
        self._visit.task(self._change(choice), "layout")

    def _on_flown(self, epoch: Any) -> None:
        flight = self._visit.read("flight")
        if flight and flight["epoch"] == epoch:
            self._landed.set()

    def _on_shown(self, epoch: Any) -> None:
        brain = self._visit.brain
        if brain is not None and brain.epoch == epoch:
            self._shown.set()

    async def _change(self, choice: LayoutChoice) -> None:
        visit, old = self._visit, self._visit.brain
        visit.require_backend()
        assert old is not None  # there is a brain wherever there is a backend
        try:
            scene: BrainScene = await visit.run_shown(
                "LAYOUT",
                lambda progress: build_scene(visit.service, remote=self._remote, progress=progress, choice=choice),
                "The layout",
            )
        except BaseException:
            self._n_refused += 1  # the menus go back to what is shown
            visit.set(layout={**layout_finding(old.atlas, old.choice), "refused": self._n_refused})
            raise
        number = visit.next_brain()
        try:
            if not self._remote and visit.brain is old:
                center, radius = parcel_balls(scene.atlas, FIRST_SURFACE)
                self._landed.clear()
                visit.set(flight={"center": center.tobytes(), "radius": radius.tobytes(), "epoch": number})
                await self._until(self._landed)
            if visit.brain is not old or visit.closed:  # another model came meanwhile
                raise Cancelled("The layout was cancelled: its model is gone.")
            brain = PageBrain(visit.server, scene, number, remote=self._remote, choice=choice, before=old)
        except BaseException:
            scene.close()
            raise
        visit.brain = brain
        self._shown.clear()
        visit.set(
            brain_template=brain.template,
            geometry=brain.payload(),
            layout=layout_finding(brain.atlas, choice),
            flight=None,
            moran=None,
        )
        visit.log.add(f"Layout: {choice.layout}, {choice.features} features, area by {choice.area}")
        try:
            if not self._remote:
                await self._until(self._shown)  # its view may only go once the browser has let go of it
        finally:
            old.close()

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for the browser; one that sleeps in the background is not waited for."""
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), LANDING)

    # -- forms -----------------------------------------------------------------------------------------------------------

    def _on_form(self, name: Any, epoch: Any) -> Awaitable[dict[str, Any] | None]:
        """A form for the browser; None where its brain has gone, or where it cannot be, and then the log says why."""
        return self._form(require_choice(name, FORMS, "surface or layout"), epoch)

    async def _form(self, name: str, epoch: Any) -> dict[str, Any] | None:
        visit, brain = self._visit, self._visit.brain
        if brain is None or brain.epoch != epoch:
            return None
        return await visit.supervise(self._prepared(brain, name), "layout")

    async def _prepared(self, brain: PageBrain, name: str) -> dict[str, Any]:
        backend = self._visit.require_backend()

        def make(progress: Any) -> dict[str, Any]:
            brain.prepare(name, backend, progress)
            return brain.form_payload(name)

        return await self._visit.run(make, f"The form {name}")

    async def _on_directions(self, epoch: Any) -> bytes | None:
        brain = self._visit.brain
        if brain is None or brain.epoch != epoch:
            return None
        return await self._visit.supervise(self._visit.run(lambda progress: brain.directions(), "The layout"), "layout")

    def _on_remote_form(self, name: Any) -> None:
        visit, brain = self._visit, self._visit.brain
        name = require_choice(name, FORMS, "surface or layout")
        if brain is None or not self._remote:
            return

        async def show() -> None:
            backend = visit.require_backend()
            await visit.run(lambda progress: brain.prepare(name, backend, progress), f"The form {name}")
            if visit.brain is brain:
                brain.show_form(name)
                visit.set()  # what it changed is sent now: trame did not begin this call

        visit.task(show(), "layout")

    # -- how good it is --------------------------------------------------------------------------------------------------

    def _on_moran(self) -> None:
        """Moran's I of the fMRI scan on the brain that is shown."""
        visit, brain = self._visit, self._visit.brain
        scan = visit.scans.get("fMRI")
        if scan is None or brain is None:
            raise InputError("Moran's I is measured on an fMRI scan; scan a prompt first")
        if scan.n_steps < 2:
            step = scan.step_axis
            raise InputError(f"Moran's I leaves the first {step} out; scan a prompt of at least two {step}s")
        visit.show_error("layout", "")

        def measure(progress: Progress) -> Moran:
            template = visit.service.derive("template", template_of, progress=progress)
            values = template.fmri_z(_norms(visit.service, scan), np.arange(scan.n_steps))
            return spatial_clustering(brain.atlas, values[1:])

        async def ask() -> None:
            found = await visit.run_shown("MORAN'S I", measure, "Moran's I", patience=0.3)
            if visit.brain is brain:
                visit.set(moran={"prompt": scan.provenance.prompt, **asdict(found)})

        visit.task(ask(), "layout")


def _norms(service: Service, scan: Scan) -> np.ndarray:
    """float [steps, n]: the L2 norms of the scan's writes, which is what the template knows."""
    norms = service.scan("fMRI", scan.provenance.prompt, aggregation="l2_norm")
    return np.asarray(norms.values)

"""The neuron level's part of the page: where neurons lie, sent once a brain; their values, a step at a time when wanted.

Convention. The neuron atlas is built outside of the model's turn, from features that are read in it, so that others go on
scanning; it is kept on disk. A step is coded on the display range of its whole scan, or on the one that the visitor locked.

Left out: what is drawn (web/neurons.js), the codes (nmri3d/app/neuron_payload.py), and remote rendering.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmri3d.app.brain import PageBrain
from nmri3d.app.neuron_payload import chart_payload, step_payload
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.state import require_choice, require_index, require_message, require_mode, require_number, require_whole
from nmri3d.atlas.neurons import NeuronAtlas, parcels_of
from nmri3d.errors import InputError, Nmri3dError
from nmri3d.models.backend import Progress
from nmri3d.models.residual_backend import require_residual
from nmri3d.results import Scan
from nmri3d.scene.colors import DisplayRange, Variant, display_range, scan_color_map
from nmri3d.scene.painting import NeuronLevel

_LARGEST = 1e30
"""No display range that a page showed has larger ends."""


class NeuronPart:
    """Neurons of the brain that is shown."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._kept: tuple[int, NeuronAtlas] | None = None  # with the number of its brain

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {
            "neuron_facts": self._on_facts,
            "neuron_chart": self._on_chart,
            "neuron_step": self._on_step,
            "neuron_value": self._on_value,
        }

    # -- where they lie ------------------------------------------------------------------------------------------------

    def _on_facts(self, epoch: Any) -> dict[str, Any] | None:
        """{"count", "across"}: how many neurons there are, and how wide the smallest parcel's are on pial, in mm."""
        brain = self._brain(epoch)
        if brain is None:
            return None
        backend = self._visit.require_backend()
        parcels = parcels_of(brain.atlas, backend.neurons)
        areas = [float(brain.atlas.area[row]) / len(rows) for row, rows in parcels.items()]
        return {"count": len(backend.neurons), "across": float(np.sqrt(min(areas))) if areas else 0.0}

    async def _on_chart(self, epoch: Any) -> dict[str, Any] | None:
        """Where the neurons lie; None where its brain has gone, {"error"} where they cannot be shown."""
        brain = self._brain(epoch)
        if brain is None:
            return None
        self._visit.show_error("neuron_level", "")
        try:
            return await self._visit.supervise(self._chart(brain), "neuron_level")
        finally:
            self._visit.set(neuron_job=None)

    async def _chart(self, brain: PageBrain) -> dict[str, Any]:
        visit = self._visit
        visit.require_backend()

        def make(progress: Progress) -> dict[str, Any]:
            neurons = self._atlas(brain, progress)
            scene = brain.scene
            return chart_payload(brain.atlas, neurons, scene.vertex_of_split, scene.component_of_split)

        return await visit.run(
            make, "Placing the neurons", progress=visit.telling("neuron_job")
        )  # what is on disk needs no bar

    def _atlas(self, brain: PageBrain, progress: Progress) -> NeuronAtlas:
        """Where the neurons of a brain lie, in a worker thread; the newest is kept in memory."""
        if self._kept is None or self._kept[0] != brain.epoch:
            service, backend = self._visit.service, require_residual(self._visit.require_backend(), "neurons")

            def features_of(layer: int) -> np.ndarray:
                key = ("neuron features", layer)
                return service.derive(
                    key,
                    lambda model, report: require_residual(model, "neurons").neuron_features(layer),
                    progress=progress,
                )

            identity = backend.info.fingerprint or None
            neurons = NeuronAtlas.build(brain.atlas, backend.neurons, features_of, identity=identity, progress=progress)
            self._kept = (brain.epoch, neurons)
        return self._kept[1]

    async def level(self, brain: PageBrain, mode: str, step: int, locked: Any, variant: Variant) -> NeuronLevel:
        """What the neurons of a brain show at a step, for a picture. `locked` comes from the browser."""
        scan = await self._scan(mode)
        step = require_index(step, scan.n_steps, "token")
        neurons = await self._visit.run(lambda progress: self._atlas(brain, progress), "Placing the neurons")
        display = _locked(locked, scan.units) or display_range(scan)
        return NeuronLevel(neurons, scan, step, display, scan_color_map(scan, variant))

    # -- their values --------------------------------------------------------------------------------------------------

    async def _on_step(self, request: Any) -> dict[str, Any]:
        """{"codes", bar} of one step; {"error": sentence} where there is none.

        request: {"mode", "step", "locked": None or {"vmin", "vmax", "scale", "units"}}
        """

        async def answer() -> dict[str, Any]:
            message = require_message(request)
            mode = require_mode(message.get("mode"))
            scan = await self._scan(mode)
            step = require_index(message.get("step"), scan.n_steps, "token")
            return step_payload(scan, step, _locked(message.get("locked"), scan.units) or display_range(scan))

        return await self._answered(answer())

    async def _on_value(self, mode: Any, step: Any, row: Any) -> dict[str, Any]:
        """{"value", "units"} of one neuron; value None where it has none, {"error"} where there is no scan."""

        async def answer() -> dict[str, Any]:
            scan = await self._scan(require_mode(mode))
            at = require_index(step, scan.n_steps, "token"), require_index(row, len(scan.components), "neuron")
            value = float(scan.values[at])
            return {"value": value if np.isfinite(value) else None, "units": scan.units}

        return await self._answered(answer())

    async def _answered(self, work: Any) -> dict[str, Any]:
        """What the work gives, or what is wrong in words: the browser says it where the neurons would be."""
        try:
            found: dict[str, Any] = await work
        except Nmri3dError as error:
            return {"error": str(error)}
        return found

    async def _scan(self, mode: str) -> Scan:
        """The scan of neurons that goes with the tab's own; the service keeps it."""
        visit = self._visit
        visit.require_backend()
        options: dict[str, Any] = {"statistic": visit.read("statistic")} if mode == "T2" else {}
        prompt = None
        if mode == "fMRI":
            shown = visit.scans.get(mode)
            if shown is None:
                raise InputError("no prompt was scanned yet; type one and press SCAN, and its neurons are shown")
            prompt = shown.provenance.prompt
        return await visit.run(
            lambda progress: visit.service.scan_neurons(mode, prompt, progress=progress, **options),
            f"The {mode} scan of neurons",
        )

    def _brain(self, epoch: Any) -> PageBrain | None:
        brain = self._visit.brain
        known = brain is not None and require_whole(epoch, 0, 2**53, "brain's number") == brain.epoch
        return brain if known else None


def _locked(given: Any, units: str) -> DisplayRange | None:
    """The range that a visitor locked, if it is one of these units. Raises InputError for one that cannot be."""
    if given is None:
        return None
    given = require_message(given)
    if given.get("units") != units:
        return None
    scale = require_choice(given.get("scale"), ("linear", "log", "symmetric"), "scale")
    vmin, vmax = (require_number(given.get(name), -_LARGEST, _LARGEST, "locked range") for name in ("vmin", "vmax"))
    return DisplayRange(vmin, vmax, scale)  # type: ignore[arg-type]

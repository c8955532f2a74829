"""The selection's part of the page: which component is looked at, its facts, and the strongest neurons of an MLP.

Left out: what the facts are (nmri3d/app/facts.py).
"""

from __future__ import annotations

from typing import Any

from nmri3d.app.facts import component_facts
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.state import require_index
from nmri3d.errors import InputError
from nmri3d.results import Scan

TOP_NEURONS = 10


class Selection:
    """The selected component; `row` is -1 for none."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self.row = -1

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {"select": self._on_select, "top_neurons": self._on_top_neurons}

    def forget(self) -> None:
        """The model has gone."""
        self.row = -1
        self._visit.set(facts=None, neurons=None)

    def on_scan(self, scan: Scan) -> None:
        """A scan was made: what was said by the one before it no longer holds."""
        if scan.mode == "fMRI":
            self._visit.set(neurons=None)
        if scan.mode == "T2":
            self._show_facts()

    def _on_select(self, row: Any) -> None:
        visit = self._visit
        backend = visit.service.backend
        if backend is None or visit.brain is None:
            return
        self.row = -1 if row == -1 else require_index(row, len(backend.components), "component's row")
        visit.with_brain(lambda brain: brain.select(self.row))
        visit.show_error("neurons", "")
        self._show_facts()
        if self.row >= 0:
            visit.log.add(f"Selected {backend.components.ids[self.row]}")

    def _show_facts(self) -> None:
        backend = self._visit.service.backend
        if self.row < 0 or backend is None:
            self._visit.set(facts=None, neurons=None)
        else:
            self._visit.set(facts=component_facts(backend, self.row, self._visit.scans.get("T2")))

    def _on_top_neurons(self, row: Any, step: Any) -> None:
        visit = self._visit
        backend, scan = visit.service.backend, visit.scans.get("fMRI")
        if backend is None or scan is None:
            raise InputError("the strongest neurons are those of an fMRI scan; scan a prompt first")
        row = require_index(row, len(backend.components), "component's row")
        step = require_index(step, scan.n_steps, "token")
        if backend.components.kind[row] != "mlp":
            raise InputError(f"{backend.components.ids[row]} has no neurons; select an MLP")
        layer, prompt = int(backend.components.layer[row]), str(scan.provenance.prompt)

        async def ask() -> None:
            found = await visit.run(
                lambda progress: visit.service.top_neurons(prompt, layer, step, TOP_NEURONS, progress=progress),
                "The strongest neurons",
            )
            items = [{"index": one.index, "activation": one.activation} for one in found]
            visit.set(neurons={"row": row, "step": step, "token": scan.tokens[step], "items": items})

        visit.task(ask(), "neurons")

"""The pictures' part of the page: a PNG of what the browser shows.

Left out: the drawing, and the check of what a browser wishes (nmri3d/app/pictures.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nmri3d.app.parts.neurons import NeuronPart
from nmri3d.app.parts.painting import Painting
from nmri3d.app.parts.selection import Selection
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.pictures import SIZE, read_wish
from nmri3d.app.state import require_mode
from nmri3d.errors import BusyError, InputError


class Picturing:
    """Takes one picture at a time."""

    def __init__(self, visit: Visit, selection: Selection, painting: Painting, neurons: NeuronPart) -> None:
        self._visit = visit
        self._neurons = neurons
        self._painting = painting
        self._selection = selection
        self._drawing = False

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {"picture": self._on_picture}

    async def _on_picture(self, mode: Any, message: Any) -> bytes | None:
        """A PNG of what the browser shows; None where it cannot be, and then the error is in the state."""
        self._visit.show_error("picture", "")
        return await self._visit.supervise(self._picture(mode, message), "picture")

    async def _picture(self, mode: Any, message: Any) -> bytes:
        visit = self._visit
        mode, brain = require_mode(mode), visit.brain
        replayed = visit.replayed
        offer = (replayed or self._painting).shown_in(mode)
        scan = (replayed or visit).scans.get(mode) if offer is None else offer.scan
        if scan is None or brain is None:
            raise InputError(f"there is no {mode} scan to take a picture of; scan first")
        if self._drawing:
            raise BusyError("a picture is under way; wait until it is done")
        wish = read_wish(message, scan, self._selection.row, brain.pose)
        if offer is not None and wish.display is None:
            wish = replace(wish, display=offer.display)
        self._drawing = True
        try:
            level = None
            if wish.neurons and offer is None:
                level = await self._neurons.level(brain, mode, wish.step, message.get("neuron_range"), wish.variant)
            png = await visit.run(lambda progress: brain.pictures.draw(scan, wish, level), "The picture")
        finally:
            self._drawing = False
        step = f", {scan.step_axis} {wish.step}" if scan.tokens else ""
        visit.log.add(f"Picture saved — {mode}{step}, {SIZE[0]} × {SIZE[1]}")
        return png

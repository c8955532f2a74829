"""What is painted instead of a tab's own scan: a run with edits, before or after or their difference, or a sweep.

Convention. Other parts offer scans under a name; the visitor chooses which one the brain shows. Its mode is the tab in which
it is painted. A signed one is painted with DTI's diverging colors. Before and after share one display range.

Left out: how they are measured.
"""

from __future__ import annotations

from typing import Any

from nmri3d.app.parts.visit import Handlers, Offer, Visit
from nmri3d.app.payloads import scan_payload
from nmri3d.app.state import require_text
from nmri3d.errors import InputError
from nmri3d.scene.colors import DisplayRange


class Painting:
    """What else can be painted, and what is."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._offers: dict[str, Offer] = {}
        self._shown = ""

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {"paint": self._on_paint, "offers": self._on_offers}

    def forget(self) -> None:
        """The model has gone."""
        self._offers.clear()
        self._shown = ""
        self._visit.set(painting=None)

    def offer(self, **offers: Offer) -> None:
        """These can be painted from now on."""
        self._offers.update(offers)

    def withdraw(self, *names: str) -> None:
        """These cannot be painted any more."""
        if self._shown in names:
            self.show("")
        for name in names:
            self._offers.pop(name, None)

    def drop(self, mode: str) -> None:
        """A tab has a scan of its own again."""
        if self.shown_in(mode) is not None:
            self._shown = ""
            self._visit.set(painting=None)

    def shown_in(self, mode: str) -> Offer | None:
        """What is painted in a tab instead of its scan, None for the scan."""
        offer = self._offers.get(self._shown)
        return offer if offer is not None and offer.scan.mode == mode else None

    def show(self, name: str) -> None:
        """Paint an offer in its tab, or with "" the tab's own scan again."""
        visit, before = self._visit, self._offers.get(self._shown)
        self._shown = name
        if not name:
            visit.set(painting=None)
            scan = None if before is None else visit.scans.get(before.scan.mode)
        else:
            scan = self._offers[name].scan
            visit.set(painting={"what": name, **offer_payload(self._offers[name])})
        if scan is not None:
            shown = scan
            visit.with_brain(lambda brain: brain.keep(shown))

    def show_open(self, name: str) -> None:
        """As `show`, and open the tab in which it is painted."""
        self.show(name)
        if name:
            self._visit.set(mode=self._offers[name].scan.mode)

    def _on_offers(self, names: Any) -> dict[str, Any]:
        """Offers by name, for brains side by side; nothing that is shown changes."""
        if not isinstance(names, list) or len(names) > 4:
            raise InputError("up to four pictures stand side by side; ask for their names")
        for name in names:
            if require_text(name, "picture") not in self._offers:
                raise InputError(
                    f"there is no {name!r} to compare yet; edit a component first, and wait for the result"
                )
        return {name: offer_payload(self._offers[name]) for name in names}

    def _on_paint(self, name: Any) -> None:
        name = require_text(name, "picture")
        if name and name not in self._offers:
            raise InputError(f"there is no {name!r} to paint yet; measure it first")
        self.show_open(name)


def offer_payload(offer: Offer) -> dict[str, Any]:
    """An offer for the browser: {"palette", "payload"}."""
    payload = scan_payload(offer.scan)
    if offer.display is not None:
        payload["range"] = _range_payload(offer.display)
    return {"palette": payload["palette"], "payload": payload}


def _range_payload(display: DisplayRange) -> dict[str, Any]:
    return {
        "vmin": display.vmin,
        "vmax": display.vmax,
        "scale": display.scale,
        "ticks": [[place, label] for place, label in display.ticks()],
    }

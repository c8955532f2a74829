"""What a moment of a recorded session puts on the page: the state, and what it paints.

Convention. Results are shown on the model that they were measured on alone, by its fingerprint. A session may come from
another machine, and its files may say anything: what cannot be shown is named in words, and the rest is shown.

Left out: which events there are and what follows from them (nmri3d/app/moments.py), and the way through them (replaying.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nmri3d.app.findings import (
    comparison_finding,
    flair_finding,
    heatmap_finding,
    paths_finding,
    sweep_finding,
    sweep_scan,
)
from nmri3d.app.moments import PAINTINGS, Happening, Moment, edit_in_words, in_words
from nmri3d.app.parts.painting import offer_payload
from nmri3d.app.parts.recording import read_view
from nmri3d.app.parts.stimulation import comparison_offers
from nmri3d.app.parts.visit import Offer
from nmri3d.app.payloads import scan_payload
from nmri3d.errors import InputError
from nmri3d.models.backend import Backend
from nmri3d.results import MODES, Comparison, Heatmap, Scan, Sweep
from nmri3d.service.sessions import Result, Session, SessionEvent

SCANS = tuple(f"scan_{mode.lower()}" for mode in MODES)
FINDINGS = ("painting", "edits", "comparison", "paths", "flair", "trace", "sweep", "subject")
ABSENT = ("prediction", "attention", "lens", "own_effect", "edge_check", "neurons", "generated", "moran")
COVERED = (*SCANS, *FINDINGS, *ABSENT, "mode")
"""Variables of the state that a replay shows its own of; those in ABSENT are not recorded, and are empty meanwhile."""

REMEMBERED = 16
"""Results that are kept in memory while a session is replayed."""


class Opened:
    """A session that is replayed: its events, the moments after them, and its results, the last ones kept."""

    def __init__(self, session: Session, moments: Iterable[Moment]) -> None:
        self.id, self.title, self.damaged = session.id, session.title, session.damaged
        self.events: tuple[SessionEvent, ...] = session.events
        self.moments = tuple(moments)
        self._session = session
        self._results: dict[str, Result | None] = {}

    def result(self, event: Any) -> Result | None:
        """The result that came with an event, None without one. Raises InputError when its file is damaged."""
        if not event.result:
            return None
        if event.result not in self._results:
            while len(self._results) >= REMEMBERED:
                self._results.pop(next(iter(self._results)), None)
            self._results[event.result] = self._session.result(event)
        return self._results[event.result]


@dataclass(eq=False)
class Replayed:
    """What a moment shows: scans by mode, what can be painted instead, and what is; `state` for the browser."""

    scans: dict[str, Scan] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)
    painting: str = ""
    state: dict[str, Any] = field(default_factory=dict)

    def shown_in(self, mode: str) -> Offer | None:
        """What is painted in a tab instead of its scan, None for the scan."""
        offer = self.offers.get(self.painting)
        return offer if offer is not None and PAINTINGS.get(self.painting) == mode else None

    def painted(self) -> dict[str, Any] | None:
        """What is painted instead of its tab's scan, for the browser."""
        return {"what": self.painting, **offer_payload(self.offers[self.painting])} if self.painting else None


def replayed_moment(opened: Opened, number: int, backend: Backend | None) -> Replayed:
    """What stood after an event, on the model that is loaded now; in a worker thread, since it opens files."""
    event, moment = opened.events[number], opened.moments[number]
    model = moment.model.data if moment.model is not None else {}
    fits = backend is not None and model.get("fingerprint", backend.info.fingerprint) == backend.info.fingerprint
    shown, problems = Replayed(painting=moment.painting), [opened.damaged]
    shown.state = dict.fromkeys((*SCANS, *FINDINGS, *ABSENT))
    shown.state["edits"] = [_edit_line(at, data, moment.step_axis) for at, data in enumerate(moment.edits, 1)]
    if fits and backend is not None:
        for source in (*moment.scans.values(), *moment.runs.values(), moment.comparison):
            if source is not None:
                problems.append(_show(shown, opened, source, backend))
    if shown.painting not in shown.offers:
        shown.painting = ""
    painted = shown.state["painting"] = shown.painted()
    scan = painted["payload"] if painted else shown.state[f"scan_{moment.mode.lower()}"]
    shown.state["subject"] = _subject(scan, shown.scans.get("DTI"))
    title = str(model.get("title", model.get("model_id", "")))
    shown.state["replayed"] = {
        "number": number,
        "at": event.at,
        "words": in_words(event, moment.step_axis),
        "note": moment.note,
        "model": {"id": str(model.get("model_id", "")), "title": title},
        "fits": fits,
        "problem": " ".join(filter(None, problems)),
        "mode": moment.mode,
        "step": moment.step,
        "run": event.kind if event.kind in ("trace", "sweep") else "",
        "position": _position(moment),
        "view": _view(moment, backend),
    }
    return shown


def _show(shown: Replayed, opened: Opened, source: Happening, backend: Backend) -> str:
    """Put the result of an event on the page; returns why it cannot be shown, "" where it can."""
    try:
        result = opened.result(source)
        if result is not None and not _is_of(result, backend):
            return f"“{in_words(source, backend.step_axis)}” was measured on other weights and is not shown."
        if result is not None:
            _put(shown, result, source.data, backend)
    except InputError as error:
        return str(error)
    except (LookupError, TypeError, ValueError) as error:  # a file from elsewhere may say anything
        return f"“{in_words(source, backend.step_axis)}” cannot be shown ({error})."
    return ""


def _view(moment: Moment, backend: Backend | None) -> dict[str, Any] | None:
    """The view of a moment; None before the first, and for one that this model's brain cannot have."""
    if not moment.view or backend is None:
        return None
    try:
        return read_view(moment.view, backend.components, None)
    except InputError:
        return None


def _is_of(result: Result, backend: Backend) -> bool:
    """Whether a result was measured on this model."""
    same = result.provenance.fingerprint == backend.info.fingerprint
    return same and (isinstance(result, Heatmap) or tuple(result.components.ids) == tuple(backend.components.ids))


def _position(moment: Moment) -> int:
    """After which token a DTI scan asked for the answer, -1 for the last."""
    options = moment.scans["DTI"].data.get("options") if "DTI" in moment.scans else None
    position = options.get("position") if isinstance(options, Mapping) else None
    return position if isinstance(position, int) and not isinstance(position, bool) else -1


def _put(shown: Replayed, result: Result, data: Mapping[str, Any], backend: Backend) -> None:
    """What a result puts on the page."""
    state = shown.state
    if isinstance(result, Scan):
        shown.scans[result.mode] = result
        generated = data.get("tokens")
        payload = scan_payload(result)
        state[f"scan_{result.mode.lower()}"] = payload | ({"generated": len(generated)} if generated else {})
        if result.mode == "DTI":
            options = data.get("options") or {}
            own = {f"own_{name}": options.get(name) is not None for name in ("target", "foil")}
            state["paths"] = paths_finding(result, backend, **own)
        if result.mode == "FLAIR":
            state["flair"] = flair_finding(result)
    elif isinstance(result, Comparison):
        shown.offers |= comparison_offers(result)
        state["comparison"] = comparison_finding(result)
    elif isinstance(result, Heatmap):
        state["trace"] = heatmap_finding(result)
    elif isinstance(result, Sweep):
        shown.offers["sweep"] = Offer(sweep_scan(result))
        state["sweep"] = sweep_finding(result)


def _subject(payload: Mapping[str, Any] | None, dti: Scan | None) -> dict[str, Any] | None:
    """The prompt that is shown, as experiments tell theirs."""
    if payload is not None and payload["tokens"]:
        return {"prompt": payload["prompt"], "tokens": payload["tokens"], "special": payload["special"]}
    if dti is None:
        return None
    tokens = [str(token) for token in dti.details["prompt_tokens"]]
    return {"prompt": dti.provenance.prompt, "tokens": tokens, "special": [False] * len(tokens)}


def _edit_line(number: int, data: Mapping[str, Any], step_axis: str) -> dict[str, Any]:
    words = edit_in_words(data.get("edit"), step_axis)
    return {"number": -number, "text": words, "title": words}

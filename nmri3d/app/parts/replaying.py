"""The replay's part of the page: what stood at each event of a recorded session, shown again.

Convention. Nothing is measured. What the session shows covers what the visitor has (`Visit.cover`), who goes on having it:
work that ends meanwhile arrives behind the replay, and its end gives everything back. On another model than the recorded one
the replay says so and shows no scan. What would change the visitor's own edits is refused meanwhile, and a new measurement
ends the replay.

The state tells `replay` {"id", "title", "events": [{"number", "at", "kind", "words"}]} and `replayed` {"number", "at", "words",
"note", "model": {"id", "title"}, "fits", "problem", "mode", "step", "run", "position", "view"}; step None and
position -1 are the last one, view None the present one.

Left out: what a moment shows (moments.py, replayed.py), the timeline and the camera (web/replay.js).
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from nmri3d.app.moments import PAINTINGS, Moment, in_words
from nmri3d.app.parts.painting import offer_payload
from nmri3d.app.parts.replayed import COVERED, Opened, Replayed, replayed_moment
from nmri3d.app.parts.visit import Handler, Handlers, Visit
from nmri3d.app.pictures import CameraPose, read_pose
from nmri3d.app.state import require_index, require_mode, require_text
from nmri3d.errors import InputError
from nmri3d.results import MODES
from nmri3d.service.sessions import SessionStore

REFUSED = (
    "perturb", "remove_edit", "undo_edit", "reset_edits", "verify_edge", "own_effect", "attention", "top_neurons", "moran",
)  # fmt: skip
ENDING = ("scan", "generate", "trace", "sweep", "aggregate", "statistic")


class Replaying:
    """Shows one session's moments on the page. `store`: None offers nothing."""

    def __init__(self, visit: Visit, store: SessionStore | None) -> None:
        self._visit = visit
        self._store = store
        self._opened: Opened | None = None
        self._number = 0
        self._ticket = 0
        self._pose_before: CameraPose | None = None

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        if self._store is None:
            return {}
        return {"replay": self._on_open, "replay_event": self._on_event, "replay_end": self.end}

    def covering(self, handlers: Handlers) -> Handlers:
        """The other parts' handlers, as they are while something is replayed."""
        instead: dict[str, Handler] = {"paint": self._on_paint, "offers": self._on_offers, "open_mode": require_mode}

        def covered(name: str, handler: Handler) -> Handler:
            def run(*arguments: Any) -> Any:
                if self._visit.replayed is None:
                    return handler(*arguments)
                if name in REFUSED:
                    raise InputError("a recorded session is shown, not yours; end the replay (Esc), then ask again")
                if name in ENDING:
                    self.end()
                return instead.get(name, handler)(*arguments)

            return run

        return {name: covered(name, handler) for name, handler in handlers.items()}

    def forget(self) -> None:
        """The model has gone; the replay stays, and shows its scans again when there is one that fits."""
        self._show_again()

    def on_brain(self) -> None:
        """Another brain is shown."""
        self._show_again()

    def end(self) -> None:
        """Give back what was shown before."""
        visit = self._visit
        if self._opened is None:
            return
        self._opened = None
        self._ticket += 1
        if visit.replayed is not None:
            visit.replayed = None
            visit.uncover(replay=None, replayed=None)
            visit.with_brain(lambda brain: brain.recall(visit.scans, visit.mode, pose=self._pose_before))
        visit.show_error("replay", "")

    # -- what the browser asks for ---------------------------------------------------------------------------------------

    async def _on_open(self, session_id: Any) -> bool:
        """Whether the session is open now; where not, the error is in the state."""
        self._visit.show_error("sessions", "")
        return await self._visit.supervise(self._open(session_id), "sessions") is True

    async def _open(self, session_id: Any) -> bool:
        visit, store = self._visit, self._store
        assert store is not None  # without one there are no handlers
        session_id = require_text(session_id, "session's name")
        session = await visit.run(lambda progress: store.open(session_id), "The session")
        if not session.events:
            raise InputError("nothing is recorded in this session; choose another")
        moments = list(accumulate(session.events, lambda moment, event: moment.after(event), initial=Moment()))[1:]
        self._opened = opened = Opened(session, moments)
        lines = [
            {"number": one.number, "at": one.at, "kind": one.kind, "words": in_words(one, moment.step_axis)}
            for one, moment in zip(opened.events, opened.moments, strict=True)
        ]
        if visit.replayed is None:
            visit.cover(COVERED)
            visit.replayed = Replayed()
            self._pose_before = visit.with_brain(lambda brain: brain.pose)
        visit.set(replay={"id": opened.id, "title": opened.title, "events": lines}, replayed=None)
        visit.log.add(f"Replay: {opened.title or 'untitled'}, {len(lines)} events")
        await self._show(0)
        return True

    def _on_event(self, number: Any) -> None:
        if self._opened is None:
            raise InputError("no session is open; choose one in the list of sessions")
        self._visit.task(self._show(require_index(number, len(self._opened.events), "event")), "replay")

    def _on_paint(self, name: Any) -> None:
        replayed, name = self._require_replayed(), require_text(name, "picture")
        if name and name not in replayed.offers:
            raise InputError(f"{name!r} was not recorded up to here; go on in the replay")
        replayed.painting = name
        told = {**replayed.state["replayed"], "view": None}  # the camera stays
        if name:
            told |= {"mode": PAINTINGS[name], "step": None}
        replayed.state |= {"painting": replayed.painted(), "replayed": told}
        self._put()

    def _on_offers(self, names: Any) -> dict[str, Any]:
        offers = self._require_replayed().offers
        if not isinstance(names, list) or not all(isinstance(name, str) and name in offers for name in names):
            raise InputError("these pictures were not recorded up to here; go on in the replay")
        return {name: offer_payload(offers[name]) for name in names[: len(PAINTINGS)]}

    def _require_replayed(self) -> Replayed:
        """What is shown of the session. Raises InputError while its first moment is on its way."""
        replayed = self._visit.replayed
        if not isinstance(replayed, Replayed) or not replayed.state:
            raise InputError("the replay is being opened; wait a moment, then ask again")
        return replayed

    # -- a moment ----------------------------------------------------------------------------------------------------------

    def _show_again(self) -> None:
        if self._opened is not None:
            self._visit.task(self._show(self._number), "replay")

    async def _show(self, number: int) -> None:
        visit, opened = self._visit, self._opened
        if opened is None:  # the replay was ended meanwhile
            return
        self._number = number
        self._ticket += 1
        ticket = self._ticket
        backend = visit.service.backend if visit.brain is not None else None
        visit.show_error("replay", "")
        replayed = await visit.run(lambda progress: replayed_moment(opened, number, backend), "The replay")
        if ticket == self._ticket and visit.replayed is not None:  # else another event is wanted by now
            visit.replayed = replayed
            self._put()

    def _put(self) -> None:
        """Put what is replayed on the page; where the server draws, it draws it."""
        visit, replayed = self._visit, self._require_replayed()
        visit.show_over(**replayed.state)
        told = replayed.state["replayed"]
        offers = {mode: replayed.shown_in(mode) for mode in MODES}
        scans = {**replayed.scans, **{mode: offer.scan for mode, offer in offers.items() if offer is not None}}
        pose = read_pose(told["view"]["camera"]) if told["view"] else None
        visit.with_brain(lambda brain: brain.recall(scans, told["mode"], told["step"], pose))

"""The recording's part of the page: REC, and what is written into a session while it is on.

Convention. The other parts say what happened (`Visit.record`) once it has gone well; the browser says where the brain has come
to rest. A session begins with what stands at that moment, so that it can be replayed from its first event. Events are
written one after the other in a thread; one is counted on the page when it is on the disk. What cannot be written ends the
recording, in words, and nothing else.

Left out: the files (nmri3d/service/sessions) and what is done with them later (parts/sessions.py, parts/replaying.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nmri3d.app.brain import FORMS
from nmri3d.app.moments import PAINTINGS, Moment
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.pictures import CameraPose, read_pose
from nmri3d.app.state import require_choice, require_message, require_mode, require_share, require_text, require_whole
from nmri3d.atlas import LAYOUTS
from nmri3d.atlas.nodes import NODE_LAYOUTS
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.scene.camera import VIEWS
from nmri3d.scene.colors import VARIANTS
from nmri3d.service.sessions import Result, Session, SessionStore

LONGEST_NOTE = 2000
MOST_TITLE = 100


@dataclass(frozen=True, eq=False)
class Happened:
    """What is about to become an event."""

    kind: str
    data: Mapping[str, Any]
    result: Result | None = None


class Recording:
    """Writes what happens on one page into a session, while it is asked to.

    store  where sessions are kept; None: nothing is recorded, and the page offers nothing
    """

    def __init__(self, visit: Visit, store: SessionStore | None) -> None:
        self._visit = visit
        self._store = store
        self._moment = Moment()
        self._session: Session | None = None
        self._waiting: deque[Happened] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._n_written = 0
        if store is not None:
            visit.recorder = self.take
            self._show()

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        if self._store is None:
            return {}
        return {"record": self._on_record, "record_view": self._on_view, "record_note": self._on_note}

    @property
    def session_id(self) -> str:
        """Id of the session that is being recorded, "" for none."""
        return "" if self._session is None else self._session.id

    def forget(self) -> None:
        """The model has gone, and all that was measured on it."""
        self._moment = Moment(view=self._moment.view)

    def take(self, kind: str, data: Mapping[str, Any], result: Result | None = None) -> None:
        """Something happened and went well."""
        happened = Happened(kind, data, result)
        self._moment = self._moment.after(happened)
        self._write(happened)

    async def close(self) -> None:
        """Write what waits, and end the recording."""
        if self._writer is not None:
            await asyncio.shield(self._writer)
        self._session = None

    # -- what the browser asks for ---------------------------------------------------------------------------------------

    def _on_record(self, on: Any) -> None:
        assert self._store is not None
        self._visit.show_error("record", "")
        if on is True and self._session is None:
            title = (self._visit.read("model") or {}).get("title", "")
            self._session = self._store.create(" ".join(title.split())[:MOST_TITLE])
            self._n_written = 0
            for event in self._moment.retold():
                self._write(Happened(*event))
            self._moment = replace(self._moment, view={})  # so that the browser's next one is written
        elif on is not True and self._session is not None:
            self._session = None
            self._visit.log.add(f"Recording ended: {self._n_written + len(self._waiting)} events")
        self._show()

    def _on_view(self, message: Any) -> None:
        visit = self._visit
        if self._session is None or visit.replayed is not None:
            return
        view = read_view(message, visit.require_backend().components, visit.with_brain(lambda brain: brain.pose))
        if view != self._moment.view:
            self.take("view", view)

    def _on_note(self, text: Any) -> None:
        text = require_text(text, "note").strip()
        if self._session is None:
            raise InputError("a note needs a recording to stand in; press REC first")
        if not text or len(text) > LONGEST_NOTE:
            raise InputError(f"a note has from 1 to {LONGEST_NOTE:,} characters; this one has {len(text):,}")
        self.take("note", {"text": text})

    # -- writing ---------------------------------------------------------------------------------------------------------

    def _write(self, happened: Happened) -> None:
        """Write an event after those that wait already, where something is recorded at all."""
        if self._session is None or self._visit.closed:
            return
        self._waiting.append(happened)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._waiting and self._session is not None:
                one, session = self._waiting.popleft(), self._session
                record = asyncio.to_thread(session.record, one.kind, one.data, one.result)
                if await self._visit.supervise(record, "record") is None:
                    self._session = None
                    self._waiting.clear()
                    self._visit.log.add("Recording ended, since an event could not be written", "error")
                elif session is self._session:
                    self._n_written += 1
                self._show()
        finally:
            self._writer = None

    def _show(self) -> None:
        on = self._session is not None
        self._visit.set(recording={"on": on, "id": self.session_id, "events": self._n_written if on else 0})


def read_view(message: Any, components: ComponentTable, pose: CameraPose | None) -> dict[str, Any]:
    """A view as a browser or a session tells it, checked, as the data of an event.

    pose  of a camera on the server, None where the browser has it (message["camera"])

    {"mode", "step", "painting": see moments.py, "selected": id or "", "surface": form, "layout": of the cortex, "view": preset,
    "threshold", "palette", "glass", "camera": {"position", "focalPoint", "viewUp": mm, "viewAngle": degrees}}

    Raises InputError for anything that is missing, out of range or of the wrong type.
    """
    message = require_message(message)
    selected = require_text(message.get("selected"), "component")
    if selected:
        components.row(selected)  # raises for one that is not there
    pose = read_pose(message.get("camera")) if pose is None else pose
    return {
        "mode": require_mode(message.get("mode")),
        "step": require_whole(message.get("step"), 0, 2**31 - 1, "token"),
        "painting": require_choice(message.get("painting"), ("", *PAINTINGS), "picture"),
        "selected": selected,
        "surface": require_choice(message.get("surface"), FORMS, "surface or layout"),
        "layout": require_choice(message.get("layout"), (*LAYOUTS, *NODE_LAYOUTS), "layout"),
        "view": require_choice(message.get("view"), ("overview", *VIEWS), "view"),
        "threshold": require_share(message.get("threshold"), "threshold"),
        "palette": require_choice(message.get("palette"), VARIANTS, "palette"),
        "glass": message.get("glass") is True,
        "camera": {
            "position": list(pose.position),
            "focalPoint": list(pose.focal_point),
            "viewUp": list(pose.view_up),
            "viewAngle": pose.view_angle,
        },
    }

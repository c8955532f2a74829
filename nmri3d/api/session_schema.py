"""Sessions as the API shows and takes them: what may be added, what is told of a session, its events and its replay.

Left out: the routes (routes/sessions.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from nmri3d.api.routes.exports import Form, View
from nmri3d.api.routes.maps import Layout
from nmri3d.api.scan_wish import Mode
from nmri3d.api.schema import Answer, Body
from nmri3d.models.backend import ModelInfo
from nmri3d.service.replay import ReplayedEvent
from nmri3d.service.sessions import Session, SessionEvent, SessionSummary
from nmri3d.service.sessions.event import json_text

MOST_PAGE_BYTES = 4 * 2**20
"""Bytes of data after which a page of events ends, however many were asked for."""

LARGEST_NUMBER = 2**31 - 1

Title = Annotated[
    str,
    Field(
        max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", description="one line", examples=["Where Mary comes from"]
    ),
]
Triple = Annotated[list[float], Field(min_length=3, max_length=3, description="mm, RAS")]


class TitleBody(Body):
    """What a session is to be called."""

    title: Title


class NewSession(Body):
    """What a new session is to be called."""

    title: Title = ""


class Camera(Body):
    """Where the brain is seen from."""

    position: Triple
    focalPoint: Triple
    viewUp: Triple
    viewAngle: float = Field(30.0, ge=1, le=120, description="degrees")


class ViewData(Body):
    """What is looked at, and how; the names are those of the page."""

    mode: Mode
    step: int = Field(0, ge=0, le=LARGEST_NUMBER, description="token that is shown")
    painting: Literal["", "before", "after", "change", "sweep"] = Field("", description="instead of the scan itself")
    selected: str = Field("", max_length=100, description="id of a component; empty for none")
    surface: Form = "pial"
    layout: Layout = "anatomical"
    view: Literal["overview"] | View = "lateral_left"
    threshold: float = Field(0.0, ge=0, le=1)
    palette: Literal["standard", "colorblind"] = "standard"
    glass: bool = False
    camera: Camera


class NoteData(Body):
    """What a person or a program remarks."""

    text: str = Field(min_length=1, max_length=20_000)


class NoteEvent(Body):
    """A note."""

    kind: Literal["note"]
    data: NoteData


class ViewEvent(Body):
    """A view."""

    kind: Literal["view"]
    data: ViewData


NewEvent = Annotated[NoteEvent | ViewEvent, Field(discriminator="kind")]


class EventDescription(Answer):
    """One thing that happened."""

    number: int = Field(description="from 0 on, without gaps")
    at: str = Field(description="ISO 8601 with offset")
    kind: str
    data: dict[str, Any] = Field(description="by kind; a scan has mode, prompt and options")
    result_url: str | None = Field(description="where the measured result is as a file; null without one")

    @classmethod
    def of(cls, session: Session, event: SessionEvent) -> EventDescription:
        """The same as `SessionEvent`."""
        url = f"/api/sessions/{session.id}/events/{event.number}/result" if event.result else None
        return cls(number=event.number, at=event.at, kind=event.kind, data=dict(event.data), result_url=url)


class ListedSession(Answer):
    """A session in the list."""

    id: str
    title: str
    created: str = Field(description="ISO 8601 with offset")
    changed: str = Field(description="time of its last event")
    n_events: int
    n_bytes: int
    model_id: str = Field(description="model that it is about; empty before one was recorded")

    @classmethod
    def of(cls, summary: SessionSummary) -> ListedSession:
        """The same as `SessionSummary`."""
        return cls(**vars(summary))


class SessionList(Answer):
    """All sessions."""

    sessions: list[ListedSession] = Field(description="the last changed first")


class SessionDescription(Answer):
    """A session and a page of its events."""

    id: str
    title: str
    created: str
    model_id: str
    damaged: str = Field(description="empty, or what is damaged; then events are those before the damage")
    n_events: int
    edits: list[dict[str, Any]] = Field(description="the stack of edits as the events leave it")
    events: list[EventDescription]
    next_after: int | None = Field(description="give it as `after` for the next page; null where this is the last one")


class Replayed(Answer):
    """What became of one event that was measured again."""

    number: int
    kind: str
    state: Literal["equal", "differs", "skipped"]
    difference: float | None = Field(description="largest |difference| of two numbers; null where none can be told")
    array: str = Field(description="array of the result in which that is; empty where all are equal")
    reason: str = Field(description="why it is not equal; else empty")

    @classmethod
    def of(cls, event: ReplayedEvent) -> Replayed:
        """The same as `ReplayedEvent`."""
        return cls(**vars(event))


class Replay(Answer):
    """A session measured again on the loaded model."""

    model_id: str
    fingerprint: str
    equal: int
    differing: int
    skipped: int
    events: list[Replayed]

    @classmethod
    def of(cls, info: ModelInfo, events: Sequence[ReplayedEvent]) -> Replay:
        """What `replay` returned for this model."""
        states = [event.state for event in events]
        return cls(
            model_id=info.model_id,
            fingerprint=info.fingerprint,
            equal=states.count("equal"),
            differing=states.count("differs"),
            skipped=states.count("skipped"),
            events=[Replayed.of(event) for event in events],
        )


def describe_session(session: Session, after: int = -1, limit: int = 100) -> SessionDescription:
    """A session and those of its events that fit a page."""
    events = session.events
    page: list[EventDescription] = []
    size = 0
    for event in events[after + 1 : after + 1 + limit]:
        size += len(json_text(event.data))
        if page and size > MOST_PAGE_BYTES:
            break
        page.append(EventDescription.of(session, event))
    end = after + 1 + len(page)
    return SessionDescription(
        id=session.id,
        title=session.title,
        created=session.created,
        model_id=session.model_id,
        damaged=session.damaged,
        n_events=len(events),
        edits=[dict(edit) for edit in session.edits],
        events=page,
        next_after=end - 1 if end < len(events) else None,
    )

"""/api/sessions: recorded sessions, listed, read, named, given away, taken in, measured again and deleted.

Convention. A request is recorded by its header `Nmri3d-Session` (recording.py); what a program adds by hand is a note or a
view. Events are read in pages, `after` the number of the last one seen. An id that was not generated here leads nowhere.

Left out: the files (nmri3d.service.sessions) and the comparison of a replay (nmri3d.service.replay).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Path, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from nmri3d.api.answers import responses
from nmri3d.api.context import Context
from nmri3d.api.errors import problems
from nmri3d.api.representations import RESULT_FILE, json_response
from nmri3d.api.session_schema import (
    LARGEST_NUMBER,
    EventDescription,
    ListedSession,
    NewEvent,
    NewSession,
    Replay,
    SessionDescription,
    SessionList,
    TitleBody,
    describe_session,
)
from nmri3d.errors import Cancelled, InputError, NotFoundError
from nmri3d.models.backend import Progress
from nmri3d.service.replay import replay

SessionId = Annotated[str, Path(description="id of a session, as the list has it")]
EventNumber = Annotated[int, Path(ge=0, le=LARGEST_NUMBER)]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
ZIP = {"requestBody": {"required": True, "content": {"application/zip": _BINARY}}}
RESULT: dict[int | str, dict[str, Any]] = {200: {"content": {RESULT_FILE: _BINARY}}}
EXPORT: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": _BINARY}}}


def router(context: Context) -> APIRouter:
    """Routes under /api/sessions."""
    routes = APIRouter(prefix="/api/sessions", tags=["sessions"])
    store, service, calls = context.sessions, context.service, context.calls

    @routes.get("", responses=problems())
    def list_sessions() -> SessionList:
        """All recorded sessions."""
        return SessionList(sessions=[ListedSession.of(one) for one in store.list()])

    @routes.post("", status_code=201, responses=problems())
    def create_session(body: NewSession, response: Response) -> SessionDescription:
        """A new session, to be named in the header `Nmri3d-Session` of what it is to record."""
        session = store.create(body.title)
        session.keep()
        response.headers["Location"] = f"/api/sessions/{session.id}"
        return describe_session(session)

    @routes.post(
        "/import", status_code=201, response_model=SessionDescription, responses=problems(413), openapi_extra=ZIP
    )
    async def import_session(request: Request) -> Response:
        """A session from a file that was exported, under a new id. Every checksum in it is proved first."""
        file = await _body_file(request)

        def work(progress: Progress) -> Response:
            with file:
                session = store.import_(file)
            answer = json_response(describe_session(session), 201)
            answer.headers["Location"] = f"/api/sessions/{session.id}"
            return answer

        return await calls.run(request, work, name="The import")

    @routes.get("/{session_id}", responses=problems(404))
    def read_session(
        session_id: SessionId,
        after: Annotated[int, Query(ge=-1, le=LARGEST_NUMBER, description="number of the last event seen")] = -1,
        limit: Annotated[int, Query(ge=1, le=1000, description="events at most; fewer where they are large")] = 100,
    ) -> SessionDescription:
        """A session and a page of its events."""
        return describe_session(store.open(session_id), after, limit)

    @routes.patch("/{session_id}", responses=problems(404))
    def rename_session(session_id: SessionId, body: TitleBody) -> SessionDescription:
        """Another title."""
        store.rename(session_id, body.title)
        return describe_session(store.open(session_id))

    @routes.delete("/{session_id}", status_code=204, responses=problems(404))
    def delete_session(session_id: SessionId) -> None:
        """Delete a session with all that it holds; there is no way back."""
        store.delete(session_id)

    @routes.post("/{session_id}/events", status_code=201, responses=problems(404))
    def add_event(session_id: SessionId, body: NewEvent) -> EventDescription:
        """Add a note or a view; answered when it is on the disk."""
        session = store.open(session_id)
        return EventDescription.of(session, session.record(body.kind, body.data.model_dump()))

    @routes.get("/{session_id}/events/{number}/result", response_class=Response, responses=problems(404) | RESULT)
    def read_result(session_id: SessionId, number: EventNumber) -> Response:
        """The result that came with an event: the file from which nmri3d reads the same scan, comparison, heat map or sweep."""
        session = store.open(session_id)
        events = session.events
        content = session.result_bytes(events[number]) if number < len(events) else None
        if content is None:
            raise NotFoundError(f"The session has no event {number} with a result; its events tell which have one.")
        return Response(content, media_type=RESULT_FILE)

    @routes.get("/{session_id}/export", response_class=Response, responses=problems(404) | EXPORT)
    async def export_session(session_id: SessionId, request: Request) -> Response:
        """The whole session as one file, to be given away."""

        def work(progress: Progress) -> Response:
            file = tempfile.TemporaryFile()  # noqa: SIM115  (closed when it has been sent)
            store.export_to(session_id, file)
            headers = {
                "Content-Length": str(file.tell()),
                "Content-Disposition": f'attachment; filename="nmri3d-session-{session_id}.zip"',
            }
            return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)

        return await calls.run(request, work, name="The export")

    @routes.post("/{session_id}/replay", response_model=Replay, responses=responses(404))
    async def replay_session(session_id: SessionId, request: Request) -> Response:
        """Measure everything again that the session measured, and compare number by number. Takes as long as it took then."""

        def work(progress: Progress) -> Response:
            info = service.require_backend().info
            replayed = replay(service, store.open(session_id), progress)
            return json_response(Replay.of(info, replayed))

        return await calls.respond(request, work, name="The replay")

    return routes


async def _body_file(request: Request) -> BinaryIO:
    """The body of a request in a file without a name. Raises InputError for another type, Cancelled where the client left."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/zip":
        raise InputError("a session comes as one zip file; send it with the Content-Type application/zip")
    file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by whoever reads it)
    try:
        async for chunk in request.stream():
            file.write(chunk)
    except ClientDisconnect:
        file.close()
        raise Cancelled("The import was cancelled.") from None
    return file


def _chunks(file: BinaryIO, size: int = 2**18) -> Iterator[bytes]:
    """A file from its beginning, closed at its end."""
    with file:
        file.seek(0)
        while chunk := file.read(size):
            yield chunk

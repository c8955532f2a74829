"""Visitors: one trame server, one page and one WebSocket each, all in this process and behind its one port.

Convention. `GET /` makes a visitor and leads to `/v/{id}/`, whose HTML is given once: a reload leads back to `/` and makes
a new visitor. Messages run over `/v/{id}/ws`; a connection that breaks may come back within the grace time and finds its
state. Who has been away longer is closed, and all of theirs is freed: page, trame server, jobs. Everything here runs in
the event loop; static files are shared by all visitors under `/static/`, which the HTML names as its base.

Left out: who may come in, which is `nmri3d.api.security`, and the page itself, which is built by what `load_page` gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from nmri3d.api.errors import answer
from nmri3d.api.html import notice
from nmri3d.app.static_files import StaticFiles
from nmri3d.app.trame_link import carry, client_html, new_server, start_server, stop_server
from nmri3d.errors import BusyError
from nmri3d.service import Service

logger = logging.getLogger(__name__)

NOT_FOUND = 4404
REPLACED = 4409
TRY_LATER = 1013
"""Close codes of a WebSocket, as RFC 6455 or, from 4000 on, our own."""


ARRIVAL_SECONDS = 5.0
"""How long a browser may take from the redirect to its connection before its place can be given to another."""


class PageLike(Protocol):
    """What a visitor needs of a page."""

    def close(self) -> Any:
        """Free everything; may be a coroutine function."""


MakePage = Callable[[Any, Service], PageLike]
"""Builds the page of one visitor on a fresh trame server."""


@dataclass(eq=False)
class Visitor:
    """One visitor. `left` is the moment (monotonic) since which nobody is connected, None while somebody is."""

    id: str
    server: Any
    page: PageLike
    secret: str
    html_given: bool = False
    joined: bool = False
    left: float | None = field(default_factory=time.monotonic)
    socket: WebSocket | None = None

    @property
    def is_away(self) -> bool:
        """Whether nobody would miss this visit at once: it was left, or nobody came within ARRIVAL_SECONDS."""
        return self.left is not None and (self.joined or time.monotonic() - self.left > ARRIVAL_SECONDS)


class Visitors:
    """All visitors of a process.

    load_page      awaited for each visitor; gives the function that builds a page, once its libraries are imported
    limit          how many may be there at once
    grace_seconds  how long one who is not connected is kept
    """

    def __init__(
        self,
        service: Service,
        load_page: Callable[[], Awaitable[MakePage]],
        *,
        limit: int = 16,
        grace_seconds: float = 30.0,
    ) -> None:
        self._service = service
        self._load_page = load_page
        self._limit = limit
        self._grace = grace_seconds
        self._visitors: dict[str, Visitor] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False
        self.static = StaticFiles()

    def __len__(self) -> int:
        return len(self._visitors)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the visitors that are there, in the order in which they came."""
        return tuple(self._visitors)

    def install(self, app: FastAPI) -> None:
        """Add the routes of the page to an application."""
        app.add_api_route("/", self._enter, include_in_schema=False)
        app.add_api_route("/v/{visitor_id}/", self._html, include_in_schema=False)
        app.add_api_route("/static/{path:path}", self._file, include_in_schema=False)
        app.add_api_websocket_route("/v/{visitor_id}/ws", self._messages)

    # -- coming and going ----------------------------------------------------------------------------------------------

    async def open(self) -> Visitor:
        """Make a visitor: trame server and page, ready for a connection.

        Raises BusyError when there are too many and none of them is away, and what building the page raises.
        """
        make_page = await self._load_page()
        if self._closed:
            raise BusyError("The server is shutting down; start it again, then reload this page.")
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        while len(self._visitors) >= self._limit:
            away = [visitor for visitor in self._visitors.values() if visitor.is_away]
            if not away:
                raise BusyError(
                    f"{self._limit} tabs have this page open already, as many as this server takes; close one of them, or "
                    "try again in a minute."
                )
            await self.close(min(away, key=lambda visitor: visitor.left or 0.0))
        visitor_id, secret = secrets.token_hex(16), secrets.token_urlsafe(24)
        server = new_server(visitor_id)
        try:
            page = make_page(server, self._service)
        except BaseException:
            await stop_server(server)
            raise
        visitor = Visitor(visitor_id, server, page, secret)
        self._visitors[visitor_id] = visitor
        try:
            self.static.add(await start_server(server, secret))
        except BaseException:
            await self.close(visitor)
            raise
        return visitor

    async def close(self, visitor: Visitor) -> None:
        """Let a visitor go and free all that is theirs. Doing it twice does no harm."""
        if self._visitors.pop(visitor.id, None) is None:
            return
        self._service.cancel_jobs(visitor.id)
        if visitor.socket is not None:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it went by itself
                await visitor.socket.close(TRY_LATER)
        try:
            closed = visitor.page.close()
            if inspect.isawaitable(closed):
                await closed
        except Exception:
            logger.exception("the page of a visitor did not close")
        await stop_server(visitor.server)

    async def close_all(self) -> None:
        """Let everybody go and take nobody any more."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for visitor in list(self._visitors.values()):
            await self.close(visitor)

    async def _sweep(self) -> None:
        """Close, time and again, those who have been away too long."""
        while True:
            await asyncio.sleep(min(1.0, self._grace / 4))
            now = time.monotonic()
            for visitor in list(self._visitors.values()):
                if visitor.left is not None and now - visitor.left > self._grace:
                    await self.close(visitor)

    # -- routes --------------------------------------------------------------------------------------------------------

    async def _enter(self, request: Request) -> Response:
        try:
            visitor = await self.open()
        except BusyError as error:
            extra = {"Retry-After": str(int(self._grace) + 1)}
            return answer(request.headers, 503, "No room just now", str(error), "Busy", extra)
        # Addresses are relative, for proxies that put a path in front. The client takes its secret from the address and at
        # once removes it from there.
        return RedirectResponse(f"v/{visitor.id}/?secret={visitor.secret}", 303)

    async def _html(self, visitor_id: str) -> Response:
        visitor = self._visitors.get(visitor_id)
        if visitor is None or visitor.html_given:
            return RedirectResponse("../../", 303)  # a reload, or somebody who was away too long
        visitor.html_given = True
        visitor.left = time.monotonic()
        return HTMLResponse(client_html(visitor.server))

    async def _file(self, path: str, request: Request) -> Response:
        response = await asyncio.to_thread(self.static.respond, path, request)
        return response or HTMLResponse(notice(404, "Not found", "There is no such file."), 404)

    async def _messages(self, websocket: WebSocket, visitor_id: str) -> None:
        visitor = self._visitors.get(visitor_id)
        await websocket.accept()
        if visitor is None:
            await websocket.close(NOT_FOUND, "this visit has ended; reload the page")
            return
        before, visitor.socket, visitor.left = visitor.socket, websocket, None
        visitor.joined = True
        if before is not None:  # the same page came back before its broken connection was noticed
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await before.close(REPLACED)
        try:
            await carry(websocket, visitor.server)
        finally:
            if visitor.socket is websocket:
                visitor.socket, visitor.left = None, time.monotonic()

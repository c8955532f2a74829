"""Who asked what and how it went: an ASGI middleware around everything that counts, times and tells.

Convention. Each HTTP answer carries `X-Request-ID` (the caller's own, where it is sane) and `Server-Timing` with the
milliseconds of server work until it began. A line of the log and a sample of the metrics name the route's template, never
the path or the query string, which may hold names, prompts and tokens.

Left out: how lines are written (nmri3d/app/logs.py).
"""

from __future__ import annotations

import contextvars
import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nmri3d.api.calls import client_of
from nmri3d.api.metrics import Metrics

logger = logging.getLogger("nmri3d.requests")

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("nmri3d_request_id", default="")
"""Id of the request that the present task or worker thread serves."""

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)


class Observer:
    """ASGI middleware, the outermost one."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else secrets.token_hex(8)
        before = REQUEST_ID.set(request_id)
        try:
            if scope["type"] == "http":
                await self._http(scope, receive, send, request_id)
            else:
                await self._websocket(scope, receive, send, request_id)
        finally:
            REQUEST_ID.reset(before)

    async def _http(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        began = time.perf_counter()
        status = 0  # stays so where the caller went before it was answered

        async def timed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["Server-Timing"] = f"app;dur={(time.perf_counter() - began) * 1000:.2f}"
            await send(message)

        try:
            await self.app(scope, receive, timed)
        finally:
            seconds, route = time.perf_counter() - began, route_of(scope)
            self.metrics.count_request(scope["method"], route, status, seconds)
            self._tell("request", scope, route, scope["method"], status, seconds)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        began = time.perf_counter()
        route, status = "", 0

        async def watched(message: Message) -> None:
            nonlocal route, status
            if message["type"] == "websocket.accept":
                route, status = route_of(scope), 101
                self.metrics.count_socket(route, 1)
            elif message["type"] == "websocket.close" and not status:
                status = 403  # what a refusal before the handshake becomes
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            if status == 101:
                self.metrics.count_socket(route, -1)
            self._tell("websocket", scope, route, "GET", status, time.perf_counter() - began)

    def _tell(self, event: str, scope: Scope, route: str, method: str, status: int, seconds: float) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        shown = method if method.isascii() and method.isalpha() else "?"
        milliseconds = round(seconds * 1000, 2)
        extra = {
            "event": event,
            "method": shown,
            "route": route,
            "status": status,
            "ms": milliseconds,
            "client": client_of(HTTPConnection(scope)),
        }
        logger.info("%s %s %d %.1f ms", shown, route or "-", status, milliseconds, extra=extra)


def route_of(scope: Scope) -> str:
    """Template of the route that a call was given to, such as "/v/{visitor_id}/"; "" before it was given to one."""
    return str(getattr(scope.get("route"), "path", "") or "")

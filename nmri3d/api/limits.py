"""How much one caller may ask for: bytes of a body, requests a second, requests at once. An ASGI middleware inside `Guard`.

Convention. A caller is who `nmri3d.api.calls.client_of` says. Requests a second are a token bucket: `burst` at once, then
`per_second`. A body is refused by its Content-Length before it is read, or as soon as it has grown too large. Refusals
are problem details: 413, 429 with `Retry-After`, and 503 with `Retry-After` while the server ends.

Left out: WebSocket messages, whose routes bound them; headers, which the HTTP parser bounds; and turns at the model, which
are the service's.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nmri3d.api.calls import client_of
from nmri3d.api.errors import RETRY_SECONDS, answer
from nmri3d.errors import InputError

MOST_CALLERS = 4096
"""Callers that are remembered; who asked longest ago is forgotten."""

IMPORT_PATH = "/api/sessions/import"

FREE_PATHS = ("/static/",)
"""Where requests do not count against the rate: opening the page asks for dozens of small files at once."""


@dataclass
class Limits:
    """The bounds, and whether the server ends. May be changed while it serves.

    per_second, burst  requests of one caller; 0 a second: as many as they like
    at_once            requests of one caller that are under way
    in_all             requests of everybody that are under way
    body_bytes         largest body; `body_bytes_at` has those of single paths
    closing            no request is taken any more
    """

    per_second: float = 50.0
    burst: int = 200
    at_once: int = 64
    in_all: int = 512
    body_bytes: int = 8 * 2**20
    body_bytes_at: Mapping[str, int] = field(default_factory=lambda: {IMPORT_PATH: 512 * 2**20})
    closing: bool = False

    @classmethod
    def at_rate(cls, per_second: float) -> Limits:
        """The usual bounds with another rate; what four seconds bring may come at once. Raises InputError for no rate."""
        if not (math.isfinite(per_second) and per_second >= 0):
            raise InputError("the rate is a number of requests a second, 0 for no limit")
        return cls(per_second=per_second, burst=max(1, int(4 * per_second)))

    def body_limit(self, path: str) -> int:
        """Largest body, in bytes, that a path takes."""
        return self.body_bytes_at.get(path, self.body_bytes)


class Bucket:
    """Requests that a caller may still make, refilled with time. `now` is in monotonic seconds."""

    def __init__(self, burst: int, now: float) -> None:
        self._left = float(burst)
        self._seen = now
        self.under_way = 0

    def take(self, per_second: float, burst: int, now: float) -> float:
        """Take one; returns 0, or the seconds after which there is one again."""
        self._left = min(float(burst), self._left + (now - self._seen) * per_second)
        self._seen = now
        if self._left < 1.0:
            return (1.0 - self._left) / per_second
        self._left -= 1.0
        return 0.0


class Limiter:
    """ASGI middleware that keeps `limits`. Everything happens in the event loop."""

    def __init__(self, app: ASGIApp, *, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self._callers: OrderedDict[str, Bucket] = OrderedDict()
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self.limits.closing:
            await receive()  # websocket.connect
            await send({"type": "websocket.close", "code": 1012, "reason": "the server ends"})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller = self._caller(client_of(HTTPConnection(scope)))
        if (refusal := self._refusal(scope["path"], headers, caller)) is not None:
            await refusal(scope, receive, send)
            return
        caller.under_way += 1
        self._under_way += 1
        try:
            await self._bounded(scope, headers, receive, send)
        finally:
            caller.under_way -= 1
            self._under_way -= 1

    def _caller(self, name: str) -> Bucket:
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = Bucket(self.limits.burst, time.monotonic())
            while len(self._callers) > MOST_CALLERS:
                self._callers.popitem(last=False)
        self._callers.move_to_end(name)
        return caller

    def _refusal(self, path: str, headers: Headers, caller: Bucket) -> Response | None:
        limits = self.limits
        if limits.closing:
            return _busy(headers, 503, "Shutting down", "The server is being stopped; ask again when it is back.", 5)
        if limits.per_second and not path.startswith(FREE_PATHS):
            seconds = caller.take(limits.per_second, limits.burst, time.monotonic())
            if seconds:
                detail = (
                    f"This caller asked more than {limits.per_second:g} times a second; wait a moment, or start the server "
                    "with a higher --rate."
                )
                return _busy(headers, 429, "Too many requests", detail, math.ceil(seconds))
        if caller.under_way >= limits.at_once:
            detail = f"{limits.at_once} requests of this caller are under way; wait until some have ended."
            return _busy(headers, 429, "Too many requests at once", detail, RETRY_SECONDS)
        if self._under_way >= limits.in_all:
            detail = f"{limits.in_all} requests are under way; wait until some have ended."
            return _busy(headers, 503, "Busy", detail, RETRY_SECONDS)
        length = headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > 19 or int(length) > limits.body_limit(path)):
            return _too_large(headers, limits.body_limit(path))
        return None

    async def _bounded(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Call the application; once the body has grown too large it sees the caller hang up, and the caller gets 413."""
        limit = self.limits.body_limit(scope["path"])
        size, too_large, started = 0, False, False

        async def counted() -> Message:
            nonlocal size, too_large
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit and not started:
                too_large = True
                return {"type": "http.disconnect"}
            return message

        async def unless_refused(message: Message) -> None:
            nonlocal started
            if not too_large:
                started = True
                await send(message)

        try:
            await self.app(scope, counted, unless_refused)
        except Exception:
            if not too_large:
                raise
        if too_large:
            await _too_large(headers, limit)(scope, receive, send)


def _busy(headers: Headers, status: int, title: str, detail: str, seconds: int) -> Response:
    return answer(headers, status, title, detail, "Busy", {"Retry-After": str(seconds)})


def _too_large(headers: Headers, limit: int) -> Response:
    detail = f"A body may have at most {limit:,} bytes here; send less, or in parts."
    # what was not read of the body must not be taken for the next request
    return answer(headers, 413, "Too large", detail, "TooLarge", {"Connection": "close"})

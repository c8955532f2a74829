"""WebSocket /ws/stream: scans token by token, and generation, as neural-mri.md 4.2 has them; GET /api/stream/schema.

Convention. One connection carries several streams. What it may say and what it gets is in streaming/*_messages.py, how much it
may take in streaming/limits.py.

Left out: everything that is asked once and answered once, which is REST.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import Field

from nmri3d.api.context import Context
from nmri3d.api.errors import problems
from nmri3d.api.schema import Answer
from nmri3d.api.streaming.client_messages import client_schema
from nmri3d.api.streaming.connection import Connection
from nmri3d.api.streaming.limits import StreamLimits
from nmri3d.api.streaming.server_messages import server_schema
from nmri3d.api.streaming.streams import Streams

LIMITS = StreamLimits()


class StreamDescription(Answer):
    """The messages of /ws/stream."""

    client: dict[str, Any] = Field(description="JSON schema of what a client sends, by `type` (and `mode`)")
    server: dict[str, Any] = Field(description="JSON schema of what it gets, by `type`")
    limits: dict[str, float] = Field(description="bounds of a connection and its streams")


def router(context: Context) -> APIRouter:
    """The WebSocket /ws/stream and the schema of its messages."""
    routes = APIRouter()
    streams = Streams(context, LIMITS)

    @routes.get("/api/stream/schema", tags=["stream"], responses=problems())
    async def stream_schema() -> StreamDescription:
        """What the WebSocket /ws/stream takes and gives, as JSON schemas, and how much of it."""
        return StreamDescription(client=client_schema(), server=server_schema(), limits=asdict(LIMITS))

    @routes.websocket("/ws/stream")
    async def stream(websocket: WebSocket) -> None:
        """Scans and generation, frame by frame."""
        await websocket.accept()
        await Connection(websocket, streams).serve()

    return routes

"""(to be written: WebSocket /ws/stream)"""

from __future__ import annotations

from fastapi import APIRouter

from nmri3d.api.context import Context


def router(context: Context) -> APIRouter:
    """The WebSocket /ws/stream."""
    return APIRouter()

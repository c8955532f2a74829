"""(to be written)"""

from __future__ import annotations

from fastapi import APIRouter

from nmri3d.api.context import Context


def router(context: Context) -> APIRouter:
    """Routes."""
    return APIRouter()

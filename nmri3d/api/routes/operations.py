"""How the server is: /healthz.

Convention. While the first model loads, what needs a model answers 503 with `Retry-After`.

Left out: metrics.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import JSONResponse

import nmri3d
from nmri3d.api.context import Context
from nmri3d.api.errors import RETRY_SECONDS, problems
from nmri3d.api.schema import Answer


class Health(Answer):
    """Whether the server can answer."""

    status: str = Field(description='"ok", or "loading", or "failed"')
    model: str = Field(description="name of the model that is ready, loading or failed; empty without one")
    share: float = Field(description="how far the load is, 0 to 1")
    detail: str = Field(description="what the load does now, or why it failed")
    version: str = Field(description="version of nmri3d")


def router(context: Context) -> APIRouter:
    """GET /healthz."""
    routes = APIRouter(tags=["server"])
    service = context.service

    @routes.get("/healthz", response_model=Health, responses={**problems(), 503: {"model": Health}})
    async def health() -> JSONResponse:
        """Whether the server can answer: 200 with a model or without one, 503 while the first one loads or when it failed."""
        status = service.status
        state = "ok" if status.info is not None or status.state in ("ready", "empty") else status.state
        body = Health(
            status=state,
            model=status.name,
            share=status.share,
            detail=status.what or status.error or "",
            version=nmri3d.__version__,
        )
        headers = {"Retry-After": str(RETRY_SECONDS)} if state == "loading" else None
        return JSONResponse(body.model_dump(), 200 if state == "ok" else 503, headers=headers)

    return routes

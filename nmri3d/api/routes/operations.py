"""How the server is: GET /healthz and GET /metrics.

Convention. Any answer of /healthz says that the process is alive; 200 says that it is ready. While the first model loads,
what needs a model answers 503 with `Retry-After`. Both are behind the token like everything else.

Left out: what is measured (nmri3d/api/metrics.py).
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import JSONResponse, Response

import nmri3d
from nmri3d.api.context import Context
from nmri3d.api.errors import RETRY_SECONDS, problems
from nmri3d.api.metrics import MEDIA_TYPE
from nmri3d.api.schema import Answer


class Health(Answer):
    """Whether the server can answer."""

    status: Literal["ok", "loading", "failed"] = Field(
        description='"ok": ready, with a model or, where none was asked for, without; "loading": the first model is on its '
        'way; "failed": it could not be loaded'
    )
    model: str = Field(description="name of the model that is ready, loading or failed; empty without one")
    share: float = Field(description="how far the load is, 0 to 1")
    detail: str = Field(description="what the load does now, or why it failed")
    version: str = Field(description="version of nmri3d")


_HEALTH_RESPONSES: dict[int | str, dict[str, Any]] = problems()
_HEALTH_RESPONSES[503] = {
    "model": Health,
    "description": "Alive, but not ready: loading or failed (as 200); or too much is asked, or the server ends (a problem)",
    "content": _HEALTH_RESPONSES[503]["content"],
}


def router(context: Context) -> APIRouter:
    """GET /healthz and GET /metrics."""
    routes = APIRouter(tags=["server"])
    service = context.service

    @routes.get("/healthz", response_model=Health, responses=_HEALTH_RESPONSES)
    async def health() -> JSONResponse:
        """Liveness and readiness. Any answer: the process lives. 200: it can serve, with a model or without one. 503: the
        first model loads still (then with `Retry-After`), its load failed, or the server is being stopped."""
        status = service.status
        ready = status.info is not None or status.state in ("ready", "empty")
        body = Health(
            status="ok" if ready else "loading" if status.state == "loading" else "failed",
            model=status.name,
            share=status.share,
            detail=status.what or status.error or "",
            version=nmri3d.__version__,
        )
        headers = {"Retry-After": str(RETRY_SECONDS)} if body.status == "loading" else None
        return JSONResponse(body.model_dump(), 200 if ready else 503, headers=headers)

    figures: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format"}
    }

    @routes.get("/metrics", response_class=Response, responses={**problems(), **figures})
    async def metrics() -> Response:
        """Requests by route, the line before the model, kept results, memory, visitors: for Prometheus, which sends the
        token as `authorization: {credentials: …}` of its scrape configuration."""
        return Response(await asyncio.to_thread(context.metrics.text), media_type=MEDIA_TYPE)

    return routes

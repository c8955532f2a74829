"""The FastAPI application: health, the loaded model, and a list of what there is. All of it behind one `Guard`.

Convention. JSON in and out, errors as problem details (`nmri3d.api.errors`). While the first model loads, what needs a
model answers 503 with `Retry-After`. /docs works offline: it is plain HTML made from /openapi.json.

Left out: scans and perturbations over REST, and the WebSocket stream.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

import nmri3d
from nmri3d.api import errors
from nmri3d.api.documentation import documentation_page
from nmri3d.api.security import Guard, Security
from nmri3d.service import Service


class Health(BaseModel):
    """Whether the server can answer."""

    status: str = Field(description='"ok", or "loading", or "failed"')
    model: str = Field(description="name of the model that is ready, loading or failed; empty without one")
    share: float = Field(description="how far the load is, 0 to 1")
    detail: str = Field(description="what the load does now, or why it failed")
    version: str = Field(description="version of nmri3d")


class KindCount(BaseModel):
    """How many components of one kind there are, and how many parameters belong to them."""

    components: int
    parameters: int


class ModelDescription(BaseModel):
    """The loaded model: every field of `model.info`, and its components by kind."""

    info: dict[str, Any] = Field(description="nmri3d's ModelInfo: layers, heads, widths, dtype, source, fingerprint, …")
    components: dict[str, KindCount]
    neurons: int
    step_axis: str = Field(description='what a step of a scan is; "token" for a language model')
    abilities: list[str]
    metric: str = Field(description="what attributions attribute")


def create_app(service: Service, *, security: Security, **options: Any) -> FastAPI:
    """The application over a service. `options` go to FastAPI (lifespan, …); add further routes to what is returned."""
    app = FastAPI(
        title="Neural MRI 3D",
        version=nmri3d.__version__,
        description="What the nmri3d server answers beside its page.",
        docs_url=None,
        redoc_url=None,
        **options,
    )
    errors.install(app)
    app.add_middleware(Guard, security=security)

    @app.get("/healthz", response_model=Health, tags=["server"], responses={503: {"model": Health}})
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
        headers = {"Retry-After": str(errors.RETRY_SECONDS)} if state == "loading" else None
        return JSONResponse(body.model_dump(), 200 if state == "ok" else 503, headers=headers)

    @app.get("/api/model/info", tags=["model"])
    async def model_info() -> ModelDescription:
        """The loaded model. 503 while the first one loads, 409 when there is none."""
        backend = service.require_backend()
        table = backend.components
        kinds = {}
        for kind in backend.kinds:
            rows = table.rows(kind=kind)
            kinds[kind] = KindCount(components=len(rows), parameters=int(table.n_params[rows].sum()))
        return ModelDescription(
            info=asdict(backend.info),
            components=kinds,
            neurons=len(backend.neurons),
            step_axis=backend.step_axis,
            abilities=sorted(backend.abilities),
            metric=backend.metric,
        )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(documentation_page(app.openapi()))

    return app

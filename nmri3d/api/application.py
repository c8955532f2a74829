"""The FastAPI application: every route, behind one `Guard`.

Convention. JSON in and out, errors as problem details (`nmri3d.api.errors`), large arrays as bytes by links
(`nmri3d.api.arrays`). While the first model loads, what needs a model answers 503 with `Retry-After`. /docs works offline:
it is plain HTML made from /openapi.json.

Left out: the routes themselves (routes/, stream.py) and who may call them (security.py).
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

import nmri3d
from nmri3d.api import errors, stream
from nmri3d.api.arrays import Arrays
from nmri3d.api.calls import Calls
from nmri3d.api.context import Context
from nmri3d.api.documentation import documentation_page
from nmri3d.api.limits import Limiter, Limits
from nmri3d.api.metrics import Metrics
from nmri3d.api.observer import Observer
from nmri3d.api.picturing import Picturing
from nmri3d.api.routes import (
    arrays,
    exports,
    features,
    generating,
    inspecting,
    jobs,
    maps,
    measuring,
    model,
    operations,
    perturbing,
    reference,
    scanning,
    sessions,
)
from nmri3d.api.security import Guard, Security
from nmri3d.service import Service
from nmri3d.service.sessions import SessionStore

ROUTES = (
    *(operations, model, scanning, perturbing, features, measuring, inspecting, reference, generating),
    *(arrays, maps, exports, sessions, jobs, stream),
)

DESCRIPTION = (
    "Scans, perturbations, tracing and sweeps of the one loaded model, as the page and the Python client use them."
)


def create_app(
    service: Service,
    *,
    security: Security,
    store: SessionStore | None = None,
    picturing: Picturing | None = None,
    limits: Limits | None = None,
    metrics: Metrics | None = None,
    **options: Any,
) -> FastAPI:
    """The application over a service. `options` go to FastAPI (lifespan, …); add further routes to what is returned.

    store          recorded sessions; None: those of the user's data folder
    picturing      maps and pictures, which this package may not draw itself; None: these routes answer in words
    limits         how much one caller may ask for; the default is generous
    metrics        what is counted; give one to add figures to it
    """
    app = FastAPI(
        title="Neural MRI 3D",
        version=nmri3d.__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        **options,
    )
    errors.install(app)
    metrics = metrics or Metrics(service)
    app.add_middleware(Limiter, limits=limits or Limits())  # the last one that is added is called first
    app.add_middleware(Guard, security=security)
    app.add_middleware(Observer, metrics=metrics)
    context = Context(
        service=service,
        calls=Calls(service),
        arrays=Arrays(service),
        sessions=store or SessionStore(),
        metrics=metrics,
        picturing=picturing,
    )
    for module in ROUTES:
        app.include_router(module.router(context))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(documentation_page(app.openapi()))

    app.openapi = lambda: _described(app, bool(security.token))  # type: ignore[method-assign]
    return app


def _described(app: FastAPI, needs_token: bool) -> dict[str, Any]:
    """The OpenAPI description, with the shape of errors and the token."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = errors.PROBLEM_SCHEMA
        if needs_token:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
        app.openapi_schema = schema
    return app.openapi_schema

"""The loaded model: GET /api/model/info. (load, unload, list, components: to be written)"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from nmri3d.api.context import Context
from nmri3d.api.errors import problems
from nmri3d.api.schema import Answer


class KindCount(Answer):
    """How many components of one kind there are, and how many parameters belong to them."""

    components: int
    parameters: int


class ModelDescription(Answer):
    """The loaded model: every field of `model.info`, and its components by kind."""

    info: dict[str, Any] = Field(description="nmri3d's ModelInfo: layers, heads, widths, dtype, source, fingerprint, …")
    components: dict[str, KindCount]
    neurons: int
    step_axis: str = Field(description='what a step of a scan is; "token" for a language model')
    abilities: list[str]
    metric: str = Field(description="what attributions attribute")


def router(context: Context) -> APIRouter:
    """Routes under /api/model."""
    routes = APIRouter(prefix="/api/model", tags=["model"])
    service = context.service

    @routes.get("/info", responses=problems(409))
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

    return routes

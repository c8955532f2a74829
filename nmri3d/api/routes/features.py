"""Features of sparse autoencoders: the two paths that neural-mri.md 4.1 names.

Left out: the autoencoders themselves. Until one can be loaded the list is empty and a feature is refused, both in words.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from nmri3d.api.context import Context
from nmri3d.api.errors import problems
from nmri3d.api.representations import json_response
from nmri3d.api.schema import Answer, Body
from nmri3d.errors import ModelError

NOTE = (
    "This version of nmri3d reads no sparse autoencoders, so the model has no features; its neurons can be listed "
    "(POST /api/scan/activation with top_neurons) and edited (POST /api/perturb/zero, blocks.5.mlp.neuron_1247)."
)


class Feature(Answer):
    """A feature of a sparse autoencoder."""

    id: str
    label: str | None


class Features(Answer):
    """All features that can be activated."""

    features: list[Feature]
    note: str = Field(description="why there are none")


class FeatureRequest(Body):
    """A feature to switch."""

    feature: str = Field(min_length=1, max_length=100, description="id of a feature of GET /api/features/list")
    active: bool = Field(True, description="false: switch it off")


def router(context: Context) -> APIRouter:
    """Routes under /api/features."""
    routes = APIRouter(prefix="/api/features", tags=["features"])

    @routes.get("/list", response_model=Features, responses=problems())
    async def list_features() -> Response:
        """Features of sparse autoencoders: none in this version, which `note` says."""
        return json_response(Features(features=[], note=NOTE))

    @routes.post("/activate", status_code=409, response_model=None, responses=problems(409))
    async def activate(body: FeatureRequest) -> Response:
        """Activate or deactivate a feature: refused, since there are none."""
        raise ModelError(NOTE)

    return routes

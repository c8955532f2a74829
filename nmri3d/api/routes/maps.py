"""GET /api/map: the loaded model's components on the brain, with the figures that say how good the map is.

Convention. Vertices are mm in RAS, all in one mesh: the left hemisphere, the right one, and, of a network that has components
there (`structure` in /api/model/components), the cerebellum and the hippocampi. `face_component` holds rows of the component
table, -1 on the medial wall and on a hemisphere without components. Areas are on pial, in mm², those of the other bodies on
the one surface that they have.

Left out: drawing it (exports.py), and neurons within their parcels.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from nmri3d.api.answers import Array, responses
from nmri3d.api.context import Context
from nmri3d.api.picturing import Picturing
from nmri3d.api.representations import json_response
from nmri3d.api.schema import Answer, ArrayLink
from nmri3d.errors import Cancelled, NotFoundError
from nmri3d.models.backend import Progress

Layout = Literal["anatomical", "umap", "spectral"]
Area = Literal["parameters", "equal"]
Features = Literal["weights", "functional"]
Surface = Literal["pial", "inflated", "white", "sphere", "flat"]

DIMS = {
    "vertices": ("vertex", "xyz"),
    "faces": ("face", "corner"),
    "face_component": ("face",),
    "sulcal_depth": ("vertex",),
    "target_area": ("component",),
    "area": ("component",),
}
"""The arrays of a map that are offered, and what their axes are."""


class MapDescription(Answer):
    """A model's components on the brain."""

    layout: str
    area_follows: str = Field(description="what a parcel's area follows")
    features: str = Field(description="what components are compared by")
    surface: str
    components: list[str] = Field(description="ids, in the order of the component table")
    vertices: ArrayLink = Field(description="mm, RAS")
    faces: ArrayLink
    face_component: ArrayLink
    sulcal_depth: ArrayLink
    target_area: Array = Field(description="mm² that a parcel is to have; 0 for components without a place")
    area: Array = Field(description="mm² that it has")
    quality: dict[str, float | None] = Field(description="figures by name; null where one is not defined")


def drawn_by(context: Context) -> Picturing:
    """What makes maps and pictures. Raises NotFoundError where this server has none."""
    if context.picturing is None:
        raise NotFoundError(
            "This server measures and does not draw, so it has no maps and pictures; start it by `nmri3d serve`, or draw the "
            "scan where you are with nmri3d.Brain."
        )
    return context.picturing


def router(context: Context) -> APIRouter:
    """The route /api/map."""
    routes = APIRouter(tags=["map"])

    @routes.get("/api/map", response_model=MapDescription, responses=responses(404))
    async def component_map(
        request: Request,
        layout: Annotated[Layout, Query(description="how components are laid out")] = "anatomical",
        area: Annotated[Area, Query(description="what a parcel's area follows")] = "parameters",
        features: Annotated[
            Features, Query(description="what components are compared by; functional is measured once a model")
        ] = "weights",
        surface: Annotated[Surface, Query(description="where the vertices are")] = "pial",
    ) -> Response:
        """The parcels of the loaded model, built where they are not kept yet."""
        picturing = drawn_by(context)
        choices = {"layout": layout, "area": area, "features": features, "surface": surface}

        def work(progress: Progress) -> Response:
            model = context.service.require_backend()
            ids = model.components.ids
            found = picturing.map(choices, progress)
            if context.service.backend is not model:
                raise Cancelled("The model was changed while its map was built; ask again on the new one.")

            def link(name: str) -> ArrayLink:
                array = found.arrays[name]

                def make(report: Progress) -> np.ndarray:
                    return picturing.map(choices, report).arrays[name]

                return context.arrays.link(
                    ("map", choices, name),
                    make,
                    dims=DIMS[name],
                    shape=array.shape,
                    dtype=array.dtype,
                    labels={"component": ids, "xyz": ("x", "y", "z")},
                    layers=model.components.layer if DIMS[name] == ("component",) else None,
                    model=model.info.fingerprint,
                )

            def array(name: str) -> Array:
                return Array.of(link(name), found.arrays[name])

            return json_response(
                MapDescription(
                    layout=found.layout,
                    area_follows=found.area,
                    features=found.features,
                    surface=found.surface,
                    components=list(ids),
                    vertices=link("vertices"),
                    faces=link("faces"),
                    face_component=link("face_component"),
                    sulcal_depth=link("sulcal_depth"),
                    target_area=array("target_area"),
                    area=array("area"),
                    quality={name: value if math.isfinite(value) else None for name, value in found.quality.items()},
                )
            )

        return await context.calls.respond(request, work, name="The map")

    return routes

"""Arrays as bytes: GET /api/tensor/{address}, whole or a part, npy or Arrow.

Convention. Addresses come as `data_url` in the answers of scans and the like. The ETag is strong: what an address, a part
and a format lead to never changes, so `If-None-Match` is answered without the array. `Nmri3d-Dims` and `Nmri3d-Shape` tell
what the axes of the answer are. With `format=auto` the Accept header chooses, of two that it names the first.

Left out: `Range` of bytes (`layers` and `positions` take parts), and quality values of Accept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from nmri3d.api.arrays import ADDRESS_PATTERN, Recipe
from nmri3d.api.calls import ACCEPTED
from nmri3d.api.context import Context
from nmri3d.api.encoding import ARROW, NPY, arrow_bytes, npy_bytes
from nmri3d.api.errors import problems
from nmri3d.api.schema import Answer, ArrayLink
from nmri3d.api.selection import MOST_SELECTION_CHARACTERS, SELECTION_PATTERN, select
from nmri3d.models.backend import Progress

KEPT_BY_CLIENTS = "private, max-age=86400"

Address = Annotated[str, Path(pattern=ADDRESS_PATTERN, description="the end of a `data_url`")]
Format = Annotated[
    Literal["auto", "npy", "arrow"],
    Query(
        description="npy (numpy.load reads it) or arrow (a table for pandas and polars); auto: as the Accept header asks, "
        "else npy"
    ),
]
Selection = Annotated[
    str | SkipJsonSchema[None],
    Query(
        pattern=SELECTION_PATTERN,
        max_length=MOST_SELECTION_CHARACTERS,
        json_schema_extra={"pattern": SELECTION_PATTERN},  # pydantic leaves it out where there may be None
        description="numbers and half-open ranges, negative ones from the end: `0,3,5:8`, `0:5,-1`; each once, in order. "
        "`layers` is for arrays over components, neurons or layers, `positions` for tokens, positions, queries or steps",
    ),
]
Known = Annotated[str | SkipJsonSchema[None], Header(alias="If-None-Match", description="ETags that are there already")]


class ArrayList(Answer):
    """Arrays that are offered, what was used last first."""

    count: int = Field(description="how many there are")
    arrays: list[ArrayLink]


_HEADERS: dict[str, Any] = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in {
        "ETag": "strong: equal tags are equal bytes",
        "Nmri3d-Dims": "what each axis is: token,component",
        "Nmri3d-Shape": "length of each axis of this part: 7,301",
    }.items()
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **problems(404, 409, 500),
    200: {"description": "The array.", "content": {NPY: _BINARY, ARROW: _BINARY}, "headers": _HEADERS},
    304: {"description": "The client has it already."},
}


def router(context: Context) -> APIRouter:
    """Routes under /api/tensor."""
    routes = APIRouter(prefix="/api/tensor", tags=["arrays"])
    arrays, calls = context.arrays, context.calls

    @routes.get("", responses=problems())
    async def list_arrays(
        limit: Annotated[int, Query(ge=1, le=4096, description="how many to list")] = 100,
    ) -> ArrayList:
        """The arrays that can be fetched now; answers of scans name them as `data_url`."""
        links = arrays.links()
        return ArrayList(count=len(links), arrays=links[:limit])

    @routes.get("/{address}", response_class=Response, responses={**_RESPONSES, **ACCEPTED})
    async def get_array(
        request: Request,
        address: Address,
        format: Format = "auto",
        layers: Selection = None,
        positions: Selection = None,
        if_none_match: Known = None,
    ) -> Response:
        """One array, or a part of it. It is measured again where it is no longer kept."""
        part = Part(arrays.get(address), address, _media_type(format, request), layers, positions)
        if part.is_known(if_none_match):
            return Response(status_code=304, headers=part.headers)

        def work(progress: Progress) -> Response:
            return Response(
                part.encoded(arrays.make(address, progress)), headers=part.headers, media_type=part.media_type
            )

        return await calls.respond(request, work, name="Fetching the array")

    @routes.head("/{address}", response_class=Response, responses=_RESPONSES)
    async def head_array(
        request: Request,
        address: Address,
        format: Format = "auto",
        layers: Selection = None,
        positions: Selection = None,
        if_none_match: Known = None,
    ) -> Response:
        """Type, axes and ETag of an array or a part of it; nothing is measured, so its length in bytes is not told."""
        part = Part(arrays.get(address), address, _media_type(format, request), layers, positions)
        if part.is_known(if_none_match):
            return Response(status_code=304, headers=part.headers)
        answer = Response(headers=part.headers, media_type=part.media_type)
        del answer.headers["content-length"]
        return answer

    return routes


class Part:
    """What is asked of an array: which entries, in which form. Raises InputError for entries that do not exist."""

    def __init__(
        self, recipe: Recipe, address: str, media_type: str, layers: str | None, positions: str | None
    ) -> None:
        self._recipe, self.media_type = recipe, media_type
        chosen = select(recipe.dims, recipe.shape, recipe.layers, layers, positions)
        self._chosen = chosen
        asked = "\n".join([address, media_type, layers or "", positions or ""])
        self._etag = f'"{hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()}"'
        shape = [size if kept is None else len(kept) for size, kept in zip(recipe.shape, chosen, strict=True)]
        self.headers = {
            "ETag": self._etag,
            "Cache-Control": KEPT_BY_CLIENTS,
            "Vary": "Accept",
            "Nmri3d-Dims": ",".join(recipe.dims),
            "Nmri3d-Shape": ",".join(map(str, shape)),
        }

    def is_known(self, if_none_match: str | None) -> bool:
        """Whether the client has it: its If-None-Match names the ETag, or is `*`."""
        tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
        return self._etag in tags or tags == ["*"]

    def encoded(self, array: np.ndarray) -> bytes:
        """The part of the array as bytes."""
        for axis, kept in enumerate(self._chosen):
            if kept is not None:
                array = array.take(kept, axis)
        if self.media_type == NPY:
            return npy_bytes(array)
        recipe = self._recipe
        entries: Sequence[np.ndarray] = [
            np.arange(size) if kept is None else kept for size, kept in zip(recipe.shape, self._chosen, strict=True)
        ]
        return arrow_bytes(array, recipe.dims, recipe.labels, entries)


def _media_type(format: str, request: Request) -> str:
    if format != "auto":
        return NPY if format == "npy" else ARROW
    accepted = request.headers.get("accept", "")
    places = {kind: accepted.find(kind) for kind in (NPY, ARROW) if kind in accepted}
    return min(places, key=places.__getitem__, default=NPY)

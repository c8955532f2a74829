"""The two forms in which a result leaves: JSON, and the very file that `save` writes, from which the same object is read.

Convention. `Accept: application/vnd.nmri3d+npz` asks for the file; anything else gets JSON.

Left out: what stands in the JSON, which is each route's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

RESULT_FILE = "application/vnd.nmri3d+npz"

RESULT_RESPONSE: dict[str, Any] = {"content": {RESULT_FILE: {"schema": {"type": "string", "format": "binary"}}}}
"""`responses[200]` of a route that can answer with the result's file too."""


class SavedResult(Protocol):
    """A result of `nmri3d.results`."""

    def to_bytes(self) -> bytes: ...


def json_response(body: BaseModel, status: int = 200) -> Response:
    """A model as JSON, written by pydantic itself; NaN and infinities are null."""
    return Response(body.model_dump_json(), status, media_type="application/json")


def represent(request: Request, result: SavedResult, describe: Callable[[], BaseModel]) -> Response:
    """A result as its file where the caller accepts that, else as the JSON of `describe()`."""
    if RESULT_FILE in request.headers.get("accept", ""):
        return Response(result.to_bytes(), media_type=RESULT_FILE)
    return json_response(describe())

"""Errors as HTTP answers, in one place and by class: problem details (RFC 9457), or a page for a browser.

Convention. `detail` is the sentence of the error, word for word as page and command line show it; `type` is
`urn:nmri3d:error:<class>`. Routes have no try/except. An error that nobody raised on purpose is logged with its
traceback and answered without it.

Left out: retries.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from nmri3d.api.html import notice
from nmri3d.errors import (
    AlignmentError,
    BusyError,
    Cancelled,
    InputError,
    MachineError,
    ModelAccessError,
    ModelError,
    ModelFormatError,
    ModelNotFoundError,
    ModelTooLargeError,
    Nmri3dError,
    NotFoundError,
    UnsupportedModelError,
)

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2

PROBLEMS: dict[type[Nmri3dError], tuple[int, str]] = {
    InputError: (422, "This cannot be asked"),
    NotFoundError: (404, "Not there"),
    ModelNotFoundError: (404, "No such model"),
    ModelAccessError: (403, "No access to this model"),
    ModelFormatError: (422, "The model's files cannot be trusted"),
    ModelTooLargeError: (507, "The model is too large"),
    UnsupportedModelError: (422, "The model cannot be scanned"),
    ModelError: (409, "No model"),
    AlignmentError: (409, "Two results that do not belong together"),
    BusyError: (503, "Busy"),
    Cancelled: (409, "Cancelled"),
    MachineError: (500, "The machine lacks something"),
    Nmri3dError: (500, "Error"),
}
"""Status and title by class; a class that is not listed takes those of its nearest listed base."""


def problem(status: int, title: str, detail: str, kind: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An RFC 9457 answer."""
    content = {"type": f"urn:nmri3d:error:{kind}", "title": title, "status": status, "detail": detail}
    return JSONResponse(content, status, headers=headers, media_type="application/problem+json")


def wants_html(headers: Mapping[str, str]) -> bool:
    """Whether the caller is a person with a browser: Accept names HTML."""
    return "text/html" in headers.get("accept", "")


def answer(
    headers: Mapping[str, str], status: int, title: str, detail: str, kind: str, extra: Mapping[str, str] | None = None
) -> Response:
    """The same refusal as a page or as problem details, as the caller's Accept header asks."""
    if wants_html(headers):
        return HTMLResponse(notice(status, title, detail), status, headers=extra)
    return problem(status, title, detail, kind, extra)


def from_error(headers: Mapping[str, str], error: Exception) -> Response:
    """The answer for any error; one that is not ours is logged here."""
    if not isinstance(error, Nmri3dError):
        logger.error("an error that nobody expected", exc_info=error)
        detail = "Something went wrong inside nmri3d; the server's own log has the details."
        return answer(headers, 500, "Internal error", detail, "Internal")
    status, title = next(PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS)
    seconds = getattr(error, "retry_after", None) or RETRY_SECONDS
    extra = {"Retry-After": str(seconds)} if status == 503 else None
    return answer(headers, status, title, str(error), type(error).__name__, extra)


def install(app: FastAPI) -> None:
    """Register the handlers of all expected errors; `Guard` answers the unexpected ones."""

    async def on_error(request: Request, error: Exception) -> Response:
        return from_error(request.headers, error)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:  # what FastAPI makes of a body that its parser gave up on
            detail = (
                "The body is no JSON that can be read: not UTF-8, a number of thousands of digits, or nested too deep."
            )
            return answer(request.headers, 422, PROBLEMS[InputError][1], detail, "InputError")
        title = HTTPStatus(error.status_code).phrase
        detail = {
            404: f"There is nothing at {request.url.path}; the API is listed at /docs.",
            405: f"{request.url.path} does not take {request.method}; the API is listed at /docs.",
        }.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette names the methods of one route only, not of all at this path
            described = app.openapi()["paths"].get(getattr(request.scope.get("route"), "path", None), {})
            headers["Allow"] = ", ".join(sorted(map(str.upper, described))) or headers.get("Allow", "GET")
        return answer(request.headers, error.status_code, title, detail, title.replace(" ", ""), headers)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        detail = "; ".join(_in_words(item) for item in error.errors())
        return answer(request.headers, 422, PROBLEMS[InputError][1], detail, "InputError")

    app.add_exception_handler(Nmri3dError, on_error)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)


def _in_words(item: Mapping[str, Any]) -> str:
    """One complaint of pydantic: the field and what is wrong with it."""
    where = ".".join(str(part) for part in item["loc"] if part not in ("body", "query", "path"))
    return f"{where or 'the request'}: {item['msg']}"


PROBLEM_SCHEMA = {
    "title": "Problem",
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "properties": {
        "type": {"type": "string", "description": "urn:nmri3d:error: and the class of the error"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "cause and remedy, in a sentence"},
    },
    "required": ["type", "title", "status", "detail"],
}

_EVERYWHERE = (401, 403, 413, 422, 429, 503)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route for its OpenAPI description: problem details under these statuses, and under those that any
    call may get (no token, refused, cannot be asked, too many, busy)."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*statuses, *_EVERYWHERE})
    }

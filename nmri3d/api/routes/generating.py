"""POST /api/generate: the model writes on, and what fires while it does.

Convention. As `Service.generate`: the same prompt, numbers and seed give the same text. `Accept: application/vnd.nmri3d+npz`
gives the fMRI scan of the whole text. Its values are kept for the last few texts, else written again from the same seed.

Left out: tokens as they come (/ws/stream).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Literal

import numpy as np
from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from nmri3d.api.answers import Array, Seed, responses
from nmri3d.api.context import Context
from nmri3d.api.metadata import metadata_of
from nmri3d.api.recording import Recording, recording_of
from nmri3d.api.representations import represent
from nmri3d.api.schema import Answer, Body, Metadata, Prompt, TokenProbability
from nmri3d.models.backend import Progress
from nmri3d.results import Scan

KEPT_TEXTS = 4

Stopped = Literal["n_tokens", "end_token", "context"]


class GenerateBody(Body):
    """What the model goes on writing, and how."""

    prompt: Prompt
    n_tokens: int = Field(20, ge=1, le=1024, description="how many tokens at most")
    temperature: float = Field(0.0, ge=0, le=100, description="0 takes the likeliest token, else tokens are drawn")
    seed: Seed = 0


class Generated(Answer):
    """What was written, and the fMRI scan of the whole text."""

    text: str = Field(description="the prompt and what was written")
    written: list[TokenProbability] = Field(description="the new tokens; `prob` is at temperature 1")
    stopped: Stopped = Field(description="why the text ends where it does")
    tokens: list[str] = Field(description="of the whole text")
    values: Array = Field(description="fMRI values of the whole text")
    units: str
    metadata: Metadata


class _LastTexts:
    """The scans of the last few texts. Thread-safe."""

    def __init__(self) -> None:
        self._scans: OrderedDict[Hashable, Scan] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Scan | None:
        with self._lock:
            return self._scans.get(key)

    def put(self, key: Hashable, scan: Scan) -> None:
        with self._lock:
            self._scans[key] = scan
            self._scans.move_to_end(key)
            while len(self._scans) > KEPT_TEXTS:
                self._scans.popitem(last=False)


def router(context: Context) -> APIRouter:
    """The route /api/generate."""
    routes = APIRouter(tags=["generate"])
    service, calls = context.service, context.calls
    recorded = Depends(recording_of(context))
    last = _LastTexts()

    @routes.post("/api/generate", response_model=Generated, responses=responses(404, file=True))
    async def generate(body: GenerateBody, request: Request, recording: Recording = recorded) -> Response:
        """Let the model write on, token by token, and scan what it wrote."""
        asked = body.model_dump()
        options = {name: value for name, value in asked.items() if name not in ("prompt", "n_tokens")}

        def values(progress: Progress) -> np.ndarray:
            """For the link, which belongs to the loaded model."""
            key = (service.require_backend().info.fingerprint, *asked.values())
            if (kept := last.get(key)) is not None:
                return kept.values
            again = service.generate(body.prompt, body.n_tokens, lambda step: None, progress=progress, **options)
            return again.scan.values

        def work(progress: Progress) -> Response:
            model = service.require_backend()
            found = service.generate(body.prompt, body.n_tokens, lambda step: None, progress=progress, **options)
            written, scan = found.tokens, found.scan
            last.put((scan.provenance.fingerprint, *asked.values()), scan)
            recording.record("generate", {**asked, "tokens": [token.token_id for token in written]}, scan)

            def describe() -> Generated:
                link = context.arrays.link(
                    ("generate", asked),
                    values,
                    dims=("token", "component"),
                    shape=scan.values.shape,
                    dtype=scan.values.dtype,
                    labels={"token": scan.tokens, "component": scan.components.ids},
                    layers=scan.components.layer,
                    model=scan.provenance.fingerprint,
                )
                stopped: Stopped = "n_tokens" if len(written) == body.n_tokens else "context"
                if written[-1].token_id in model.end_tokens:
                    stopped = "end_token"
                return Generated(
                    text=found.text,
                    written=[TokenProbability.of(token) for token in written],
                    stopped=stopped,
                    tokens=list(scan.tokens),
                    values=Array.of(link, scan.values),
                    units=scan.units,
                    metadata=metadata_of(service, scan.provenance),
                )

            return represent(request, scan, describe)

        return await calls.respond(request, work, name="The generation")

    return routes

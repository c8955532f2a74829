"""Exact interventions over many cells or components: causal tracing, sweeps, single edges; and how long they would take.

Convention. Bodies have the names, the defaults and the meaning of `nmri3d.trace`, `nmri3d.ablate_all` and
`nmri3d.verify_edge`; `Accept: application/vnd.nmri3d+npz` gives the Heatmap or Sweep itself. A long run is best asked for with
`Prefer: respond-async`, and estimated first: nothing asks back here.

Left out: looking inside without intervening (inspecting.py), and edits of a session (perturbing.py).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from fastapi import APIRouter, Depends
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from nmri3d.api.answers import Array, Index, Indices, NamedToken, Seed, Token, responses
from nmri3d.api.context import Context
from nmri3d.api.metadata import metadata_of
from nmri3d.api.recording import Recording, recording_of
from nmri3d.api.representations import json_response, represent
from nmri3d.api.schema import Answer, Body, ComponentId, Metadata, Prompt
from nmri3d.models.backend import Progress
from nmri3d.results import Heatmap, Sweep

MOST_LISTED = 25
"""Components of a sweep that are listed by name."""

Effect = Literal["zero", "mean", "patch"]


class TraceBody(Body):
    """What is traced: the arguments of `nmri3d.trace`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"clean": "The capital of France is", "corrupt": "The capital of Italy is"}]}
    )

    clean: Prompt
    corrupt: Prompt | None = Field(None, description="counterfactual prompt of equally many tokens; null: noise")
    target: Token | None = Field(None, description="null: the likeliest next token of the clean prompt")
    foil: Token | None = Field(None, description="null: the runner-up")
    position: Index = Field(-1, description="whose next token the metric is about")
    sites: list[Literal["resid", "attn", "mlp"]] = Field(["resid", "attn", "mlp"], min_length=1, max_length=3)
    method: Literal["counterfactual", "noise"] | None = Field(None, description="null: follows from `corrupt`")
    window: int = Field(1, ge=1, le=10_000, description="layers restored at once")
    layers: Indices | None = Field(None, description="rows to measure, the last one before the final norm; null: all")
    positions: Indices | None = Field(None, description="columns to measure; null: all")
    draws: int = Field(10, ge=1, le=1000, description="of the noise")
    seed: Seed = 0
    marked: Indices | None = Field(None, description="positions made noisy; null: the one that matters most")


class SweepBody(Body):
    """What is swept: the arguments of `nmri3d.ablate_all`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "The capital of France is", "effect": "zero"}]}
    )

    prompt: Prompt
    target: Token | None = Field(None, description="null: the likeliest next token")
    foil: Token | None = Field(None, description="null: the runner-up")
    effect: Effect | None = Field("zero", description="what replaces a write; null: patch with `corrupt`, mean without")
    corrupt: Prompt | None = Field(None, description="prompt of equally many tokens that patch takes its writes from")
    components: list[ComponentId] | None = Field(None, min_length=1, max_length=10_000, description="null: all")
    position: Index = Field(-1, description="whose next token the metric is about")


class EdgeBody(Body):
    """Which edge is patched: the arguments of `nmri3d.verify_edge`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prompt": "The capital of France is",
                    "corrupt": "The capital of Italy is",
                    "source": "blocks.0.mlp",
                    "target": "blocks.1.mlp",
                    "slot": "mlp",
                }
            ]
        }
    )

    prompt: Prompt
    source: ComponentId = Field(description="the component that writes", examples=["blocks.0.mlp"])
    target: ComponentId = Field(description="the component that reads; unembed for the slot logits")
    slot: Literal["q", "k", "v", "mlp", "logits"]
    corrupt: Prompt | None = None
    effect: Effect | None = Field(None, description="null: patch with `corrupt`, mean without")
    target_token: Token | None = None
    foil: Token | None = None
    position: Index = -1


class Estimate(Answer):
    """How long a request would take."""

    seconds: float = Field(description="measured on a few of the interventions; 0 where there are only a few")


class HeatmapDescription(Answer):
    """Recovery by site, layer and position, as nmri3d's Heatmap."""

    values: Array = Field(description="recovery, not clamped; null where nothing was measured")
    stderr: Array = Field(description="standard error over the draws of noise; null for a counterfactual")
    units: str
    sites: list[str]
    tokens: list[str]
    corrupt_tokens: list[str]
    clean_metric: float
    corrupt_metric: float
    target: NamedToken
    foil: NamedToken
    marked: list[int]
    method: str
    note: str = Field(description="why all values are null, where they are; else empty")
    metadata: Metadata


class ComponentChange(Answer):
    """One component of a sweep."""

    id: str
    value: float


class SweepDescription(Answer):
    """Change of the metric when one component at a time is replaced, as nmri3d's Sweep."""

    values: Array = Field(description="metric edited minus clean; null for components that were not replaced")
    units: str
    clean_metric: float
    target: NamedToken
    foil: NamedToken | None = Field(description="null: the metric is the target's own value, of a network of signals")
    effect: str
    strongest: list[ComponentChange] = Field(description=f"the {MOST_LISTED} largest changes, of either sign")
    metadata: Metadata


class EdgeEffect(Answer):
    """What an edge carries."""

    source: str
    target: str
    slot: str
    effect: float = Field(description="metric of the clean run minus that with this edge patched, in logits")


def router(context: Context) -> APIRouter:
    """Routes under /api/measure that intervene."""
    routes = APIRouter(prefix="/api/measure", tags=["measure"])
    service, calls = context.service, context.calls
    recorded = Depends(recording_of(context))

    @routes.post("/trace", response_model=HeatmapDescription, responses=responses(404, file=True))
    async def trace(body: TraceBody, request: Request, recording: Recording = recorded) -> Response:
        """Causal tracing: which site, layer and position, restored, brings the answer back."""
        asked = body.model_dump()
        options = {name: value for name, value in asked.items() if name not in ("clean", "corrupt")}

        def measure(progress: Progress) -> Heatmap:
            return service.trace(body.clean, body.corrupt, progress=progress, **options)

        def work(progress: Progress) -> Response:
            result = measure(progress)
            recording.record("trace", {"clean": body.clean, "corrupt": body.corrupt, "options": options}, result)
            return represent(request, result, lambda: describe(result))

        def describe(result: Heatmap) -> HeatmapDescription:
            def array(name: Literal["values", "stderr"]) -> Array:
                values = getattr(result, name)
                link = context.arrays.link(
                    ("trace", asked, name),
                    lambda progress: getattr(measure(progress), name),
                    dims=("site", "layer", "position"),
                    shape=values.shape,
                    dtype=values.dtype,
                    labels={"site": result.sites, "position": result.tokens},
                    model=result.provenance.fingerprint,
                )
                return Array.of(link, values)

            return HeatmapDescription(
                values=array("values"),
                stderr=array("stderr"),
                units=result.units,
                sites=list(result.sites),
                tokens=list(result.tokens),
                corrupt_tokens=list(result.corrupt_tokens),
                clean_metric=result.clean_metric,
                corrupt_metric=result.corrupt_metric,
                target=NamedToken.of(result.target),
                foil=NamedToken.of(result.foil),
                marked=list(result.marked),
                method=result.method,
                note=result.note,
                metadata=metadata_of(service, result.provenance),
            )

        return await calls.respond(request, work, name="The trace")

    @routes.post("/trace/estimate", response_model=Estimate, responses=responses())
    async def estimate_trace(body: TraceBody, request: Request) -> Response:
        """Seconds that the same trace would take."""
        options = body.model_dump(exclude={"clean", "corrupt"})

        def work(progress: Progress) -> Response:
            seconds = service.estimate_trace(body.clean, body.corrupt, progress=progress, **options)
            return json_response(Estimate(seconds=seconds))

        return await calls.respond(request, work, name="The estimate")

    @routes.post("/sweep", response_model=SweepDescription, responses=responses(404, file=True))
    async def sweep(body: SweepBody, request: Request, recording: Recording = recorded) -> Response:
        """Every component, or those named, replaced by itself: what the answer loses without it."""
        asked = body.model_dump()
        options = {name: value for name, value in asked.items() if name != "prompt"}

        def measure(progress: Progress) -> Sweep:
            return service.sweep(body.prompt, progress=progress, **options)

        def work(progress: Progress) -> Response:
            result = measure(progress)
            recording.record("sweep", {"prompt": body.prompt, "options": options}, result)
            return represent(request, result, lambda: describe(result))

        def describe(result: Sweep) -> SweepDescription:
            table = result.components
            link = context.arrays.link(
                ("sweep", asked),
                lambda progress: measure(progress).values,
                dims=("component",),
                shape=result.values.shape,
                dtype=result.values.dtype,
                labels={"component": table.ids},
                layers=table.layer,
                model=result.provenance.fingerprint,
            )
            return SweepDescription(
                values=Array.of(link, result.values),
                units=result.units,
                clean_metric=result.clean_metric,
                target=NamedToken.of(result.target),
                foil=NamedToken.or_none(result.foil),
                effect=result.effect,
                strongest=[
                    ComponentChange(id=table.ids[row], value=float(result.values[row])) for row in strongest(result)
                ],
                metadata=metadata_of(service, result.provenance),
            )

        return await calls.respond(request, work, name="The sweep")

    @routes.post("/sweep/estimate", response_model=Estimate, responses=responses())
    async def estimate_sweep(body: SweepBody, request: Request) -> Response:
        """Seconds that the same sweep would take."""
        options = body.model_dump(exclude={"prompt"})

        def work(progress: Progress) -> Response:
            return json_response(Estimate(seconds=service.estimate_sweep(body.prompt, progress=progress, **options)))

        return await calls.respond(request, work, name="The estimate")

    @routes.post("/edge", response_model=EdgeEffect, responses=responses())
    async def edge(body: EdgeBody, request: Request) -> Response:
        """What one edge of the tractography carries, by path patching."""
        options = body.model_dump(exclude={"prompt", "source", "target", "slot"})

        def work(progress: Progress) -> Response:
            effect = service.verify_edge(body.prompt, body.source, body.target, body.slot, progress=progress, **options)
            return json_response(EdgeEffect(source=body.source, target=body.target, slot=body.slot, effect=effect))

        return await calls.respond(request, work, name="The check of the edge")

    return routes


def strongest(result: Sweep) -> list[int]:
    """Rows of the largest |values|, largest first, equal ones in the table's order."""
    rows = np.flatnonzero(~np.isnan(result.values))
    order = np.argsort(-np.abs(result.values[rows]), kind="stable")
    return rows[order][:MOST_LISTED].tolist()

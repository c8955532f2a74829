"""Looking inside a prompt without intervening: next tokens, neurons, attention, the logit lens.

Convention. As the methods of `nmri3d.service.Service` with the same names; layers and positions count from 0, negative ones
from the end.

Left out: scans of components (scanning.py), interventions (measuring.py), what needs no prompt (reference.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from nmri3d.api.answers import Array, Index, Indices, responses
from nmri3d.api.context import Context
from nmri3d.api.metadata import metadata_of
from nmri3d.api.recording import Recording, recording_of
from nmri3d.api.representations import json_response, represent
from nmri3d.api.schema import Answer, Body, ComponentId, Metadata, Prompt, TokenProbability
from nmri3d.models.backend import Progress
from nmri3d.results import Scan


class PredictBody(Body):
    """Which text is to be continued, and how many candidates are wanted."""

    prompt: Prompt
    k: int = Field(5, ge=1, le=1000)


class NeuronsBody(Body):
    """Which MLP is looked at, and where."""

    prompt: Prompt
    layer: int = Field(ge=0, le=10_000)
    position: Index = -1
    k: int = Field(10, ge=1, le=1000)


class NeuronScanBody(Body):
    """A scan of every MLP neuron: the arguments of `nmri3d.scan_neurons`."""

    mode: Literal["T1", "T2", "fMRI"]
    prompt: Prompt | None = Field(None, description="for fMRI; T1 and T2 take none")
    statistic: Literal["std", "mean", "max", "l2", "kurtosis", "outlier_share"] | None = Field(
        None, description="for T2; null: std"
    )
    layers: Indices | None = Field(None, description="for fMRI; null: all, else the neurons of others are null")
    positions: Indices | None = Field(None, description="for fMRI; null: all")


class AttentionBody(Body):
    """Whose attention is wanted."""

    prompt: Prompt
    layer: Index


class LensBody(Body):
    """Which text the lens is held on."""

    prompt: Prompt
    k: int = Field(5, ge=1, le=100, description="tokens a cell")


class ComponentBody(Body):
    """A component on a text."""

    prompt: Prompt
    component: ComponentId


class Predictions(Answer):
    """The likeliest next tokens, likeliest first."""

    predictions: list[TokenProbability]


class Neuron(Answer):
    """A neuron and its activation."""

    id: str
    idx: int = Field(description="number within its layer")
    activation: float = Field(description="signed, after the nonlinearity (gated MLPs: after the gate)")


class Neurons(Answer):
    """The neurons of largest |activation|, largest first."""

    neurons: list[Neuron]


class NeuronScan(Answer):
    """A scan whose components are the model's MLP neurons."""

    scan_mode: str
    units: str
    tokens: list[str]
    values: Array = Field(description="[token, neuron], or [neuron] for a scan of the weights")
    details: dict[str, Array]
    metadata: Metadata


class Attention(Answer):
    """The attention patterns of a layer."""

    tokens: list[str]
    patterns: Array = Field(description="[head, query, key]; each query's row adds up to 1")


class Lens(Answer):
    """The logit lens: which next tokens each point of the residual stream stands for, as nmri3d's LensTable."""

    tokens: list[str]
    labels: list[str] = Field(description='of the rows: "3 attn" is after the attention of block 3')
    sites: list[str]
    layers: list[int]
    token_ids: Array = Field(description="[row, token, candidate], likeliest first")
    probabilities: Array = Field(description="[row, token, candidate]")
    kl: Array = Field(description="KL(final || lens), nats, [row, token]; null in the last row, where it is 0")
    entropy: Array = Field(description="nats, [row, token]")
    texts: dict[str, str] = Field(description="text of every id in `token_ids`")


class OwnEffectDescription(Answer):
    """What one component by itself does to the lens at its point, at every token, in nats."""

    component: str
    layer: int
    site: str
    tokens: list[str]
    change: Array
    toward_final: Array
    entropy_change: Array


def router(context: Context) -> APIRouter:
    """Routes under /api/measure that look."""
    routes = APIRouter(prefix="/api/measure", tags=["measure"])
    service, calls = context.service, context.calls
    recorded = Depends(recording_of(context))

    def offer(key: Any, make: Callable[[Progress], np.ndarray], array: np.ndarray, *dims: str, **named: Any) -> Array:
        link = context.arrays.link(key, make, dims=dims, shape=array.shape, dtype=array.dtype, **named)
        return Array.of(link, array)

    @routes.post("/predict", response_model=Predictions, responses=responses())
    async def predict(body: PredictBody, request: Request) -> Response:
        """The likeliest next tokens after a prompt."""

        def work(progress: Progress) -> Response:
            found = service.predict(body.prompt, k=body.k, progress=progress)
            return json_response(Predictions(predictions=[TokenProbability.of(one) for one in found]))

        return await calls.respond(request, work, name="The prediction")

    @routes.post("/neurons", response_model=Neurons, responses=responses())
    async def neurons(body: NeuronsBody, request: Request) -> Response:
        """The strongest neurons of one MLP at one token."""

        def work(progress: Progress) -> Response:
            found = service.top_neurons(body.prompt, body.layer, body.position, body.k, progress=progress)
            listed = [Neuron(id=one.component, idx=one.index, activation=one.activation) for one in found]
            return json_response(Neurons(neurons=listed))

        return await calls.respond(request, work, name="Looking for neurons")

    @routes.post("/scan_neurons", response_model=NeuronScan, responses=responses(404, file=True))
    async def scan_neurons(body: NeuronScanBody, request: Request, recording: Recording = recorded) -> Response:
        """A scan of every MLP neuron."""
        asked = body.model_dump(exclude_none=True)
        options = {name: value for name, value in asked.items() if name not in ("mode", "prompt")}

        def measure(progress: Progress) -> Scan:
            return service.scan_neurons(body.mode, body.prompt, progress=progress, **options)

        def work(progress: Progress) -> Response:
            result = measure(progress)
            about = {"mode": body.mode, "level": "neuron", "prompt": body.prompt, "options": options}
            recording.record("scan", about, result)
            return represent(request, result, lambda: describe(result))

        def describe(result: Scan) -> NeuronScan:
            named: dict[str, Any] = {
                "labels": {"token": result.tokens, "neuron": result.components.ids},
                "layers": result.components.layer,
                "model": result.provenance.fingerprint,
            }
            every = slice(None) if result.tokens else 0  # a scan of the weights has one row

            def values(progress: Progress) -> np.ndarray:
                return measure(progress).values[every]

            def detail(name: str) -> Array:
                def make(progress: Progress) -> np.ndarray:
                    return measure(progress).details[name]

                dim = "token" if result.tokens else "neuron"
                return offer(("scan_neurons", asked, name), make, result.details[name], dim, **named)

            dims = ("token", "neuron") if result.tokens else ("neuron",)
            return NeuronScan(
                scan_mode=result.mode,
                units=result.units,
                tokens=list(result.tokens),
                values=offer(("scan_neurons", asked), values, result.values[every], *dims, **named),
                details={name: detail(name) for name in result.details},
                metadata=metadata_of(service, result.provenance),
            )

        return await calls.respond(request, work, name="The scan of neurons")

    @routes.post("/attention", response_model=Attention, responses=responses())
    async def attention(body: AttentionBody, request: Request) -> Response:
        """The attention patterns of all heads of a layer."""

        def measure(progress: Progress) -> np.ndarray:
            return service.attention(body.prompt, body.layer, progress=progress)

        def work(progress: Progress) -> Response:
            patterns = measure(progress)
            tokens = service.require_backend().stimulus(body.prompt).labels
            key = ("attention", body.prompt, body.layer)
            labels = {"query": tokens, "key": tokens}
            array = offer(key, measure, patterns, "head", "query", "key", labels=labels)
            return json_response(Attention(tokens=list(tokens), patterns=array))

        return await calls.respond(request, work, name="Reading attention")

    @routes.post("/lens", response_model=Lens, responses=responses())
    async def lens(body: LensBody, request: Request) -> Response:
        """The logit lens: what the model would say if it stopped at each layer."""

        def work(progress: Progress) -> Response:
            table = service.logit_lens(body.prompt, k=body.k, progress=progress)

            def array(name: Literal["token_ids", "probabilities", "kl", "entropy"], *dims: str) -> Array:
                def make(report: Progress) -> np.ndarray:
                    return getattr(service.logit_lens(body.prompt, k=body.k, progress=report), name)

                labels = {"row": table.labels, "token": table.tokens}
                return offer(("lens", body.prompt, body.k, name), make, getattr(table, name), *dims, labels=labels)

            texts = zip(table.token_ids.ravel().tolist(), table.texts.ravel().tolist(), strict=True)
            return json_response(
                Lens(
                    tokens=list(table.tokens),
                    labels=list(table.labels),
                    sites=list(table.sites),
                    layers=table.layers.tolist(),
                    token_ids=array("token_ids", "row", "token", "candidate"),
                    probabilities=array("probabilities", "row", "token", "candidate"),
                    kl=array("kl", "row", "token"),
                    entropy=array("entropy", "row", "token"),
                    texts={str(token): text for token, text in texts},
                )
            )

        return await calls.respond(request, work, name="The logit lens")

    @routes.post("/own_effect", response_model=OwnEffectDescription, responses=responses())
    async def own_effect(body: ComponentBody, request: Request) -> Response:
        """What one component by itself does to the logit lens."""

        def work(progress: Progress) -> Response:
            effect = service.own_effect(body.prompt, body.component, progress=progress)

            def array(name: Literal["change", "toward_final", "entropy_change"]) -> Array:
                def make(report: Progress) -> np.ndarray:
                    return getattr(service.own_effect(body.prompt, body.component, progress=report), name)

                key = ("own effect", body.prompt, effect.component, name)
                return offer(key, make, getattr(effect, name), "token", labels={"token": effect.tokens})

            return json_response(
                OwnEffectDescription(
                    component=effect.component,
                    layer=effect.layer,
                    site=effect.site,
                    tokens=list(effect.tokens),
                    change=array("change"),
                    toward_final=array("toward_final"),
                    entropy_change=array("entropy_change"),
                )
            )

        return await calls.respond(request, work, name="The own effect")

    return routes

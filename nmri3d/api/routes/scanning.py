"""The five scans: POST /api/scan/structural, weights, activation, circuits and anomaly.

Convention. The answer to a request is JSON with links to its arrays, or the file that `Scan.save` writes where the caller
accepts that. A scan that was made before, by anybody, is not made again. It is recorded in the session that the request
names, before the answer is made.

Left out: scans of neurons in other modes (`nmri3d.scan_neurons`), and token by token (/ws/stream).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from nmri3d.api.answers import NamedToken, responses
from nmri3d.api.context import Context
from nmri3d.api.layers import chosen_layers, describe_layers, layers_of
from nmri3d.api.metadata import metadata_of
from nmri3d.api.recording import Recording, recording_of
from nmri3d.api.representations import represent
from nmri3d.api.scan_answers import (
    ActivationScan,
    AnomalyScan,
    CircuitScan,
    StructuralScan,
    WeightsScan,
    edges_of,
    nodes_of,
    points_of,
    structure_of,
    weights_of,
)
from nmri3d.api.scan_links import ScanLinks
from nmri3d.api.scan_requests import (
    ActivationRequest,
    AnomalyRequest,
    CircuitsRequest,
    StructuralRequest,
    WeightsRequest,
    all_or,
)
from nmri3d.errors import Cancelled
from nmri3d.models.backend import Progress
from nmri3d.models.residual_backend import refusal
from nmri3d.results import Scan

RESPONSES = responses(404, file=True)


class _Asked:
    """One request for a scan, on the model that is loaded now. Lives in the worker thread."""

    def __init__(
        self,
        context: Context,
        request: Request,
        recording: Recording,
        progress: Progress,
        mode: str,
        prompt: str | None,
    ) -> None:
        self._context, self._request, self._recording, self._progress = context, request, recording, progress
        self._mode, self._prompt = mode, prompt
        self.backend = context.service.require_backend()

    @property
    def has_patterns(self) -> bool:
        """Whether attention patterns can be read."""
        return refusal(self.backend, "attention") is None

    def scan(self, options: Mapping[str, Any]) -> Scan:
        """The scan with these options. Raises Cancelled where the model was changed since the request came."""
        found = self._context.service.scan(self._mode, self._prompt, progress=self._progress, **options)
        if found.provenance.fingerprint != self.backend.info.fingerprint:
            raise Cancelled("The model was changed while this request was answered; ask again on the new one.")
        return found

    def answer(
        self, scan: Scan, options: Mapping[str, Any], describe: Callable[[ScanLinks, dict[str, Any]], BaseModel]
    ) -> Response:
        """Record the scan and make the response; `describe` gets the links and the fields that all scans have."""
        data = {"mode": self._mode, "prompt": self._prompt, "options": dict(options)}
        self._recording.record("scan", data, scan)
        return represent(self._request, scan, lambda: describe(*self._common(scan, options)))

    def _common(self, scan: Scan, options: Mapping[str, Any]) -> tuple[ScanLinks, dict[str, Any]]:
        service, arrays = self._context.service, self._context.arrays
        tokens = self._tokens(scan, options)
        links = ScanLinks(service, arrays, scan, self._mode, self._prompt, options, tokens)
        fields: dict[str, Any] = {
            "model": scan.provenance.model_id,
            "scan_mode": self._mode,
            "units": scan.units,
            "values": links.values(),
            "components": list(scan.components.ids) if scan.components == self.backend.components else None,
            "metadata": metadata_of(service, scan.provenance),
        }
        if self._prompt is not None:
            fields["prompt_tokens"] = list(tokens)
        if "special" in scan.details:
            fields["positions"] = scan.details["position"].tolist()
            fields["special"] = scan.details["position"][scan.details["special"]].tolist()
        return links, fields

    def _tokens(self, scan: Scan, options: Mapping[str, Any]) -> tuple[str, ...]:
        """All tokens of the prompt; a scan tells them itself where it was asked for all of them."""
        if self._prompt is None or (scan.tokens and options.get("positions") is None):
            return scan.tokens
        return self.backend.stimulus(self._prompt).labels


def _structural(asked: _Asked, body: StructuralRequest) -> Response:
    scan = asked.scan({})

    def describe(links: ScanLinks, common: dict[str, Any]) -> StructuralScan:
        return StructuralScan(**common, n_params=int(scan.values.sum()), data=structure_of(scan))

    return asked.answer(scan, {}, describe)


def _weights(asked: _Asked, body: WeightsRequest) -> Response:
    from nmri3d.scans.t2 import STATISTICS

    options = body.options()
    scan = asked.scan(options)

    def describe(links: ScanLinks, common: dict[str, Any]) -> WeightsScan:
        return WeightsScan(
            **common,
            statistic=body.statistic,
            statistics=STATISTICS,
            data=weights_of(scan, STATISTICS),
            details=links.details(),
        )

    return asked.answer(scan, options, describe)


def _activation(asked: _Asked, body: ActivationRequest) -> Response:
    blocks, only = chosen_layers(body.layers, asked.backend.components)
    options = {
        "aggregation": body.aggregation,
        "layers": blocks,
        "positions": all_or(body.token_positions),
        "level": body.level,
    }
    scan = asked.scan(options)

    def describe(links: ScanLinks, common: dict[str, Any]) -> ActivationScan:
        residual = scan.details.get("residual") if body.include_residual else None
        return ActivationScan(
            **common,
            level=body.level,
            aggregation=body.aggregation,
            summary_units="largest |activation| of the neurons" if body.level == "neuron" else scan.units,
            data=describe_layers(
                scan,
                width=asked.backend.info.d_model,
                only=only,
                patterns=links.attention if asked.has_patterns else None,
                neurons=_strongest(asked, scan, body, blocks) if body.top_neurons else None,
            ),
            residual=None if residual is None else residual.tolist(),
            writes=links.detail("writes") if "writes" in scan.details else None,
        )

    return asked.answer(scan, options, describe)


def _strongest(asked: _Asked, scan: Scan, body: ActivationRequest, blocks: list[int] | None) -> dict[int, Any]:
    """The strongest neurons of each block at the last position that was asked for: one pass for all blocks."""
    from nmri3d.scans.neurons import strongest

    if body.level == "component":
        last = scan.details["position"].tolist()[-1]
        scan = asked.scan({"level": "neuron", "layers": blocks, "positions": [last]})
    there = layers_of(scan.components)
    chosen = range(asked.backend.info.n_layers) if blocks is None else blocks
    return {
        layer.block: strongest(scan.values[-1, layer.rows], layer.block, body.top_neurons)
        for layer in there
        if layer.block in chosen
    }


def _circuits(asked: _Asked, body: CircuitsRequest) -> Response:
    options = body.options()
    scan = asked.scan(options)

    def describe(links: ScanLinks, common: dict[str, Any]) -> CircuitScan:
        made, found = (
            scan.provenance.config,
            {name: array.tolist() for name, array in scan.details.items() if not array.ndim},
        )
        attention = [layer for layer in layers_of(scan.components) if layer.type == "attention" and asked.has_patterns]
        return CircuitScan(
            **common,
            **edges_of(scan, body.share),
            method=made["method"],
            effect=made["effect"],
            baseline=made.get("baseline"),
            target=NamedToken(text=made["target"], id=found["target"]),
            foil=None if made["foil"] is None else NamedToken(text=made["foil"], id=found["foil"]),
            position=found["position"],
            clean_metric=found["clean_metric"],
            baseline_metric=found.get("baseline_metric"),
            faithfulness=found.get("faithfulness"),
            nodes=nodes_of(scan),
            tracts=links.tracts(),
            attention_patterns={layer.id: links.attention(layer.block) for layer in attention},
            details=links.details(),
        )

    return asked.answer(scan, options, describe)


def _anomaly(asked: _Asked, body: AnomalyRequest) -> Response:
    options = body.options()
    scan = asked.scan(options)

    def describe(links: ScanLinks, common: dict[str, Any]) -> AnomalyScan:
        of_tokens = ("summary", "final_entropy", "one_minus_max_probability", "rarity")
        told: dict[str, Any] = {
            name: scan.details[name].tolist() if name in scan.details else None for name in of_tokens
        }
        return AnomalyScan(
            **common,
            **told,
            alpha=body.alpha,
            beta=body.beta,
            template=scan.provenance.config["template"],
            data=points_of(scan),
            details=links.details(),
        )

    return asked.answer(scan, options, describe)


def router(context: Context) -> APIRouter:
    """Routes under /api/scan."""
    routes = APIRouter(prefix="/api/scan", tags=["scan"])
    recorded: Any = Depends(recording_of(context))

    async def respond(
        request: Request, recording: Recording, mode: str, body: Any, make: Callable[[_Asked, Any], Response]
    ) -> Response:
        def work(progress: Progress) -> Response:
            asked = _Asked(context, request, recording, progress, mode, getattr(body, "prompt", None))
            return make(asked, body)

        return await context.calls.respond(request, work, name="The scan")

    @routes.post("/structural", response_model=StructuralScan, responses=RESPONSES)
    async def structural(
        request: Request, body: StructuralRequest | None = None, recording: Recording = recorded
    ) -> Response:
        """T1: how many parameters each component has."""
        return await respond(request, recording, "T1", body, _structural)

    @routes.post("/weights", response_model=WeightsScan, responses=RESPONSES)
    async def weights(
        request: Request, body: WeightsRequest | None = None, recording: Recording = recorded
    ) -> Response:
        """T2: how the weights of each component are distributed."""
        return await respond(request, recording, "T2", body or WeightsRequest(), _weights)

    @routes.post("/activation", response_model=ActivationScan, responses=RESPONSES)
    async def activation(request: Request, body: ActivationRequest, recording: Recording = recorded) -> Response:
        """fMRI: what each component writes at each token of a prompt. One pass through the model."""
        return await respond(request, recording, "fMRI", body, _activation)

    @routes.post("/circuits", response_model=CircuitScan, responses=RESPONSES)
    async def circuits(request: Request, body: CircuitsRequest, recording: Recording = recorded) -> Response:
        """DTI: which components and which paths carry the answer."""
        return await respond(request, recording, "DTI", body, _circuits)

    @routes.post("/anomaly", response_model=AnomalyScan, responses=RESPONSES)
    async def anomaly(request: Request, body: AnomalyRequest, recording: Recording = recorded) -> Response:
        """FLAIR: where a prompt is unlike the reference text, by the logit lens of each layer."""
        return await respond(request, recording, "FLAIR", body, _anomaly)

    return routes

"""The loaded model: load, watch, cancel, describe, unload; which models there are; memory.

Convention. A model that is named by its path is loaded only from the folders that the server allows. No code of a model's
own is run and no pickle is read: there is no option that would allow it here. A token for gated models is used for this
one load, and never shown.

Left out: passes on NDIF (`nmri3d.load(…, remote=True)`): they would go on the account of whoever started the server.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field, SecretStr, field_validator
from starlette.requests import Request
from starlette.responses import Response

from nmri3d.api.answers import responses
from nmri3d.api.context import Context
from nmri3d.api.errors import problems
from nmri3d.api.recording import Recording, recording_of
from nmri3d.api.representations import json_response
from nmri3d.api.schema import Answer, Body
from nmri3d.errors import InputError, MachineError
from nmri3d.models.backend import Backend, Progress
from nmri3d.service import ServiceStatus
from nmri3d.service.catalog import offered_models
from nmri3d.service.refusals import refusals


class LoadRequest(Body):
    """Which model, and how it is to be held."""

    model_id: str = Field(
        min_length=1,
        max_length=1000,
        description='a Hugging Face id, a folder or .gguf file of the server, "phantom:<name>", or "smollm2-135m"',
        examples=["smollm2-135m", "openai-community/gpt2"],
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,2})?)$",
        description="where it runs; auto: cuda, else mps, else cpu",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="auto: float32 on the CPU, the checkpoint's own on a GPU"
    )
    backend: Literal["auto", "transformer_lens", "nnsight"] = Field(
        "auto", description="what runs it; auto: TransformerLens, and nnsight for an architecture that it does not know"
    )
    revision: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*$",
        max_length=250,
        description="branch, tag or commit of a Hugging Face id",
        examples=["main"],
    )
    hf_token: SecretStr | None = Field(
        None, min_length=1, max_length=500, description="Hugging Face token for a gated model; used once, never shown"
    )

    @field_validator("hf_token")
    @classmethod
    def _fits_in_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        text = "" if token is None else token.get_secret_value()
        if not (text.isascii() and all(sign.isprintable() and sign != " " for sign in text)):
            raise ValueError("a token is made of ASCII letters, digits and signs, without spaces")
        return token


class KindCount(Answer):
    """How many components of one kind there are, and how many parameters belong to them."""

    components: int
    parameters: int


class ModelDescription(Answer):
    """The loaded model: every field of `model.info`, its components by kind, and what it can and cannot do."""

    info: dict[str, Any] = Field(
        description="nmri3d's ModelInfo: layers, heads, widths, dtype, source, fingerprint, …; completeness is null where "
        "there is no residual stream"
    )
    components: dict[str, KindCount]
    neurons: int
    structures: dict[str, int] = Field(
        description="how many components lie where in the brain: cortex, left, right, cerebellum, hippocampus"
    )
    step_axis: str = Field(description='what a step of a scan is; "token" for a language model')
    outputs: Literal["logits", "signal"] = Field(
        description="logits over a vocabulary, or physical values, which stand where others have logits and have no probability"
    )
    abilities: list[str]
    refused: dict[str, str] = Field(
        description="what this network cannot serve, by feature (dla, edges, trace, lens, attention, generation, neurons, …), "
        "and why: the sentence that asking for it would be answered"
    )
    examples: list[str] = Field(description="prompts that can be tried at once")
    metric: str = Field(description="what attributions attribute")


class ModelStatus(Answer):
    """Where the model stands."""

    state: Literal["empty", "loading", "ready", "failed"]
    model: str = Field(description="the model that is being loaded, or ready, or failed; empty without one")
    share: float = Field(description="how far its load is, 0 to 1")
    what: str = Field(description="what its load does now")
    error: str | None = Field(description="why the last load failed")
    answering: str | None = Field(description="id of the model that answers now: while another loads, the one before")

    @classmethod
    def of(cls, status: ServiceStatus) -> ModelStatus:
        """The same as `nmri3d.service.ServiceStatus`."""
        return cls(
            state=status.state,
            model=status.name,
            share=status.share,
            what=status.what,
            error=status.error,
            answering=None if status.info is None else status.info.model_id,
        )


class Components(Answer):
    """A table of the model, one list a column; rows stand in the order in which they write to the residual stream, or act."""

    level: Literal["component", "neuron"]
    id: list[str]
    kind: list[str]
    layer: list[int] = Field(description="block or level of depth, -1 without one")
    index: list[int] = Field(description="head, neuron or unit within its layer, -1 where there is one only")
    structure: list[str] = Field(description="where in the brain it lies; a neuron lies where its MLP does")
    n_params: list[int] = Field(description="parameters that belong to the row")


class CatalogModel(Answer):
    """A model to choose."""

    model_id: str
    title: str
    family: str = Field(description='architecture family; "phantom" for a network whose inner truth is known')
    n_params: int | None = Field(description="null where it is not known before loading")
    download_bytes: int | None = Field(
        description="what a first load fetches; 0 where all is here, null where not known"
    )
    memory_bytes: int | None = Field(description="what loading in float32 takes")
    cached: bool = Field(description="complete on this disk")
    gated: bool = Field(description="its owner asks for a token")
    note: str


class Catalog(Answer):
    """Models to choose from: the embedded default, the phantoms, well-known ones, and what else this disk holds."""

    models: list[CatalogModel]


class GpuMemory(Answer):
    """One GPU, for all processes on it."""

    name: str
    used_bytes: int
    total_bytes: int


class Memory(Answer):
    """Memory of the server."""

    process_bytes: int = Field(description="resident")
    free_bytes: int = Field(description="what can still be had, the container's limit included")
    total_bytes: int
    gpus: list[GpuMemory]


def describe_model(backend: Backend) -> ModelDescription:
    """The description of a loaded model."""
    table = backend.components
    kinds = {}
    for kind in backend.kinds:
        rows = table.rows(kind=kind)
        kinds[kind] = KindCount(components=len(rows), parameters=int(table.n_params[rows].sum()))
    return ModelDescription(
        info=asdict(backend.info),
        components=kinds,
        neurons=len(backend.neurons),
        structures=dict(Counter(backend.structures)),
        step_axis=backend.step_axis,
        outputs=backend.outputs,
        abilities=sorted(backend.abilities),
        refused=refusals(backend),
        examples=list(backend.examples),
        metric=backend.metric,
    )


def require_device(device: str) -> None:
    """Refuse a device that the server has not: over HTTP that is the caller's slip. Raises InputError."""
    if device in ("auto", "cpu"):
        return
    from nmri3d.models import devices

    try:
        devices.choose(device)
    except MachineError as error:
        raise InputError(str(error)) from None


def router(context: Context) -> APIRouter:
    """Routes under /api/model, /api/models and /api/memory."""
    routes = APIRouter(prefix="/api", tags=["model"])
    service, calls = context.service, context.calls
    recorded: Any = Depends(recording_of(context))

    @routes.post(
        "/model/load",
        response_model=ModelDescription,
        responses=responses(404, 507),
    )
    async def load_model(request: Request, body: LoadRequest, recording: Recording = recorded) -> Response:
        """Load a model and put it in the place of the one before, which answers until then.

        Withdrawn when the caller hangs up; with `Prefer: respond-async` it goes on, and GET /api/model/status tells how far.
        """

        def work(progress: Progress) -> Response:
            require_device(body.device)
            info = service.load(
                body.model_id,
                device=body.device,
                dtype=body.dtype,
                revision=body.revision,
                backend=body.backend,
                token=None if body.hf_token is None else body.hf_token.get_secret_value(),
                progress=progress,
            )
            model = service.require_backend()
            known = {"model_id": info.model_id, "fingerprint": info.fingerprint}
            recording.record("model", known | {"step_axis": model.step_axis})
            return json_response(describe_model(model))

        return await calls.respond(request, work, name="The load")

    @routes.delete("/model/load", response_model=ModelStatus, responses=problems())
    async def cancel_load() -> Response:
        """Withdraw the load that is under way, whoever began it; does nothing where there is none.

        The model before it stays. The answer is where things stand now: a load ends at its next step.
        """
        service.cancel_load()
        return json_response(ModelStatus.of(service.status))

    @routes.get("/model/status", response_model=ModelStatus, responses=problems())
    async def model_status() -> Response:
        """Where the model stands: how far a load is, or why it failed."""
        return json_response(ModelStatus.of(service.status))

    @routes.get("/model/info", response_model=ModelDescription, responses=problems(409))
    async def model_info() -> Response:
        """The loaded model. 503 while the first one loads, 409 when there is none."""
        return json_response(describe_model(service.require_backend()))

    @routes.get("/model/components", response_model=Components, responses=problems(409))
    def model_components(
        level: Annotated[Literal["component", "neuron"], Query(description="which of the two tables")] = "component",
    ) -> Response:
        """The components of the loaded model, or its MLP neurons: the rows to which the values of all scans are aligned."""
        backend = service.require_backend()
        table = backend.components if level == "component" else backend.neurons
        columns = Components(
            level=level,
            id=list(table.ids),
            kind=table.kind.tolist(),
            layer=table.layer.tolist(),
            index=table.index.tolist(),
            structure=list(backend.structures) if level == "component" else ["cortex"] * len(table),
            n_params=table.n_params.tolist(),
        )
        return json_response(columns)

    @routes.delete("/model/unload", response_model=ModelStatus, responses=problems(409))
    async def unload_model(request: Request) -> Response:
        """Drop the model and its results once the work on it has ended; does nothing where there is none.

        503 while a model is being loaded: cancel that first.
        """

        def work(progress: Progress) -> Response:
            service.unload(progress=progress)
            return json_response(ModelStatus.of(service.status))

        return await calls.run(request, work, name="The unloading")

    @routes.get("/models", response_model=Catalog, responses=problems())
    def models() -> Response:
        """Models to choose from. Reads this disk and never the network."""
        entries = [CatalogModel(**asdict(entry), memory_bytes=entry.memory_bytes) for entry in offered_models()]
        return json_response(Catalog(models=entries))

    @routes.get("/memory", response_model=Memory, responses=problems())
    def memory() -> Response:
        """Memory that the server holds, and what is free."""
        found = service.memory()
        gpus = [GpuMemory(name=gpu["name"], used_bytes=gpu["used"], total_bytes=gpu["total"]) for gpu in found["gpus"]]
        return json_response(
            Memory(process_bytes=found["process"], free_bytes=found["free"], total_bytes=found["total"], gpus=gpus)
        )

    return routes

"""What is known of a model without a prompt: kinds of heads, the reference template, the passages that move a component.

Convention. As the methods of `nmri3d.service.Service` with the same names. What needs the template builds it first where it is
not there (about a minute, once a model); GET /api/measure/template tells whether it is.

Left out: what needs a prompt (inspecting.py).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from nmri3d.api.answers import responses
from nmri3d.api.context import Context
from nmri3d.api.representations import json_response
from nmri3d.api.schema import Answer, Body, ComponentId
from nmri3d.models.backend import Progress


class PassagesBody(Body):
    """Which component's passages are wanted."""

    component: ComponentId
    k: int = Field(5, ge=1, le=5)


class HeadScores(Answer):
    """Mean attention of a head on random tokens that are read twice, 0 to 1."""

    id: str
    previous: float = Field(description="to the token before")
    duplicate: float = Field(description="to the same token in the first copy")
    induction: float = Field(description="to the token that followed it in the first copy")


class HeadKindsDescription(Answer):
    """The scores of every head, and the heads that are named after a kind."""

    heads: list[HeadScores]
    names: dict[str, list[str]] = Field(description="ids by kind, highest score first")
    threshold: float = Field(description="score from which a head is named")
    seed: int
    length: int = Field(description="random tokens in a copy")


class Passage(Answer):
    """A passage of the reference text and the token at which it moves a component most."""

    passage: int
    text: str
    position: int
    token: str
    value: float = Field(description="L2 norm of the write there")
    ratio: float | None = Field(description="that norm over its mean on the reference text; null where that is 0")


class Passages(Answer):
    """The passages that move a component most, most first."""

    passages: list[Passage]


class TemplateState(Answer):
    """The reference template of the model, which FLAIR and mean ablation need."""

    ready: bool = Field(description="whether it is there, so that nothing need be built")


def router(context: Context) -> APIRouter:
    """Routes under /api/measure that need no prompt."""
    routes = APIRouter(prefix="/api/measure", tags=["measure"])
    service, calls = context.service, context.calls

    @routes.get("/head_kinds", response_model=HeadKindsDescription, responses=responses())
    async def head_kinds(
        request: Request,
        threshold: Annotated[float, Query(ge=0, le=1, description="score from which a head is named")] = 0.3,
    ) -> Response:
        """Which heads look at the token before, at an earlier copy, or at what followed an earlier copy."""

        def work(progress: Progress) -> Response:
            found = service.head_kinds(progress=progress)
            ids = [found.components.ids[row] for row in found.rows]
            scores = zip(ids, found.previous.tolist(), found.duplicate.tolist(), found.induction.tolist(), strict=True)
            return json_response(
                HeadKindsDescription(
                    heads=[HeadScores(id=head, previous=p, duplicate=d, induction=i) for head, p, d, i in scores],
                    names={kind: list(heads) for kind, heads in found.names(threshold).items()},
                    threshold=threshold,
                    seed=found.seed,
                    length=found.length,
                )
            )

        return await calls.respond(request, work, name="The scoring of heads")

    @routes.post("/passages", response_model=Passages, responses=responses())
    async def passages(body: PassagesBody, request: Request) -> Response:
        """The passages of the reference text that move a component most: what it usually answers to."""

        def work(progress: Progress) -> Response:
            found = service.moving_passages(body.component, k=body.k, progress=progress)
            listed = [
                Passage(
                    passage=one.passage,
                    text=one.text,
                    position=one.position,
                    token=one.token,
                    value=one.value,
                    ratio=one.ratio,
                )
                for one in found
            ]
            return json_response(Passages(passages=listed))

        return await calls.respond(request, work, name="Looking for passages")

    @routes.get("/template", response_model=TemplateState, responses=responses())
    async def template_state(request: Request) -> Response:
        """Whether the reference template is there."""
        return await calls.respond(
            request,
            lambda progress: json_response(TemplateState(ready=service.template_ready())),
            name="Looking for the template",
        )

    @routes.post("/template", response_model=TemplateState, responses=responses())
    async def build_template(request: Request) -> Response:
        """Build the reference template, if it is not there."""

        def work(progress: Progress) -> Response:
            service.build_template(progress=progress)
            return json_response(TemplateState(ready=True))

        return await calls.respond(request, work, name="Building the template")

    return routes

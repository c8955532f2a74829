"""Perturbations: POST /api/perturb/zero, amplify, invert, noise, ablate, inject, patch, stack and reset; DELETE
/api/perturb/last.

Convention. An edit is a hook of one pass and touches no weight. A request without a session runs its own edits and nothing is
left of them. One with a session puts its edits on top of that session's stack and runs the whole stack: an edit that fails,
or whose caller hangs up, does not enter. Two requests of one session at once come one after the other.

Left out: sweeps and tracing (routes/measuring.py), and recovery, which tracing measures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from nmri3d.api.answers import responses
from nmri3d.api.comparison import EditStack, PerturbationAnswer, describe_comparison, require_finite
from nmri3d.api.context import Context
from nmri3d.api.edits import (
    AblateRequest,
    AmplifyRequest,
    InjectRequest,
    InvertRequest,
    NoiseRequest,
    OnePrompt,
    PatchByMethod,
    PatchFromPrompt,
    StackRequest,
    ZeroRequest,
)
from nmri3d.api.errors import problems
from nmri3d.api.recording import Recording, recording_of
from nmri3d.api.representations import json_response, represent
from nmri3d.errors import InputError
from nmri3d.models.backend import Progress
from nmri3d.results import Comparison
from nmri3d.service.sessions.event import last_fingerprint

if TYPE_CHECKING:
    from nmri3d.perturbation import Edit

RESPONSES = responses(404, file=True)


class _Stacks:
    """Puts edits on the stacks of sessions, whole or not at all."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recording = threading.Lock()

    def run(
        self, recording: Recording, prompt: str, new: Sequence[Edit], k: int, progress: Progress
    ) -> tuple[Comparison, list[Edit]]:
        """The comparison of a prompt under the session's stack with `new` on top, and that whole stack; recorded."""
        fingerprint = self._context.service.require_backend().info.fingerprint
        while True:
            below = _stack_of(recording, fingerprint)
            edits = [*_edits_of(below), *new]
            comparison = self._context.service.perturb(prompt, edits, k=k, progress=progress)
            require_finite(comparison)
            with self._recording:
                if (
                    _stack_of(recording, fingerprint) == below
                ):  # else another request of the session was faster: on top of that one
                    self._record(recording, prompt, new, comparison)
                    return comparison, edits

    @staticmethod
    def _record(recording: Recording, prompt: str, new: Sequence[Edit], comparison: Comparison) -> None:
        """One event an edit; the result belongs to the last, since the stack was run as a whole."""
        for number, edit in enumerate(new, start=1):
            data = {"prompt": prompt, "edit": edit.as_record()}
            recording.record("edit", data, comparison if number == len(new) else None)

    def undo(self, recording: Recording) -> EditStack:
        """Take the last edit off. Raises InputError without a session or an edit."""
        with self._recording:
            if recording.session is None:
                raise InputError(
                    "There is nothing to undo without a session; name the session in the header Nmri3d-Session."
                )
            if not recording.session.edits:
                raise InputError("The session holds no edit, so there is nothing to undo.")
            recording.record("undo", {})
            return stack_answer(recording)

    def reset(self, recording: Recording) -> EditStack:
        """Take all edits off."""
        with self._recording:
            if _stack_of(recording):
                recording.record("reset", {})
            return stack_answer(recording)


def _stack_of(recording: Recording, fingerprint: str | None = None) -> list[Mapping[str, Any]]:
    """The session's edits; none where they were made on another model than the one of this fingerprint."""
    session = recording.session
    if session is None or (fingerprint is not None and last_fingerprint(session.events) not in (None, fingerprint)):
        return []
    return list(session.edits)


def stack_answer(recording: Recording) -> EditStack:
    """The session's stack as it is now; empty without a session."""
    records = [dict(record) for record in _stack_of(recording)]
    return EditStack(edits=len(records), stack=records)


def _edits_of(records: Sequence[Mapping[str, Any]]) -> list[Edit]:
    from nmri3d.perturbation import Edit

    return [Edit(**record) for record in records]


def router(context: Context) -> APIRouter:
    """Routes under /api/perturb."""
    routes = APIRouter(prefix="/api/perturb", tags=["perturb"])
    stacks = _Stacks(context)
    recorded: Any = Depends(recording_of(context))

    async def respond(
        request: Request,
        recording: Recording,
        body: OnePrompt | PatchFromPrompt | StackRequest,
        new: Callable[[], Sequence[Edit]],
    ) -> Response:
        def work(progress: Progress) -> Response:
            context.service.require_backend()  # before torch is imported below
            comparison, edits = stacks.run(recording, body.prompt, new(), body.k, progress)

            def describe() -> PerturbationAnswer:
                return describe_comparison(
                    context, comparison, body.prompt, edits, k=body.k, compare_logits=body.compare_logits
                )

            return represent(request, comparison, describe)

        return await context.calls.respond(request, work, name="The perturbation")

    async def one(request: Request, recording: Recording, body: OnePrompt | PatchFromPrompt) -> Response:
        return await respond(request, recording, body, lambda: [body.edit()])

    @routes.post("/zero", response_model=PerturbationAnswer, responses=RESPONSES)
    async def zero(request: Request, body: ZeroRequest, recording: Recording = recorded) -> Response:
        """Silence a component."""
        return await one(request, recording, body)

    @routes.post("/amplify", response_model=PerturbationAnswer, responses=RESPONSES)
    async def amplify(request: Request, body: AmplifyRequest, recording: Recording = recorded) -> Response:
        """Multiply what a component writes."""
        return await one(request, recording, body)

    @routes.post("/invert", response_model=PerturbationAnswer, responses=RESPONSES)
    async def invert(request: Request, body: InvertRequest, recording: Recording = recorded) -> Response:
        """Turn the sign of what a component writes."""
        return await one(request, recording, body)

    @routes.post("/noise", response_model=PerturbationAnswer, responses=RESPONSES)
    async def noise(request: Request, body: NoiseRequest, recording: Recording = recorded) -> Response:
        """Add noise to what a component writes."""
        return await one(request, recording, body)

    @routes.post("/ablate", response_model=PerturbationAnswer, responses=RESPONSES)
    async def ablate(request: Request, body: AblateRequest, recording: Recording = recorded) -> Response:
        """Replace what a component writes by its mean over the reference text, position 0 only if it is named."""
        return await one(request, recording, body)

    @routes.post("/inject", response_model=PerturbationAnswer, responses=RESPONSES)
    async def inject(request: Request, body: InjectRequest, recording: Recording = recorded) -> Response:
        """Let a component write what is given."""
        return await one(request, recording, body)

    @routes.post("/patch", response_model=PerturbationAnswer, responses=RESPONSES)
    async def patch(
        request: Request, body: PatchByMethod | PatchFromPrompt, recording: Recording = recorded
    ) -> Response:
        """Either any edit, named by `method`, of one prompt; or, with `clean_prompt` and `corrupt_prompt`, activation
        patching: the component writes what it writes on the other prompt."""
        return await one(request, recording, body)

    @routes.post("/stack", response_model=PerturbationAnswer, responses=RESPONSES)
    async def stack(request: Request, body: StackRequest, recording: Recording = recorded) -> Response:
        """Several edits at once; with a session on top of its own, and with none of them its stack as it is."""
        return await respond(request, recording, body, lambda: [item.edit() for item in body.edits])

    @routes.post("/reset", response_model=EditStack, responses=problems(404))
    def reset(recording: Recording = recorded) -> Response:
        """Take all edits off the session's stack. Without a session there are none: no edit outlives its request."""
        return json_response(stacks.reset(recording))

    @routes.delete("/last", response_model=EditStack, responses=problems(404))
    def undo(recording: Recording = recorded) -> Response:
        """Take the last edit off the session's stack."""
        return json_response(stacks.undo(recording))

    return routes

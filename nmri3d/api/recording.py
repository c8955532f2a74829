"""Recording what requests do: the header `Nmri3d-Session` names the session.

Convention. Before anything that a model did is recorded, the model itself is, where it is another than the session's last
one: so a session always says what its measurements were made on.

Left out: the routes by which sessions are made and read (routes/sessions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Header

from nmri3d.api.context import Context
from nmri3d.service import Service
from nmri3d.service.sessions import Result, Session

SESSION_HEADER = "Nmri3d-Session"

_WITHOUT_MODEL = ("model", "view", "note", "undo", "reset")
"""Events that measure nothing: they need no model to have been told before them."""


@dataclass(frozen=True)
class Recording:
    """Where a request's doings go: a session, or nowhere. Made by `recording_of`."""

    service: Service = field(repr=False)
    session: Session | None = None

    def record(self, kind: str, data: Mapping[str, Any], result: Result | None = None) -> None:
        """Record an event, `Session.record`; returns when it is on the disk. Does nothing without a session.

        Call it in the worker thread, before the response is made: what is not on the disk must not be answered for.
        """
        if self.session is not None:
            model = None if kind in _WITHOUT_MODEL else self._model_of(result)
            self.session.record(kind, data, result, model=model)

    def _model_of(self, result: Result | None) -> dict[str, str]:
        about = self.service.require_backend().info if result is None else result.provenance
        known, model = {"model_id": about.model_id, "fingerprint": about.fingerprint}, self.service.backend
        if model is not None and model.info.fingerprint == about.fingerprint:
            known["step_axis"] = model.step_axis
        return known


def recording_of(context: Context) -> Callable[[str], Recording]:
    """The dependency of a route that can be recorded: `recording: Recording = Depends(recording_of(context))`.

    Raises NotFoundError for a session that is not there; a route that has it answers `problems(404)`.
    """

    def recording(
        session: Annotated[
            str,
            Header(
                alias=SESSION_HEADER,
                description="id of a session in which this request and its result are recorded; empty for none",
            ),
        ] = "",
    ) -> Recording:
        return Recording(context.service, context.sessions.open(session) if session else None)

    return recording

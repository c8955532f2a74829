"""A request's work: run in a worker thread on behalf of its client, withdrawn when the client hangs up, or kept as a job.

Convention. Work is a function of `progress` that returns the finished `Response`, so that nothing large is serialized in
the event loop. A client is who names itself in the header `Nmri3d-Client`, else a connection; clients take turns at the
model. With `Prefer: respond-async` (RFC 7240) the answer is 202 and the address of a job (routes/jobs.py); such work goes
on when the connection ends.

Left out: turns, equal requests and their results, which are the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from nmri3d.api.schema import Answer
from nmri3d.errors import BusyError, NotFoundError
from nmri3d.models.backend import Progress
from nmri3d.service import Job, Service

MOST_JOBS = 64
KEPT_SECONDS = 600.0
"""How many jobs there may be, and how long an ended one waits to be fetched."""


def client_of(connection: HTTPConnection) -> str:
    """Whose request it is."""
    named = connection.headers.get("nmri3d-client", "")
    if 0 < len(named) <= 64 and named.isascii() and named.isprintable():
        return f"client {named}"
    return f"connection {connection.client.host}:{connection.client.port}" if connection.client else "connection"


class JobDescription(Answer):
    """A piece of work that goes on by itself."""

    id: str
    name: str
    state: Literal["running", "done", "failed", "cancelled"]
    share: float = Field(description="how far it is, 0 to 1")
    what: str = Field(description="what it does now")
    result_url: str = Field(description="where its answer is once the state is done, or its error once it failed")


@dataclass(eq=False)
class KeptJob:
    """A job, who asked for it, and when it ended (monotonic seconds)."""

    id: str
    job: Job[Response]
    owner: str
    ended: float | None = None

    def describe(self) -> JobDescription:
        """As it is now."""
        share, what = self.job.progress
        state: Literal["running", "done", "failed", "cancelled"] = "running"
        if self.job.done:
            state = "cancelled" if self.job.cancelled else "failed" if self.job.failed else "done"
        return JobDescription(
            id=self.id,
            name=self.job.name,
            state=state,
            share=1.0 if state == "done" else share,
            what=what,
            result_url=f"/api/jobs/{self.id}/result",
        )


class Calls:
    """Runs the work of requests. Everything but the work itself happens in the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs: OrderedDict[str, KeptJob] = OrderedDict()

    async def respond(self, request: Request, work: Callable[[Progress], Response], *, name: str) -> Response:
        """The response that `work(progress)` makes in a worker thread; or, where the client prefers, 202 and a job.

        name  begins the sentence that withdrawn work ends with: "The scan"

        Raises what the work raises, BusyError when too much is under way, and Cancelled when the client has gone.
        """
        if not _prefers_async(request):
            return await self.run(request, work, name=name)
        kept = self._keep(work, client_of(request), name)
        body = kept.describe().model_dump_json()
        headers = {"Location": f"/api/jobs/{kept.id}", "Preference-Applied": "respond-async"}
        return Response(body, 202, headers=headers, media_type="application/json")

    async def run(self, request: Request, work: Callable[[Progress], Response], *, name: str) -> Response:
        """As `respond`, but always awaited."""
        job = self._service.run(work, owner=client_of(request), name=name)
        ended = asyncio.ensure_future(_result(job))
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                job.cancel()
            return await ended
        finally:
            gone.cancel()
            if not ended.done():  # the server is being stopped
                job.cancel()
                ended.cancel()

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> KeptJob:
        """A job that is kept. Raises NotFoundError where there is none, or none any more."""
        self._forget_old()
        if (kept := self._jobs.get(job_id)) is None:
            raise NotFoundError(
                f"There is no job {job_id!r}; ended jobs are kept for {KEPT_SECONDS / 60:.0f} minutes, then ask anew."
            )
        return kept

    def jobs(self, owner: str | None = None) -> list[KeptJob]:
        """All jobs, or those of one client, oldest first."""
        self._forget_old()
        return [kept for kept in self._jobs.values() if owner is None or kept.owner == owner]

    def _keep(self, work: Callable[[Progress], Response], owner: str, name: str) -> KeptJob:
        self._forget_old()
        while len(self._jobs) >= MOST_JOBS:
            oldest = next((kept for kept in self._jobs.values() if kept.job.done), None)
            if oldest is None:
                raise BusyError(f"{MOST_JOBS} jobs are under way; wait until some have ended, or cancel some.")
            del self._jobs[oldest.id]
        kept = KeptJob(secrets.token_urlsafe(12), self._service.run(work, owner=owner, name=name), owner)
        self._jobs[kept.id] = kept
        return kept

    def _forget_old(self) -> None:
        now = time.monotonic()
        for kept in list(self._jobs.values()):
            if kept.job.done and kept.ended is None:
                kept.ended = now
            if kept.ended is not None and now - kept.ended > KEPT_SECONDS:
                del self._jobs[kept.id]


async def _result(job: Job[Response]) -> Response:
    return await job


async def _disconnected(request: Request) -> None:
    """Returns when the client has hung up. The body must have been read."""
    with contextlib.suppress(RuntimeError):  # the server told so before
        while (await request.receive())["type"] != "http.disconnect":
            pass


def _prefers_async(request: Request) -> bool:
    wishes = ",".join(request.headers.getlist("prefer")).split(",")
    return any(wish.partition(";")[0].strip().lower() == "respond-async" for wish in wishes)

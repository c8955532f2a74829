"""A request's work: run in a worker thread on behalf of its client, withdrawn when the client hangs up, or kept as a job.

Convention. Work is a function of `progress` that returns the finished `Response`, so that nothing large is serialized in
the event loop. A client is who names itself in the header `Nmri3d-Client`, else a host; clients take turns at the model.
With `Prefer: respond-async` (RFC 7240) the answer is 202 and the address of a job (routes/jobs.py); such work goes
on when the connection ends.

Left out: turns, equal requests and their results, which are the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from nmri3d.api.schema import Answer
from nmri3d.errors import BusyError, NotFoundError
from nmri3d.models.backend import Progress
from nmri3d.service import Job, Service

MOST_JOBS = 64
MOST_RUNNING = 16
KEPT_SECONDS = 600.0
KEPT_BYTES = 256 * 2**20
"""How many jobs there may be, how many of one client may run, and how long and in how many bytes together the answers of
ended ones wait to be fetched; the newest waits even if it is larger."""

POLL_SECONDS = 0.05
"""How often one who waits for news of a job looks. Waking the event loop at each report of each layer would cost more."""


def client_of(connection: HTTPConnection) -> str:
    """Whose request it is."""
    named = connection.headers.get("nmri3d-client", "")
    if 0 < len(named) <= 64 and named.isascii() and named.isprintable():
        return f"client {named}"
    return f"host {connection.client.host}" if connection.client else "host"


class JobDescription(Answer):
    """A piece of work that goes on by itself."""

    id: str
    name: str
    state: Literal["running", "done", "failed", "cancelled"]
    share: float = Field(description="how far it is, 0 to 1")
    what: str = Field(description="what it does now")
    version: int = Field(description="counts what was reported so far; give it as `since` to wait for news")
    result_url: str = Field(description="where its answer is once the state is done, or its error once it failed")


ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": JobDescription,
        "description": "With `Prefer: respond-async`: the work goes on as a job, whose address is in `Location`.",
    }
}
"""`responses` of a route whose work may become a job."""


@dataclass(eq=False)
class KeptJob:
    """A job, who asked for it, when it ended (monotonic seconds), and the bytes of its answer."""

    id: str
    job: Job[Response]
    owner: str
    ended: float | None = None
    n_bytes: int = 0

    async def news(self, since: int | None, seconds: float) -> None:
        """Returns when it has ended, when its version is no longer `since` (None: what it is now), or after `seconds`."""
        known = self.job.changes if since is None else since
        deadline = time.monotonic() + seconds
        while not self.job.done and self.job.changes == known and (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(left, POLL_SECONDS))

    def answer(self) -> Response:
        """Its answer, to be sent as often as it is asked for. Raises what `Job.result` raises; it must have ended."""
        made = self.job.result()
        copy = Response(made.body, made.status_code)
        copy.raw_headers = list(made.raw_headers)
        return copy

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
            version=self.job.changes,
            result_url=f"/api/jobs/{self.id}/result",
        )


class Calls:
    """Runs the work of requests. Everything but the work itself happens in the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs: OrderedDict[str, KeptJob] = OrderedDict()
        self._lock = threading.Lock()

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
        with self._lock:
            self._forget_old()
            kept = self._jobs.get(job_id)
        if kept is None:
            raise NotFoundError(
                f"There is no job {job_id!r}, or not any more: what has ended is kept for {KEPT_SECONDS / 60:.0f} minutes, "
                "and less where there is much of it. Ask for the work itself again."
            )
        return kept

    def forget(self, job_id: str) -> None:
        """Withdraw a job's work and let go of its answer. Raises NotFoundError as `job`."""
        self.job(job_id).job.cancel()
        with self._lock:
            self._jobs.pop(job_id, None)

    def jobs(self, owner: str | None = None) -> list[KeptJob]:
        """All jobs, or those of one client, oldest first."""
        with self._lock:
            self._forget_old()
            return [kept for kept in self._jobs.values() if owner is None or kept.owner == owner]

    def _keep(self, work: Callable[[Progress], Response], owner: str, name: str) -> KeptJob:
        with self._lock:
            self._forget_old()
            running = sum(kept.owner == owner and not kept.job.done for kept in self._jobs.values())
            if running >= MOST_RUNNING:
                raise BusyError(f"{running} jobs of yours are under way; wait until one has ended, or cancel one.")
            while len(self._jobs) >= MOST_JOBS:
                oldest = next((kept for kept in self._jobs.values() if kept.job.done), None)
                if oldest is None:
                    raise BusyError(f"{MOST_JOBS} jobs are under way; wait until some have ended, or cancel some.")
                del self._jobs[oldest.id]
            kept = KeptJob(secrets.token_urlsafe(12), self._service.run(work, owner=owner, name=name), owner)
            self._jobs[kept.id] = kept
        kept.job.on_end(lambda: self._settle(kept))
        return kept

    def _settle(self, kept: KeptJob) -> None:
        """Note when a job ended and how large its answer is, and make room; called in the job's thread."""
        with self._lock:
            kept.ended = time.monotonic()
            kept.n_bytes = 0 if kept.job.error else len(kept.job.result().body)
            ended = sorted((one for one in self._jobs.values() if one.ended), key=lambda one: one.ended or 0.0)
            total = sum(one.n_bytes for one in ended)
            for one in ended[:-1]:
                if total <= KEPT_BYTES:
                    break
                total -= one.n_bytes
                del self._jobs[one.id]

    def _forget_old(self) -> None:
        oldest = time.monotonic() - KEPT_SECONDS
        for kept in list(self._jobs.values()):
            if kept.ended is not None and kept.ended < oldest:
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

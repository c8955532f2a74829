"""Work that goes on by itself: how far it is, its answer, and how it is cancelled.

Convention. A job is made by `Prefer: respond-async` on the request itself. Whoever has the server's token and a job's id may
look at it; the list shows those of the client that asks. News are waited for by `wait` and `since`, so that a program need
not ask again and again.

Left out: a push of news, which /ws/stream does for scans.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from nmri3d.api import errors
from nmri3d.api.calls import JobDescription, client_of
from nmri3d.api.context import Context
from nmri3d.api.errors import problems
from nmri3d.api.schema import Answer

LONGEST_WAIT = 30.0

JobId = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{16}$", description="as the 202 answer named it")]


class JobList(Answer):
    """Jobs, oldest first."""

    jobs: list[JobDescription] = Field(
        description="those of this client: of its `Nmri3d-Client` header, else of its host"
    )


_ANYTHING: dict[str, Any] = {
    "description": "What the request itself would have been answered: JSON, a result's file, an array, a picture.",
    "content": {"*/*": {"schema": {}}},
}


def router(context: Context) -> APIRouter:
    """Routes under /api/jobs."""
    routes = APIRouter(prefix="/api/jobs", tags=["jobs"])
    calls = context.calls

    @routes.get("", responses=problems())
    async def list_jobs(request: Request) -> JobList:
        """The jobs of this client that run or have ended lately."""
        return JobList(jobs=[kept.describe() for kept in calls.jobs(client_of(request))])

    @routes.get("/{job_id}", responses=problems(404))
    async def get_job(
        job_id: JobId,
        wait: Annotated[
            float, Query(ge=0, le=LONGEST_WAIT, description="seconds to wait for news, when there are none yet")
        ] = 0.0,
        since: Annotated[
            int, Query(ge=-1, le=2**53, description="the `version` that is known already; -1: that of this moment")
        ] = -1,
    ) -> JobDescription:
        """How far a job is. With `wait` it answers when the job has ended or its version is no longer `since`."""
        kept = calls.job(job_id)
        await kept.news(None if since < 0 else since, wait)
        return kept.describe()

    @routes.delete("/{job_id}", status_code=204, response_class=Response, responses=problems(404))
    async def delete_job(job_id: JobId) -> Response:
        """Cancel a job and forget it and its answer. Its work stops at its next report."""
        calls.forget(job_id)
        return Response(status_code=204)

    @routes.get(
        "/{job_id}/result",
        response_class=Response,
        responses={**problems(403, 404, 409, 500, 507), 200: _ANYTHING},
    )
    async def job_result(request: Request, job_id: JobId) -> Response:
        """What the work answered, or the error that it failed with; 409 while it runs and when it was cancelled."""
        kept = calls.job(job_id)
        if not kept.job.done:
            raise HTTPException(
                409,
                f"The job {job_id} is not done yet; wait for it at /api/jobs/{job_id}?wait=30.",
                {"Retry-After": "1"},
            )
        error = kept.job.error
        if isinstance(error, Exception):  # not raised: each raise would lengthen its traceback
            return errors.from_error(request.headers, error)
        return kept.answer()

    return routes

"""The prediction's part of the page: the likeliest next tokens after the scanned prompt; of a network of units, its outputs
at every step.

Convention. It follows an fMRI scan by itself and gives way to a newer one. A language model's vocabulary is too large for
every step to be sent.
"""

from __future__ import annotations

from typing import Any

from nmri3d.app.findings import outputs_finding, prediction_finding
from nmri3d.app.parts.visit import Visit
from nmri3d.errors import Cancelled, Nmri3dError
from nmri3d.models.backend import Progress
from nmri3d.service import Job


class PredictionPart:
    """What comes next, as the model says."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._job: Job[dict[str, Any]] | None = None

    def forget(self) -> None:
        """The model has gone."""
        self._visit.set(prediction=None)

    def withdraw(self) -> None:
        """A newer scan wants the model."""
        if self._job is not None:
            self._job.cancel()

    async def predict(self, prompt: str, epoch: int) -> None:
        """Ask for the next token and show it; what goes wrong is shown beside it."""
        visit = self._visit
        job = visit.service.run(
            lambda progress: self._measure(prompt, progress), owner=visit.owner, name="The prediction"
        )
        self._job = job
        try:
            found = await job
        except Cancelled:  # a newer scan wants the model
            return
        except Nmri3dError as error:
            visit.set(prediction=None)
            visit.show_error("prediction", str(error))
            return
        finally:
            if self._job is job:
                self._job = None
        if epoch != visit.epoch:
            return
        visit.show_error("prediction", "")
        visit.set(prediction={"prompt": prompt, **found})

    def _measure(self, prompt: str, progress: Progress) -> dict[str, Any]:
        """{"tokens", "outputs"}: answers at the last step, and outputs at every step (None: of a language model)."""
        service = self._visit.service
        best = service.predict(prompt, progress=progress)
        backend = service.require_backend()
        every = None
        if "residual" not in backend.abilities:
            every = outputs_finding(backend, service.outputs(prompt, progress=progress))
        return {"tokens": prediction_finding(best), "outputs": every}

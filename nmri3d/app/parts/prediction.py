"""The prediction's part of the page: the likeliest next tokens after the scanned prompt.

Convention. It follows an fMRI scan by itself and gives way to a newer one.
"""

from __future__ import annotations

from nmri3d.app.findings import prediction_finding
from nmri3d.app.parts.visit import Visit
from nmri3d.errors import Cancelled, Nmri3dError
from nmri3d.results import Prediction
from nmri3d.service import Job


class PredictionPart:
    """What comes next, as the model says."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._job: Job[list[Prediction]] | None = None

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
            lambda progress: visit.service.predict(prompt, progress=progress), owner=visit.owner, name="The prediction"
        )
        self._job = job
        try:
            best = await job
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
        visit.set(prediction={"prompt": prompt, "tokens": prediction_finding(best)})

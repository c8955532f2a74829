"""A scan as a request names it: mode, prompt, and options with the names that `nmri3d.scan` has for them.

Convention. Only options that were sent are passed on, so that each scan keeps its own defaults and refuses, in words, the
options of other scans.

Left out: scans of neurons (inspecting.py), and the answers of scans (scanning.py).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nmri3d.api.answers import Indices
from nmri3d.api.scan_requests import Aggregation, AnomalyOptions, CircuitOptions, WeightsOptions
from nmri3d.api.schema import Body, Prompt
from nmri3d.models.backend import Progress
from nmri3d.results import Scan
from nmri3d.service import Service

Mode = Literal["T1", "T2", "fMRI", "DTI", "FLAIR"]


class ScanOptions(WeightsOptions, CircuitOptions, AnomalyOptions):
    """Options of the five scans; one that a scan does not have is refused. What is left out has the scan's default."""

    aggregation: Aggregation = Field("l2_norm", description="of fMRI")
    layers: Indices | None = Field(None, description="of fMRI and FLAIR; null: all")
    positions: Indices | None = Field(None, description="of fMRI and FLAIR; null: all")


def no_options() -> ScanOptions:
    """None sent."""
    return ScanOptions.model_validate({})


class ScanWish(Body):
    """Which scan is wanted."""

    mode: Mode
    prompt: Prompt | None = Field(None, description="for fMRI, DTI and FLAIR; T1 and T2 take none")
    options: ScanOptions = Field(default_factory=no_options)

    @property
    def asked(self) -> dict[str, Any]:
        """The options that were sent."""
        return self.options.model_dump(exclude_unset=True)

    def measure(self, service: Service, progress: Progress) -> Scan:
        """The scan, kept or measured. Raises what `Service.scan` raises."""
        return service.scan(self.mode, self.prompt, progress=progress, **self.asked)

"""A scan as a request names it: mode, prompt, and options with the names that `nmri3d.scan` has for them.

Convention. Only options that were sent are passed on, so that each scan keeps its own defaults and refuses, in words, the
options of other scans.

Left out: scans of neurons (inspecting.py), and the answers of scans (scanning.py).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nmri3d.api.answers import Index, Indices, Token
from nmri3d.api.schema import Body, Prompt
from nmri3d.models.backend import Progress
from nmri3d.results import Scan
from nmri3d.service import Service

Mode = Literal["T1", "T2", "fMRI", "DTI", "FLAIR"]


class ScanOptions(Body):
    """Options of the five scans; each has those that are named after it. What is left out has the scan's default."""

    statistic: Literal["std", "mean", "max", "l2", "kurtosis", "outlier_share", "ov_norm", "qk_norm"] = Field(
        "std", description="T2"
    )
    aggregation: Literal["l2_norm", "max", "mean", "raw"] = Field("l2_norm", description="fMRI")
    layers: Indices | None = Field(None, description="fMRI, FLAIR; null: all")
    positions: Indices | None = Field(None, description="fMRI, FLAIR; null: all")
    corrupt: Prompt | None = Field(None, description="DTI: prompt of equally many tokens to compare with")
    target: Token | None = Field(None, description="DTI; null: the likeliest next token")
    foil: Token | None = Field(None, description="DTI; null: the runner-up")
    position: Index = Field(-1, description="DTI: whose next token the metric is about")
    method: Literal["auto", "exact", "atp", "dla"] = Field("auto", description="DTI: of node scores")
    effect: Literal["zero", "mean", "patch"] | None = Field(
        None, description="DTI: what replaces a write; null: patch with `corrupt`, mean without"
    )
    edges: Literal["eap", "eap-ig", "none"] = Field("eap", description="DTI: of tracts")
    steps: int = Field(5, ge=1, le=100, description="DTI: of eap-ig")
    share: float = Field(0.5, gt=0, le=1, description="DTI: of the total |score| that the drawn circuit carries")
    alpha: float = Field(0.6, ge=0, le=1e6, description="FLAIR: weight of KL")
    beta: float = Field(0.4, ge=0, le=1e6, description="FLAIR: weight of entropy")
    sites: list[Literal["attn", "mlp"]] = Field(["attn", "mlp"], min_length=1, max_length=2, description="FLAIR")
    enabled_from: Index | None = Field(None, description="FLAIR: first layer of the summary; null: half way")
    template: Literal["auto", "ready", "off"] = Field("auto", description="FLAIR: whether the template is built for it")


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

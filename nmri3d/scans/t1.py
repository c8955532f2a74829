"""T1, Topology Layer 1: how large each component is.

Value: the number of parameters that belong to the component, an integer. Each parameter belongs to exactly one row
(`nmri3d.models.parameters` tells which), so the values add up to the model's own count exactly; a tied unembedding
counts once, in `embed`. No forward pass. Does not show what the parameters do.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.provenance import provenance
from nmri3d.results import Scan


@dataclass(frozen=True, kw_only=True)
class T1Config:
    """T1 has no options."""


def scan_t1(model: Backend, config: T1Config, *, progress: Progress = no_progress) -> Scan:
    """Return a Scan with int64 values [1, components] in parameters."""
    started = time.perf_counter()
    progress(1.0, "parameters counted")
    values = model.components.n_params[None, :].copy()
    return Scan("T1", values, "parameters", model.components, (), provenance(model, started, asdict(config)))

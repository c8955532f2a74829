"""What every route is given.

Left out: anything that belongs to one request.
"""

from __future__ import annotations

from dataclasses import dataclass

from nmri3d.api.arrays import Arrays
from nmri3d.api.calls import Calls
from nmri3d.api.metrics import Metrics
from nmri3d.api.picturing import Picturing
from nmri3d.service import Service
from nmri3d.service.sessions import SessionStore


@dataclass(frozen=True)
class Context:
    """The service and what stands between it and HTTP."""

    service: Service
    calls: Calls
    arrays: Arrays
    sessions: SessionStore
    metrics: Metrics
    picturing: Picturing | None = None

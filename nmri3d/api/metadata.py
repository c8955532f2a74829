"""How an answer came about: `Metadata` from a result's provenance.

Left out: what was measured, which is each answer's own.
"""

from __future__ import annotations

from dataclasses import asdict

from nmri3d.api.schema import Metadata
from nmri3d.results import Provenance
from nmri3d.service import Service


def metadata_of(service: Service, provenance: Provenance) -> Metadata:
    """Time of the measurement when it was made, and memory now."""
    memory = service.memory()
    return Metadata(
        compute_time_ms=1e3 * provenance.seconds,
        memory_mb=memory["process"] / 1e6,
        gpu_memory_mb=sum(gpu["used"] for gpu in memory["gpus"]) / 1e6 if provenance.device != "cpu" else 0.0,
        provenance=asdict(provenance),
    )

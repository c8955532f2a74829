"""What a file says of the scan that it shows: a header for people, and plain JSON.

Convention. Values are raw, in the scan's unit; null stands for NaN. A folder on somebody's disk shows as its name only.

Left out: how each format stores it.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nmri3d.results import Scan

SEQUENCES = {
    "T1": "Topology Layer 1",
    "T2": "Tensor Layer 2",
    "fMRI": "functional Model Resonance Imaging",
    "DTI": "Data Tractography Imaging",
    "FLAIR": "Feature-Level Anomaly Identification & Reporting",
}


def model_name(model_id: str) -> str:
    """A model's id as a file shows it: of a folder on somebody's disk, only its name."""
    return Path(model_id).name if Path(model_id).is_absolute() else model_id


def header_texts(scan: Scan, view: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The DICOM-style header, (label, text) a line: those on the left, and those on the right. view: what is shown."""
    provenance, table = scan.provenance, scan.components
    steps = f" × {scan.n_steps} {scan.step_axis}s" if scan.tokens else ""
    left = [
        ("MODEL", model_name(provenance.model_id)),
        ("SEQ", f"{scan.mode}  {SEQUENCES.get(scan.mode, '')}"),
        ("VIEW", view),
    ]
    right = [
        ("DATE", provenance.created.replace("T", " ")[:19] or "not recorded"),
        ("MATRIX", f"{len(table.cortical)} components{steps}"),
        ("WEIGHTS", f"sha256 {provenance.fingerprint[:12]}"),
    ]
    return left, right


def scan_facts(scan: Scan, step: int) -> dict[str, Any]:
    """Mode, unit, tokens, the shown step and its values (in the component table's order), and the provenance."""
    values = [number if math.isfinite(number) else None for number in scan.values[step].tolist()]
    provenance = asdict(scan.provenance) | {"model_id": model_name(scan.provenance.model_id)}
    return {
        "mode": scan.mode,
        "units": scan.units,
        "tokens": list(scan.tokens),
        "step": step,
        "values": values,
        "provenance": _plain(provenance),
    }


def _plain(value: Any) -> Any:
    """JSON's own types only: NaN is null, tuples are lists."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)

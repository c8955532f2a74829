"""Where a result came from: model, weights, prompt, options, library versions, time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """What was measured, on what, by what.

    config holds the options as plain JSON values; versions maps library to version; seconds is wall time of the
    measurement; created is ISO 8601 with offset.
    """

    model_id: str
    fingerprint: str
    prompt: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "cpu"
    seed: int | None = None
    created: str = ""
    seconds: float = float("nan")

    def as_attributes(self) -> dict[str, Any]:
        """Flat attributes that NetCDF accepts: nested mappings as JSON text, None as an empty text."""
        record = asdict(self)
        return {k: json.dumps(v) if isinstance(v, dict) else "" if v is None else v for k, v in record.items()}

"""The provenance of what is measured on a model: what, by which versions, when, how long."""

from __future__ import annotations

import time
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nmri3d.models.backend import Backend
from nmri3d.results import Provenance

_RECORDED = ("nmri3d", "torch", "transformers", "transformer-lens", "nnsight", "numpy")


def provenance(
    model: Backend, started: float, config: dict[str, Any], prompt: str | None = None, *, seed: int | None = None
) -> Provenance:
    """Provenance of a measurement of `model` that began at `started` (time.perf_counter seconds)."""
    return Provenance(
        model_id=model.info.model_id,
        fingerprint=model.info.fingerprint,
        prompt=prompt,
        config=config,
        versions=_versions(),
        dtype=model.info.dtype,
        device=model.info.device,
        seed=seed,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
    )


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

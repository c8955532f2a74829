"""What every scan needs: cheap checks before the model starts, and the provenance of what it returns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend
from nmri3d.results import Provenance

_RECORDED = ("nmri3d", "torch", "transformers", "transformer-lens", "numpy")


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise InputError unless value is one of the choices."""
    if value not in choices:
        raise InputError(f"{name} is one of {', '.join(choices)}; got {value!r}")


def require_indices(name: str, values: Sequence[int], n: int, whole: str) -> list[int]:
    """Indices into a range of n, negative ones counted from the end; raises InputError for any outside."""
    resolved = []
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise InputError(f"a {name} is a whole number, got {value!r}")
        if not -n <= value < n:
            raise InputError(
                f"{name} {value} is outside {whole}, which has {n} (0 to {n - 1}, or -{n} to -1 from the end)"
            )
        resolved.append(value.__index__() % n)
    return resolved


def require_layers(model: Backend, layers: Sequence[int] | None) -> frozenset[int]:
    """The layers asked for (None: all), checked against the model."""
    n = model.info.n_layers
    return frozenset(range(n) if layers is None else require_indices("layer", layers, n, "this model"))


def provenance(model: Backend, started: float, config: dict[str, Any], prompt: str | None = None) -> Provenance:
    """Provenance of a scan of `model` that began at `started` (time.perf_counter seconds)."""
    return Provenance(
        model_id=model.info.model_id,
        fingerprint=model.info.fingerprint,
        prompt=prompt,
        config=config,
        versions=_versions(),
        dtype=model.info.dtype,
        device=model.info.device,
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

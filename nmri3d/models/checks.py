"""Cheap checks of what a measurement is asked for, made before the model starts."""

from __future__ import annotations

from collections.abc import Sequence

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend


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

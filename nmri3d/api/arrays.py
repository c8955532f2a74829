"""Large arrays by address: what a `data_url` stands for, and how it is had again after the cache has dropped it.

Convention. An address is a hash of the model's fingerprint and of everything that was asked, so that it is also the ETag of
what it leads to. Behind it stands a recipe, not the array: the array is taken from the service's kept results or measured
again.

Left out: the routes (routes/arrays.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmri3d.api.schema import ArrayLink
from nmri3d.models.backend import Progress
from nmri3d.service import Service


@dataclass(frozen=True, eq=False)
class Recipe:
    """How an array is had.

    make    blocks; asks the service, so that a kept result is used. Runs in a worker thread
    dims    what each axis is: token, component, neuron, head, query, key, layer, site, position, d_model, vertex, face, xyz
    labels  names along an axis where it has them (token texts, component ids), by dim
    layers  layer of each entry along the axis "component" or "neuron", -1 without one; None where there is no such axis
    """

    make: Callable[[Progress], np.ndarray]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    labels: dict[str, Sequence[str]]
    layers: np.ndarray | None = None


class Arrays:
    """Recipes by address; the least recently used fall out. Thread-safe.

    limit  how many are kept
    """

    def __init__(self, service: Service, *, limit: int = 4096) -> None:
        self._service, self._limit = service, limit

    def link(
        self,
        key: Hashable,
        make: Callable[[Progress], np.ndarray],
        *,
        dims: Sequence[str],
        shape: Sequence[int],
        dtype: Any,
        labels: dict[str, Sequence[str]] | None = None,
        layers: np.ndarray | None = None,
    ) -> ArrayLink:
        """Offer an array. `key`: everything that was asked for, as plain values; equal keys on one model are one address."""
        raise NotImplementedError

    def get(self, address: str) -> Recipe:
        """Raises NotFoundError for an address that is unknown, forgotten, or of a model that is no longer loaded."""
        raise NotImplementedError

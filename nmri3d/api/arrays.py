"""Large arrays by address: what a `data_url` stands for, and how it is had again after the cache has dropped it.

Convention. An address is a hash of the model's fingerprint and of everything that was asked, so that it is also the ETag of
what it leads to. Behind it stands a recipe, not the array: the array is taken from the service's kept results or measured
again. When the model goes, its recipes go.

Left out: the routes (routes/arrays.py), choosing a part (selection.py), the bytes (encoding.py).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import nmri3d
from nmri3d.api.schema import ArrayLink
from nmri3d.errors import NotFoundError
from nmri3d.models.backend import Progress
from nmri3d.service import Service
from nmri3d.service.events import Event, ModelReady, ModelUnloaded

ADDRESS_PATTERN = "^[0-9a-f]{32}$"


@dataclass(frozen=True, eq=False)
class Recipe:
    """How an array is had.

    make    blocks; asks the service, so that a kept result is used. Runs in a worker thread
    dims    what each axis is: token, component, neuron, head, query, key, layer, site, position, d_model, vertex, face, xyz
    labels  names along an axis where it has them (token texts, component ids), by dim
    layers  layer of each entry along the axis "component" or "neuron", -1 without one; None where there is no such axis
    model   fingerprint of the model that it belongs to
    """

    make: Callable[[Progress], np.ndarray]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    labels: Mapping[str, Sequence[str]]
    layers: np.ndarray | None = None
    model: str = ""

    def link(self, address: str) -> ArrayLink:
        """As it stands in an answer."""
        return ArrayLink(
            shape=list(self.shape), dtype=self.dtype, dims=list(self.dims), data_url=f"/api/tensor/{address}"
        )


class Arrays:
    """Recipes by address; the least recently used fall out. Thread-safe.

    limit  how many are kept
    """

    def __init__(self, service: Service, *, limit: int = 4096) -> None:
        self._service, self._limit = service, limit
        self._recipes: OrderedDict[str, Recipe] = OrderedDict()
        self._lock = threading.Lock()
        service.subscribe(self._on_event)

    def link(
        self,
        key: Hashable,
        make: Callable[[Progress], np.ndarray],
        *,
        dims: Sequence[str],
        shape: Sequence[int],
        dtype: Any,
        labels: Mapping[str, Sequence[str]] | None = None,
        layers: np.ndarray | None = None,
        model: str | None = None,
    ) -> ArrayLink:
        """Offer an array. `key`: everything that was asked for, as plain values; equal keys on one model are one address.

        model  fingerprint of the model that was measured (`provenance.fingerprint`); None: that of the loaded one
        """
        info = self._service.require_backend().info
        recipe = Recipe(
            make=make,
            dims=tuple(dims),
            shape=tuple(int(length) for length in shape),
            dtype=np.dtype(dtype).name if np.dtype(dtype).kind != "U" else "str",
            labels=dict(labels or {}),
            layers=layers,
            model=info.fingerprint if model is None else model,
        )
        if len(recipe.dims) != len(recipe.shape):
            raise ValueError(f"{len(recipe.dims)} dims for an array of {len(recipe.shape)} axes")
        address = _address((nmri3d.__version__, recipe.model, info.dtype, info.device, key))
        with self._lock:
            self._recipes[address] = recipe
            self._recipes.move_to_end(address)
            while len(self._recipes) > self._limit:
                self._recipes.popitem(last=False)
        return recipe.link(address)

    def get(self, address: str) -> Recipe:
        """Raises NotFoundError for an address that is unknown, forgotten, or of a model that is no longer loaded."""
        with self._lock:
            recipe = self._recipes.get(address)
            if recipe is not None and self._is_current(recipe):
                self._recipes.move_to_end(address)
                return recipe
        raise NotFoundError(
            f"There is no array {address!r}, or not any more: its model was changed, or it was not asked for for long. Ask "
            "for the scan again and take the new data_url."
        )

    def make(self, address: str, progress: Progress) -> np.ndarray:
        """The array behind an address, kept or measured again. Blocks. Raises NotFoundError as `get`, also when the model
        is changed meanwhile, and what the measurement raises."""
        recipe = self.get(address)
        array = np.asarray(recipe.make(progress))
        self.get(address)
        if array.shape != recipe.shape:
            raise RuntimeError(f"an array of {recipe.dims} was to have the shape {recipe.shape}, not {array.shape}")
        return array

    def links(self) -> list[ArrayLink]:
        """Everything that is offered now, what was used last first."""
        with self._lock:
            offered = list(self._recipes.items())
        return [recipe.link(address) for address, recipe in reversed(offered) if self._is_current(recipe)]

    def __len__(self) -> int:
        return len(self._recipes)

    def _is_current(self, recipe: Recipe) -> bool:
        backend = self._service.backend
        return backend is not None and backend.info.fingerprint == recipe.model

    def _on_event(self, event: Event) -> None:
        """Let go of what belongs to a model that has gone; its recipes may hold on to its tables."""
        if not isinstance(event, ModelReady | ModelUnloaded):
            return
        with self._lock:
            for address, recipe in list(self._recipes.items()):
                if not self._is_current(recipe):
                    del self._recipes[address]


def _address(key: Hashable) -> str:
    """128 bits of a hash, equal for equal plain values in any process; 1, 1.0 and True differ."""
    return hashlib.blake2b(_canonical(key).encode(), digest_size=16).hexdigest()


def _canonical(value: Any) -> str:
    """A text that is equal for equal plain values only. Raises TypeError for anything else."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, np.generic):
        return _canonical(value.item())
    if isinstance(value, np.ndarray):
        digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
        return f"array({value.dtype.str!r},{value.shape},{digest})"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_canonical, value))}]"
    if isinstance(value, set | frozenset):
        return f"set({','.join(sorted(map(_canonical, value)))})"
    if isinstance(value, Mapping):
        return f"{{{','.join(sorted(f'{_canonical(name)}:{_canonical(item)}' for name, item in value.items()))}}}"
    raise TypeError(f"the key of an array is made of plain values, not of {type(value).__name__}")

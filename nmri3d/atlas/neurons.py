"""The neuron atlas: every MLP parcel divided among the neurons of its MLP, as a picture of their numbers.

    neurons = NeuronAtlas.build(atlas, model.neurons, model.neuron_features)
    neurons.image[row, column]      the neuron at a texel

A model has up to a million neurons, more than the finest cortex has faces. So neurons are texels: each MLP parcel has a
chart (neuron_charts.py), in which each of its neurons has a connected, round cell of equally many texels
(neuron_cells.py), next to neurons that read and write alike (neuron_places.py). The cortex shows the picture through
texture coordinates of its own. Kept on disk under a hash of all that it depends on.

Convention. The picture is as texture.py has it: row 0 at v = 0. Texels of the margin around a chart repeat the nearest
neuron, since what a face shows at its rim may come from there; `inside` tells which texels count.

Left out: parcels of other kinds, colors (scene/neurons.py), and what features are.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.atlas import neuron_storage, storage
from nmri3d.atlas.neuron_cells import equal_cells
from nmri3d.atlas.neuron_charts import Chart, filled, make_chart, pack, rasterize, sphere_directions
from nmri3d.atlas.neuron_places import place_neurons
from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError, InputError

if TYPE_CHECKING:
    from nmri3d.atlas.parcels import Atlas

ALGORITHM = 1
"""Raised whenever the same input gives another neuron atlas, so that no stale one is read from the cache."""

TEXELS = 1_200_000
"""Texels in all parcels together, about; more where that would be too few a neuron."""
FEWEST_TEXELS, MOST_TEXELS = 12.0, 200.0
"""Texels a neuron; less than the fewest only where the picture would be too large."""
_LARGEST_SUM = 10_000_000
"""Texels in all parcels that surely fit in the largest picture, with frames and margins."""
LEAST_TEXELS = 6.0

FeaturesOf = Callable[[int], np.ndarray]
"""Features of the neurons of a layer, float32 [d_mlp, k], by its number."""
Progress = Callable[[float, str], None]

_building = threading.Lock()


@dataclass(frozen=True, eq=False)
class NeuronAtlas:
    """Where each neuron lies on the cortex.

    neurons      the neuron table whose rows `image` holds
    image        int32 [h, w], row of `neurons` at each texel, -1 where there is none
    inside       bool [h, w], texels whose center lies in a parcel
    component    int32 [m], row of the component table of each chart vertex
    vertex       int32 [m], the atlas vertex that it stands for; sorted by component, then vertex
    coordinates  float32 [m, 2], its (u, v) in the picture, 0..1
    quality      figures by name: texels (a neuron, mean), size_error (mean share by which cells miss it), roundness (a
                 cell's area over that of the disc with its second moment; 1 is a disc), overlap (shared nearest neighbors
                 in features and on the chart, times what chance gives)
    """

    neurons: ComponentTable
    image: np.ndarray
    inside: np.ndarray
    component: np.ndarray
    vertex: np.ndarray
    coordinates: np.ndarray
    quality: Mapping[str, float]

    @classmethod
    def build(
        cls,
        atlas: Atlas,
        neurons: ComponentTable,
        features_of: FeaturesOf,
        seed: int = 0,
        cache: bool = True,
        *,
        identity: str | None = None,
        progress: Progress | None = None,
    ) -> NeuronAtlas:
        """The neuron atlas of a model whose components lie on `atlas`.

        features_of  called for each layer, and with a known `identity` only if nothing is kept on disk
        seed         of the random steps; the same seed gives the same atlas
        cache        read it from disk if it is there, else keep it there
        identity     what stands for the features in the cache's key, a fingerprint of the weights say; None: themselves
        progress     called with the share done and what is being done; whatever it raises withdraws the work

        Raises InputError for a model without MLP neurons or with too many for one picture, and for features that do not fit.
        """
        _require_neurons(atlas, neurons)
        if not cache:
            return cls(neurons, **_build(atlas, neurons, features_of, seed, progress))
        if identity is None:
            kept = {layer: features_of(layer) for layer in np.unique(neurons.layer).tolist()}
            digest = hashlib.sha256(
                b"".join(np.ascontiguousarray(array, np.float32).tobytes() for array in kept.values())
            )
            identity, features_of = digest.hexdigest(), kept.__getitem__
        path = storage.cache_folder() / f"neurons-{_key(atlas, neurons, seed, identity)}.npz"
        with _building:  # two visitors of one page want the same one; the second finds it on disk
            try:
                return cls(neurons, **neuron_storage.load(path, neurons))
            except InputError:  # not there, or damaged: build it anew
                fields = _build(atlas, neurons, features_of, seed, progress)
                with contextlib.suppress(OSError):  # a full or read-only disk costs time, not the atlas
                    neuron_storage.save(path, fields, neurons)
                return cls(neurons, **fields)

    def texture_coordinates(
        self, atlas: Atlas, vertex_of_split: np.ndarray, component_of_split: np.ndarray
    ) -> np.ndarray:
        """(u, v), float32 [n_split, 2], of split vertices (scene/mesh.py); 0 for those of other parcels.

        Raises AlignmentError for an atlas that is not the one this was built for.
        """
        n = len(atlas.vertices)
        known = self.component.astype(np.int64) * n + self.vertex
        asked = component_of_split.astype(np.int64) * n + vertex_of_split
        place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        found = known[place] == asked
        if (np.isin(component_of_split, self.component) & ~found).any():
            raise AlignmentError("the neuron atlas belongs to another atlas; build it again for this one")
        return np.where(found[:, None], self.coordinates[place], 0).astype(np.float32)

    def picture(self, atlas: Atlas, values: np.ndarray) -> np.ndarray:
        """A quantity of the atlas' vertices, float [v], in the charts, float32 [h, w]; 0 where there is no chart."""
        result = np.zeros(self.image.shape, dtype=np.float32)
        height, width = self.image.shape
        size = np.array([width, height])
        for component in np.unique(self.component).tolist():
            own = slice(*np.searchsorted(self.component, [component, component + 1]))
            points = self.coordinates[own] * size
            local = np.searchsorted(self.vertex[own], atlas.faces[atlas.face_component == component])
            left, top = np.maximum(np.floor(points.min(axis=0)).astype(int) - 2, 0)
            right, bottom = np.ceil(points.max(axis=0)).astype(int) + 2
            frame = slice(top, bottom), slice(left, right)
            triangle, weights = rasterize(points[local] - (left, top), result[frame].shape)
            own_values = np.asarray(values, dtype=np.float64)[self.vertex[own]][local]
            drawn = np.where(triangle >= 0, (own_values[triangle] * weights).sum(axis=-1), 0)
            shown = filled(drawn, triangle < 0)
            result[frame] = np.where(shown != 0, shown, result[frame])
        return result

    def texel_count(self) -> np.ndarray:
        """int64 [n]: texels of each neuron, the margin apart."""
        return np.bincount(self.image[self.inside], minlength=len(self.neurons))

    def __repr__(self) -> str:
        height, width = self.image.shape
        return f"NeuronAtlas({len(self.neurons)} neurons, {width} x {height} texels)"


def parcels_of(atlas: Atlas, neurons: ComponentTable) -> dict[int, np.ndarray]:
    """Component row of each MLP with neurons, and the rows of its neurons, int64 [d_mlp]."""
    components = atlas.components
    layers = np.unique(neurons.layer).tolist()
    mlps = {layer: components.rows("mlp", layer) for layer in layers}
    return {int(rows[0]): neurons.rows("neuron", layer) for layer, rows in mlps.items() if len(rows)}


def _require_neurons(atlas: Atlas, neurons: ComponentTable) -> None:
    parcels = parcels_of(atlas, neurons)
    placed = np.unique(atlas.face_component)
    if not parcels or sum(map(len, parcels.values())) != len(neurons) or not np.isin(list(parcels), placed).all():
        raise InputError("this model has no MLP whose neurons could be shown; its parcels stay whole")
    if len(neurons) * LEAST_TEXELS > _LARGEST_SUM:
        raise InputError(
            f"{len(neurons):,} neurons do not fit in one picture, which holds {int(_LARGEST_SUM / LEAST_TEXELS):,}; look at "
            "the MLPs as parcels"
        )


def _key(atlas: Atlas, neurons: ComponentTable, seed: int, identity: str) -> str:
    digest = hashlib.sha256(repr((ALGORITHM, neurons.key, seed, identity)).encode())
    for array in (atlas.surfaces["sphere"], atlas.faces, atlas.face_component):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:24]


def _build(
    atlas: Atlas, neurons: ComponentTable, features_of: FeaturesOf, seed: int, progress: Progress | None
) -> dict[str, Any]:
    """The fields of a neuron atlas but `neurons`."""
    parcels = parcels_of(atlas, neurons)
    wanted = float(np.clip(TEXELS / len(neurons), FEWEST_TEXELS, MOST_TEXELS))
    wanted = min(wanted, _LARGEST_SUM / len(neurons))
    n_left = atlas.n_left_vertices
    sphere = atlas.surfaces["sphere"]
    directions = np.concatenate([sphere_directions(sphere[:n_left]), sphere_directions(sphere[n_left:])])
    charts, pictures, figures = {}, {}, []
    for done, (component, rows) in enumerate(parcels.items()):
        layer = int(neurons.layer[rows[0]])
        if progress is not None:
            progress(done / len(parcels), f"neurons of layer {layer}")
        chart = make_chart(directions, atlas.faces[atlas.face_component == component], len(rows), wanted)
        features = _checked(features_of(layer), len(rows), layer)
        cell = equal_cells(chart.region, len(rows), seed)
        places = _centers(cell, len(rows)) / np.sqrt(chart.region.sum() / len(rows))
        neuron_of_cell = place_neurons(places, features, seed)
        figures.append(_figures(cell, places, features[neuron_of_cell]))
        number = np.append(rows[neuron_of_cell], -1)[cell]
        charts[component], pictures[component] = chart, filled(number, cell < 0).astype(np.int32)
    if progress is not None:
        progress(1.0, "neurons placed")
    weight = [len(rows) for rows in parcels.values()]
    names = figures[0]
    quality = {name: float(np.average([one[name] for one in figures], weights=weight)) for name in names}
    return {**_joined(charts, pictures), "quality": quality}


def _joined(charts: dict[int, Chart], pictures: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
    """All charts in one picture, their vertices in one list."""
    order = sorted(charts)
    corners, (height, width) = pack([charts[component].region.shape for component in order])
    image = np.full((height, width), -1, dtype=np.int32)
    inside = np.zeros((height, width), dtype=bool)
    coordinates = []
    for component, (row, column) in zip(order, corners, strict=True):
        chart = charts[component]
        frame = slice(row, row + chart.region.shape[0]), slice(column, column + chart.region.shape[1])
        image[frame], inside[frame] = pictures[component], chart.region
        coordinates.append((chart.points + np.array([column, row])) / np.array([width, height]))
    return {
        "image": image,
        "inside": inside,
        "component": np.repeat(order, [len(charts[component].vertex) for component in order]).astype(np.int32),
        "vertex": np.concatenate([charts[component].vertex for component in order]),
        "coordinates": np.concatenate(coordinates).astype(np.float32),
    }


def _checked(features: np.ndarray, n: int, layer: int) -> np.ndarray:
    """float32 [n, k]. Raises InputError where they are not one finite row a neuron."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    if features.ndim != 2 or len(features) != n or not np.isfinite(features).all():
        raise InputError(
            f"the neuron features of layer {layer} have shape {features.shape} or hold NaN; give one finite row for each of "
            f"its {n} neurons"
        )
    return features


def _centers(cell: np.ndarray, n: int) -> np.ndarray:
    """float64 [n, 2]: (x, y) of the middle of each cell, in texels."""
    row, column = np.nonzero(cell >= 0)
    own = cell[row, column]
    count = np.bincount(own, minlength=n)
    return np.column_stack([np.bincount(own, axis, n) / count for axis in (column, row)])


def _figures(cell: np.ndarray, places: np.ndarray, features: np.ndarray) -> dict[str, float]:
    """Quality of one chart; features [n, k] in the order of the cells."""
    n = len(places)
    row, column = np.nonzero(cell >= 0)
    own = cell[row, column]
    count = np.bincount(own, minlength=n).astype(np.float64)
    center = _centers(cell, n)
    apart = (column - center[own, 0]) ** 2 + (row - center[own, 1]) ** 2
    moment = np.bincount(own, apart, n) / count + 1 / 6  # a texel is a square, not a point
    mean = count.mean()
    return {
        "texels": float(mean),
        "size_error": float(np.abs(count / mean - 1).mean()),
        "roundness": float(np.median(count / (2 * np.pi * moment))),
        "overlap": _overlap(places, features),
    }


def _overlap(places: np.ndarray, features: np.ndarray, k: int = 10, most: int = 512) -> float:
    """Shared k nearest neighbors (cosine of features, distance on the chart), times chance; over up to `most` neurons."""
    from scipy.spatial import cKDTree

    n = len(places)
    k = min(k, n - 2)
    if k < 1:
        return 1.0
    asked = np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))
    near = cKDTree(places).query(places[asked], k + 1)[1]
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(length > 0, length, 1)
    alike = unit[asked] @ unit.T
    alike[np.arange(len(asked)), asked] = -np.inf
    best = np.argpartition(-alike, k, axis=1)[:, :k]
    shared = (near[:, 1:, None] == best[:, None, :]).any(axis=2).mean()
    return float(shared / (k / (n - 1)))

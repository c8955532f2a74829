"""A part of the brain beside the cortex: a closed surface of its own, which parcels divide as they divide the cortex.

It stays where it is on every surface of the cortex. Only beside the flat one, which has no inside, it is laid out in
the plane: the cerebellum as it is seen from behind, the hippocampi as they are seen from above.

Convention. Millimeters, RAS, in the space of fsaverage. Left out: shapes (`cerebellum`, `hippocampus`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from nmri3d.atlas.cutting import triangle_areas
from nmri3d.atlas.surfaces import SURFACES

Side = Literal["left", "right", "both"]

_BESIDE_FLAT = {
    "cerebellum": np.array([0.0, -134.0]),
    "hippocampus left": np.array([-17.0, 121.0]),
    "hippocampus right": np.array([17.0, 121.0]),
}
"""Where the middle of a body lies beside the flat surface, x and y in mm."""


@dataclass(frozen=True, eq=False)
class Body:
    """A closed surface: n vertices, m faces.

    name    "cerebellum", "hippocampus left" or "hippocampus right"
    side    the hemisphere with which it is shown and hidden; "both": it is always shown
    points  float64 [n, 3], mm
    smooth  float64 [n, 3], mm: the same surface without its finest relief, along which parcels are laid out
    inner   float64 [n, 3], mm: how far its gray matter reaches inwards
    faces   int32 [m, 3], counter-clockwise seen from outside
    depth   float64 [n], mm that a vertex lies below its crown
    """

    name: str
    side: Side
    points: np.ndarray
    smooth: np.ndarray
    inner: np.ndarray
    faces: np.ndarray
    depth: np.ndarray

    @cached_property
    def surfaces(self) -> Mapping[str, np.ndarray]:
        """Where it lies beside each surface of the cortex, float32 [n, 3]."""
        points = self.points.astype(np.float32)
        return {name: self._beside_flat() if name == "flat" else points for name in SURFACES}

    @cached_property
    def direction(self) -> np.ndarray:
        """float64 [n, 3]: the smooth surface about its middle, in the unit in which its area is that of a unit sphere."""
        middle = (self.smooth.min(axis=0) + self.smooth.max(axis=0)) / 2
        scale = np.sqrt(triangle_areas(self.smooth, self.faces).sum() / (4 * np.pi))
        result: np.ndarray = (self.smooth - middle) / scale
        return result

    @property
    def sulcal_depth(self) -> np.ndarray:
        """float64 [n], mm about their mean, positive in furrows."""
        result: np.ndarray = self.depth - self.depth.mean()
        return result

    @property
    def curvature(self) -> np.ndarray:
        """float64 [n]: none is measured."""
        return np.zeros(len(self.points))

    def _beside_flat(self) -> np.ndarray:
        x, y, z = self.points.T
        seen = np.column_stack([x, z, -y] if self.side == "both" else [x, y, z])
        low, high = seen.min(axis=0), seen.max(axis=0)
        seen = seen - (low + high) / 2 + np.append(_BESIDE_FLAT[self.name], (high[2] - low[2]) / 2 + 1)
        return seen.astype(np.float32)


def vertex_directions(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """float64 [n, 3]: outward unit normals of a closed surface at its vertices, faces weighted by area."""
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    of_face = np.cross(b - a, c - a)
    corner = faces.ravel()
    normal = np.column_stack([np.bincount(corner, np.repeat(of_face[:, axis], 3), len(points)) for axis in range(3)])
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)

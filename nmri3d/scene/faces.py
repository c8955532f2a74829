"""Faces of a drawn mesh: put others in, and find the one that a line of sight meets first.

Convention. Cells count in the order in which they were put in.

Left out: which faces those are (cortex.py, neurons.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyvista
from vtkmodules.vtkCommonCore import mutable
from vtkmodules.vtkCommonDataModel import vtkStaticCellLocator

from nmri3d.scene.ribbons import triangle_cells


class Hit(NamedTuple):
    """Where a line of sight meets a mesh: the cell, the place in mm, float64 [3], and its share of the line's length."""

    cell: int
    place: np.ndarray
    share: float


class Faces:
    """The triangles of a mesh."""

    def __init__(self, mesh: pyvista.PolyData) -> None:
        self._mesh = mesh
        self._locator: Any = None
        self._located_at = -1

    def put(self, triangles: np.ndarray) -> None:
        """Draw these triangles, int [k, 3], and no others."""
        cells = triangle_cells(triangles)
        cells.Modified()  # VTK goes by time stamps: an older array would leave the old bounds
        self._mesh.SetPolys(cells)
        self._mesh.DeleteCells()  # else VTK keeps looking faces up in its table of the old ones
        self._mesh.Modified()

    def first_on(self, ray: tuple[np.ndarray, np.ndarray]) -> Hit | None:
        """What a line of sight, from where it enters the scene to where it leaves it, meets first."""
        if not self._mesh.n_cells:
            return None
        if self._locator is None or self._located_at != self._mesh.GetMTime():
            self._locator = vtkStaticCellLocator()
            self._locator.SetDataSet(self._mesh)
            self._locator.BuildLocator()
            self._located_at = self._mesh.GetMTime()
        share: Any = mutable(0.0)
        place, inside, part, cell = [0.0] * 3, [0.0] * 3, mutable(0), mutable(-1)
        if not self._locator.IntersectWithLine(ray[0], ray[1], 1e-6, share, place, inside, part, cell):
            return None
        return Hit(int(cell), np.array(place), float(share))

"""Ribbon actors: lines that lie on the cortex, as triangles, so that they keep their width in a browser too.

Convention. Widths and heights in mm. The points of a ribbon follow the surface that the brain shows; its triangles are
those of the hemispheres that are shown.

Left out: the geometry itself (mesh.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyvista

from nmri3d.scene.camera import Hemispheres
from nmri3d.scene.mesh import RibbonPath, ribbon, ribbon_path

_NOTHING = ribbon_path([])


class RibbonActor:
    """One colored ribbon along any number of paths; invisible until it has paths.

    actor   the VTK actor, named `name` in the plotter; flat color, no lighting
    """

    def __init__(
        self,
        plotter: pyvista.Plotter,
        name: str,
        *,
        color: str,
        half_width: float,
        lift: float,
        opacity: float = 1.0,
        side: np.ndarray,
    ) -> None:
        self._half_width, self._lift = half_width, lift
        self._side = side
        self._path: RibbonPath = _NOTHING
        self._triangles = np.zeros((0, 3), dtype=np.int64)
        self._hemispheres: Hemispheres = "both"
        self._hidden = False
        self.mesh = pyvista.PolyData()
        self.actor = pyvista.Actor(mapper=pyvista.DataSetMapper(self.mesh))
        self.actor.mapper.scalar_visibility = False
        properties = self.actor.prop
        properties.color, properties.opacity = color, opacity
        properties.ambient, properties.diffuse, properties.specular = 1.0, 0.0, 0.0
        properties.lighting = False
        self.actor.pickable = False
        self.actor.visibility = False
        plotter.add_actor(self.actor, name=name, reset_camera=False, render=False)

    def set_paths(self, paths: list[np.ndarray], vertices: tuple[np.ndarray, np.ndarray] | None) -> None:
        """Lay the ribbon along other paths of surface vertices; no path makes it invisible.

        vertices: points and normals, [n_vertices, 3] each, of the unsplit mesh; None where no surface is shown.
        """
        self._path = ribbon_path(paths)
        if vertices is None:
            self.hide()
        else:
            self.follow(*vertices)

    def hide(self) -> None:
        """Be invisible until there is a surface again."""
        self._hidden = True
        self.actor.visibility = False

    def follow(self, points: np.ndarray, normals: np.ndarray) -> None:
        """Move with the surface: its points and normals, [n_vertices, 3], of the unsplit mesh."""
        self._hidden = False
        if not len(self._path.vertex):
            self.actor.visibility = False
            return
        vertices, self._triangles = ribbon(self._path, points, normals, half_width=self._half_width, lift=self._lift)
        self.mesh.points = vertices
        self.show(self._hemispheres)

    def show(self, hemispheres: Hemispheres) -> None:
        """Draw only what lies on the given hemispheres."""
        self._hemispheres = hemispheres
        if self._hidden or not len(self._path.vertex):
            return
        side = self._side[self._path.vertex[self._triangles[:, 0] // 2]]
        shown = self._triangles[shown_sides(side, hemispheres)]
        self.mesh.SetPolys(triangle_cells(shown))
        self.mesh.Modified()
        self.actor.visibility = len(shown) > 0


def shown_sides(side: np.ndarray, hemispheres: Hemispheres) -> np.ndarray:
    """bool [n]: what of sides, int8 [n] (0 left, 1 right, 2 on neither), is shown with the given hemispheres."""
    if hemispheres == "both":
        return np.ones(len(side), dtype=bool)
    shown: np.ndarray = (side == (0 if hemispheres == "left" else 1)) | (side == 2)
    return shown


def triangle_cells(triangles: Any) -> pyvista.CellArray:
    """VTK cells of triangles, int [n, 3], with a copy of their own (VTK would outlive the array)."""
    return pyvista.CellArray.from_regular_cells(triangles, deep=True)

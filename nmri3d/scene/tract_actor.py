"""The tubes of a DTI scan in a VTK scene: builds them for what is to be seen, and says which one a line of sight meets.

Convention. Edges are positions in `edges`, the drawable ones of the scan's tracts (tracts.drawable), strongest first.
Geometry is made for the tubes that are seen and no others: those that the style's share keeps, of the selected component
if there is one, with both ends on the hemispheres that are shown.

Left out: paths (tracts.py), triangles (tubes.py), the cortex of glass around them (brain.py).
"""

from __future__ import annotations

import numpy as np
import pyvista
from vtkmodules.util.numpy_support import numpy_to_vtk

from nmri3d.atlas import Atlas
from nmri3d.errors import InputError
from nmri3d.results import Tracts
from nmri3d.scene.camera import Hemispheres
from nmri3d.scene.ribbons import triangle_cells
from nmri3d.scene.tracts import (
    DIMMED,
    TractFrame,
    TractStyle,
    chosen_edges,
    drawable,
    placed,
    reference_score,
    tract_paths,
    tube_colors,
    tube_radius,
)
from nmri3d.scene.tubes import nearest_tube, tube_mesh

AMBIENT, DIFFUSE, SPECULAR, SPECULAR_POWER = 0.4, 0.7, 0.25, 24.0
MARKED_RADIUS = 1.5
"""A marked tube is drawn so many times as thick."""


class TractActor:
    """Tubes in one actor of a plotter; invisible until it has some.

    actor, mesh        the VTK actor "tracts" and its mesh: points, normals, triangles, RGB a point
    edges              Tracts that can be drawn, None without a scan
    n_without_place    edges of the scan that cannot: an end of theirs has no parcel
    shown              int32, positions in `edges` of the tubes that are seen
    style              TractStyle
    reference          |score| of the thickest tube
    """

    def __init__(self, plotter: pyvista.Plotter, atlas: Atlas, frame: TractFrame) -> None:
        self._components, self._frame = atlas.components, frame
        self._hemispheres: Hemispheres = "both"
        self._row: int | None = None
        self._marked: int | None = None
        self._paths = np.zeros((0, 2, 3))
        self._radius = np.zeros(0)
        self.edges: Tracts | None = None
        self.n_without_place = 0
        self.shown = np.zeros(0, dtype=np.int32)
        self.style = TractStyle()
        self.mesh = pyvista.PolyData()
        self.actor = pyvista.Actor(mapper=pyvista.DataSetMapper(self.mesh))
        self.actor.mapper.scalar_visibility = True
        properties = self.actor.prop
        properties.interpolation = "phong"
        properties.ambient, properties.diffuse = AMBIENT, DIFFUSE
        properties.specular, properties.specular_power = SPECULAR, SPECULAR_POWER
        self.actor.pickable = False
        self.actor.visibility = False
        plotter.add_actor(self.actor, name="tracts", reset_camera=False, render=False)

    @property
    def reference(self) -> float:
        """|score| that the thickest tube stands for; 0 without a scan."""
        if self.edges is None:
            return 0.0
        return self.style.reference or reference_score(self.edges)

    def set(self, tracts: Tracts | None, style: TractStyle) -> None:
        """Draw the tracts of another scan, or in another style; None takes them away."""
        self.edges = None if tracts is None else drawable(tracts, self._components)
        self.n_without_place = 0 if tracts is None else int((~placed(tracts, self._components)).sum())
        self.style = style
        self._marked = None
        self._build()

    def restyle(self, style: TractStyle) -> None:
        """Draw the same tracts in another style."""
        self.style = style
        self._build()

    def select(self, row: int | None) -> None:
        """Draw only the tracts into and out of a component row; None draws all."""
        self._row = row
        self._build()

    def mark(self, edge: int | None) -> None:
        """Make one tube stand out, by its position in `edges`. Raises InputError for one that is not there."""
        n = 0 if self.edges is None else len(self.edges)
        if edge is not None and not 0 <= edge < n:
            raise InputError(f"there is no tract {edge}; this scan has {n} that can be drawn, counted from 0")
        self._marked = edge
        self._build()

    def follow(self, frame: TractFrame) -> None:
        """Move with the surface."""
        self._frame = frame
        self._build()

    def show(self, hemispheres: Hemispheres) -> None:
        """Draw only the tubes whose two ends lie on the given hemispheres."""
        self._hemispheres = hemispheres
        self._build()

    def nearest(self, ray: tuple[np.ndarray, np.ndarray], slack: float) -> int | None:
        """Position in `edges` of the tube that a line of sight meets first, or misses by less than `slack` mm."""
        at = nearest_tube(self._paths, self._radius, ray[0], ray[1], slack)
        return None if at < 0 else int(self.shown[at])

    def place_holder(self) -> None:
        """Be visible with one triangle of no size: a browser is sent what is visible, and puts the tubes in itself."""
        self._write(np.zeros((3, 3)), np.tile([0.0, 0.0, 1.0], (3, 1)), np.array([[0, 1, 2]]), np.zeros((3, 3)))

    def _build(self) -> None:
        edges = self.edges
        if edges is None:
            self.shown, self._paths, self._radius = np.zeros(0, dtype=np.int32), np.zeros((0, 2, 3)), np.zeros(0)
            self.actor.visibility = False
            return
        shown = chosen_edges(edges, self.style.share, self._row)
        if self._hemispheres != "both":
            side = self._frame.side
            wanted = 0 if self._hemispheres == "left" else 1
            shown = shown[(side[edges.source[shown]] == wanted) & (side[edges.target[shown]] == wanted)]
        self.shown = shown
        score = edges.score[shown]
        self._paths, tangents = tract_paths(self._frame, edges.source[shown], edges.target[shown])
        self._radius = tube_radius(score, self.reference)
        colors = tube_colors(score, tangents, self.style)
        marked = shown == self._marked
        if marked.any():
            self._radius = np.where(marked, MARKED_RADIUS * self._radius, self._radius)
            dim = np.where(marked, 1.0, DIMMED)[:, None, None]
            colors = np.floor(colors * dim + 0.5).astype(np.uint8)
        tubes = tube_mesh(self._paths, tangents, self._radius, colors)
        self._write(tubes.points, tubes.normals, tubes.triangles, tubes.colors)

    def _write(self, points: np.ndarray, normals: np.ndarray, triangles: np.ndarray, colors: np.ndarray) -> None:
        self.actor.visibility = len(triangles) > 0
        if not len(triangles):
            return
        self.mesh.points = np.asarray(points, dtype=np.float32)
        data = self.mesh.GetPointData()
        for array, name, put in (
            (np.ascontiguousarray(normals, dtype=np.float32), "Normals", data.SetNormals),
            (np.ascontiguousarray(colors, dtype=np.uint8), "Colors", data.SetScalars),
        ):
            vtk_array = numpy_to_vtk(array, deep=True)
            vtk_array.SetName(name)
            put(vtk_array)
        self.mesh.SetPolys(triangle_cells(triangles))
        self.mesh.Modified()

"""The drawn brain: one mesh, one small texture, a few ribbons, tubes; for pictures off-screen and for a trame view.

Convention. Points are mm in RAS. Pixels count from the top left corner of the picture. Geometry moves only when the
surface changes; `paint` writes one texel column a component (texture.py) and never touches the mesh. Materials are
chosen so that a face turned to the viewer shows its texel's color unchanged, under the lights here and under the plain
headlight of vtk.js alike. Painted as glass, the cortex is blended without regard to order, as vtk.js does it.

Left out: what the colors mean (colors.py), text of any kind (HTML on the page, export/image.py in files), trame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyvista
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import mutable
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkStaticCellLocator
from vtkmodules.vtkRenderingCore import vtkTexture

from nmri3d.errors import InputError
from nmri3d.scene.audit import dropped_actors
from nmri3d.scene.camera import VIEWS, Hemispheres
from nmri3d.scene.mesh import polylines, split_along_borders, vertex_normals
from nmri3d.scene.ribbons import RibbonActor, triangle_cells
from nmri3d.scene.stage import Stage
from nmri3d.scene.texture import fold_of_sulcal_depth, texture_image, texture_layout
from nmri3d.scene.tract_actor import TractActor
from nmri3d.scene.tracts import TractFrame, TractStyle, blended_frame, tract_frame

if TYPE_CHECKING:
    from nmri3d.atlas import Atlas
    from nmri3d.results import Tracts

BACKGROUND = "#0a0c10"
GLOW = "#00ffaa"
AMBIENT, DIFFUSE, SPECULAR, SPECULAR_POWER = 0.34, 0.66, 0.04, 12.0
BORDER_OPACITY, GLASS_BORDER_OPACITY = 1.0, 0.25
PICK_SLACK = 4.0
"""Pixels by which a tube may be missed: a thin one is hard to hit."""


@dataclass
class SceneStats:
    """Counters, to prove what an action costs.

    n_value_updates     textures written (paint)
    n_mesh_builds       meshes built or rebuilt; 1 for the whole life of a scene
    n_geometry_updates  times that points and normals moved (surface change, morph)
    """

    n_value_updates: int = 0
    n_mesh_builds: int = 0
    n_geometry_updates: int = 0


class BrainScene:
    """A cortex that shows colors of components.

    stage                    window, lights, camera (stage.py); close() frees it
    plotter, render_window   PyVista's plotter and VTK's window, of the stage
    mesh, actor, texture     the split mesh (pyvista.PolyData, float32 points, normals, texture coordinates), its actor
                             and its vtkTexture
    vertex_of_split          int32 [n_split], atlas vertex of each mesh vertex
    component_of_split       int32 [n_split], component row of each mesh vertex, -1 where none
    face_component           int32 [n_faces], component row of each face, faces in the atlas' order (left first)
    split_faces              int32 [n_faces, 3], all faces as mesh vertices, also those of a hidden hemisphere
    layout                   TextureLayout: where colors lie in the texture
    surface                  name of the surface that is shown; None within a morph
    tracts                   TractActor: the tubes of a DTI scan

    Raises InputError for an unknown surface, MachineError where nothing can be rendered.
    """

    def __init__(
        self, atlas: Atlas, *, surface: str = "pial", off_screen: bool = True, background: str = BACKGROUND
    ) -> None:
        self.atlas = atlas
        self.stats = SceneStats()
        self.layout = texture_layout(len(atlas.components))
        self.face_component = np.asarray(atlas.face_component, dtype=np.int32)
        split = split_along_borders(atlas.faces, self.face_component)
        self.vertex_of_split, self.component_of_split, self.split_faces = split.vertex, split.component, split.faces
        self.surface: str | None = self._known(surface)
        self._normals: dict[str, np.ndarray] = {}
        self._points, self._point_normals = self._geometry(surface)
        self._hemispheres: Hemispheres = "both"
        self._selected: int | None = None
        self._border_paths: list[np.ndarray] | None = None

        self.stage = Stage(off_screen=off_screen, background=background)
        self.plotter, self.render_window = self.stage.plotter, self.stage.render_window
        self._build_mesh()
        n_left = atlas.n_left_vertices
        self._borders = RibbonActor(
            self.plotter, "borders", color="#10131a", half_width=0.16, lift=0.12, n_left_vertices=n_left
        )
        self._glow = [
            RibbonActor(
                self.plotter, name, color=GLOW, half_width=width, lift=lift, opacity=opacity, n_left_vertices=n_left
            )
            for name, width, lift, opacity in (
                ("selection halo", 2.4, 0.30, 0.16),
                ("selection glow", 1.3, 0.40, 0.35),
                ("selection", 0.55, 0.50, 1.0),
            )
        ]
        self._tract_frames: dict[str, TractFrame] = {}
        self.tracts = TractActor(self.plotter, atlas, self._tract_frame(surface))
        self._frame()
        self.view("lateral_left")

    # --- values ------------------------------------------------------------------------------------------------------

    def paint(self, colors: np.ndarray, glass: np.ndarray | None = None) -> None:
        """Show colors of components, uint8 [n_components, 4]; alpha 0 shows the grey anatomy.

        glass: strength of each component, [n_components] in 0..1, for a translucent cortex (texture.py); None for a
        solid one. Raises AlignmentError for any other shape or dtype.
        """
        self._texels[:] = texture_image(colors, self.layout, glass).reshape(-1, 4)
        self._image.GetPointData().GetScalars().Modified()
        self._image.Modified()
        self.texture.Modified()
        self.is_glass = glass is not None
        self.actor.SetForceTranslucent(self.is_glass)
        self.actor.SetForceOpaque(not self.is_glass)
        self._borders.actor.prop.opacity = GLASS_BORDER_OPACITY if self.is_glass else BORDER_OPACITY
        self.stage.supersample = self.is_glass
        self.stats.n_value_updates += 1

    def show_tracts(self, tracts: Tracts | None, style: TractStyle | None = None) -> None:
        """Draw the tracts of a DTI scan as tubes; None takes them away. They are seen in a cortex of glass (`paint`)."""
        self.tracts.set(tracts, style or TractStyle())

    # --- geometry ----------------------------------------------------------------------------------------------------

    @property
    def surfaces(self) -> tuple[str, ...]:
        """Names of the surfaces that can be shown."""
        return tuple(self.atlas.surfaces)

    def show_surface(self, name: str) -> None:
        """Show another surface of the atlas; a preset view is fitted to it. Raises InputError for an unknown name."""
        self.surface = self._known(name)
        self._move(*self._geometry(name), self._tract_frame(name))

    def morph(self, a: str, b: str, t: float) -> None:
        """Show the surface a share t (0 to 1) of the way from surface a to surface b."""
        if not 0.0 <= t <= 1.0:
            raise InputError(f"a morph goes from 0 to 1, got {t}")
        (points_a, normals_a), (points_b, normals_b) = self._geometry(self._known(a)), self._geometry(self._known(b))
        normals = (1 - t) * normals_a + t * normals_b
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        self.surface = a if t == 0 else b if t == 1 else None
        self._move(
            ((1 - t) * points_a + t * points_b).astype(np.float32),
            (normals / np.maximum(length, 1e-9)).astype(np.float32),
            blended_frame(self._tract_frame(a), self._tract_frame(b), t),
        )

    def split_points(self, surface: str) -> np.ndarray:
        """Points of a surface as the mesh holds them, float32 [n_split, 3]."""
        return self._geometry(self._known(surface))[0][self.vertex_of_split]

    def split_normals(self, surface: str) -> np.ndarray:
        """Normals of a surface as the mesh holds them, float32 [n_split, 3]."""
        return self._geometry(self._known(surface))[1][self.vertex_of_split]

    def show_hemispheres(self, hemispheres: Hemispheres) -> None:
        """Show "both", "left" or "right"."""
        if hemispheres not in self._cells:
            raise InputError(f"there is no hemisphere {hemispheres!r}; choose both, left or right")
        self._hemispheres = hemispheres
        self._frame()
        self._cells[hemispheres].Modified()  # VTK goes by time stamps: an older array would leave the old bounds
        self.mesh.SetPolys(self._cells[hemispheres])
        self.mesh.DeleteCells()  # else VTK keeps looking faces up in its table of the old ones
        self.mesh.Modified()
        for ribbon in (self._borders, *self._glow):
            ribbon.show(hemispheres)
        self.tracts.show(hemispheres)

    # --- marks -------------------------------------------------------------------------------------------------------

    def select(self, row: int | None) -> None:
        """Glow around the parcel of a component row, and draw its tracts only; None takes the glow away and draws all.

        A row without a place on the cortex has no border and glows nowhere. Raises InputError for no such row.
        """
        if row is not None and not 0 <= row < len(self.atlas.components):
            raise InputError(f"there is no component row {row}; rows are 0 to {len(self.atlas.components) - 1}")
        self._selected = row
        paths = [] if row is None else polylines(self.atlas.border_edges(row))
        for ribbon in self._glow:
            ribbon.set_paths(paths, self._points, self._point_normals)
        self.tracts.select(row)

    @property
    def selected(self) -> int | None:
        """The row that glows, if any."""
        return self._selected

    def show_borders(self, on: bool) -> None:
        """Draw thin dark lines between parcels, or take them away."""
        if on and self._border_paths is None:
            self._border_paths = polylines(self.atlas.border_edges())
        self._borders.set_paths((self._border_paths or []) if on else [], self._points, self._point_normals)

    # --- camera ------------------------------------------------------------------------------------------------------

    def view(self, name: str) -> None:
        """Stand the camera at a preset (camera.VIEWS) and fit the brain; a medial view hides the other hemisphere."""
        if name not in VIEWS:
            raise InputError(f"there is no view {name!r}; the views are {', '.join(VIEWS)}")
        if self._hemispheres != VIEWS[name].hemispheres:
            self.show_hemispheres(VIEWS[name].hemispheres)
        self.stage.fit(name)

    def orientation_letters(self) -> dict[str, str]:
        """Letters at the picture's edges, `top`, `bottom`, `left`, `right`, for the current camera."""
        return self.stage.orientation_letters()

    def pick(self, x: float, y: float) -> int | None:
        """Component row under a pixel of the render window, counted from its top left corner.

        None on the background, on the medial wall, and where a hidden hemisphere would be.
        """
        ray = self.stage.ray(x, y)
        if ray is None:
            return None
        t, hit, coordinates, part, cell = mutable(0.0), [0.0] * 3, [0.0] * 3, mutable(0), mutable(-1)
        if not self._locate().IntersectWithLine(ray[0], ray[1], 1e-6, t, hit, coordinates, part, cell):
            return None
        first = self.atlas.n_left_faces if self._hemispheres == "right" else 0
        row = int(self.face_component[first + int(cell)])
        return row if row >= 0 else None

    def pick_tract(self, x: float, y: float) -> int | None:
        """The tube under a pixel, as a position in `tracts.edges`; None where there is none within PICK_SLACK pixels."""
        ray = self.stage.ray(x, y)
        if ray is None:
            return None
        return self.tracts.nearest(ray, PICK_SLACK * self.field_of_view()[1] / self.render_window.GetSize()[1])

    # --- pictures ----------------------------------------------------------------------------------------------------

    def screenshot(self, size: tuple[int, int] | None = None, transparent: bool = False) -> np.ndarray:
        """The picture, uint8 [height, width, 3], or [..., 4] with a transparent background (straight alpha).

        size: (width, height) in pixels, the window's by default. A preset view is fitted to the size; any other view
        keeps what it shows. The window has its own size again afterwards. Raises InputError for a size that cannot be.
        """
        return self.stage.screenshot(size, transparent)

    def field_of_view(self, size: tuple[int, int] | None = None) -> tuple[float, float]:
        """Width and height in mm that a screenshot of this size shows, measured at the middle of the brain."""
        return self.stage.field_of_view(size)

    def audit(self) -> list[str]:
        """Visible actors that vtk.js would not show, each with its reason; empty if the browser shows all."""
        names = {actor.GetAddressAsString(""): name for name, actor in self.plotter.renderer.actors.items()}
        return dropped_actors(self.plotter.renderer, names)

    def close(self) -> None:
        """Free the window and its memory; safe to call twice. The scene cannot be used afterwards."""
        self.stage.close()

    def __enter__(self) -> BrainScene:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- building ----------------------------------------------------------------------------------------------------

    def _build_mesh(self) -> None:
        self.mesh = pyvista.PolyData()
        self.mesh.points = self._points[self.vertex_of_split]
        n_left = self.atlas.n_left_faces
        parts = {"both": slice(None), "left": slice(n_left), "right": slice(n_left, None)}
        self._cells = {name: triangle_cells(self.split_faces[part]) for name, part in parts.items()}
        self.mesh.SetPolys(self._cells["both"])
        fold = fold_of_sulcal_depth(self.atlas.sulcal_depth)[self.vertex_of_split]
        coordinates = numpy_to_vtk(self.layout.texture_coordinates(self.component_of_split, fold), deep=True)
        coordinates.SetName("TextureCoordinates")
        self.mesh.GetPointData().SetTCoords(coordinates)
        self._write_normals()
        self.stats.n_mesh_builds += 1

        blank = np.zeros((self.layout.n_components, 4), dtype=np.uint8)
        self._texels = np.ascontiguousarray(texture_image(blank, self.layout).reshape(-1, 4))
        self.is_glass = False
        scalars = numpy_to_vtk(self._texels, deep=False)  # shares memory: paint() writes in place
        scalars.SetName("colors")
        self._image: Any = vtkImageData()
        self._image.SetDimensions(self.layout.width, self.layout.height, 1)
        self._image.GetPointData().SetScalars(scalars)
        self.texture: Any = vtkTexture()
        self.texture.SetInputDataObject(self._image)
        self.texture.InterpolateOn()
        self.texture.MipmapOff()
        self.texture.RepeatOff()
        self.texture.EdgeClampOn()

        self.actor: pyvista.Actor = pyvista.Actor(mapper=pyvista.DataSetMapper(self.mesh))
        self.actor.mapper.scalar_visibility = False
        self.actor.SetTexture(self.texture)
        properties = self.actor.prop
        properties.color = "white"
        properties.interpolation = "phong"
        properties.ambient, properties.diffuse = AMBIENT, DIFFUSE
        properties.specular, properties.specular_power = SPECULAR, SPECULAR_POWER
        self.plotter.add_actor(self.actor, name="cortex", reset_camera=False, render=False)
        self._locator: Any = None
        self._located_at = -1

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _known(self, surface: str) -> str:
        if surface not in self.atlas.surfaces:
            raise InputError(f"there is no surface {surface!r}; the surfaces are {', '.join(self.atlas.surfaces)}")
        return surface

    def _geometry(self, surface: str) -> tuple[np.ndarray, np.ndarray]:
        """Points and normals, float32 [n_vertices, 3] each, of the unsplit surface."""
        points = np.asarray(self.atlas.surfaces[surface], dtype=np.float32)
        if surface not in self._normals:
            self._normals[surface] = vertex_normals(points, self.atlas.faces)
        return points, self._normals[surface]

    def _tract_frame(self, surface: str) -> TractFrame:
        if surface not in self._tract_frames:
            self._tract_frames[surface] = tract_frame(self.atlas, surface)
        return self._tract_frames[surface]

    def _move(self, points: np.ndarray, normals: np.ndarray, frame: TractFrame) -> None:
        preset = self.stage.preset
        self._points, self._point_normals = points, normals
        self._frame()
        self.mesh.points = points[self.vertex_of_split]
        self._write_normals()
        for ribbon in (self._borders, *self._glow):
            ribbon.follow(points, normals)
        self.tracts.follow(frame)
        self.stats.n_geometry_updates += 1
        if preset is not None:
            self.stage.fit(preset)

    def _write_normals(self) -> None:
        normals = numpy_to_vtk(self._point_normals[self.vertex_of_split], deep=True)
        normals.SetName("Normals")
        self.mesh.GetPointData().SetNormals(normals)
        self.mesh.Modified()

    def _frame(self) -> None:
        """Tell the stage what a preset view has to fit: the hemispheres that are shown."""
        n_left = self.atlas.n_left_vertices
        shown = {"both": slice(None), "left": slice(n_left), "right": slice(n_left, None)}[self._hemispheres]
        self.stage.framing = self._points[shown].astype(np.float64)

    def _locate(self) -> Any:
        """Search tree of the faces that are shown, rebuilt when they changed."""
        if self._locator is None or self._located_at != self.mesh.GetMTime():
            self._locator = vtkStaticCellLocator()
            self._locator.SetDataSet(self.mesh)
            self._locator.BuildLocator()
            self._located_at = self.mesh.GetMTime()
        return self._locator

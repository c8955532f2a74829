"""The cortex as a VTK actor: the split mesh, one small texture, and which of its faces are drawn; and the bodies beside it.

The cerebellum and the hippocampi are faces of the same mesh. They are drawn by an actor of their own, with the same
texture, since they stay solid where the cortex is glass.

Convention. `paint` writes one texel column a component (texture.py) and never touches the mesh; `place` moves points and
normals; `draw_faces` chooses faces. Materials are chosen so that a face turned to the viewer shows its texel's color
unchanged, under the lights of the stage and under the plain headlight of vtk.js alike. Painted as glass, the cortex is
blended without regard to order, as vtk.js does it.

Left out: where the points are (forms.py) and what stands beside the cortex (brain.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyvista
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkRenderingCore import vtkTexture

from nmri3d.scene.faces import Faces
from nmri3d.scene.mesh import SplitMesh
from nmri3d.scene.texture import TextureLayout, texture_image

BODIES = "bodies"
"""Name of the actor of the cerebellum and the hippocampi."""
AMBIENT, DIFFUSE, SPECULAR, SPECULAR_POWER = 0.34, 0.66, 0.04, 12.0


class SurfaceActor:
    """Faces of a split mesh in a plotter.

    mesh, actor   pyvista.PolyData (float32 points, normals, texture coordinates), its actor
    """

    def __init__(
        self,
        plotter: pyvista.Plotter,
        faces: np.ndarray,
        coordinates: np.ndarray,
        points: np.ndarray,
        normals: np.ndarray,
        name: str,
    ) -> None:
        """faces int [k, 3]; coordinates float32 [n, 2] of the texture; points and normals float32 [n, 3]."""
        self._triangles = faces
        self._drawn = np.arange(len(faces))
        self.mesh = pyvista.PolyData()
        self.mesh.points = points
        self._faces = Faces(self.mesh)
        self._faces.put(faces)
        of_texture = numpy_to_vtk(coordinates, deep=True)
        of_texture.SetName("TextureCoordinates")
        self.mesh.GetPointData().SetTCoords(of_texture)
        self._write_normals(normals)
        self.actor: pyvista.Actor = pyvista.Actor(mapper=pyvista.DataSetMapper(self.mesh))
        self.actor.mapper.scalar_visibility = False
        properties = self.actor.prop
        properties.color = "white"
        properties.interpolation = "phong"
        properties.ambient, properties.diffuse = AMBIENT, DIFFUSE
        properties.specular, properties.specular_power = SPECULAR, SPECULAR_POWER
        plotter.add_actor(self.actor, name=name, reset_camera=False, render=False)

    def place(self, points: np.ndarray, normals: np.ndarray) -> None:
        """Move the vertices: points and normals, float32 [n, 3]."""
        self.mesh.points = points
        self._write_normals(normals)

    def draw_faces(self, drawn: np.ndarray) -> None:
        """Draw the faces of these numbers, int [k], and no others."""
        if np.array_equal(drawn, self._drawn):
            return
        self._drawn = drawn
        self._faces.put(self._triangles[drawn])
        self.actor.visibility = len(drawn) > 0

    def hit(self, ray: tuple[np.ndarray, np.ndarray]) -> tuple[int, float] | None:
        """The drawn face that a line of sight meets first, and how far along it, as a share of its length."""
        found = self._faces.first_on(ray)
        return None if found is None else (int(self._drawn[found.cell]), found.share)

    def _write_normals(self, normals: np.ndarray) -> None:
        array = numpy_to_vtk(normals, deep=True)
        array.SetName("Normals")
        self.mesh.GetPointData().SetNormals(array)
        self.mesh.Modified()


class CortexActor(SurfaceActor):
    """The painted mesh in a plotter; it can draw all faces of the split mesh.

    mesh, actor, texture   as of SurfaceActor, and its vtkTexture
    is_glass               whether it is painted translucent
    n_value_updates        textures written
    """

    def __init__(
        self,
        plotter: pyvista.Plotter,
        split: SplitMesh,
        layout: TextureLayout,
        fold: np.ndarray,
        points: np.ndarray,
        normals: np.ndarray,
        name: str = "cortex",
    ) -> None:
        coordinates = layout.texture_coordinates(split.component, fold)
        super().__init__(plotter, split.faces, coordinates, points, normals, name)
        self._layout = layout
        self.n_value_updates = 0
        self.is_glass = False
        blank = np.zeros((layout.n_components, 4), dtype=np.uint8)
        self._texels = np.ascontiguousarray(texture_image(blank, layout).reshape(-1, 4))
        scalars = numpy_to_vtk(self._texels, deep=False)  # shares memory: paint() writes in place
        scalars.SetName("colors")
        self._image: Any = vtkImageData()
        self._image.SetDimensions(layout.width, layout.height, 1)
        self._image.GetPointData().SetScalars(scalars)
        self.texture: Any = vtkTexture()
        self.texture.SetInputDataObject(self._image)
        self.texture.InterpolateOn()
        self.texture.MipmapOff()
        self.texture.RepeatOff()
        self.texture.EdgeClampOn()
        self.actor.SetTexture(self.texture)

    def paint(self, colors: np.ndarray, glass: np.ndarray | None) -> None:
        """Write the texture; see `BrainScene.paint`."""
        self._texels[:] = texture_image(colors, self._layout, glass).reshape(-1, 4)
        self._image.GetPointData().GetScalars().Modified()
        self._image.Modified()
        self.texture.Modified()
        self.is_glass = glass is not None
        self.actor.SetForceTranslucent(self.is_glass)
        self.actor.SetForceOpaque(not self.is_glass)
        self.n_value_updates += 1


class BodiesActor(SurfaceActor):
    """The faces of a split mesh that belong to bodies, from face `first` on, in the cortex' texture; never glass."""

    def __init__(
        self,
        plotter: pyvista.Plotter,
        texture: Any,
        split: SplitMesh,
        first: int,
        coordinates: np.ndarray,
        points: np.ndarray,
        normals: np.ndarray,
    ) -> None:
        # Only the vertices of its own faces: the others would be carried along by every change of form.
        self._own, local = np.unique(split.faces[first:], return_inverse=True)
        super().__init__(
            plotter,
            local.reshape(-1, 3).astype(np.int32),
            np.ascontiguousarray(coordinates[self._own]),
            points[self._own],
            np.ascontiguousarray(normals[self._own]),
            BODIES,
        )
        self._first = first
        self.actor.SetTexture(texture)
        self.actor.SetForceOpaque(True)

    def place(self, points: np.ndarray, normals: np.ndarray) -> None:
        """Move with the split mesh: points and normals, float32 [n_split, 3]."""
        super().place(points[self._own], np.ascontiguousarray(normals[self._own]))

    def draw_faces(self, drawn: np.ndarray) -> None:
        """Draw those of the split mesh's faces, int [k], that are its own."""
        super().draw_faces(drawn[drawn >= self._first] - self._first)

    def hit(self, ray: tuple[np.ndarray, np.ndarray]) -> tuple[int, float] | None:
        """As of SurfaceActor; the face counts in the split mesh."""
        found = super().hit(ray)
        return None if found is None else (found[0] + self._first, found[1])

    def place_holder(self) -> None:
        """Hold one triangle of no size: a browser is sent what is visible, and takes the faces from the cortex itself."""
        self._faces.put(np.zeros((1, 3), dtype=np.int64))
        self.actor.visibility = True

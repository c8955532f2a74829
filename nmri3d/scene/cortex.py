"""The cortex as a VTK actor: the split mesh, one small texture, and which of its faces are drawn.

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
from vtkmodules.vtkCommonCore import mutable
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkStaticCellLocator
from vtkmodules.vtkRenderingCore import vtkTexture

from nmri3d.scene.mesh import SplitMesh
from nmri3d.scene.ribbons import triangle_cells
from nmri3d.scene.texture import TextureLayout, texture_image

AMBIENT, DIFFUSE, SPECULAR, SPECULAR_POWER = 0.34, 0.66, 0.04, 12.0


class CortexActor:
    """The painted mesh in a plotter.

    mesh, actor, texture   pyvista.PolyData (float32 points, normals, texture coordinates), its actor, its vtkTexture
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
        self._split, self._layout = split, layout
        self._drawn = np.arange(len(split.faces))
        self.n_value_updates = 0
        self.is_glass = False
        self.mesh = pyvista.PolyData()
        self.mesh.points = points
        self.mesh.SetPolys(triangle_cells(split.faces))
        coordinates = numpy_to_vtk(layout.texture_coordinates(split.component, fold), deep=True)
        coordinates.SetName("TextureCoordinates")
        self.mesh.GetPointData().SetTCoords(coordinates)
        self._write_normals(normals)

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

        self.actor: pyvista.Actor = pyvista.Actor(mapper=pyvista.DataSetMapper(self.mesh))
        self.actor.mapper.scalar_visibility = False
        self.actor.SetTexture(self.texture)
        properties = self.actor.prop
        properties.color = "white"
        properties.interpolation = "phong"
        properties.ambient, properties.diffuse = AMBIENT, DIFFUSE
        properties.specular, properties.specular_power = SPECULAR, SPECULAR_POWER
        plotter.add_actor(self.actor, name=name, reset_camera=False, render=False)
        self._locator: Any = None
        self._located_at = -1

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

    def place(self, points: np.ndarray, normals: np.ndarray) -> None:
        """Move the split vertices: points and normals, float32 [n_split, 3]."""
        self.mesh.points = points
        self._write_normals(normals)

    def draw_faces(self, drawn: np.ndarray) -> None:
        """Draw the faces of these numbers, int [k], and no others."""
        if np.array_equal(drawn, self._drawn):
            return
        self._drawn = drawn
        cells = triangle_cells(self._split.faces[drawn])
        cells.Modified()  # VTK goes by time stamps: an older array would leave the old bounds
        self.mesh.SetPolys(cells)
        self.mesh.DeleteCells()  # else VTK keeps looking faces up in its table of the old ones
        self.mesh.Modified()
        self.actor.visibility = len(drawn) > 0

    def face_on(self, ray: tuple[np.ndarray, np.ndarray]) -> int | None:
        """Number of the drawn face that a line of sight meets first."""
        if not len(self._drawn):
            return None
        if self._locator is None or self._located_at != self.mesh.GetMTime():
            self._locator = vtkStaticCellLocator()
            self._locator.SetDataSet(self.mesh)
            self._locator.BuildLocator()
            self._located_at = self.mesh.GetMTime()
        t, hit, coordinates, part, cell = mutable(0.0), [0.0] * 3, [0.0] * 3, mutable(0), mutable(-1)
        if not self._locator.IntersectWithLine(ray[0], ray[1], 1e-6, t, hit, coordinates, part, cell):
            return None
        return int(self._drawn[int(cell)])

    def _write_normals(self, normals: np.ndarray) -> None:
        array = numpy_to_vtk(normals, deep=True)
        array.SetName("Normals")
        self.mesh.GetPointData().SetNormals(array)
        self.mesh.Modified()

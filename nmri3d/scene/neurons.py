"""The neuron level of the drawn brain: MLP parcels that show a color for each of their neurons.

    actor = NeuronActor(scene.plotter, scene.atlas, neurons, split)
    actor.paint(colors)             colors of neurons, uint8 [n, 4]

It draws the faces of MLP parcels, with the points and normals of the cortex, but texture coordinates and a texture of its
own (neuron_texture.py); the cortex leaves those faces to it. It follows the forms and hemispheres of the cortex.

Convention. As cortex.py: the same materials, so that both show a color alike. A browser gets an empty actor and fills it
(place_holder), since the picture of ids is only sent when it is wanted.

Left out: colors of values (colors.py), other parcels (cortex.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyvista
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkRenderingCore import vtkTexture

from nmri3d.atlas import Atlas
from nmri3d.atlas.neurons import NeuronAtlas
from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.cortex import AMBIENT, DIFFUSE, SPECULAR, SPECULAR_POWER
from nmri3d.scene.faces import Faces
from nmri3d.scene.mesh import SplitMesh
from nmri3d.scene.neuron_texture import fold_image, neuron_image, ring_around
from nmri3d.scene.ribbons import triangle_cells

NAME = "neurons"
MARK_COLOR = (0, 255, 170, 255)


class NeuronActor:
    """MLP faces painted neuron by neuron.

    faces                  bool [n_faces], the faces that it draws where the form and hemisphere show them
    mesh, actor, texture   pyvista.PolyData, its actor, its vtkTexture
    neurons                NeuronAtlas
    """

    def __init__(self, plotter: pyvista.Plotter, atlas: Atlas, neurons: NeuronAtlas, split: SplitMesh) -> None:
        """Raises AlignmentError for a neuron atlas of another atlas."""
        self.neurons = neurons
        self._split = split
        self._plotter = plotter
        self.faces = np.isin(atlas.face_component, neurons.component)
        # Only the vertices of its own faces: the others would be carried along by every change of form.
        self._own = np.unique(split.faces[self.faces])
        self._local = np.searchsorted(self._own, split.faces).astype(np.int32)
        self._drawn = np.flatnonzero(self.faces)
        self._coordinates = neurons.texture_coordinates(atlas, split.vertex[self._own], split.component[self._own])
        self._fold = fold_image(atlas, neurons)
        blank = np.zeros((len(neurons.neurons), 4), dtype=np.uint8)
        self._texels = np.ascontiguousarray(neuron_image(blank, neurons.image, self._fold).reshape(-1, 4))
        height, width = neurons.image.shape
        self.mesh, self.actor, self.texture, self._image = _parts(plotter, self._texels, width, height)
        self.mesh.points = np.zeros((len(self._own), 3), dtype=np.float32)
        self._faces = Faces(self.mesh)
        self._faces.put(self._local[self._drawn])
        _put(self.mesh, "SetTCoords", "TextureCoordinates", self._coordinates)
        self._colors: tuple[np.ndarray, np.ndarray | None] = (blank, None)
        self._marked: int | None = None

    def paint(self, colors: np.ndarray, glass: np.ndarray | None = None) -> None:
        """Show colors of neurons, uint8 [n, 4]; alpha 0 shows the grey folding. glass: strengths [n], as `BrainScene.paint`.

        Raises AlignmentError for any other shape or dtype.
        """
        if np.shape(colors) != (len(self.neurons.neurons), 4):
            raise AlignmentError(f"{len(self.neurons.neurons)} neurons need as many colors; got {np.shape(colors)}")
        self._colors = (colors, glass)
        self._write()

    def mark(self, neuron: int | None) -> None:
        """Ring a neuron, by its row, in the color of the selection; None takes the ring away.

        Raises InputError for a row that there is not.
        """
        if neuron is not None and not 0 <= neuron < len(self.neurons.neurons):
            raise InputError(f"there is no neuron {neuron}; rows are 0 to {len(self.neurons.neurons) - 1}")
        self._marked = neuron
        self._write()

    def follow(self, points: np.ndarray, normals: np.ndarray) -> None:
        """Move with the cortex: points and normals of its split mesh, float32 [n_split, 3]."""
        self.mesh.points = points[self._own]
        _put(self.mesh, "SetNormals", "Normals", normals[self._own])
        self.mesh.Modified()

    def show(self, drawn: np.ndarray) -> None:
        """Draw those of its faces that are among `drawn`, bool [n_faces]."""
        wanted = np.flatnonzero(self.faces & drawn)
        self.actor.visibility = len(wanted) > 0
        if np.array_equal(wanted, self._drawn):
            return
        self._drawn = wanted
        self._faces.put(self._local[wanted])

    def hit(self, ray: tuple[np.ndarray, np.ndarray]) -> tuple[int, int, float] | None:
        """Face and neuron row (-1: none) that a line of sight meets first, and how far along it, as a share of its length."""
        found = self._faces.first_on(ray)
        if found is None:
            return None
        face = int(self._drawn[found.cell])
        corners = self.mesh.points[self._local[face]].astype(np.float64)
        solved = np.linalg.lstsq((corners[1:] - corners[0]).T, found.place - corners[0], rcond=None)[0]
        weights = np.array([1 - solved.sum(), *solved])
        return face, self._neuron_at(weights @ self._coordinates[self._local[face]]), found.share

    def close(self) -> None:
        """Take it out of the plotter."""
        self._plotter.remove_actor(self.actor, reset_camera=False, render=False)

    def _neuron_at(self, coordinates: np.ndarray) -> int:
        height, width = self.neurons.image.shape
        column = min(max(int(coordinates[0] * width), 0), width - 1)
        row = min(max(int(coordinates[1] * height), 0), height - 1)
        return int(self.neurons.image[row, column])

    def _write(self) -> None:
        colors, glass = self._colors
        picture = neuron_image(colors, self.neurons.image, self._fold, glass)
        if self._marked is not None:
            picture[ring_around(self.neurons.image, self._marked)] = MARK_COLOR
        self._texels[:] = picture.reshape(-1, 4)
        self._image.GetPointData().GetScalars().Modified()
        self._image.Modified()
        self.texture.Modified()
        self.actor.SetForceTranslucent(glass is not None)
        self.actor.SetForceOpaque(glass is None)


def place_holder(plotter: pyvista.Plotter) -> tuple[pyvista.Actor, Any]:
    """An actor that shows next to nothing, and its texture, for a browser to fill: it is sent with the scene."""
    texels = np.zeros((4, 4), dtype=np.uint8)
    mesh, actor, texture, _ = _parts(plotter, texels, 2, 2)
    mesh.points = np.zeros((3, 3), dtype=np.float32)
    mesh.SetPolys(triangle_cells(np.array([[0, 1, 2]])))
    _put(mesh, "SetTCoords", "TextureCoordinates", np.zeros((3, 2), dtype=np.float32))
    _put(mesh, "SetNormals", "Normals", np.tile(np.array([0, 0, 1], dtype=np.float32), (3, 1)))
    return actor, texture


def _parts(
    plotter: pyvista.Plotter, texels: np.ndarray, width: int, height: int
) -> tuple[pyvista.PolyData, pyvista.Actor, Any, Any]:
    """Mesh, actor, texture and image; the texture shares the memory of the texels, uint8 [height * width, 4]."""
    mesh = pyvista.PolyData()
    scalars = numpy_to_vtk(texels, deep=False)
    scalars.SetName("neuron colors")
    image: Any = vtkImageData()
    image.SetDimensions(width, height, 1)
    image.GetPointData().SetScalars(scalars)
    texture: Any = vtkTexture()
    texture.SetInputDataObject(image)
    texture.InterpolateOff()
    texture.MipmapOff()
    texture.RepeatOff()
    texture.EdgeClampOn()
    actor = pyvista.Actor(mapper=pyvista.DataSetMapper(mesh))
    actor.mapper.scalar_visibility = False
    actor.SetTexture(texture)
    properties = actor.prop
    properties.color = "white"
    properties.interpolation = "phong"
    properties.ambient, properties.diffuse = AMBIENT, DIFFUSE
    properties.specular, properties.specular_power = SPECULAR, SPECULAR_POWER
    actor.SetForceOpaque(True)
    plotter.add_actor(actor, name=NAME, reset_camera=False, render=False)
    return mesh, actor, texture, image


def _put(mesh: pyvista.PolyData, setter: str, name: str, values: np.ndarray) -> None:
    array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
    array.SetName(name)
    getattr(mesh.GetPointData(), setter)(array)

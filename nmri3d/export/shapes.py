"""What a scene shows, as plain arrays: the shapes that a 3D file or a web page is made of.

Convention. Points are mm in RAS. A shape is colored by its texture, by a color a point, or by one color; 8-bit sRGB.
The texture's row 0 is at v = 0. The cortex comes as a shape for each hemisphere, of the faces that it draws, and so do
the bodies beside it; they share
one texture.

Left out: file formats (glb.py, web_page.py), cameras and lights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

if TYPE_CHECKING:
    from nmri3d.scene.brain import BrainScene


@dataclass(frozen=True, eq=False)
class Shape:
    """Triangles of one material.

    name                 as the scene calls it
    points, normals      float32 [n, 3]; normals unit, or None for a shape that takes no light
    triangles            uint32 [m, 3], counter-clockwise seen from outside
    color                RGBA in 0..1, sRGB, multiplied with the two below
    colors               uint8 [n, 3], a color a point, or None
    texture_coordinates  float32 [n, 2], or None
    texture              name of an image in `Shapes.textures`, "" for none
    component            int32 [n], row of the component table, -1 for none; or None
    lit                  whether light falls on it
    translucent          whether something is seen through it
    glass                whether something would be seen through it, were the cortex of glass
    material             ambient, diffuse, specular share of the light, and the power of the last
    """

    name: str
    points: np.ndarray
    normals: np.ndarray | None
    triangles: np.ndarray
    color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    colors: np.ndarray | None = None
    texture_coordinates: np.ndarray | None = None
    texture: str = ""
    component: np.ndarray | None = None
    lit: bool = True
    translucent: bool = False
    glass: bool = True
    material: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Shapes:
    """The shapes of a scene, and its textures by name: uint8 [height, width, 4], row 0 at v = 0."""

    shapes: list[Shape]
    textures: dict[str, np.ndarray] = field(default_factory=dict)


def drawn_shapes(scene: BrainScene, *, both: bool = False) -> Shapes:
    """All visible shapes of the scene, the cortex first, in the order in which they are drawn.

    both: both hemispheres, whatever the view hides.
    """
    with _both_hemispheres(scene, both):
        marks = mark_shapes(scene)
        return Shapes([*cortex_shapes(scene), *marks.shapes], {"cortex": cortex_texture(scene), **marks.textures})


def mark_shapes(scene: BrainScene) -> Shapes:
    """All visible shapes but cortex and bodies: borders, glow, tubes, and what else has triangles."""
    painted = [scene.actor] + ([] if scene.bodies is None else [scene.bodies.actor])
    shapes, textures = [], {}
    for name, actor in scene.plotter.renderer.actors.items():
        if actor in painted or not actor.GetVisibility() or not hasattr(actor, "GetMapper"):
            continue
        shape, texture = _shape_of(str(name), actor)
        if shape is not None:
            shapes.append(shape)
            if texture is not None:
                textures[shape.texture] = texture
    return Shapes(shapes, textures)


def cortex_texture(scene: BrainScene) -> np.ndarray:
    """The texture that the cortex shows now, uint8 [height, width, 4], row 0 at v = 0."""
    return _image_of(scene.texture)


def cortex_shapes(scene: BrainScene) -> list[Shape]:
    """The hemispheres as the scene draws them, left first, then the bodies; each with the points of its own faces only."""
    data = scene.mesh.GetPointData()
    points = np.asarray(scene.mesh.points, dtype=np.float32)
    normals, coordinates = vtk_to_numpy(data.GetNormals()), vtk_to_numpy(data.GetTCoords())
    shown = scene.drawn_faces
    starts = [0, scene.atlas.n_left_faces, *(body.first_face for body in scene.atlas.bodies), len(scene.split_faces)]
    names = ("cortex left", "cortex right", *(body.name for body in scene.atlas.bodies))
    result = []
    for number, name in enumerate(names):
        faces = scene.split_faces[shown[(shown >= starts[number]) & (shown < starts[number + 1])]]
        if not len(faces):
            continue
        of_cortex = number < 2
        used, triangles = np.unique(faces, return_inverse=True)
        result.append(
            Shape(
                name=name,
                points=points[used],
                normals=np.asarray(normals[used], dtype=np.float32),
                triangles=triangles.reshape(-1, 3).astype(np.uint32),
                texture_coordinates=np.asarray(coordinates[used], dtype=np.float32),
                texture="cortex",
                component=scene.component_of_split[used].astype(np.int32),
                translucent=scene.is_glass and of_cortex,
                glass=of_cortex,
                material=_material(scene.actor.GetProperty()),
            )
        )
    return result


def _material(properties: Any) -> tuple[float, float, float, float]:
    return (
        float(properties.GetAmbient()),
        float(properties.GetDiffuse()),
        float(properties.GetSpecular()),
        float(properties.GetSpecularPower()),
    )


def _shape_of(name: str, actor: Any) -> tuple[Shape | None, np.ndarray | None]:
    """One actor's triangles, with its texture if it has one; None for what has no triangles."""
    mesh = actor.GetMapper().GetInput()
    if mesh is None or not hasattr(mesh, "GetPolys") or mesh.GetPolys().GetNumberOfCells() == 0:
        return None, None
    cells = mesh.GetPolys()
    if cells.GetMaxCellSize() != 3 or cells.IsHomogeneous() != 3:
        return None, None
    faces = vtk_to_numpy(cells.GetConnectivityArray()).reshape(-1, 3)
    used, triangles = np.unique(faces, return_inverse=True)
    data, properties = mesh.GetPointData(), actor.GetProperty()
    scalars = data.GetScalars() if actor.GetMapper().GetScalarVisibility() else None
    colors = None
    if scalars is not None:
        values = vtk_to_numpy(scalars)
        if values.dtype == np.uint8 and values.ndim == 2:
            colors = np.ascontiguousarray(values[used, :3])
    texture, coordinates = actor.GetTexture(), data.GetTCoords()
    image = _image_of(texture) if texture is not None and coordinates is not None else None
    lit = bool(properties.GetLighting()) and data.GetNormals() is not None
    plain = (1.0, 1.0, 1.0) if colors is not None else tuple(properties.GetColor())
    opacity = float(properties.GetOpacity())
    shape = Shape(
        name=name,
        points=np.asarray(vtk_to_numpy(mesh.GetPoints().GetData())[used], dtype=np.float32),
        normals=np.asarray(vtk_to_numpy(data.GetNormals())[used], dtype=np.float32) if lit else None,
        triangles=triangles.reshape(-1, 3).astype(np.uint32),
        color=(*plain, opacity),
        colors=colors,
        texture_coordinates=None
        if image is None
        else np.asarray(vtk_to_numpy(coordinates)[used, :2], dtype=np.float32),
        texture="" if image is None else name,
        lit=lit,
        translucent=bool(opacity < 1 or actor.GetForceTranslucent()),
        material=_material(properties),
    )
    return shape, image


def _image_of(texture: Any) -> np.ndarray:
    image = texture.GetInput()
    width, height, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
    if pixels.shape[2] == 3:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)
    return np.array(pixels, dtype=np.uint8)


@contextmanager
def _both_hemispheres(scene: BrainScene, wanted: bool) -> Iterator[None]:
    """Show both for a moment; nothing is drawn meanwhile."""
    before = scene.hemispheres
    if before == "both" or not wanted:
        yield
        return
    scene.show_hemispheres("both")
    try:
        yield
    finally:
        scene.show_hemispheres(before)

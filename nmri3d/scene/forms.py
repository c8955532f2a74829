"""Forms of the drawn brain: the shapes that one split mesh can take, and the way from one to another.

A form says where the vertices of the split mesh (mesh.py) are, which way they face, and which faces are drawn. The
surfaces of the cortex are forms; the flat one draws only faces that carry a component. A layout of balls is a form, too:
each parcel curled up (atlas/nodes.py). Faces, texture coordinates and picking are the same for all, so that a change is
a mix of two arrays of points, and the browser does it by the same rule.

Convention. Points in mm, RAS. Where points and normals are mixed, normals are brought back to length 1. The flat surface
is no mix of anything: what it cuts apart cannot move apart, so that a change to or from it fades.

Left out: VTK. numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nmri3d.atlas import Atlas
from nmri3d.atlas.nodes import Nodes, ball_directions
from nmri3d.errors import InputError
from nmri3d.scene.mesh import SplitMesh, vertex_normals
from nmri3d.scene.tracts import TractFrame, blended_frame, node_frame, tract_frame


@dataclass(frozen=True, eq=False)
class Form:
    """One shape of the split mesh.

    name     of the surface or layout; "" within a morph
    kind     "surface", "flat" or "nodes"
    points   float32 [n_split, 3], mm
    normals  float32 [n_split, 3], unit
    faces    bool [n_faces], those that it draws
    frame    where tracts end and pass
    nodes    centers and radii of the balls, of "nodes" only
    """

    name: str
    kind: Literal["surface", "flat", "nodes"]
    points: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    frame: TractFrame
    nodes: Nodes | None = None


class Forms:
    """The forms of one atlas and its split mesh; each is made when it is first asked for, and kept."""

    def __init__(self, atlas: Atlas, split: SplitMesh) -> None:
        self._atlas, self._split = atlas, split
        self._nodes: dict[str, Nodes] = {}
        self._made: dict[str, Form] = {}
        self._surface_normals: dict[str, np.ndarray] = {}
        self._balls: np.ndarray | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names that `get` knows: the surfaces, then the layouts of balls."""
        return (*self._atlas.surfaces, *self._nodes)

    def add(self, nodes: Nodes) -> None:
        """Make a layout of balls known; one of the same name is replaced."""
        self._nodes[nodes.name] = nodes
        self._made.pop(nodes.name, None)

    def get(self, name: str) -> Form:
        """The form of a name. Raises InputError for an unknown one."""
        if name not in self.names:
            raise InputError(f"there is no form {name!r}; this brain has {', '.join(self.names)}")
        if name not in self._made:
            self._made[name] = self._of_nodes(self._nodes[name]) if name in self._nodes else self._of_surface(name)
        return self._made[name]

    def vertices(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Points and normals, float32 [v, 3] each, of a surface's own, unsplit vertices."""
        points = np.asarray(self._atlas.surfaces[name], dtype=np.float32)
        if name not in self._surface_normals:
            normals = self._flat_normals(points) if name == "flat" else vertex_normals(points, self._atlas.faces)
            self._surface_normals[name] = normals
        return points, self._surface_normals[name]

    def vertices_between(self, a: str, b: str, t: float) -> tuple[np.ndarray, np.ndarray]:
        """The same a share t (0 to 1) of the way from surface a to surface b."""
        return _mixed_vertices(self.vertices(a), self.vertices(b), t)

    @property
    def balls(self) -> np.ndarray:
        """float32 [n_split, 3]: where each vertex lies on its component's ball of radius 1; also the balls' normals."""
        if self._balls is None:
            atlas, split = self._atlas, self._split
            self._balls = ball_directions(
                atlas.surfaces["sphere"],
                atlas.n_left_vertices,
                split.vertex,
                split.component,
                split.faces,
                atlas.n_cortex_vertices,
            )
        return self._balls

    def _flat_normals(self, points: np.ndarray) -> np.ndarray:
        """float32 [v, 3]: upwards on the flat cortex, outwards on the bodies beside it."""
        normals = np.zeros_like(points)
        normals[:, 2] = 1.0
        first = self._atlas.n_cortex_vertices
        if first < len(points):
            faces = self._atlas.faces[self._atlas.n_cortex_faces :] - first
            normals[first:] = vertex_normals(points[first:], faces)
        return normals

    def _of_surface(self, name: str) -> Form:
        points, normals = self.vertices(name)
        flat = name == "flat"
        return Form(
            name,
            "flat" if flat else "surface",
            points[self._split.vertex],
            normals[self._split.vertex],
            self._atlas.face_component >= 0 if flat else np.ones(len(self._split.faces), dtype=bool),
            tract_frame(self._atlas, name),
        )

    def _of_nodes(self, nodes: Nodes) -> Form:
        component = self._split.component
        there = (component >= 0) & np.isfinite(nodes.radius)[component]
        points = np.zeros((len(component), 3), dtype=np.float32)
        row = component[there]
        points[there] = nodes.center[row] + nodes.radius[row, None] * self.balls[there]
        drawn = self._atlas.face_component >= 0
        frame = node_frame(nodes, tract_frame(self._atlas, "pial").side)
        return Form(nodes.name, "nodes", points, self.balls, drawn, frame, nodes)


def mixed(a: Form, b: Form, t: float) -> Form:
    """The form a share t (0 to 1) of the way from a to b. Raises InputError for another share, and for the flat surface."""
    if not 0.0 <= t <= 1.0:
        raise InputError(f"a morph goes from 0 to 1, got {t}")
    if t in (0.0, 1.0):
        return b if t else a
    if "flat" in (a.kind, b.kind) and a is not b:
        raise InputError(
            "there is no way to or from the flat surface, which is cut; show it at once, or fade two pictures"
        )
    points, normals = _mixed_vertices((a.points, a.normals), (b.points, b.normals), t)
    kind: Literal["surface", "nodes"] = "surface" if a.kind == b.kind == "surface" else "nodes"
    frame = blended_frame(a.frame, b.frame, t)
    return Form("", kind, points, normals, a.faces & b.faces, frame, _mixed_nodes(a.nodes, b.nodes, t))


def _mixed_vertices(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], t: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals, float32 [v, 3] each, a share t of the way from those of a to those of b."""
    points, normals = ((1 - t) * of_a + t * of_b for of_a, of_b in zip(a, b, strict=True))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return points.astype(np.float32), (normals / np.maximum(length, 1e-9)).astype(np.float32)


def _mixed_nodes(a: Nodes | None, b: Nodes | None, t: float) -> Nodes | None:
    if a is None or b is None:
        return None
    center = ((1 - t) * a.center + t * b.center).astype(np.float32)
    return Nodes("", center, ((1 - t) * a.radius + t * b.radius).astype(np.float32))

"""Arrays behind the drawn cortex: the mesh split along parcel borders, smooth normals, and border ribbons.

Convention. Points are mm in RAS (x right, y anterior, z superior). "Split" means that a vertex on a border stands once
for each component that meets there, so that a face's corners all carry the texture coordinates of its own component;
normals are those of the unsplit surface, so no crease shows where it was split. Faces keep their number and order.

Left out: VTK. numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class SplitMesh:
    """A mesh split along the borders of its components.

    vertex      int32 [n_split]     vertex of the unsplit mesh that a split vertex stands for
    component   int32 [n_split]     component of a split vertex, -1 where none
    faces       int32 [n_faces, 3]  split vertices of each face, faces in the given order
    """

    vertex: np.ndarray
    component: np.ndarray
    faces: np.ndarray


def split_along_borders(faces: np.ndarray, face_component: np.ndarray) -> SplitMesh:
    """Split [n_faces, 3] vertices where components, int [n_faces], differ. Vertices come out ordered by component."""
    n_vertices = int(faces.max(initial=-1)) + 1
    corner = faces.astype(np.int64) + (face_component.astype(np.int64) + 1)[:, None] * n_vertices
    unique, inverse = np.unique(corner.ravel(), return_inverse=True)
    component, vertex = np.divmod(unique, max(n_vertices, 1))
    return SplitMesh(vertex.astype(np.int32), (component - 1).astype(np.int32), inverse.reshape(-1, 3).astype(np.int32))


def vertex_normals(points: np.ndarray, faces: np.ndarray, *, smoothing: int = 2) -> np.ndarray:
    """Outward unit normals, float32 [n_vertices, 3], of a closed surface.

    Face normals weighted by area, then averaged `smoothing` times over neighboring faces: cutting triangles along
    borders puts vertices on edges of the original mesh, where the two face normals alone would show as facets.
    """
    corners = points[faces].astype(np.float64)
    face_normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # length: twice the area
    if np.einsum("ij,ij->", corners[:, 0], face_normal) < 0:  # signed volume: faces wind inwards
        face_normal = -face_normal
    area = np.linalg.norm(face_normal, axis=1)
    normal = _gather(face_normal, faces, len(points))
    for _ in range(smoothing):
        of_face = normal[faces].sum(axis=1)
        of_face *= (area / np.maximum(np.linalg.norm(of_face, axis=1), 1e-30))[:, None]
        normal = _gather(of_face, faces, len(points))
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return np.divide(normal, length, out=np.zeros_like(normal), where=length > 0).astype(np.float32)


def polylines(edges: np.ndarray) -> list[np.ndarray]:
    """Chain edges, int [m, 2] vertex pairs, into paths of vertices; each edge in exactly one path.

    A path ends at a junction or a loose end (a vertex without exactly two edges); a closed loop repeats its first
    vertex at its end.
    """
    neighbors: dict[int, list[int]] = {}
    for a, b in edges.tolist():
        neighbors.setdefault(a, []).append(b)
        neighbors.setdefault(b, []).append(a)
    used: set[tuple[int, int]] = set()
    paths: list[np.ndarray] = []

    def walk(first: int, second: int) -> None:
        path = [first, second]
        used.update(((first, second), (second, first)))
        while len(neighbors[path[-1]]) == 2 and path[-1] != path[0]:
            a, b = neighbors[path[-1]]
            following = b if a == path[-2] else a
            if (path[-1], following) in used:
                break
            used.update(((path[-1], following), (following, path[-1])))
            path.append(following)
        paths.append(np.array(path, dtype=np.int32))

    ends = [vertex for vertex, others in neighbors.items() if len(others) != 2]
    for vertex in [*ends, *neighbors]:  # what is left after the ends are closed loops
        for other in neighbors[vertex]:
            if (vertex, other) not in used:
                walk(vertex, other)
    return paths


@dataclass(frozen=True, eq=False)
class RibbonPath:
    """Paths laid end to end, so that ribbons along all of them are one array computation.

    vertex     int32 [n]     vertices of the paths, one after the other
    before, after  int64 [n] positions in `vertex` of the neighbors along the path (itself at an open end)
    segments   int64 [m]     positions whose following position belongs to the same path
    """

    vertex: np.ndarray
    before: np.ndarray
    after: np.ndarray
    segments: np.ndarray


def ribbon_path(paths: list[np.ndarray]) -> RibbonPath:
    """Prepare the paths of `polylines` for `ribbon`."""
    if not paths:
        empty = np.zeros(0, dtype=np.int64)
        return RibbonPath(empty.astype(np.int32), empty, empty, empty)
    lengths = np.array([len(path) for path in paths])
    last = np.cumsum(lengths) - 1
    first = last - lengths + 1
    vertex = np.concatenate(paths)
    position = np.arange(len(vertex))
    before, after = position - 1, position + 1
    closed = vertex[first] == vertex[last]
    before[first] = np.where(closed, last - 1, first)
    after[last] = np.where(closed, first + 1, last)
    return RibbonPath(vertex, before, after, np.setdiff1d(position, last))


def ribbon(
    path: RibbonPath, points: np.ndarray, normals: np.ndarray, *, half_width: float, lift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Flat ribbons along paths on a surface: points float32 [2 n, 3], triangles int64 [2 m, 3].

    half_width and lift (height above the surface along its normal) are in mm. Two triangles a segment, mitred at each
    vertex; triangles, because browsers draw lines one pixel wide whatever is asked.
    """
    center = points[path.vertex].astype(np.float64)
    normal = normals[path.vertex].astype(np.float64)
    arriving = _unit(center - center[path.before])
    leaving = _unit(center[path.after] - center)
    tangent = _unit(arriving + leaving)
    side = _unit(np.cross(normal, tangent))
    # a mitre keeps the width at a bend; the limit keeps a sharp bend from throwing a spike
    cosine = np.maximum(_dot(tangent, arriving), _dot(tangent, leaving))
    reach = half_width / np.clip(cosine, 0.7, 1.0)
    raised = center + lift * normal
    sides = np.stack([raised - side * reach[:, None], raised + side * reach[:, None]], axis=1)
    left, right = 2 * path.segments, 2 * path.segments + 1
    following_left, following_right = left + 2, right + 2
    triangles = np.concatenate(
        [np.stack([left, following_left, right], axis=1), np.stack([right, following_left, following_right], axis=1)]
    )
    return sides.reshape(-1, 3).astype(np.float32), triangles


def _gather(of_face: np.ndarray, faces: np.ndarray, n_vertices: int) -> np.ndarray:
    """Sum of a quantity [n_faces, 3] over the faces around each vertex, float64 [n_vertices, 3]."""
    columns = []
    for axis in range(3):
        weights = np.repeat(of_face[:, axis], 3)
        columns.append(np.bincount(faces.ravel(), weights=weights, minlength=n_vertices))
    return np.stack(columns, axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.einsum("ij,ij->i", a, b)
    return result

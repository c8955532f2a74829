"""Cut a triangle mesh along the borders between labeled vertices, without gaps.

Every vertex has a label. A triangle whose corners agree stays whole; where two labels meet it is cut by a straight
segment into a corner and a quadrilateral; where three meet, by three segments from the edges to a triple point.
The cut point of an edge depends on that edge alone, so that both its triangles share it: the result is as watertight
as the mesh before, and a label's faces hang together exactly where its vertices do.

Convention. New vertices follow the old ones: first one a cut edge, then one a triple point. Faces keep their
orientation. Cut points stay `CLEARANCE` of an edge away from its ends, so that no sliver arises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CLEARANCE = 0.03


@dataclass(frozen=True, eq=False)
class Cut:
    """A cut mesh: p vertices, q faces.

    faces        int32 [q, 3]
    label        int32 [q], label of the face
    source       int32 [q], face of the uncut mesh that it was cut from
    corners      int32 [p, 3] and
    weights      float64 [p, 3]: a vertex is this mean of vertices of the uncut mesh
    """

    faces: np.ndarray
    label: np.ndarray
    source: np.ndarray
    corners: np.ndarray
    weights: np.ndarray

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Values at the vertices of the cut mesh, [p, ...], from those at the uncut one's."""
        chosen = values[self.corners]
        return np.einsum("pk,pk...->p...", self.weights, chosen)


def cut_mesh(
    faces: np.ndarray,
    label: np.ndarray,
    edge_position: Callable[[np.ndarray, np.ndarray], np.ndarray],
    triple_point: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Cut:
    """Cut `faces` int32 [m, 3] where the labels of their vertices, int [n], differ.

    `edge_position(a, b)` gives, for edges from vertices a to vertices b, the part of the way at which the border crosses;
    `triple_point(faces)` the barycentric coordinates [k, 3] of the point where the labels of a face's corners meet
    (not needed where there are only two labels).
    """
    n_vertices = len(label)
    corner_label = label[faces]
    differs = corner_label != np.roll(corner_label, -1, axis=1)  # edges 01, 12, 20
    n_cut = differs.sum(axis=1)
    whole, two, three = (np.flatnonzero(n_cut == k) for k in (0, 2, 3))

    ends = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1)[differs].astype(np.int64)
    keys, edge_number = np.unique(ends.min(axis=1) * n_vertices + ends.max(axis=1), return_inverse=True)
    first, second = np.divmod(keys, n_vertices)
    position = np.clip(edge_position(first, second), CLEARANCE, 1 - CLEARANCE)
    cut_vertex = np.full(faces.shape, -1, dtype=np.int64)
    cut_vertex[differs] = n_vertices + edge_number.ravel()

    parts = [(faces[whole], corner_label[whole, 0], whole)]
    if two.size:
        # Turn each face so that its odd corner out stands first: it is where the uncut edge is opposite.
        turn = (np.argmin(differs[two], axis=1)[:, None] + np.array([2, 0, 1])) % 3
        a, b, c = np.take_along_axis(faces[two], turn, axis=1).T
        of_a, of_b, _ = np.take_along_axis(corner_label[two], turn, axis=1).T
        ab, _, ca = np.take_along_axis(cut_vertex[two], turn, axis=1).T
        parts += [
            (np.column_stack(corners), owner, two)
            for corners, owner in (((a, ab, ca), of_a), ((ab, b, c), of_b), ((ab, c, ca), of_b))
        ]
    corners = np.column_stack([first, second, second])
    weights = np.column_stack([1 - position, position, np.zeros(len(first))])
    if three.size:
        if triple_point is None:
            raise ValueError("three labels meet in a face, and there is no rule for where")
        middle = n_vertices + len(first) + np.arange(three.size)
        for k in range(3):
            before, corner, after = cut_vertex[three, (k + 2) % 3], faces[three, k], cut_vertex[three, k]
            owner = corner_label[three, k]
            parts += [
                (np.column_stack([corner, after, middle]), owner, three),
                (np.column_stack([corner, middle, before]), owner, three),
            ]
        corners = np.concatenate([corners, faces[three]])
        weights = np.concatenate([weights, triple_point(faces[three])])

    identity = np.repeat(np.arange(n_vertices)[:, None], 3, axis=1)
    corners = np.concatenate([identity, corners])
    weights = np.concatenate([np.tile([1.0, 0.0, 0.0], (n_vertices, 1)), weights])
    return Cut(
        faces=np.concatenate([part[0] for part in parts]).astype(np.int32),
        label=np.concatenate([part[1] for part in parts]).astype(np.int32),
        source=np.concatenate([part[2] for part in parts]).astype(np.int32),
        corners=corners.astype(np.int32),
        weights=weights,
    )


def cut_at_level(faces: np.ndarray, level: np.ndarray) -> Cut:
    """Cut where a value per vertex, float [n], crosses zero; label 1 where it is above, 0 elsewhere."""

    def edge_position(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return level[a] / (level[a] - level[b])

    return cut_mesh(faces, (level > 0).astype(np.int32), edge_position)


def split_at(faces: np.ndarray, ends: np.ndarray, middle: np.ndarray, n_vertices: int) -> np.ndarray:
    """int [q, 3]: `faces` int [m, 3], each halved at every edge of `ends` int [e, 2] that it has, at `middle` int [e].

    For faces beside a cut mesh, so that they share its cut points.
    """
    keys = ends.min(axis=1).astype(np.int64) * n_vertices + ends.max(axis=1)
    order = np.argsort(keys)
    keys, middle = keys[order], middle[order]
    done = []
    for _ in range(4):  # a face has three edges at most, and each pass halves it at one of them
        sides = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).astype(np.int64)
        wanted = sides.min(axis=-1) * n_vertices + sides.max(axis=-1)
        wanted[(faces >= n_vertices) | (np.roll(faces, -1, axis=1) >= n_vertices)] = -1  # halves of edges are no edges
        place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        hit = keys[place] == wanted if len(keys) else np.zeros(faces.shape, dtype=bool)
        touched = hit.any(axis=1)
        done.append(faces[~touched])
        first = np.argmax(hit[touched], axis=1)
        turn = (first[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(faces[touched], turn, axis=1).T
        x = middle[np.take_along_axis(place[touched], first[:, None], axis=1)[:, 0]]
        faces = np.concatenate([np.column_stack([a, x, c]), np.column_stack([x, b, c])])
    return np.concatenate(done)


def triangle_areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """float64 [m]: area of each face, in the square of the points' unit."""
    a, b, c = np.moveaxis(points[faces].astype(np.float64), 1, 0)
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)

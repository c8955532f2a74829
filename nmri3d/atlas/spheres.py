"""Round meshes to start from: an icosphere, and a tube that is closed at both ends.

Convention. Triangles are counter-clockwise seen from outside. Left out: what they are bent into (`cerebellum`,
`hippocampus`).
"""

from __future__ import annotations

import numpy as np

from nmri3d.atlas.subdivision import face_edges, subdivide

_GOLDEN = (1 + 5**0.5) / 2


def icosphere(n_subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Points float64 [10 * 4^n + 2, 3] on the unit sphere, and faces int32 [20 * 4^n, 3]."""
    corners = [(-1, _GOLDEN, 0), (1, _GOLDEN, 0), (-1, -_GOLDEN, 0), (1, -_GOLDEN, 0)]
    points = np.array([np.roll(corner, turn) for turn in range(3) for corner in corners], dtype=np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = _hull(points)
    for _ in range(n_subdivisions):
        edges, _ = face_edges(faces, len(points))
        middle = points[edges].sum(axis=1)
        points = np.concatenate([points, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        faces = subdivide(faces)
    return points, faces


def _hull(points: np.ndarray) -> np.ndarray:
    """int32 [m, 3]: all triples of points that are one edge of the icosahedron apart."""
    near = np.linalg.norm(points[:, None] - points, axis=-1)
    edge = near[near > 0].min() * 1.01
    n = len(points)
    triples = [
        (a, b, c)
        for a in range(n)
        for b in range(a + 1, n)
        for c in range(b + 1, n)
        if max(near[a, b], near[b, c], near[a, c]) < edge
    ]
    turned = [(a, b, c) if np.linalg.det(points[[a, b, c]]) > 0 else (a, c, b) for a, b, c in triples]
    return np.array(turned, dtype=np.int32)


def tube(n_rings: int, n_around: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A closed tube: place along float64 [n], 0 to 1; angle around float64 [n], radians; faces int32 [m, 3].

    n = n_rings * n_around + 2; the ends, 0 and 1, are one vertex each and stand last. Every other ring is turned by
    half a step, so that triangles are nearly equilateral. Faces are right for a frame whose angle turns from the first
    axis to the second, and whose third axis runs along.
    """
    ring, step = np.indices((n_rings, n_around))
    along = ((ring + 1) / (n_rings + 1)).ravel()
    angle = (2 * np.pi * (step + 0.5 * (ring % 2)) / n_around).ravel()
    here = step[:-1].ravel() + ring[:-1].ravel() * n_around
    beside = (step[:-1].ravel() + 1) % n_around + ring[:-1].ravel() * n_around
    odd = ring[:-1].ravel() % 2 == 1
    above, above_beside = here + n_around, beside + n_around
    # A vertex of the next ring stands before or behind the step, in turn: the diagonal follows it.
    first = np.where(
        odd[:, None], np.column_stack([here, beside, above_beside]), np.column_stack([here, beside, above])
    )
    second = np.where(
        odd[:, None], np.column_stack([here, above_beside, above]), np.column_stack([beside, above_beside, above])
    )
    start, stop = n_rings * n_around, n_rings * n_around + 1
    one = np.arange(n_around)
    following = (one + 1) % n_around
    last = (n_rings - 1) * n_around
    caps = [
        np.column_stack([np.full(n_around, start), following, one]),
        np.column_stack([np.full(n_around, stop), last + one, last + following]),
    ]
    faces = np.concatenate([first, second, *caps]).astype(np.int32)
    return np.append(along, [0.0, 1.0]), np.append(angle, [0.0, 0.0]), faces

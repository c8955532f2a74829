"""How smooth the borders between parcels are.

A border is the chain of edges between two parcels, from one point where three parcels (or two and the medial wall) meet
to the next; it may close on itself. Smoothed, its ends stay, and every point between goes to the mean of itself and of
its two neighbors on the chain, SMOOTHING_STEPS times: about a Gaussian of three edges' width, enough to level teeth as
large as the triangles of the mesh, while a border as long as a parcel keeps its course.

Convention. Lengths are measured along straight edges between points [v, 3] as given. Left out: the border of the medial
wall, which is the cortex's and not the atlas's.
"""

from __future__ import annotations

import numpy as np

from nmri3d.atlas.subdivision import face_edges

SMOOTHING_STEPS = 18


def border_roughness(points: np.ndarray, faces: np.ndarray, face_component: np.ndarray) -> float:
    """Length of all borders between parcels over that of the same borders smoothed; NaN where there are none.

    points float64 [v, 3], faces int [f, 3] of a closed mesh, face_component int [f], -1 for the medial wall.
    """
    edges, edge_of_face = face_edges(faces, len(points))
    sides = np.sort(
        np.repeat(face_component, 3)[np.argsort(edge_of_face.ravel(), kind="stable")].reshape(-1, 2), axis=1
    )
    chosen = (sides[:, 0] != sides[:, 1]) & (sides[:, 0] >= 0)
    edges, sides = edges[chosen], sides[chosen].astype(np.int64)
    if not len(edges):
        return float("nan")
    # A vertex is one node in each pair of parcels that it lies between, so that chains end where three meet.
    pair = np.unique(sides[:, 0] * (int(face_component.max()) + 1) + sides[:, 1], return_inverse=True)[1]
    keys, nodes = np.unique(pair[:, None] * len(points) + edges, return_inverse=True)
    first, second = nodes.reshape(-1, 2).T
    where = points[keys % len(points)].astype(np.float64)
    inner = np.bincount(nodes.ravel(), minlength=len(keys)) == 2
    length = _length(where, first, second)
    for _ in range(SMOOTHING_STEPS):
        around = np.column_stack(
            [
                np.bincount(first, where[second, axis], len(where))
                + np.bincount(second, where[first, axis], len(where))
                for axis in range(3)
            ]
        )
        where = np.where(inner[:, None], where / 2 + around / 4, where)
    return length / _length(where, first, second)


def _length(points: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(points[first] - points[second], axis=1).sum())

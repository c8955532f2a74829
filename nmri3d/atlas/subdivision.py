"""Loop subdivision of a closed triangle mesh: four faces from each, and positions that tend to a smooth surface.

Convention. The new mesh keeps the old vertices first, in their order, then one vertex an edge, edges sorted by their
two vertex numbers. Even (old) vertices move: (1 - k b) x + b sum(neighbors), b = 3/16 for k = 3 neighbors, else
3/(8k) (Warren's weights); odd (edge) vertices stand at 3/8 of each end and 1/8 of each opposite vertex.

Left out: boundaries and creases; the mesh must be closed (each edge in exactly two faces).

Source: Loop 1987, "Smooth subdivision surfaces based on triangles"; Warren 1995.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def face_edges(faces: np.ndarray, n_vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Unique edges int64 [e, 2] (lower vertex first, sorted) and int64 [m, 3]: the edges (01, 12, 20) of each face."""
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).astype(np.int64)
    keys = ends.min(axis=-1) * n_vertices + ends.max(axis=-1)
    unique, inverse = np.unique(keys.ravel(), return_inverse=True)
    return np.column_stack(np.divmod(unique, n_vertices)), inverse.reshape(-1, 3)


def subdivide(faces: np.ndarray) -> np.ndarray:
    """int32 [4 m, 3]: the faces after one step; same orientation."""
    n = int(faces.max()) + 1
    _, edge_of_face = face_edges(faces, n)
    a, b, c = faces.T
    ab, bc, ca = (edge_of_face + n).T
    parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return np.stack([np.column_stack(part) for part in parts], axis=1).reshape(-1, 3).astype(np.int32)


def loop_matrix(faces: np.ndarray, n_vertices: int) -> Any:
    """Sparse [n + edges, n]: values at the vertices after one step from those before."""
    import scipy.sparse as sparse

    edges, edge_of_face = face_edges(faces, n_vertices)
    n_edges = len(edges)
    ends = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sparse.csr_matrix((np.ones(len(ends)), ends.T), shape=(n_vertices, n_vertices))
    valence = np.asarray(adjacency.sum(axis=1)).ravel()
    weight = np.where(valence == 3, 3 / 16, 3 / (8 * valence))
    even = sparse.diags(1 - valence * weight) + sparse.diags(weight) @ adjacency
    opposite = np.roll(faces, 1, axis=1)  # opposite the edge (01) stands vertex 2, and so on
    rows = np.concatenate([np.repeat(np.arange(n_edges), 2), edge_of_face.ravel()])
    columns = np.concatenate([edges.ravel(), opposite.ravel()])
    values = np.concatenate([np.full(2 * n_edges, 3 / 8), np.full(edge_of_face.size, 1 / 8)])
    odd = sparse.csr_matrix((values, (rows, columns)), shape=(n_edges, n_vertices))
    return sparse.vstack([even, odd]).tocsr()

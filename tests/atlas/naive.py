"""Slow and plain computations that the atlas must agree with: loops, dictionaries, flood fill."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np


def area_by_component(points: np.ndarray, faces: np.ndarray, face_component: np.ndarray) -> dict[int, float]:
    """Heron's formula, one face after the other."""
    found: dict[int, float] = defaultdict(float)
    for face, component in zip(faces.tolist(), face_component.tolist(), strict=True):
        a, b, c = (points[k].astype(float).tolist() for k in face)
        x, y, z = math.dist(a, b), math.dist(b, c), math.dist(c, a)
        s = (x + y + z) / 2
        found[component] += math.sqrt(max(s * (s - x) * (s - y) * (s - z), 0.0))
    return dict(found)


def edge_uses(faces: np.ndarray) -> Counter[tuple[int, int]]:
    """How often each edge occurs, by its directed vertex pair."""
    return Counter((f[k], f[(k + 1) % 3]) for f in faces.tolist() for k in range(3))


def pieces_by_component(faces: np.ndarray, face_component: np.ndarray) -> dict[int, int]:
    """Number of pieces, connected across edges, that each component's faces form: flood fill."""
    of_edge: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, face in enumerate(faces.tolist()):
        for k in range(3):
            a, b = face[k], face[(k + 1) % 3]
            of_edge[min(a, b), max(a, b)].append(number)
    neighbors: dict[int, list[int]] = defaultdict(list)
    for pair in of_edge.values():
        if len(pair) == 2 and face_component[pair[0]] == face_component[pair[1]]:
            neighbors[pair[0]].append(pair[1])
            neighbors[pair[1]].append(pair[0])
    seen, found = set(), Counter()
    for start in range(len(faces)):
        if start in seen:
            continue
        found[int(face_component[start])] += 1
        seen.add(start)
        stack = [start]
        while stack:
            for other in neighbors[stack.pop()]:
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
    return dict(found)


def icosahedron() -> tuple[np.ndarray, np.ndarray]:
    """Unit vertices [12, 3] and faces [20, 3], seen counter-clockwise from outside."""
    from scipy.spatial import ConvexHull

    g = (1 + 5**0.5) / 2
    points = np.array([(0, s, t * g) for s in (-1, 1) for t in (-1, 1)], dtype=float)
    points = np.concatenate([np.roll(points, k, axis=1) for k in range(3)])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = ConvexHull(points).simplices
    turned = np.einsum("fk,fk->f", np.cross(*(points[faces[:, k]] for k in (0, 1))), points[faces[:, 2]]) < 0
    faces[turned] = faces[turned][:, ::-1]
    return points, faces.astype(np.int32)

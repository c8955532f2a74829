"""Power diagrams on a surface: which cell a point belongs to, how much each cell holds, and how that changes.

A point x belongs to the cell i with the greatest `x . seed_i + offset_i`; that is the least power distance
|x - seed_i|^2 - |seed_i|^2 - 2 offset_i, on the unit sphere and on any other surface in space. The difference of two such
values is linear in x, so a border runs straight through a flat triangle, and the mass of a cell is a smooth function of
the offsets: the derivative of mass i by offset j is, up to sign, the density along their common border divided by the
slope of the difference across it. Mass is measured with any density per face (here: area on pial).

Convention. A border on an edge is set by the labels of its two ends alone (cutting.py); a cell that touches no vertex
does not exist. Left out: cells much smaller than a triangle.

Source: Aurenhammer 1987, "Power diagrams".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nmri3d.atlas.blocks import Blocks, best_cells, make_blocks
from nmri3d.atlas.cutting import CLEARANCE, Cut, cut_mesh

_DENSE_LIMIT = 400
"""Up to so many cells, every point is compared with every seed."""


@dataclass(frozen=True, eq=False)
class Domain:
    """The surface that is divided: n points on the unit sphere, or on a body about as large, m faces.

    points     float64 [n, 3]; faces int32 [m, 3]
    mass       float64 [m], what targets are measured in (area on pial, mm^2)
    size       float64 [m], area on the surface that the points lie on
    on_sphere  whether that is the unit sphere, on which seeds then stay
    forbidden  points int [k], and a cell that may not have them
    """

    points: np.ndarray
    faces: np.ndarray
    mass: np.ndarray
    size: np.ndarray
    on_sphere: bool = True
    forbidden: tuple[tuple[np.ndarray, int], ...] = ()

    def forbidding(self, more: list[tuple[np.ndarray, int]]) -> Domain:
        """The same surface with more points forbidden to cells; what was found out about it is kept."""
        other = replace(self, forbidden=(*self.forbidden, *more))
        for name in ("face_center", "edges", "graph", "blocks", "homogeneous"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    @cached_property
    def face_center(self) -> np.ndarray:
        """float64 [m, 3]"""
        return self.points[self.faces].mean(axis=1)

    @cached_property
    def edges(self) -> np.ndarray:
        """int [e, 2]: pairs of points joined by an edge, each once."""
        edges = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        return np.unique(np.sort(edges, axis=1), axis=0)

    @cached_property
    def graph(self) -> Any:
        """Sparse [n, n]: lengths of the edges."""
        import scipy.sparse as sparse

        edges = self.edges
        length = np.linalg.norm(self.points[edges[:, 0]] - self.points[edges[:, 1]], axis=1)
        return sparse.csr_matrix((length, edges.T), shape=(len(self.points), len(self.points)))

    @cached_property
    def rim_distance(self) -> np.ndarray:
        """float64 [n]: way along the edges to the nearest point of the rim; infinite without one."""
        from scipy.sparse.csgraph import dijkstra

        from nmri3d.atlas.subdivision import face_edges

        edges, edge_of_face = face_edges(self.faces, len(self.points))
        rim = np.unique(edges[np.bincount(edge_of_face.ravel(), minlength=len(edges)) == 1])
        if not len(rim):
            return np.full(len(self.points), np.inf)
        distance: np.ndarray = dijkstra(self.graph, directed=False, indices=rim, min_only=True)
        return distance

    @cached_property
    def blocks(self) -> Blocks:
        """The points in blocks that lie together."""
        return make_blocks(self.points)

    @cached_property
    def homogeneous(self) -> np.ndarray:
        """float32 [n, 4]: the points and a 1."""
        return np.column_stack([self.points, np.ones(len(self.points))]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Measure:
    """What `measure` finds, for k cells: mass float64 [k], moment float64 [k, 3] (integral of x over the surface), size
    float64 [k] (area on it), laplacian sparse [k, k] (derivative of mass by offset), label int [n]."""

    mass: np.ndarray
    moment: np.ndarray
    size: np.ndarray
    laplacian: Any
    label: np.ndarray


def plain_offsets(seeds: np.ndarray) -> np.ndarray:
    """float64 [k]: offsets with which every point belongs to the seed [k, 3] that is nearest to it."""
    result: np.ndarray = (1 - (seeds**2).sum(axis=1)) / 2
    return result


def nearest_cell(domain: Domain, seeds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64 [n]: the cell of each point."""
    if len(seeds) <= _DENSE_LIMIT:
        # Single precision: at a tie it decides between two cells whose border lies at the point anyway.
        label = np.argmax(domain.homogeneous @ np.column_stack([seeds, offsets]).astype(np.float32).T, axis=1)
    else:
        label = best_cells(domain.blocks, len(domain.points), seeds, offsets)
    if domain.forbidden:
        points = np.unique(np.concatenate([points for points, _ in domain.forbidden]))
        value = domain.points[points] @ seeds.T + offsets
        for others, cell in domain.forbidden:
            value[np.searchsorted(points, others), cell] = -np.inf
        label[points] = np.argmax(value, axis=1)
    return label


def _differences(
    points: np.ndarray, seeds: np.ndarray, offsets: np.ndarray, i: np.ndarray, j: np.ndarray, at: Iterable[np.ndarray]
) -> list[np.ndarray]:
    """Value of cells i [f] minus that of cells j [f], for each of the points number `at`, [f] each."""
    slope, offset_i, offset_j = seeds[i] - seeds[j], offsets[i], offsets[j]
    return [np.einsum("fk,fk->f", points[one], slope) + offset_i - offset_j for one in at]


def _crossing(value_a: np.ndarray, value_b: np.ndarray) -> np.ndarray:
    """Part of the way from a, where a difference is value_a, to b at which it is zero."""
    span = value_a - value_b
    safe = np.where(np.abs(span) < 1e-300, 1.0, span)
    return np.clip(np.where(np.abs(span) < 1e-300, 0.5, value_a / safe), CLEARANCE, 1 - CLEARANCE)


def _triple_points(
    points: np.ndarray, seeds: np.ndarray, offsets: np.ndarray, faces: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """float64 [f, 3]: barycentric coordinates of the point where the labels of each face's corners meet.

    Where it falls outside the face, the nearest place inside is taken: the face cannot show the border beyond.
    """
    i, j, k = label[faces].T
    ij = np.column_stack(_differences(points, seeds, offsets, i, j, faces.T))
    jk = np.column_stack(_differences(points, seeds, offsets, j, k, faces.T))
    weights = np.cross(ij, jk)
    total = weights.sum(axis=1, keepdims=True)
    flat = np.abs(total) < 1e-12 * np.abs(weights).sum(axis=1, keepdims=True) + 1e-300
    weights = np.where(flat, 1 / 3, weights / np.where(flat, 1.0, total))
    weights = np.clip(weights, 2 * CLEARANCE, None)
    return weights / weights.sum(axis=1, keepdims=True)


def measure(domain: Domain, seeds: np.ndarray, offsets: np.ndarray, label: np.ndarray | None = None) -> Measure:
    """Masses, moments and the derivative of the masses, for seeds float64 [k, 3] and offsets float64 [k]."""
    import scipy.sparse as sparse

    points, faces, n_cells = domain.points, domain.faces, len(seeds)
    if label is None:
        label = nearest_cell(domain, seeds, offsets)
    corner = label[faces]
    differs = corner != np.roll(corner, -1, axis=1)
    n_cut = differs.sum(axis=1)
    whole, two, three = (np.flatnonzero(n_cut == k) for k in (0, 2, 3))
    owner, face, share = [corner[whole, 0]], [whole], [np.ones(len(whole))]
    border: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    turn = (np.argmin(differs[two], axis=1)[:, None] + np.array([2, 0, 1])) % 3
    a, b, c = np.take_along_axis(faces[two], turn, axis=1).T
    i, j = label[a], label[b]
    at_a, at_b, at_c = _differences(points, seeds, offsets, i, j, (a, b, c))
    ab, ac = _crossing(at_a, at_b), _crossing(at_a, at_c)
    owner += [i, j]
    face += [two, two]
    share += [ab * ac, 1 - ab * ac]
    border.append((i, j, _flux(domain.mass[two], ab, 0.0 * ab, 0.0 * ac, ac, at_b - at_a, at_c - at_a)))

    if three.size:
        corners = faces[three]
        center = _triple_points(points, seeds, offsets, corners, label)
        for k in range(3):
            # In each turn the corner a is the origin, b and c carry the coordinates.
            a, b, c = (corners[:, (k + s) % 3] for s in range(3))
            x, y = center[:, (k + 1) % 3], center[:, (k + 2) % 3]
            i, j, h = label[a], label[b], label[c]
            ij = _differences(points, seeds, offsets, i, j, (a, b, c))
            ab = _crossing(ij[0], ij[1])
            ac = _crossing(*_differences(points, seeds, offsets, i, h, (a, c)))
            owner.append(i)
            face.append(three)
            share.append(ab * y + x * ac)  # quadrilateral a, ab, center, ac
            border.append((i, j, _flux(domain.mass[three], ab, 0.0 * ab, x, y, ij[1] - ij[0], ij[2] - ij[0])))

    of, where, part = np.concatenate(owner), np.concatenate(face), np.concatenate(share)
    mass = np.bincount(of, weights=part * domain.mass[where], minlength=n_cells)
    size = part * domain.size[where]
    moment = np.column_stack(
        [np.bincount(of, weights=size * domain.face_center[where, k], minlength=n_cells) for k in range(3)]
    )
    total = np.bincount(of, weights=size, minlength=n_cells)
    i, j, flux = (np.concatenate(column) for column in zip(*border, strict=True))
    coupling = sparse.coo_matrix((flux, (i, j)), shape=(n_cells, n_cells)).tocsr()
    coupling = coupling + coupling.T
    laplacian = sparse.diags(np.asarray(coupling.sum(axis=1)).ravel()) - coupling
    return Measure(mass, moment, total, laplacian, label)


def _flux(mass: np.ndarray, px: Any, py: Any, qx: Any, qy: Any, slope_x: np.ndarray, slope_y: np.ndarray) -> np.ndarray:
    """Mass that a border from p to q sweeps per unit of offset, in a face's own coordinates (corner, two edges).

    A linear function with that slope sweeps length / |slope|; the unit triangle has area 1/2, the face its mass.
    """
    slope = np.hypot(slope_x, slope_y)
    return 2 * mass * np.hypot(qx - px, qy - py) / np.maximum(slope, 1e-12)


def vertex_pieces(edges: np.ndarray, label: np.ndarray) -> np.ndarray:
    """int [n]: number of the connected piece of equal labels that each vertex lies in; `edges` int [e, 2]."""
    import scipy.sparse as sparse
    from scipy.sparse.csgraph import connected_components

    edges = edges[label[edges[:, 0]] == label[edges[:, 1]]]
    graph = sparse.coo_matrix((np.ones(len(edges), dtype=np.int8), edges.T), shape=(len(label), len(label)))
    return connected_components(graph, directed=False)[1]


def cut_cells(domain: Domain, seeds: np.ndarray, offsets: np.ndarray, label: np.ndarray) -> Cut:
    """The domain's mesh cut along the borders of its cells; `label` is what `measure` gave."""

    def edge_position(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        i, j = label[a], label[b]
        return _crossing(*_differences(domain.points, seeds, offsets, i, j, (a, b)))

    def triple_point(faces: np.ndarray) -> np.ndarray:
        return _triple_points(domain.points, seeds, offsets, faces, label)

    return cut_mesh(domain.faces, label, edge_position, triple_point)

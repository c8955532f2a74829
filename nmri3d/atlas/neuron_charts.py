"""Charts: flat maps of parcels, side by side in one picture, in which neurons have their cells.

A chart is the azimuthal equal-area projection (Lambert's) of a parcel's part of the sphere about its middle, turned so that
its frame is smallest, and scaled so that every neuron of the parcel has the same number of texels in all charts. The
charts stand in one picture in rows, each in a rectangle with a margin of MARGIN texels all around.

Convention. Texel (row, column) has its center at (column + 0.5, row + 0.5) in units of texels; row 0 is at v = 0. A texel lies
in a parcel if its center lies in one of the parcel's triangles.

Left out: which neuron has which texel (neuron_cells.py, neuron_places.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nmri3d.errors import InputError

MARGIN = 2
LARGEST = 4096
"""Texels along a side of the picture; every WebGL 2 device takes it."""
_BRIDGED = 2
"""Times that pieces of a parcel which lie within two texels are joined."""
_TURNS = 45
"""Angles that are tried for the smallest frame."""


@dataclass(frozen=True, eq=False)
class Chart:
    """The chart of one parcel: k vertices, m triangles.

    vertex  int32 [k], vertices of the atlas
    points  float64 [k, 2], (x, y) in texels from the corner of the chart's rectangle
    faces   int32 [m, 3], places in `vertex`
    region  bool [h, w], texels whose center lies in the parcel
    """

    vertex: np.ndarray
    points: np.ndarray
    faces: np.ndarray
    region: np.ndarray


def sphere_directions(points: np.ndarray) -> np.ndarray:
    """Unit vectors float64 [n, 3] from the center of the sphere on which points float [n, 3] lie."""
    points = np.asarray(points, dtype=np.float64)
    # |p|^2 = 2 c . p + (r^2 - |c|^2) is linear in the center c
    system = np.column_stack([2 * points, np.ones(len(points))])
    center = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0][:3]
    away = points - center
    return away / np.linalg.norm(away, axis=1, keepdims=True)


def make_chart(directions: np.ndarray, faces: np.ndarray, n_neurons: int, texels_per_neuron: float) -> Chart:
    """The chart of a parcel of a sphere, given by unit vectors [v, 3] of all vertices and its own faces int [m, 3]."""
    vertex, local = np.unique(faces, return_inverse=True)
    local = local.reshape(-1, 3).astype(np.int32)
    flat = _turned(_projected(directions[vertex], local))
    scale = np.sqrt(n_neurons * texels_per_neuron / np.abs(_doubled_areas(flat[local])).sum() * 2)
    for _ in range(8):
        points = (flat - flat.min(axis=0)) * scale + MARGIN
        width, height = (int(np.ceil(side)) + MARGIN for side in points.max(axis=0))
        region = rasterize(points[local], (height, width))[0] >= 0
        if region.sum() >= n_neurons:
            return Chart(vertex.astype(np.int32), points, local, _one_piece(region, n_neurons))
        scale *= 1.1  # a parcel so thin that its triangles miss the centers of texels
    raise InputError(f"a parcel is too thin to hold {n_neurons} neurons; use a finer mesh")


def rasterize(triangles: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Triangle int32 [h, w] in which each texel's center lies (-1: none), and its barycentric coordinates [h, w, 3].

    triangles  float [m, 3, 2], (x, y) of the corners in texels; of several, the last one counts
    """
    low = np.floor(triangles.min(axis=1) - 0.5).astype(np.int64) + 1
    high = np.floor(triangles.max(axis=1) - 0.5).astype(np.int64) + 1
    size = np.maximum(high - low, 0)
    count = size[:, 0] * size[:, 1]
    triangle = np.repeat(np.arange(len(triangles)), count)
    within = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(within, np.maximum(size[triangle, 0], 1))
    column, row = column + low[triangle, 0], row + low[triangle, 1]
    a, b, c = (triangles[triangle, corner] for corner in range(3))
    point = np.column_stack([column, row]) + 0.5
    area = _cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.column_stack([_cross(b - point, c - point), _cross(c - point, a - point)]) / area[:, None]
    weights = np.column_stack([weights, 1 - weights.sum(axis=1)])
    inside = (weights >= -1e-9).all(axis=1) & (row >= 0) & (column >= 0) & (row < shape[0]) & (column < shape[1])
    of_texel = np.full(shape, -1, dtype=np.int32)
    coordinates = np.zeros((*shape, 3))
    row, column = row[inside], column[inside]
    of_texel[row, column] = triangle[inside]
    coordinates[row, column] = weights[inside]
    return of_texel, coordinates


def pack(shapes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Corners (row, column) of rectangles of shapes (h, w) in one picture, and the shape of that picture.

    In rows, the highest first; of some widths of the picture, the one with the smallest area. Raises InputError where they
    do not fit.
    """
    area = sum(height * width for height, width in shapes)
    widest = max(width for _, width in shapes)
    order = sorted(range(len(shapes)), key=lambda at: (-shapes[at][0], -shapes[at][1], at))
    best: tuple[list[tuple[int, int]], tuple[int, int]] | None = None
    for factor in np.linspace(0.8, 1.6, 33):
        width = min(LARGEST, max(widest, int(factor * np.sqrt(area))))
        corners, used = [(0, 0)] * len(shapes), 0
        row = column = next_row = 0
        for at in order:
            if column + shapes[at][1] > width:
                row, column = next_row, 0
            corners[at] = (row, column)
            column += shapes[at][1]
            used, next_row = max(used, column), max(next_row, row + shapes[at][0])
        fits = used <= LARGEST and next_row <= LARGEST
        if fits and (best is None or used * next_row < best[1][0] * best[1][1]):
            best = corners, (next_row, used)
    if best is None:
        raise InputError(f"the charts do not fit in a picture of {LARGEST} by {LARGEST} texels; show fewer neurons")
    return best


def filled(image: np.ndarray, missing: np.ndarray, reach: float = 2 * MARGIN) -> np.ndarray:
    """A chart's picture [h, w] whose missing texels take the nearest other's value, up to `reach` texels away.

    What a face shows at its rim may come from a texel whose center lies just outside of all faces.
    """
    from scipy.ndimage import distance_transform_edt

    distance, (row, column) = distance_transform_edt(missing, return_indices=True)
    return np.where(distance <= reach, image[row, column], image)


def _projected(directions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Lambert's azimuthal equal-area projection float64 [k, 2] of unit vectors [k, 3] about the middle of the faces."""
    corners = directions[faces]
    center = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(center, axis=1, keepdims=True)
    middle = (corners.mean(axis=1) * size).sum(axis=0)
    middle /= np.linalg.norm(middle) or 1.0
    if (directions @ middle).min() < -0.95:
        # The parcel reaches around to the opposite point, which has no place on the map: turn away from a gap.
        middle = -_widest_gap(directions)
    helper = np.eye(3)[np.argmin(np.abs(middle))]
    right = np.cross(helper, middle)
    right /= np.linalg.norm(right)
    up = np.cross(middle, right)
    scale = np.sqrt(2 / np.maximum(1 + directions @ middle, 1e-6))[:, None]
    return scale * np.column_stack([directions @ right, directions @ up])


def _widest_gap(directions: np.ndarray) -> np.ndarray:
    """The direction that is farthest from all of the given ones, of 2,000 spread evenly over the sphere."""
    from scipy.spatial import cKDTree

    k = np.arange(2000) + 0.5
    z, turn = 1 - 2 * k / 2000, k * np.pi * (1 + 5**0.5)
    radius = np.sqrt(1 - z * z)
    candidates = np.column_stack([radius * np.cos(turn), radius * np.sin(turn), z])
    widest: np.ndarray = candidates[np.argmax(cKDTree(directions).query(candidates)[0])]
    return widest


def _turned(flat: np.ndarray) -> np.ndarray:
    """Points float64 [k, 2] turned so that their frame is smallest, wider than high."""
    angles = np.linspace(0, np.pi, 2 * _TURNS, endpoint=False)
    x = np.outer(flat[:, 0], np.cos(angles)) + np.outer(flat[:, 1], np.sin(angles))
    y = np.outer(flat[:, 1], np.cos(angles)) - np.outer(flat[:, 0], np.sin(angles))
    width, height = np.ptp(x, axis=0), np.ptp(y, axis=0)
    best = np.argmin(np.where(width >= height, width * height, np.inf))
    return np.column_stack([x[:, best], y[:, best]])


def _one_piece(region: np.ndarray, n: int) -> np.ndarray:
    """The region with narrow gaps bridged, and without islands that still hold less than a neuron.

    Both come from places where the parcel is thinner than a texel.
    """
    from scipy.ndimage import binary_dilation, label

    pieces, count = label(region)
    for _ in range(_BRIDGED):
        if count < 2:
            return region
        main = pieces == np.argmax(np.bincount(pieces[region]))
        region = region | (binary_dilation(main) & binary_dilation(region & ~main))
        pieces, count = label(region)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept: np.ndarray = (sizes >= min(region.sum() / n, sizes.max()))[pieces]
    return kept if kept.sum() >= n else region


def _doubled_areas(triangles: np.ndarray) -> np.ndarray:
    return _cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result: np.ndarray = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return result

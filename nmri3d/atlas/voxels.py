"""Scan conversion: which voxel centers lie in tetrahedra or in a closed surface, and which voxels triangles pass through.

Convention. Points are in voxels: the center of voxel (i, j, k) is at (i, j, k), and it reaches half a unit to all sides.
A voxel of an image of shape (x, y, z) is told by its place in the flattened array, (i * y + j) * z + k; voxels outside of
the image are left out. All three tests are exact up to rounding and work in chunks of bounded memory.

Left out: what the voxels mean (volume.py). numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_CHUNK = 2_000_000
"""Pairs of element and voxel that are tested at once; about 200 MB."""
_SLACK = 1e-9
_SHIFT = np.array([1.234e-5, 2.345e-5])
"""Columns of voxels are seen this much aside, so that none passes through a vertex or along an edge."""


def inside_tetrahedra(
    points: np.ndarray, weights: np.ndarray, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxel centers in tetrahedra, float64 [t, 4, 3].

    weights: values at the four corners, [k, 4], of the tetrahedra t = 0 .. k - 1, k .. 2 k - 1, ... in turn. Returns, for
    each pair of a center and a tetrahedron that holds it (walls belong to both sides), the voxel int64, the tetrahedron
    int64, and the value at the center, float64, between those of the corners.
    """
    edges = points[:, :3] - points[:, 3:]
    volume = np.linalg.det(edges)
    solid = np.flatnonzero(np.abs(volume) > 1e-12)
    inverse = np.zeros_like(edges)
    inverse[solid] = np.linalg.inv(edges[solid])
    low, high = np.ceil(points.min(axis=1) - _SLACK), np.floor(points.max(axis=1) + _SLACK)
    found = []
    for number, center in _candidates(low, high, shape, solid):
        shares = np.einsum("ni,nij->nj", center - points[number, 3], inverse[number])
        last = 1 - shares.sum(axis=1)
        inside = (shares.min(axis=1) >= -_SLACK) & (last >= -_SLACK)
        number, shares = number[inside], np.column_stack([shares, last])[inside]
        value = np.einsum("ni,ni->n", shares, weights[number % len(weights)])
        found.append((_flat(center[inside], shape), number, value))
    voxel, tetrahedron, value = zip(*found, strict=True) if found else ((), (), ())
    return _joined(voxel, np.int64), _joined(tetrahedron, np.int64), _joined(value, np.float64)


def through_triangles(
    points: np.ndarray, shape: tuple[int, int, int], among: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels that triangles, float64 [t, 3, 3], pass through; `among`, bool [voxels], leaves others out.

    Returns, for each pair, the voxel int64, the triangle int64, and the distance of the triangle's middle from the
    center, float64. By separating axes: Akenine-Moeller 2001, Journal of Graphics Tools 6(1):29.
    """
    low, high = np.ceil(points.min(axis=1) - 0.5 - _SLACK), np.floor(points.max(axis=1) + 0.5 + _SLACK)
    edges = np.roll(points, -1, axis=1) - points
    normal = np.cross(edges[:, 0], edges[:, 1])
    reach = 0.5 * np.abs(normal).sum(axis=1)
    middle = points.mean(axis=1)
    found = []
    for number, center in _candidates(low, high, shape, np.arange(len(points))):
        if among is not None:
            wanted = among[_flat(center, shape)]
            number, center = number[wanted], center[wanted]
        from_plane = np.einsum("ni,ni->n", normal[number], center - points[number, 0])
        near = np.abs(from_plane) <= reach[number] * (1 + _SLACK)
        number, center = number[near], center[near]
        apart = np.zeros(len(number), dtype=bool)
        corners = points[number] - center[:, None]
        for edge in range(3):
            for unit in np.eye(3):
                axis = np.cross(edges[number, edge], unit)
                along = np.einsum("nci,ni->nc", corners, axis)
                half = 0.5 * np.abs(axis).sum(axis=1) * (1 + _SLACK)
                apart |= (along.min(axis=1) > half) | (along.max(axis=1) < -half)
        number, center = number[~apart], center[~apart]
        found.append((_flat(center, shape), number, np.linalg.norm(middle[number] - center, axis=1)))
    voxel, triangle, distance = zip(*found, strict=True) if found else ((), (), ())
    return _joined(voxel, np.int64), _joined(triangle, np.int64), _joined(distance, np.float64)


def inside_winding(points: np.ndarray, faces: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """bool [x, y, z]: voxel centers about which closed surfaces wind, counter-clockwise seen from outside.

    points float64 [n, 3], faces int [f, 3]. Where a surface cuts itself, what it winds around at least once is inside.
    """
    corners = points[faces]
    low, high = np.ceil(corners.min(axis=1)), np.floor(corners.max(axis=1))
    low[:, 2] = high[:, 2] = 0  # columns of voxels, not voxels
    winding = np.zeros((shape[0] * shape[1], shape[2] + 1), dtype=np.int32)
    ends = np.roll(corners, -1, axis=1)[..., :2]
    for number, column in _candidates(low, high, (shape[0], shape[1], 1), np.arange(len(faces))):
        at = column[:, None, :2] + _SHIFT
        start, side = corners[number, :, :2], ends[number] - corners[number, :, :2]
        turn = side[..., 0] * (at[..., 1] - start[..., 1]) - side[..., 1] * (at[..., 0] - start[..., 0])
        up = (turn > 0).all(axis=1)
        hit = up | (turn < 0).all(axis=1)
        number, column, turn, up = number[hit], column[hit], turn[hit], up[hit]
        # The side opposite of a corner tells the corner's share.
        height = np.einsum("nc,nc->n", np.roll(turn, -1, axis=1), corners[number, :, 2]) / turn.sum(axis=1)
        first = np.clip(np.ceil(height), 0, shape[2]).astype(np.int64)
        # Seen from below, a surface is entered through a face that looks down.
        np.add.at(winding, (_flat(column, (shape[0], shape[1], 1)), first), np.where(up, -1, 1))
    return (np.cumsum(winding[:, :-1], axis=1) > 0).reshape(shape)


def _candidates(
    low: np.ndarray, high: np.ndarray, shape: tuple[int, int, int], numbers: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of pairs: numbers of elements, and voxels float64 [m, 3] of the image in their boxes low to high."""
    most = np.array(shape) - 1
    low, high = np.clip(low[numbers], 0, None).astype(np.int64), np.minimum(high[numbers], most).astype(np.int64)
    size = np.maximum(high - low + 1, 0)
    count = size.prod(axis=1)
    numbers, low, size, count = (array[count > 0] for array in (numbers, low, size, count))
    total = np.cumsum(count)
    start = 0
    while start < len(numbers):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _CHUNK, side="right")))
        part = slice(start, stop)
        element = np.repeat(np.arange(start, stop), count[part])
        within = np.arange(len(element)) - np.repeat(total[part] - count[part] - done, count[part])
        tall, wide = size[element, 2], size[element, 1]
        voxel = np.stack([within // (wide * tall), within // tall % wide, within % tall], axis=1) + low[element]
        yield numbers[element], voxel.astype(np.float64)
        start = stop


def _flat(voxel: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    i, j, k = voxel.astype(np.int64).T
    return (i * shape[1] + j) * shape[2] + k


def _joined(parts: tuple[np.ndarray, ...], dtype: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)

"""Tubes: triangles around paths, and which tube a line of sight meets. Real triangles, because vtk.js draws no lines as tubes.

Convention. Points are mm. A path has SAMPLES points and unit tangents; every tube has as many points and triangles as
any other, one tube after the other, so that a triangle's or a point's number tells its tube.

Left out: where paths run and what they mean (tracts.py), VTK (tract_actor.py). numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.scene.tracts import SAMPLES

SIDES = 8
"""Corners of a tube's cross-section."""


@dataclass(frozen=True, eq=False)
class Tubes:
    """Tubes as one triangle mesh; every tube has as many points and triangles as any other, one after the other.

    points     float32 [e * points_each, 3]
    normals    float32 [e * points_each, 3]
    triangles  int64 [e * triangles_each, 3]
    colors     uint8 [e * points_each, 3]
    """

    points: np.ndarray
    normals: np.ndarray
    triangles: np.ndarray
    colors: np.ndarray


POINTS_EACH = SAMPLES * SIDES + 2
"""Points of one tube: SAMPLES rings of SIDES, then the middles of the first and of the last cap."""
TRIANGLES_EACH = 2 * (SAMPLES - 1) * SIDES + 2 * SIDES


def tube_mesh(points: np.ndarray, tangents: np.ndarray, radius: np.ndarray, colors: np.ndarray) -> Tubes:
    """Tubes around paths [e, SAMPLES, 3] with radii [e] and colors uint8 [e, SAMPLES, 3], closed by flat caps."""
    points, tangents = points.astype(np.float64), tangents.astype(np.float64)
    n = len(points)
    across = _steady_across(points, tangents)
    third = np.cross(tangents, across)
    angle = 2 * np.pi * np.arange(SIDES) / SIDES
    outward = across[:, :, None] * np.cos(angle)[:, None] + third[:, :, None] * np.sin(angle)[:, None]
    rings = points[:, :, None] + outward * np.reshape(radius, (n, 1, 1, 1))
    ends = points[:, [0, -1]]
    cap_normals = tangents[:, [0, -1]] * np.array([-1.0, 1.0])[:, None]
    all_points = np.concatenate([rings.reshape(n, SAMPLES * SIDES, 3), ends], axis=1)
    normals = np.concatenate([outward.reshape(n, SAMPLES * SIDES, 3), cap_normals], axis=1)
    all_colors = np.concatenate([np.repeat(colors, SIDES, axis=1), colors[:, [0, -1]]], axis=1)
    triangles = _triangles_of_one()[None] + (POINTS_EACH * np.arange(n))[:, None, None]
    return Tubes(
        all_points.reshape(-1, 3).astype(np.float32),
        normals.reshape(-1, 3).astype(np.float32),
        triangles.reshape(-1, 3),
        np.ascontiguousarray(all_colors.reshape(-1, 3)),
    )


def nearest_tube(points: np.ndarray, radius: np.ndarray, start: np.ndarray, end: np.ndarray, slack: float) -> int:
    """Position [e] of the tube that a line of sight from `start` to `end` meets first, -1 for none.

    points: paths [e, SAMPLES, 3]; radius [e] and slack (how far a miss still counts) in mm. A tube that is really hit
    goes before one that is only near.
    """
    if not len(points):
        return -1
    a, b = points[:, :-1].astype(np.float64), points[:, 1:].astype(np.float64)
    sight = _unit(end - start)
    along, offset = b - a, a - start
    # nearest points of the segment (share u) and of the line of sight (distance v)
    steep = along @ sight
    length = np.einsum("esx,esx->es", along, along)
    slant = np.maximum(length - steep**2, 1e-12)
    u = np.clip((steep * (offset @ sight) - np.einsum("esx,esx->es", along, offset)) / slant, 0.0, 1.0)
    v = offset @ sight + u * steep
    miss = np.linalg.norm(offset + u[..., None] * along - v[..., None] * sight, axis=-1) - radius[:, None]
    miss = np.where(v > 0, miss, np.inf)
    hit = miss <= 0
    if hit.any():
        return int(np.unravel_index(np.where(hit, v, np.inf).argmin(), v.shape)[0])
    nearest = int(miss.argmin())
    return nearest // miss.shape[1] if miss.flat[nearest] <= slack else -1


def _steady_across(points: np.ndarray, tangents: np.ndarray) -> np.ndarray:
    """Unit vectors across paths that turn as little as possible (Wang et al. 2008, double reflection)."""
    across = np.empty_like(points)
    axis = np.eye(3)[np.abs(tangents[:, 0]).argmin(axis=1)]
    across[:, 0] = _unit(np.cross(tangents[:, 0], axis))
    for i in range(points.shape[1] - 1):
        step = points[:, i + 1] - points[:, i]
        reflected, along = _reflect(across[:, i], step), _reflect(tangents[:, i], step)
        turned = _reflect(reflected, tangents[:, i + 1] - along)
        straight = turned - np.einsum("ex,ex->e", turned, tangents[:, i + 1])[:, None] * tangents[:, i + 1]
        across[:, i + 1] = _unit(straight)
    return across


def _reflect(vector: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Vectors [e, 3] mirrored in the planes that `mirror` stands on; unchanged where it has no length."""
    size = np.einsum("ex,ex->e", mirror, mirror)[:, None]
    share = np.divide(2 * np.einsum("ex,ex->e", mirror, vector)[:, None], size, out=np.zeros_like(size), where=size > 0)
    result: np.ndarray = vector - share * mirror
    return result


def _triangles_of_one() -> np.ndarray:
    """Triangles of the first tube, int64 [TRIANGLES_EACH, 3], counter-clockwise seen from outside."""
    ring, corner = np.indices((SAMPLES - 1, SIDES)).reshape(2, -1)
    here, beside = ring * SIDES + corner, ring * SIDES + (corner + 1) % SIDES
    wall = np.concatenate(
        [np.stack([here, beside, here + SIDES], axis=1), np.stack([beside, beside + SIDES, here + SIDES], axis=1)]
    )
    first, last = SAMPLES * SIDES, SAMPLES * SIDES + 1
    corner = np.arange(SIDES)
    following = (corner + 1) % SIDES
    end = (SAMPLES - 1) * SIDES
    caps = [
        np.stack([np.full(SIDES, first), following, corner], axis=1),
        np.stack([np.full(SIDES, last), end + corner, end + following], axis=1),
    ]
    return np.concatenate([wall, *caps]).astype(np.int64)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)

"""A small atlas for tests: two spheres, parcels whose place on the screen is known from their definition.

Left sphere: row 1 is the cap that faces left (-x), the medial cap is wall, five heads share the ring between them by
the angle about the x axis. Right sphere: row 8 is the cap that faces right (+x), then wall, and embed, an MLP and
unembed on the ring. Row 7 is an attention bias, which has no place.
"""

import numpy as np

from nmri3d.atlas import Atlas
from nmri3d.components import ComponentTable

LEFT_CAP, BIAS, RIGHT_CAP = 1, 7, 8
GEOMETRY = {"pial": (40.0, 45.0), "inflated": (60.0, 70.0), "white": (35.0, 45.0), "sphere": (50.0, 60.0)}
"""Surface name -> radius and distance of the centers from the midline, mm."""


def small_table() -> ComponentTable:
    return ComponentTable(
        kind=["embed", *["head"] * 6, "attn_bias", "mlp", "mlp", "unembed"],
        layer=[-1, 0, 0, 0, 1, 1, 1, 1, 0, 1, -1],
        index=[-1, 0, 1, 2, 0, 1, 2, -1, -1, -1, -1],
        n_params=[5000, 100, 100, 100, 100, 100, 100, 3, 900, 900, 40],
    )


def icosphere(n_subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit sphere, float64 [n, 3], and faces, int32 [m, 3], counter-clockwise seen from outside."""
    import pyvista

    mesh = pyvista.Icosphere(radius=1.0, nsub=n_subdivisions)
    return np.asarray(mesh.points, dtype=np.float64), mesh.regular_faces.astype(np.int32)


def _unrolled(points: np.ndarray, side: int) -> np.ndarray:
    """The sphere of one side as a disk in the plane z = 0, the cap that faces outward in the middle."""
    away = np.arccos(np.clip(side * points[:, 0], -1, 1))
    across = np.hypot(points[:, 1], points[:, 2])
    plane = np.column_stack([side * points[:, 1], points[:, 2]]) / np.maximum(across, 1e-9)[:, None]
    return np.column_stack([20 * away[:, None] * plane + [side * 65.0, 0.0], np.zeros(len(points))])


def small_atlas(n_subdivisions: int = 4) -> Atlas:
    points, faces = icosphere(n_subdivisions)
    middle = points[faces].mean(axis=1)
    angle = np.arctan2(middle[:, 2], middle[:, 1])
    ring = np.floor((angle + np.pi) / (2 * np.pi) * 5).clip(0, 4).astype(int)
    left = np.where(middle[:, 0] < -0.85, LEFT_CAP, np.where(middle[:, 0] > 0.85, -1, 2 + ring))
    of_ring = np.array([0, 0, 9, 9, 10])
    right = np.where(middle[:, 0] > 0.85, RIGHT_CAP, np.where(middle[:, 0] < -0.85, -1, of_ring[ring]))
    n = len(points)
    surfaces = {
        name: np.concatenate([radius * points - [shift, 0, 0], radius * points + [shift, 0, 0]]).astype(np.float32)
        for name, (radius, shift) in GEOMETRY.items()
    }
    surfaces["flat"] = np.concatenate([_unrolled(points, -1), _unrolled(points, 1)]).astype(np.float32)
    depth = np.tile(np.sin(8 * points[:, 1]), 2).astype(np.float32)
    return Atlas(
        components=small_table(),
        surfaces=surfaces,
        faces=np.concatenate([faces, faces + n]).astype(np.int32),
        face_component=np.concatenate([left, right]).astype(np.int32),
        sulcal_depth=depth,
        curvature=depth,
        n_left_vertices=n,
        n_left_faces=len(faces),
        target_area=np.ones(11),
        area=np.ones(11),
        layout="anatomical",
        quality={},
    )

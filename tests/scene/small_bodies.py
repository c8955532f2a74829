"""The small atlas with two bodies: a ball below ("cerebellum", in two halves) and one in the left hemisphere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmri3d.atlas import Atlas
from nmri3d.atlas.parcels import BodyRange
from nmri3d.components import ComponentTable
from tests.scene.small_atlas import icosphere, small_atlas

FRONT, BACK, INSIDE = 11, 12, 13
"""Rows of the three components on bodies."""
BELOW_CENTER, BELOW_RADIUS = np.array([0.0, -40.0, -80.0]), 25.0


def atlas_with_bodies(n_subdivisions: int = 3) -> Atlas:
    atlas = small_atlas(n_subdivisions)
    points, faces = icosphere(n_subdivisions)
    left = atlas.surfaces["pial"][: atlas.n_left_vertices]
    inside_center = (left.min(axis=0) + left.max(axis=0)) / 2
    balls = [BELOW_CENTER + BELOW_RADIUS * points, inside_center + 10.0 * points]
    bodies = np.concatenate(balls).astype(np.float32)
    n, n_faces = len(atlas.vertices), len(atlas.faces)
    surfaces = {name: np.concatenate([old, bodies]) for name, old in atlas.surfaces.items()}
    below = np.where(points[faces].mean(axis=1)[:, 1] > 0, FRONT, BACK)
    extra = [("granule", 0, 0, 5), ("granule", 0, 1, 5), ("place", 1, 0, 5)]
    kind, layer, index, size = zip(*extra, strict=True)
    table = atlas.components
    components = ComponentTable(
        np.concatenate([table.kind, np.array(kind)]),
        np.concatenate([table.layer, np.array(layer)]),
        np.concatenate([table.index, np.array(index)]),
        np.concatenate([table.n_params, np.array(size)]),
    )
    depth = np.concatenate([atlas.sulcal_depth, np.zeros(len(bodies), dtype=np.float32)])
    return replace(
        atlas,
        components=components,
        surfaces=surfaces,
        faces=np.concatenate([atlas.faces, faces + n, faces + n + len(points)]).astype(np.int32),
        face_component=np.concatenate([atlas.face_component, below, np.full(len(faces), INSIDE)]).astype(np.int32),
        sulcal_depth=depth,
        curvature=depth,
        target_area=np.ones(14),
        area=np.ones(14),
        bodies=(
            BodyRange("cerebellum", "both", n, n_faces),
            BodyRange("hippocampus left", "left", n + len(points), n_faces + len(faces)),
        ),
        body_inner=(bodies * 0.99).astype(np.float32),
    )

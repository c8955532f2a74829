"""What must lie under a pixel of the page, worked out anew from atlas and camera: no VTK, no browser."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nmri3d.atlas import Atlas
from nmri3d.scene.camera import VIEW_ANGLE, VIEWS, fit

MARGIN = 1.16
"""Free space that the page leaves around the brain (web/painter.js)."""


@dataclass
class KnownView:
    """A preset view of an atlas in a frame of width x height pixels."""

    atlas: Atlas
    surface: str
    name: str
    width: float
    height: float

    def __post_init__(self) -> None:
        preset = VIEWS[self.name]
        self.points = self.atlas.surfaces[self.surface].astype(np.float64)
        side, up = np.array(preset.side), np.array(preset.up)
        focal_point, self.position = fit(self.points, side, up, aspect=self.width / self.height, margin=MARGIN)
        self.forward = (focal_point - self.position) / np.linalg.norm(focal_point - self.position)
        self.right = np.cross(self.forward, up)
        self.right /= np.linalg.norm(self.right)
        self.upward = np.cross(self.right, self.forward)

    def row_at(self, x: float, y: float) -> int:
        """Component row at a pixel from the top left corner; -1 for the medial wall, -2 for the background."""
        tangent = math.tan(math.radians(VIEW_ANGLE / 2))
        across = (2 * (x + 0.5) / self.width - 1) * tangent * self.width / self.height
        along = (1 - 2 * (y + 0.5) / self.height) * tangent
        direction = self.forward + across * self.right + along * self.upward
        corner = self.points[self.atlas.faces]
        u, v = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
        normal = np.cross(u, v)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.einsum("ij,ij->i", corner[:, 0] - self.position, normal) / (normal @ direction)
            hit = self.position + distance[:, None] * direction
            inside = np.ones(len(corner), dtype=bool)
            for a in range(3):  # the hit lies on the inner side of each edge
                edge = corner[:, (a + 1) % 3] - corner[:, a]
                inside &= np.einsum("ij,ij->i", np.cross(edge, hit - corner[:, a]), normal) >= 0
        distance = np.where(inside & (distance > 0), distance, np.inf)
        face = int(np.argmin(distance))
        return int(self.atlas.face_component[face]) if np.isfinite(distance[face]) else -2

    def pixels_inside(self, most: int = 12, clearance: int = 7) -> list[tuple[int, int, int]]:
        """(x, y, row) of up to `most` pixels, spread at random (seeded), whose surroundings show the same parcel."""
        generator = np.random.default_rng(0)
        found: list[tuple[int, int, int]] = []
        for x, y in generator.integers((20, 20), (int(self.width) - 20, int(self.height) - 20), (400, 2)).tolist():
            row = self.row_at(x, y)
            around = ((-clearance, 0), (clearance, 0), (0, -clearance), (0, clearance))
            if row >= 0 and all(self.row_at(x + dx, y + dy) == row for dx, dy in around):
                found.append((x, y, row))
                if len(found) == most:
                    break
        return found

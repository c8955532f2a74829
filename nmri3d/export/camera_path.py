"""Where the camera stands in a movie: one turn about the vertical axis, and one place from which several shapes fit.

Convention. Points are mm in RAS; the vertical axis is z, through the middle of the points. A camera's pose is (position,
focal point, up), float64 [3] each.

Left out: VTK. numpy only.
"""

from __future__ import annotations

import math

import numpy as np

from nmri3d.scene.camera import VIEW_ANGLE

Pose = tuple[np.ndarray, np.ndarray, np.ndarray]

MARGIN = 1.06
"""1 is tight; as the presets have it."""
_CHECKED_TURNS = 120


def turned(pose: Pose, angle: float) -> Pose:
    """The pose after the camera has gone `angle` degrees about the vertical axis through its focal point.

    Counter-clockwise as seen from above: from the left side, the camera comes round by the back.
    """
    position, middle, up = (np.asarray(part, dtype=np.float64) for part in pose)
    turn = _about_vertical(angle)
    return middle + turn @ (position - middle), middle, turn @ up


def turntable_pose(points: np.ndarray, direction: np.ndarray, up: np.ndarray, aspect: float) -> Pose:
    """Start of a turn: from the side `direction`, looking at the middle, so far off that all points [n, 3] always fit.

    aspect: width / height of the picture.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    middle = ((low + high) / 2).astype(np.float64)
    side = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    away = 0.0
    offset = points.astype(np.float64) - middle
    for angle in np.arange(_CHECKED_TURNS) * 360.0 / _CHECKED_TURNS:
        turn = _about_vertical(float(angle))
        away = max(away, _distance(offset, turn @ side, turn @ up, aspect))
    return middle + away * side, middle, np.asarray(up, dtype=np.float64)


def _distance(offset: np.ndarray, side: np.ndarray, up: np.ndarray, aspect: float) -> float:
    """Distance from the middle from which all points just fit, looking against `side`."""
    right = np.cross(up, side)
    right /= np.linalg.norm(right)
    upward = np.cross(side, right)
    tangent = math.tan(math.radians(VIEW_ANGLE / 2)) / MARGIN
    toward = offset @ side
    wide = np.max(np.abs(offset @ right) / (tangent * aspect) + toward)
    high = np.max(np.abs(offset @ upward) / tangent + toward)
    return float(max(wide, high))


def _about_vertical(angle: float) -> np.ndarray:
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])

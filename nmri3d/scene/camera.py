"""Where the camera stands: anatomical presets, the distance that fits a surface, orientation letters.

Convention. RAS mm: x right, y anterior, z superior. Dorsal and ventral views have anterior up; every other preset has
superior up. Seen from above, left is on the left (neurological); seen from the front or from below, left is on the
right, as it is when one looks at a person. A medial view shows one hemisphere only.

Left out: VTK. numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Hemispheres = Literal["both", "left", "right"]


@dataclass(frozen=True)
class CameraPreset:
    """A named view: the side on which the camera stands, the up direction, and the hemispheres that are shown."""

    side: tuple[float, float, float]
    up: tuple[float, float, float]
    hemispheres: Hemispheres = "both"


_SUPERIOR, _ANTERIOR = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)
VIEWS: dict[str, CameraPreset] = {
    "lateral_left": CameraPreset((-1.0, 0.0, 0.0), _SUPERIOR),
    "lateral_right": CameraPreset((1.0, 0.0, 0.0), _SUPERIOR),
    "medial_left": CameraPreset((1.0, 0.0, 0.0), _SUPERIOR, "left"),
    "medial_right": CameraPreset((-1.0, 0.0, 0.0), _SUPERIOR, "right"),
    "dorsal": CameraPreset((0.0, 0.0, 1.0), _ANTERIOR),
    "ventral": CameraPreset((0.0, 0.0, -1.0), _ANTERIOR),
    "anterior": CameraPreset((0.0, 1.0, 0.0), _SUPERIOR),
    "posterior": CameraPreset((0.0, -1.0, 0.0), _SUPERIOR),
}
VIEW_ANGLE = 20.0
"""Vertical angle of view in degrees: little perspective, as in an atlas."""


def fit(
    points: np.ndarray, side: np.ndarray, up: np.ndarray, *, aspect: float, margin: float = 1.06
) -> tuple[np.ndarray, np.ndarray]:
    """Focal point and position, float64 [3] each, from which all points [n, 3] just fit in the picture.

    side: direction from the brain to the camera; up: not parallel to it; aspect: width / height; margin: 1 is tight.
    """
    forward = -_unit(side)
    right = _unit(np.cross(forward, up))
    upward = np.cross(right, forward)
    depth, across, along = points @ forward, points @ right, points @ upward
    tangent = math.tan(math.radians(VIEW_ANGLE / 2)) / margin
    # each edge of the picture is a plane through the camera; the tightest of the two opposite planes decides
    horizontal, center_across = _pinch(across, depth, tangent * aspect)
    vertical, center_along = _pinch(along, depth, tangent)
    camera_depth = min(horizontal, vertical)
    middle = (depth.min() + depth.max()) / 2
    base = center_across * right + center_along * upward
    return base + middle * forward, base + camera_depth * forward


def _pinch(across: np.ndarray, depth: np.ndarray, tangent: float) -> tuple[float, float]:
    """Largest camera depth, and the matching offset, for which |across - offset| <= tangent * (depth - camera)."""
    # camera <= depth - (across - offset) / tangent and camera <= depth + (across - offset) / tangent, for all points
    from_right = float(np.min(depth - across / tangent))
    from_left = float(np.min(depth + across / tangent))
    return (from_right + from_left) / 2, tangent * (from_left - from_right) / 2


def orientation_letters(position: np.ndarray, focal_point: np.ndarray, up: np.ndarray) -> dict[str, str]:
    """Letters at the edges of the picture: top, bottom, left, right, each of A P L R S I (the nearest axis)."""
    forward = _unit(np.asarray(focal_point, dtype=np.float64) - np.asarray(position, dtype=np.float64))
    right = _unit(np.cross(forward, np.asarray(up, dtype=np.float64)))
    upward = np.cross(right, forward)
    return {"top": _letter(upward), "bottom": _letter(-upward), "left": _letter(-right), "right": _letter(right)}


def _letter(direction: np.ndarray) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return ("LR", "PA", "IS")[axis][int(direction[axis] > 0)]


def _unit(vector: np.ndarray) -> np.ndarray:
    vector = np.asarray(vector, dtype=np.float64)
    result: np.ndarray = vector / np.linalg.norm(vector)
    return result

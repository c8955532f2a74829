"""The hippocampi: two curved tubes in the temporal lobes, with a broad head, a hooked uncus and a thin tail.

Each is a tube along a curve from the tail, which rises behind the thalamus, forwards and outwards along the body and
around the uncus, wider than it is high, with the digitations of its head and the teeth of the dentate gyrus along its
inner edge. It is drawn after a formula, not after a scan.

Convention. Millimeters, RAS, in the space of fsaverage; about 45 mm long and 8 to 13 wide, as in an adult. Nearly all
of it is gray matter: `inner` is a thread along its middle.

Left out: subfields, amygdala, fornix.

Source of the proportions: Duvernoy, Cattin, Risold 2013, "The Human Hippocampus".
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from nmri3d.atlas.body import Body
from nmri3d.atlas.spheres import tube

_COURSE = np.array(
    [  # x outwards from the midline, y, z, radius; tail to uncus
        [13.5, -38.0, 4.5, 2.2],
        [17.5, -38.5, 0.5, 3.0],
        [23.0, -35.0, -4.5, 3.6],
        [27.5, -29.0, -9.5, 4.2],
        [29.5, -22.0, -13.5, 4.7],
        [29.5, -15.0, -16.5, 5.4],
        [27.0, -9.0, -18.5, 6.2],
        [22.5, -6.5, -18.5, 5.6],
        [18.5, -9.0, -16.5, 4.2],
        [17.0, -12.5, -14.5, 3.0],
    ]
)
_RINGS, _AROUND = 96, 44
_WIDER, _FLATTER = 1.22, 0.84
_TEETH, _TOOTH = 15, 0.45
_DIGITATIONS, _DIGITATION = 3, 0.75
_THREAD = 0.12
"""Share of the radius that the thread of white matter takes."""


def hippocampus(side: Literal["left", "right"], fineness: int = 0) -> Body:
    """A hippocampus as one closed surface of about 8,400 faces, or four times as many for each step of fineness."""
    scale = 2**fineness
    along, angle, faces = tube(_RINGS * scale, _AROUND * scale)
    middle, frame, radius, place = _course(along)
    relief = _relief(place, angle)
    section = np.column_stack([_WIDER * np.cos(angle), _FLATTER * np.sin(angle)])
    spread = radius[:, None] * section
    outward = spread[:, :1] * frame[:, 0] + spread[:, 1:] * frame[:, 1]
    smooth = middle + outward
    points = middle + outward * (1 - relief / np.maximum(radius, 1e-9))[:, None]
    inner = middle + _THREAD * outward
    # Outwards, up and along are a left-handed frame on the right side, and its mirror image a right-handed one.
    if side == "left":
        mirror = np.array([-1.0, 1.0, 1.0])
        points, smooth, inner = points * mirror, smooth * mirror, inner * mirror
    else:
        faces = faces[:, ::-1].copy()
    return Body(f"hippocampus {side}", side, points, smooth, inner, faces, relief)


def _course(along: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of places along the surface, 0 to 1: middle [n, 3], frame [n, 2, 3] (outwards, up), radius, and place on the
    curve.

    Places are even along the outline, round ends included, so that triangles are alike everywhere.
    """
    from scipy.interpolate import CubicSpline

    length = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(_COURSE[:, :3], axis=0), axis=1)))
    curve = CubicSpline(length, _COURSE)
    dense = np.linspace(0, length[-1], 2000)
    # Ends are round: the tube narrows over one radius as a ball does.
    near = np.minimum(dense / curve(0.0)[3], (length[-1] - dense) / curve(length[-1])[3])
    radius = curve(dense)[:, 3] * np.sqrt(np.clip(1 - (1 - np.clip(near, 0, 1)) ** 2, 0, 1))
    outline = np.append(0.0, np.cumsum(np.hypot(np.diff(dense), np.diff(radius))))
    at = np.interp(along * outline[-1], outline, dense)
    middle = curve(at)[:, :3]
    forwards = _unit(curve(at, 1)[:, :3])
    outwards = _unit(np.cross(forwards, [0.0, 0.0, 1.0]))
    up = np.cross(outwards, forwards)
    return middle, np.stack([outwards, up], axis=1), np.interp(at, dense, radius), at / length[-1]


def _relief(place: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """float64 [n], mm: how deep furrows are, for places along the curve, 0 (tail) to 1 (uncus), and angles around."""
    inner_edge = np.clip(-np.cos(angle), 0, 1) ** 3
    along_body = np.clip((place - 0.12) / 0.1, 0, 1) * np.clip((0.72 - place) / 0.08, 0, 1)
    teeth = _TOOTH * along_body * inner_edge * np.cos(np.pi * _TEETH * place) ** 2
    on_head = np.exp(-(((place - 0.74) / 0.12) ** 2))
    over = np.clip(0.35 + 0.65 * np.cos(angle - 0.9), 0, 1)
    digits = _DIGITATION * on_head * over * np.abs(np.cos(np.pi * _DIGITATIONS * (place - 0.58) / 0.32)) ** 3
    sulcus = 0.8 * along_body * np.exp(-(((np.mod(angle, 2 * np.pi) - 1.25 * np.pi) / 0.28) ** 2))
    return teeth + digits + sulcus


def _unit(vectors: np.ndarray) -> np.ndarray:
    result: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return result

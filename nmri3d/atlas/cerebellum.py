"""The cerebellum: two hemispheres and a vermis with transverse folia, below and behind the occipital lobes.

It is drawn after a formula, not after a scan: an ellipsoid of the size of a human cerebellum, flattened on top by the
tentorium, with the notch of the falx behind, that of the brain stem in front and the vallecula below, and the vermis
between two furrows. Its folia are ridges along the meridians of the transverse axis through the fourth ventricle, as
pages of a half-open book: every _LOBULES-th furrow is deep (the primary and the horizontal fissure deepest). The arbor
vitae, the tree of its white matter, has a branch in each lobule.

Convention. Millimeters, RAS, in the space of fsaverage, whose temporal and occipital lobes it stays clear of. `smooth`
is the same surface without ridges: distances along it are those that parcels are laid out by.

Left out: the peduncles, the deep nuclei, any claim to be anyone's anatomy.

Source of the proportions: Schmahmann et al. 1999, NeuroImage 10:233 (an MRI atlas of the human cerebellum).
"""

from __future__ import annotations

import numpy as np

from nmri3d.atlas.body import Body, vertex_directions
from nmri3d.atlas.spheres import icosphere

_CENTER = np.array([0.0, -63.0, -36.0])
_SEMI_AXES = np.array([51.0, 29.0, 25.0])
_HILUM = np.array([-38.0, -35.0])
"""y and z of the transverse axis from which the folia fan out."""
_FOLIA = 84
"""Folia in a whole turn about the hilum."""
_LOBULES = 6
"""Folia in a lobule."""
_FOLIUM_DEPTH, _LOBULE_DEPTH, _FISSURE_DEPTH = 0.8, 1.3, 1.8
_FISSURES = ((0.78, 1.0), (1.78, 1.2))
"""Angle about the hilum (see `_fan`) and relative depth of the primary and of the horizontal fissure."""
_CROWN, _BRANCH = 3.5, 8.0
"""Thickness in mm of the gray matter on a lobule's crown, and how much more it has between two branches of the white."""
_LEVELS = (6, 7, 8)


def cerebellum(fineness: int = 0) -> Body:
    """The cerebellum as one closed surface of 81,920 faces, or four times as many for each step of fineness (0 to 2)."""
    direction, faces = icosphere(_LEVELS[fineness])
    smooth = _smooth(direction)
    outward = vertex_directions(smooth, faces)
    depth, between = _furrows(smooth)
    points = smooth - depth[:, None] * outward
    inner = smooth - (_CROWN + _BRANCH * between)[:, None] * outward
    return Body("cerebellum", "both", points, smooth, inner, faces, depth)


def _smooth(direction: np.ndarray) -> np.ndarray:
    """float64 [n, 3], mm: the surface without ridges, for directions [n, 3]."""
    x, y, z = direction.T
    side, back, front, top, bottom = np.abs(x), np.maximum(-y, 0), np.maximum(y, 0), np.maximum(z, 0), np.maximum(-z, 0)
    # Fuller than an ellipsoid at the sides, as the hemispheres are.
    full = (np.abs(x) ** 2.5 + np.abs(y) ** 2.5 + np.abs(z) ** 2.5) ** (-1 / 2.5)
    place = direction * (0.45 + 0.55 * full)[:, None] * _SEMI_AXES
    across = np.abs(place[:, 0])

    def valley(width: float, middle: float = 0.0) -> np.ndarray:
        return np.exp(-(((across - middle) / width) ** 2))

    place[:, 1] += 13.0 * valley(9.0) * back**1.5 * (1 - 0.7 * top)  # posterior notch
    place[:, 1] -= 15.0 * valley(17.0) * front**1.5  # brain stem
    place[:, 2] += 11.0 * valley(8.5) * bottom**1.5  # vallecula
    place[:, 2] -= 3.0 * valley(8.0, 14.0) * bottom**3 * (0.4 + front)  # tonsils
    place[:, 2] -= top * (3.0 + 9.0 * side**1.4)  # under the tentorium
    place[:, 2] += 5.0 * valley(9.0) * top**1.5 * (1 - 0.3 * back)  # culmen
    vermis = 1.1 * valley(2.4, 9.0) * (0.5 + 0.5 * np.clip(back + top + bottom, 0, 1))
    place -= vermis[:, None] * direction
    return place + _CENTER


def _fan(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angle about the hilum, 0 straight up, growing backwards and down, and the distance from it in mm."""
    y, z = place[:, 1] - _HILUM[0], place[:, 2] - _HILUM[1]
    return np.arctan2(-y, z) % (2 * np.pi), np.hypot(y, z)


def _furrows(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the furrows in mm, float64 [n], and 0 at a lobule's middle to 1 half-way to the next."""
    angle, distance = _fan(place)
    across = place[:, 0]
    # Furrows bend forwards at the sides and waver a little, and those of the vermis are not quite those beside it.
    bend = angle + 0.10 * np.cos(np.clip(np.abs(across) / 45.0, 0, 1) * np.pi) * np.sin(angle)
    bend = bend + 0.028 * np.sin(across / 6.3 + 1.3 + 2.0 * angle) + 0.018 * np.sin(across / 3.1 - 3.0 * angle)
    bend = bend + 0.05 * np.exp(-((across / 7.0) ** 2))
    folia = _ridges(bend * _FOLIA / 2)
    lobules = _ridges(bend * _FOLIA / (2 * _LOBULES), sharp=5.0)
    fissures = sum(share * np.exp(-(((bend - at) * distance / 1.1) ** 2)) for at, share in _FISSURES)
    spacing = 2 * np.pi * distance / _FOLIA
    fine = np.clip((spacing - 0.9) / 1.2, 0, 1)
    # No furrows where the brain stem is joined on.
    stem = np.clip((place[:, 1] - (_CENTER[1] + 12.0)) / 8.0, 0, 1) * np.exp(-((across / 20.0) ** 2))
    free = 1 - stem
    shallow = fine * _FOLIUM_DEPTH * folia + _LOBULE_DEPTH * lobules * (0.3 + 0.7 * fine)
    return free * (shallow + _FISSURE_DEPTH * fissures), free * _ridges(bend * _FOLIA / (2 * _LOBULES), sharp=1.2)


def _ridges(phase: np.ndarray, sharp: float = 2.2) -> np.ndarray:
    """0 on round crowns, 1 in narrow furrows, one furrow a half turn of phase."""
    return np.abs(np.cos(phase)) ** sharp

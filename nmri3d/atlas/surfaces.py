"""The cortical surface: fsaverage5 as nilearn ships it, or finer by Loop subdivision, with its medial wall.

Convention. Coordinates are millimeters, RAS: x to the right, y to the front, z up. All surfaces of a hemisphere share
one triangulation, counter-clockwise seen from outside. Pial and white keep their published coordinates. Inflated
surface and sphere have none of anatomical meaning and overlap at the midline as published, so they are moved apart
sideways and centered, front to back and bottom to top, where the pial surface is: a morph then stays in place.
`direction` is the point of the sphere without that shift, as a unit vector; layouts live on it.

Flat. The flat surface of fsaverage lies in the plane z = 0, seen from +z, as neuroscientists lay it out: superior up, left
hemisphere on the left, both occipital poles towards the middle. It has no faces for the medial wall and for the slits,
one vertex wide, that were cut so that the rest could be flattened (`flat_faces`). Vertices that only those faces use have
coordinates without a meaning.

Medial wall. nilearn ships no mask for fsaverage5. Ours is the hole of the flat surface without the slits that run out of
it, together with the vertices where the mean cortical thickness is zero. It is kept as a smooth level per vertex
(positive inside), so that its border can be cut through triangles.

Finer meshes. fsaverage6 and fsaverage7 name meshes of the same numbers of vertices (40,962 and 163,842), made here by
Loop subdivision: the first 10,242 vertices descend from those of fsaverage5 in their order, the later ones are not
numbered as FreeSurfer numbers its own.

Left out: cerebellum and hippocampi.

Sources: fsaverage, Fischl et al. 1999, Human Brain Mapping 8:272; files, nilearn (`load_fsaverage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from nmri3d.atlas.subdivision import face_edges, loop_matrix, subdivide
from nmri3d.errors import InputError, MachineError

RESOLUTIONS: Mapping[str, int] = {"fsaverage5": 0, "fsaverage6": 1, "fsaverage7": 2}
"""Names of the meshes and how often each is subdivided from fsaverage5."""

SURFACES = ("pial", "inflated", "white", "sphere", "flat")

MIDLINE_GAP = 14.0
"""Clear space in mm between the two inflated hemispheres, the two spheres, and the two flat ones."""

_FILES = {"pial": "pial", "inflated": "infl", "white": "white", "sphere": "sphere", "flat": "flat"}
_WALL_SMOOTHING_STEPS = 6


@dataclass(frozen=True, eq=False)
class Hemisphere:
    """One hemisphere: n vertices, m faces.

    side          "left" or "right"
    surfaces      name in SURFACES -> float32 [n, 3], mm
    faces         int32 [m, 3]
    direction     float64 [n, 3], unit vectors on the registered sphere
    sulcal_depth  float32 [n], FreeSurfer's sulc (positive in sulci)
    curvature     float32 [n], 1/mm, mean curvature (positive in sulci)
    wall_level    float32 [n], above 0 inside the medial wall
    flat_faces    bool [m], faces that the flat surface has
    """

    side: str
    surfaces: Mapping[str, np.ndarray]
    faces: np.ndarray
    direction: np.ndarray
    sulcal_depth: np.ndarray
    curvature: np.ndarray
    wall_level: np.ndarray
    flat_faces: np.ndarray

    @property
    def medial_wall(self) -> np.ndarray:
        """bool [n]: vertices inside the medial wall."""
        return self.wall_level > 0


@dataclass(frozen=True, eq=False)
class Cortex:
    """Both hemispheres of one resolution."""

    resolution: str
    left: Hemisphere
    right: Hemisphere


@lru_cache(maxsize=3)
def cortex(resolution: str = "fsaverage5") -> Cortex:
    """The cortex at a resolution; kept in memory, so that its arrays must not be written to.

    Raises InputError for an unknown resolution, MachineError where nilearn's files are missing.
    """
    if resolution not in RESOLUTIONS:
        raise InputError(f"unknown resolution {resolution!r}; known are {', '.join(RESOLUTIONS)}")
    left, right = (_load_hemisphere(side, RESOLUTIONS[resolution]) for side in ("left", "right"))
    return Cortex(resolution, left, right)


def _load_hemisphere(side: str, n_subdivisions: int) -> Hemisphere:
    coordinates = {name: _read(f"{stem}_{side}")[0] for name, stem in _FILES.items()}
    faces, of_flat = _read(f"pial_{side}")[1], _read(f"flat_{side}")[1]
    sulcal_depth, curvature, thickness = (_read(f"{stem}_{side}")[0] for stem in ("sulc", "curv", "thick"))
    flat_faces = _among(faces, of_flat)
    wall_level = _wall_level(faces, of_flat, thickness)
    flat = coordinates.pop("flat").astype(np.float64) * (1.0, 1.0, 0.0)
    # Everything that lives on the vertices is one table, so that one sparse product a level subdivides it all.
    columns = np.column_stack([*coordinates.values(), sulcal_depth, curvature, wall_level]).astype(np.float64)
    for _ in range(n_subdivisions):
        edges, _ = face_edges(faces, len(columns))
        flat = np.concatenate([flat, flat[edges].mean(axis=1)])  # its triangles stay where they are: it has a rim
        columns = loop_matrix(faces, len(columns)) @ columns
        faces = subdivide(faces)
        flat_faces = np.repeat(flat_faces, 4)
    coordinates = {name: columns[:, 3 * k : 3 * k + 3] for k, name in enumerate(coordinates)}
    direction = coordinates["sphere"] / np.linalg.norm(coordinates["sphere"], axis=1, keepdims=True)
    coordinates["sphere"] = 100.0 * direction
    coordinates["flat"] = flat
    surfaces = {}
    for name in SURFACES:
        points = coordinates[name]
        if name in ("inflated", "sphere"):
            points = points + _display_shift(points, coordinates["pial"], side)
        elif name == "flat":
            points = points - _flat_shift(points[faces[flat_faces]].reshape(-1, 3), side)
        surfaces[name] = _frozen(points.astype(np.float32))
    sulcal, curved, level = (_frozen(column.astype(np.float32)) for column in columns[:, -3:].T)
    shape = (_frozen(faces), _frozen(direction))
    return Hemisphere(side, surfaces, *shape, sulcal, curved, level, _frozen(flat_faces))


def _among(faces: np.ndarray, others: np.ndarray) -> np.ndarray:
    """bool [m]: which faces int [m, 3] are among the others, whatever corner they begin with."""
    known = {tuple(face) for face in np.sort(others, axis=1).tolist()}
    return np.array([tuple(face) in known for face in np.sort(faces, axis=1).tolist()])


def _read(stem: str) -> tuple[np.ndarray, ...]:
    """The data arrays of one of nilearn's GIFTI files.

    Read by nibabel directly: importing nilearn.datasets takes several times as long as all else here.
    """
    import nibabel

    spec = find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise MachineError(
            "nilearn is not installed, and the cortex comes from it; install it with pip install nilearn"
        )
    path = Path(spec.origin).parent / "datasets" / "data" / "fsaverage5" / f"{stem}.gii.gz"
    if not path.is_file():
        raise MachineError(
            f"the installed nilearn lacks its fsaverage5 file {path.name}; reinstall it with pip install nilearn==0.14.1"
        )
    arrays = tuple(np.asarray(array.data) for array in nibabel.load(path).darrays)  # type: ignore[attr-defined]
    return tuple(array.astype(np.int32) if array.dtype.kind in "iu" else array for array in arrays)


def _wall_level(faces: np.ndarray, flat_faces: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """float64 [n]: above 0 inside the medial wall, smooth across its border."""
    import scipy.sparse as sparse

    n = len(thickness)
    kept = np.zeros(n, dtype=bool)
    kept[flat_faces] = True
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    adjacency = sparse.csr_matrix((np.ones(len(edges)), edges.T), shape=(n, n))
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    hole = ~kept
    # Opening: a vertex survives only with its whole ring, which no vertex of a slit has; then grow back, to the rim.
    core = hole & (adjacency @ hole == degree)
    opened = hole & (core | (adjacency @ core > 0))
    wall = opened | (adjacency @ opened > 0) | (thickness <= 0)
    level = wall.astype(np.float64)
    for _ in range(_WALL_SMOOTHING_STEPS):
        level = 0.5 * level + 0.5 * (adjacency @ level) / degree
    return level - 0.5


def _display_shift(points: np.ndarray, pial: np.ndarray, side: str) -> np.ndarray:
    middle = (pial.min(axis=0) + pial.max(axis=0)) / 2 - (points.min(axis=0) + points.max(axis=0)) / 2
    outward = -points[:, 0].max() if side == "left" else -points[:, 0].min()
    return np.array([outward + (-0.5 if side == "left" else 0.5) * MIDLINE_GAP, middle[1], middle[2]])


def _flat_shift(points: np.ndarray, side: str) -> np.ndarray:
    """What to take off a flat hemisphere, so that it stands beside the other one and is centered top to bottom."""
    low, high = points.min(axis=0), points.max(axis=0)
    inner = high[0] + MIDLINE_GAP / 2 if side == "left" else low[0] - MIDLINE_GAP / 2
    return np.array([inner, (low[1] + high[1]) / 2, 0.0])


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array)
    array.setflags(write=False)
    return array

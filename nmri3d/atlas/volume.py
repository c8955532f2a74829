"""The atlas as a label volume: which component, and which tissue, lies at each voxel between and inside the surfaces.

    volume = label_volume(atlas, voxel=1.0)

What is cortex. The prism between the white and the pial corners of each face belongs to the face's component. It is
cut into three tetrahedra, alike on both sides of every wall that two prisms share, so that the prisms fill the ribbon
without a gap, and a voxel is cortex if its center lies in one. Where prisms of two banks of a sulcus overlap, the one
in which the center lies nearer to the middle of the cortical thickness takes it. So that a ribbon thinner than a voxel
has no holes either, every voxel that the surface half-way between white and pial passes through is cortex, too. What is
inside the white surface and no cortex is white matter: winding number of the white surface about the voxel's center.
Faces without a component (the medial wall) make no cortex. The cerebellum and the hippocampi are cut into prisms as the
cortex is, between their surface and its inner boundary, and take their voxels before the cortex does.

Convention. RAS millimeters. Array axes run to the right, to the front and up; `affine` leads from indices to
millimeters of voxel centers, and 0 mm is a voxel center on every axis. The image ends one voxel beyond the surfaces.

Left out: drawing (scene/slices.py, scene/volume.py), files for other programs, other subcortical structures: what fsaverage
has inside its white surface is all called white matter.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmri3d.atlas import storage
from nmri3d.atlas.parcels import Atlas
from nmri3d.atlas.voxels import inside_tetrahedra, inside_winding, through_triangles
from nmri3d.errors import InputError
from nmri3d.files import written_whole

OUTSIDE, CORTEX, WHITE_MATTER = 0, 1, 2
"""Values of `LabelVolume.tissue`."""

FINEST, COARSEST = 0.4, 8.0
"""Bounds of the voxel size in mm: below, the image has over 60 million voxels; above, sulci are gone."""

ALGORITHM = 1
"""Raised whenever the same atlas gives another volume, so that no stale one is read from the cache."""


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """A label volume; see the module's first lines.

    labels   int32 [x, y, z], component row of each voxel; -1 where there is none
    tissue   uint8 [x, y, z], OUTSIDE, CORTEX or WHITE_MATTER; CORTEX exactly where labels >= 0
    affine   float64 [4, 4], from indices to mm (RAS) of voxel centers
    """

    labels: np.ndarray
    tissue: np.ndarray
    affine: np.ndarray

    @property
    def voxel(self) -> float:
        """Edge of a voxel in mm."""
        return float(self.affine[0, 0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels to the right, to the front and up."""
        x, y, z = self.labels.shape
        return int(x), int(y), int(z)

    def index_of(self, point: np.ndarray) -> np.ndarray:
        """int64 [..., 3]: indices of the voxels that hold points [..., 3] in mm, also outside of the image."""
        return np.floor((np.asarray(point, dtype=np.float64) - self.affine[:3, 3]) / self.voxel + 0.5).astype(np.int64)

    def point_of(self, index: np.ndarray) -> np.ndarray:
        """float64 [..., 3]: centers in mm of voxels with indices [..., 3]."""
        return np.asarray(index, dtype=np.float64) * self.voxel + self.affine[:3, 3]

    def component_at(self, point: np.ndarray) -> np.ndarray:
        """int32 [...]: component rows at points [..., 3] in mm; -1 where there is none, also outside of the image."""
        index = self.index_of(point)
        known = np.asarray(((index >= 0) & (index < np.array(self.shape))).all(axis=-1))
        i, j, k = np.moveaxis(np.where(known[..., None], index, 0), -1, 0)
        return np.where(known, self.labels[i, j, k], -1).astype(np.int32)


def label_volume(atlas: Atlas, voxel: float = 1.0, *, cache: bool = True) -> LabelVolume:
    """The label volume of an atlas with cubic voxels of `voxel` mm.

    `cache`: read it from disk if it is there, else keep it there, beside the atlases. Raises InputError for a voxel
    size out of FINEST to COARSEST.
    """
    if not (isinstance(voxel, int | float) and FINEST <= voxel <= COARSEST):
        raise InputError(f"a voxel measures {FINEST:g} to {COARSEST:g} mm, not {voxel!r}; 1 mm suits slices")
    if not cache:
        return _build(atlas, float(voxel))
    path = storage.cache_folder() / f"volume-{_identity(atlas, float(voxel))}.npz"
    try:
        return _load(path)
    except InputError:  # not there, or damaged: build it anew
        volume = _build(atlas, float(voxel))
        with contextlib.suppress(OSError):  # a full or read-only disk costs time, not the volume
            _save(volume, path)
        return volume


def component_points(atlas: Atlas) -> np.ndarray:
    """float32 [n, 3], mm: a point inside each component's cortex, half-way between white and pial at the center of its
    parcel; NaN where it has none. A crosshair goes there when the component is selected."""
    vertex = atlas.center_vertex
    half_way = (atlas.inner_points[vertex] + atlas.surfaces["pial"][vertex]) / 2
    return np.where(vertex[:, None] >= 0, half_way, np.nan).astype(np.float32)


def _build(atlas: Atlas, voxel: float) -> LabelVolume:
    pial, white = (points.astype(np.float64) for points in (atlas.surfaces["pial"], atlas.inner_points))
    both = np.concatenate([pial, white])
    low = np.floor(both.min(axis=0) / voxel) - 1  # multiples of the voxel: 0 mm is a center
    shape = np.ceil(both.max(axis=0) / voxel).astype(int) + 2 - low.astype(int)
    size: tuple[int, int, int] = (int(shape[0]), int(shape[1]), int(shape[2]))
    pial, white = pial / voxel - low, white / voxel - low  # from here on in voxels: centers are whole numbers

    placed = atlas.face_component >= 0
    component = atlas.face_component[placed]
    corners = np.sort(atlas.faces[placed], axis=1)
    labels = np.full(math.prod(size), -1, dtype=np.int32)
    voxel_of, prism, share = inside_tetrahedra(*_tetrahedra(corners, white, pial), size)
    # Several prisms may claim a voxel: the one written last is the one in whose middle the center lies most, and a body's
    # before that of the cortex around it.
    of_body = np.flatnonzero(placed)[prism // 3] >= atlas.n_cortex_faces
    order = np.lexsort((prism, -np.abs(share - 0.5), of_body, voxel_of))
    labels[voxel_of[order]] = component[prism[order] // 3]
    half_way = ((white + pial) / 2)[corners]
    voxel_of, face, distance = through_triangles(half_way, size, labels < 0)
    order = np.lexsort((face, -distance, voxel_of))
    labels[voxel_of[order]] = component[face[order]]

    labels = labels.reshape(size)
    tissue = np.where(inside_winding(white, atlas.faces, size), WHITE_MATTER, OUTSIDE)
    tissue = np.where(labels >= 0, CORTEX, tissue).astype(np.uint8)
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = low * voxel
    return _frozen(LabelVolume(labels, tissue, affine))


def _tetrahedra(corners: np.ndarray, white: np.ndarray, pial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three tetrahedra a prism: points float64 [3 f, 4, 3] and the share of the way from white to pial [3, 4] of theirs.

    With the corners [f, 3] of each face in ascending order, the diagonal of every wall runs from the white point of its
    lower corner to the pial point of its higher one, whichever prism it is seen from.
    """
    w, p = white[corners], pial[corners]
    parts = [
        np.stack([w[:, 0], w[:, 1], w[:, 2], p[:, 2]], axis=1),
        np.stack([w[:, 0], w[:, 1], p[:, 1], p[:, 2]], axis=1),
        np.stack([w[:, 0], p[:, 0], p[:, 1], p[:, 2]], axis=1),
    ]
    share = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]], dtype=np.float64)
    return np.stack(parts, axis=1).reshape(-1, 4, 3), share


def _frozen(volume: LabelVolume) -> LabelVolume:
    for array in (volume.labels, volume.tissue, volume.affine):
        array.setflags(write=False)
    return volume


# --- on disk ---------------------------------------------------------------------------------------------------------


def _identity(atlas: Atlas, voxel: float) -> str:
    digest = hashlib.sha256(repr((ALGORITHM, voxel, len(atlas.components))).encode())
    for array in (atlas.faces, atlas.face_component, atlas.surfaces["pial"], atlas.inner_points):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]


def _save(volume: LabelVolume, path: Path) -> None:
    with written_whole(path) as file:
        np.savez_compressed(file, labels=volume.labels, tissue=volume.tissue, affine=volume.affine)


def _load(path: Path) -> LabelVolume:
    """Raises InputError for a file that is not there or no whole volume."""
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            labels, tissue, affine = file["labels"], file["tissue"], file["affine"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path.name} is not a whole label volume ({type(error).__name__}); build it again") from error
    whole = (
        labels.dtype == np.int32
        and tissue.dtype == np.uint8
        and labels.ndim == 3
        and labels.shape == tissue.shape
        and affine.shape == (4, 4)
        and ((labels >= 0) == (tissue == CORTEX)).all()
    )
    if not whole:
        raise InputError(f"{path.name} is not a whole label volume; build it again")
    return _frozen(LabelVolume(labels, tissue, affine))

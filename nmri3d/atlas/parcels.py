"""The atlas: every face of the brain outside the medial wall belongs to one component of a model.

    atlas = Atlas.build(model, layout="anatomical", area="parameters")

Four steps: `plan` decides on which part of the brain and where about a component belongs (by depth, kind and what the
network says in `structures` and `layout`, by an embedding of all components in `embedding` and `hemispheres`);
`transport` finds round cells of the shares of area on the sphere; `arrangement` brings similar components together;
`cutting` cuts the mesh along the borders of the cells. The result is cached on disk under a hash of all that it depends
on.

Convention. Both hemispheres are one mesh, left first, in vertices and in faces; within a hemisphere the vertices of the
uncut mesh come first, then the cut points. Borders are shared by the faces on both sides (no vertex is there twice).
Areas are on pial, in mm^2. -1 in `face_component` is the medial wall, or a hemisphere on which nothing lies. The
cerebellum and the hippocampi, of a network that has components there, follow the right hemisphere in the same mesh
(`bodies`).

Left out: neurons, and components without a place on the cortex (area 0).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from nmri3d.atlas import storage
from nmri3d.atlas.cutting import triangle_areas
from nmri3d.atlas.layout import LAYOUTS
from nmri3d.atlas.structures import checked_structures
from nmri3d.atlas.surfaces import RESOLUTIONS
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError

AREAS = ("parameters", "equal")

ALGORITHM = 6
"""Raised whenever the same input gives another atlas, so that no stale one is read from the cache."""


class HasLayout(Protocol):
    """What `Atlas.build` asks of a model. It may have `structures` too, one of structures.STRUCTURES a component."""

    @property
    def components(self) -> ComponentTable: ...

    def layout_features(self) -> np.ndarray: ...


@dataclass(frozen=True)
class BodyRange:
    """A body beside the cortex: its name, the hemisphere with which it is shown ("both": always), and where it begins.

    It reaches to where the next body begins, or to the end.
    """

    name: str
    side: Literal["left", "right", "both"]
    first_vertex: int
    first_face: int


@dataclass(frozen=True, eq=False)
class Atlas:
    """A brain divided among n components: v vertices, f faces. See the module's first lines.

    components      the table whose rows `face_component` holds
    surfaces        "pial", "inflated", "white", "sphere" -> float32 [v, 3], mm, RAS
    faces           int32 [f, 3]
    face_component  int32 [f], row of `components`; -1 = medial wall
    sulcal_depth    float32 [v]
    curvature       float32 [v], 1/mm
    n_left_vertices, n_left_faces   where the right hemisphere begins
    target_area     float64 [n], mm^2 on pial; 0 for rows without a place
    area            float64 [n], mm^2 on pial, reached
    layout          name of the layout
    quality         figures by name; see quality.py
    bodies          what follows the cortex, in the order of vertices and faces
    body_inner      float32 [those of v that belong to bodies, 3], mm: how far their gray matter reaches inwards
    """

    components: ComponentTable
    surfaces: Mapping[str, np.ndarray]
    faces: np.ndarray
    face_component: np.ndarray
    sulcal_depth: np.ndarray
    curvature: np.ndarray
    n_left_vertices: int
    n_left_faces: int
    target_area: np.ndarray
    area: np.ndarray
    layout: str
    quality: Mapping[str, float]
    bodies: tuple[BodyRange, ...] = ()
    body_inner: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), dtype=np.float32))

    @property
    def n_cortex_vertices(self) -> int:
        """Vertices of the two hemispheres, which come first."""
        return self.bodies[0].first_vertex if self.bodies else len(self.surfaces["pial"])

    @property
    def n_cortex_faces(self) -> int:
        """Faces of the two hemispheres, which come first."""
        return self.bodies[0].first_face if self.bodies else len(self.faces)

    @property
    def inner_points(self) -> np.ndarray:
        """float32 [v, 3]: the inner boundary of the gray matter: the white surface, and that of the bodies."""
        white = self.surfaces["white"]
        return np.concatenate([white[: self.n_cortex_vertices], self.body_inner]) if self.bodies else white

    @cached_property
    def face_side(self) -> np.ndarray:
        """int8 [f]: 0 for faces that are shown with the left hemisphere, 1 with the right one, 2 with both."""
        side = np.ones(len(self.faces), dtype=np.int8)
        side[: self.n_left_faces] = 0
        for one in self.bodies:
            side[one.first_face :] = ("left", "right", "both").index(one.side)
        return side

    @cached_property
    def vertex_side(self) -> np.ndarray:
        """int8 [v]: the same of vertices."""
        side = np.ones(len(self.vertices), dtype=np.int8)
        side[: self.n_left_vertices] = 0
        for one in self.bodies:
            side[one.first_vertex :] = ("left", "right", "both").index(one.side)
        return side

    @cached_property
    def body_components(self) -> np.ndarray:
        """int32 [k]: rows of the components that lie on bodies, ascending."""
        found = np.unique(self.face_component[self.n_cortex_faces :])
        return found[found >= 0].astype(np.int32)

    @property
    def vertices(self) -> np.ndarray:
        """float32 [v, 3]: the pial surface."""
        return self.surfaces["pial"]

    @classmethod
    def build(
        cls,
        model: HasLayout,
        layout: str = "anatomical",
        *,
        area: str = "parameters",
        resolution: str = "auto",
        seed: int = 0,
        features: np.ndarray | None = None,
        progress: Callable[[float, str], None] | None = None,
        cache: bool = True,
    ) -> Atlas:
        """The atlas of a model.

        `layout`: "anatomical" (depth from back to front, heads left, MLPs right, or each on the part of the brain that
        the network names in `structures`, the similar side by side), or
        "umap" or "spectral" (the similar side by side, over all components). `features`: float [n, k], what components are
        compared by, one row a component; from the model's weights if None. `progress` is called with the share of the work
        that is done (0 to 1) and what is being done, and may raise to withdraw it; it is not called for a cached atlas.
        `area`: what a parcel's area follows, within its hemisphere: "parameters" or "equal". `resolution`: a name in
        RESOLUTIONS, or "auto", the coarsest that gives parcels enough faces. `seed` draws the random baseline of the
        quality figures, and the start of the "umap" embedding. `cache`: read it from disk if it is there, else keep it there.

        Raises InputError for an unknown name, for a mesh too coarse for so many components, for a model with too few
        components to cover two hemispheres, for features that do not fit the components, and for a layout that knows
        nothing of the parts of the brain that the network names.
        """
        for name, value, known in (
            ("layout", layout, LAYOUTS),
            ("area", area, AREAS),
            ("resolution", resolution, ("auto", *RESOLUTIONS)),
        ):
            if value not in known:
                raise InputError(f"unknown {name} {value!r}; known are {', '.join(known)}")
        report = progress or _unwatched
        if not cache:
            return _build(model, layout, area, resolution, seed, features, report)
        digest = hashlib.sha256(_identity(model, layout, features))
        digest.update(repr((ALGORITHM, model.components.key, layout, area, resolution, seed)).encode())
        digest.update(" ".join(_structures(model)).encode())
        path = storage.cache_folder() / f"{layout}-{digest.hexdigest()[:24]}.npz"
        try:
            return cls.load(path)
        except InputError:  # not there, or damaged: build it anew
            atlas = _build(model, layout, area, resolution, seed, features, report)
            with contextlib.suppress(OSError):  # a full or read-only disk costs time, not the atlas
                atlas.save(path)
            return atlas

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to a .npz file, all or nothing. Returns its path."""
        return storage.save(self, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Atlas:
        """Read what `save` wrote. Raises InputError for a file that is no whole atlas."""
        return cls(**storage.load(Path(path)))

    def centroids(self, surface: str = "pial") -> np.ndarray:
        """float32 [n, 3], mm: area-weighted mean of each parcel on a surface; NaN where there is none.

        On a folded surface it need not lie on the parcel; `center_vertex` does.
        """
        points = self._points(surface)
        area = triangle_areas(points, self.faces)
        placed = self.face_component >= 0
        row, area = self.face_component[placed], area[placed]
        middle = points[self.faces[placed]].mean(axis=1)
        n = len(self.components)
        total = np.bincount(row, area, n)
        moment = np.column_stack([np.bincount(row, area * middle[:, k], n) for k in range(3)])
        return np.where(total[:, None] > 0, moment / np.where(total > 0, total, 1)[:, None], np.nan).astype(np.float32)

    @cached_property
    def center_vertex(self) -> np.ndarray:
        """int32 [n]: the vertex inside each parcel that is nearest to its centroid on the sphere; -1 where none."""
        points, centers = self.surfaces["sphere"], self.centroids("sphere")
        row = np.repeat(self.face_component, 3)
        vertex = self.faces.ravel()
        # A vertex on a border belongs to several parcels, or to one and the wall: taken only where there is no other.
        n_owners = np.bincount(np.unique(np.column_stack([vertex, row]), axis=0)[:, 0], minlength=len(points))
        row, vertex = row[row >= 0], vertex[row >= 0]
        distance = np.linalg.norm(points[vertex] - centers[row], axis=1) + 1e3 * (n_owners[vertex] > 1)
        order = np.lexsort((vertex, distance, row))
        first = np.append(True, row[order][1:] != row[order][:-1]) if len(order) else np.zeros(0, dtype=bool)
        result = np.full(len(self.components), -1, dtype=np.int32)
        result[row[order[first]]] = vertex[order[first]]
        return result

    def neighbors(self) -> np.ndarray:
        """int32 [m, 2]: pairs of components that share a border, lower row first, sorted."""
        _, sides = self._borders
        pairs = np.sort(sides[(sides >= 0).all(axis=1)], axis=1)
        return np.unique(pairs, axis=0).astype(np.int32).reshape(-1, 2)

    def border_edges(self, row: int | None = None) -> np.ndarray:
        """int32 [m, 2]: vertex pairs of the edges between parcels, the medial wall included; of one row, if given."""
        edges, sides = self._borders
        if row is None:
            return edges
        if not 0 <= row < len(self.components):
            raise InputError(f"row {row} is not in the table of {len(self.components)} components")
        return edges[(sides == row).any(axis=1)]

    @cached_property
    def _borders(self) -> tuple[np.ndarray, np.ndarray]:
        """Edges int32 [m, 2] whose two faces differ in component, and those components int32 [m, 2]."""
        from nmri3d.atlas.subdivision import face_edges

        edges, edge_of_face = face_edges(self.faces, len(self.vertices))
        order = np.argsort(edge_of_face.ravel(), kind="stable")
        sides = np.repeat(self.face_component, 3)[order].reshape(-1, 2)
        differs = sides[:, 0] != sides[:, 1]
        return edges[differs].astype(np.int32), sides[differs]

    def _points(self, surface: str) -> np.ndarray:
        if surface not in self.surfaces:
            raise InputError(f"unknown surface {surface!r}; known are {', '.join(self.surfaces)}")
        return self.surfaces[surface]

    def __repr__(self) -> str:
        placed = int((self.area > 0).sum())
        return f"Atlas({self.layout!r}: {placed} parcels, {len(self.vertices)} vertices, {len(self.faces)} faces)"


def _unwatched(share: float, what: str) -> None:
    """Progress that nobody watches."""


def _build(
    model: HasLayout,
    layout: str,
    area: str,
    resolution: str,
    seed: int,
    features: np.ndarray | None,
    progress: Callable[[float, str], None],
) -> Atlas:
    from nmri3d.atlas.build import build_atlas  # not needed, and so not imported, where the cache has the atlas

    def of_features(share: float, what: str) -> None:
        progress(0.6 * share, what)

    def of_atlas(share: float, what: str) -> None:
        progress(0.6 + 0.4 * share, what)

    values = _features(model, layout, features, of_features)
    return build_atlas(model.components, _structures(model), values, layout, area, resolution, seed, of_atlas)


def _structures(model: HasLayout) -> np.ndarray:
    named: Sequence[str] | None = getattr(model, "structures", None)
    return checked_structures(model.components, named)


def _features(
    model: HasLayout, layout: str, given: np.ndarray | None, progress: Callable[[float, str], None]
) -> np.ndarray:
    """float32 [n, k]: what components are compared by. Raises InputError where that is not one finite row a component.

    In `anatomical` heads are compared with heads and MLPs with MLPs; the other layouts compare all with all, for which a
    model may have features of its own (`circuit_features`).
    """
    across_kinds = getattr(model, "circuit_features", None) if layout != "anatomical" else None
    if given is None:
        given = model.layout_features() if across_kinds is None else across_kinds(progress)
    features = np.ascontiguousarray(given, dtype=np.float32)
    if features.ndim != 2 or len(features) != len(model.components):
        raise InputError(
            f"layout features have shape {features.shape}, and the model has {len(model.components)} components; "
            "give one row a component"
        )
    if not np.isfinite(features).all():
        raise InputError("layout features hold NaN or infinity; a component without a feature takes 0")
    return features


def _identity(model: HasLayout, layout: str, given: np.ndarray | None) -> bytes:
    """What stands for the features in the cache key.

    The fingerprint of a model that has one: features follow from the weights, and computing them may take longer than all
    else. The features themselves, where they were given or the model has no fingerprint.
    """
    fingerprint = getattr(getattr(model, "info", None), "fingerprint", None)
    if given is None and isinstance(fingerprint, str) and fingerprint:
        return f"weights {fingerprint}".encode()
    features = _features(model, layout, given, _unwatched)
    return f"features {features.shape} ".encode() + features.tobytes()

"""From a component table and its features to an atlas: layout, cells, cut mesh, figures of quality.

Convention. A hemisphere is first cut along the smooth border of its medial wall; what is left is the domain that the
cells divide, with the faces that the flat surface cuts away. Seeds and the places of components are found on the coarsest
mesh, which decides how cells lie; only the areas are fitted on the mesh asked for.

Left out: what a layout decides before any mesh is looked at (`plan`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from nmri3d.atlas.cutting import Cut, cut_at_level, split_at, triangle_areas
from nmri3d.atlas.layout import MIN_FACES, Placement, share_out
from nmri3d.atlas.parcels import Atlas
from nmri3d.atlas.plan import Plan, make_plan
from nmri3d.atlas.power import Domain, cut_cells
from nmri3d.atlas.quality import measure_quality
from nmri3d.atlas.surfaces import RESOLUTIONS, SURFACES, Hemisphere, cortex
from nmri3d.atlas.transport import fit_offsets, growth, relax
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError

_FACES_WANTED = 40
"""With "auto", a parcel has at least so many faces on average."""

_FACES_TO_SETTLE = 12
"""Cells settle on the coarsest mesh where the smallest has at least so many faces."""

_RELAX_STEPS = 16
_SETTLE_STEPS = 6
_POLE_PART = 200
"""A pole is the middle of the most posterior, or anterior, 1 in so many vertices of pial."""

_POLE_SLACK = 0.2
"""Radians that the parcel at a pole may lie beside it, to be clear of slits."""

_WHOLE_STEPS = 5
_MAX_ATTEMPTS = 4
_AREA_ERROR = 0.01
"""A hemisphere whose worst parcel is off by more is settled again."""


@dataclass(frozen=True, eq=False)
class _Base:
    """A hemisphere whose medial wall is cut out: the cut, its wall faces, and the domain outside."""

    hemisphere: Hemisphere
    cut: Cut
    domain: Domain
    vertex_of_point: np.ndarray
    wall_center: np.ndarray
    poles: np.ndarray
    n_faces: float
    """Mean faces of the uncut mesh that fit in the domain, by area on pial."""


def build_atlas(
    components: ComponentTable,
    features: np.ndarray,
    layout: str,
    area: str,
    resolution: str,
    seed: int,
    progress: Callable[[float, str], None],
) -> Atlas:
    """Build an atlas; the arguments are those of `Atlas.build`, already checked."""
    plan = make_plan(layout, components, features, area, seed, lambda share, what: progress(0.5 * share, what))
    resolution = _enough(max(len(rows) for rows in plan.sides), resolution)
    fine = _bases(resolution)
    placements = [
        share_out(rows, components, area, MIN_FACES / base.n_faces) for rows, base in zip(plan.sides, fine, strict=True)
    ]
    rough = _coarsest(resolution, min(placement.share.min() for placement in placements))
    halves = []
    for side in range(2):
        progress(0.5 + 0.2 * side, f"parcels of the {('left', 'right')[side]} hemisphere")
        halves.append(_divide(plan, placements[side], features, rough[side], fine[side]))
    progress(0.9, "quality of the atlas")
    atlas = _assemble(components, features, layout, plan, seed, halves)
    progress(1.0, "atlas ready")
    return atlas


@lru_cache(maxsize=3)
def _bases(resolution: str) -> tuple[_Base, _Base]:
    both = cortex(resolution)
    return _base(both.left), _base(both.right)


def _coarsest(resolution: str, smallest_share: float) -> tuple[_Base, _Base]:
    """The coarsest mesh, up to `resolution`, on which the smallest cell still has enough faces to take shape."""
    for name in RESOLUTIONS:
        bases = _bases(name)
        if name == resolution or smallest_share * min(base.n_faces for base in bases) >= _FACES_TO_SETTLE:
            return bases
    raise AssertionError(resolution)


def _enough(most: int, resolution: str) -> str:
    """The resolution to build at, where a hemisphere has at most `most` parcels.

    Raises InputError where a parcel would have fewer than MIN_FACES faces.
    """
    # About 10 % of a hemisphere's faces are medial wall or cut away by the flat surface.
    n_faces = {name: 0.89 * 20480 * 4**level for name, level in RESOLUTIONS.items()}
    if resolution == "auto":
        resolution = next((name for name in RESOLUTIONS if n_faces[name] >= _FACES_WANTED * most), [*RESOLUTIONS][-1])
    if n_faces[resolution] < 1.1 * MIN_FACES * most:
        enough = [name for name in RESOLUTIONS if n_faces[name] >= 1.1 * MIN_FACES * most]
        remedy = f"use {enough[0]}" if enough else "no mesh is fine enough; show fewer layers"
        raise InputError(
            f"{resolution} has about {n_faces[resolution]:,.0f} faces a hemisphere, too few for {most:,} parcels of at "
            f"least {MIN_FACES}; {remedy}"
        )
    return resolution


def _base(hemisphere: Hemisphere) -> _Base:
    cut = cut_at_level(hemisphere.faces, hemisphere.wall_level.astype(np.float64))
    # What the flat surface cuts away carries no parcel, so that every parcel is whole on every surface.
    cut = replace(cut, label=np.where(hemisphere.flat_faces[cut.source], cut.label, 1).astype(np.int32))
    outside = cut.label == 0
    points = cut.interpolate(hemisphere.direction)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    area = triangle_areas(cut.interpolate(hemisphere.surfaces["pial"]), cut.faces)
    size = triangle_areas(points, cut.faces)
    used, local = np.unique(cut.faces[outside], return_inverse=True)
    domain = Domain(points[used], local.reshape(-1, 3).astype(np.int32), area[outside], size[outside])
    wall = points[cut.faces[~outside]].mean(axis=1) * size[~outside][:, None]
    return _Base(
        hemisphere=hemisphere,
        cut=cut,
        domain=domain,
        vertex_of_point=used,
        wall_center=wall.sum(axis=0),
        poles=_poles(hemisphere, domain),
        n_faces=area[outside].sum() / area.sum() * len(hemisphere.faces),
    )


def _poles(hemisphere: Hemisphere, domain: Domain) -> np.ndarray:
    """float64 [2, 3]: the places on the sphere for the parcels at the occipital and the frontal pole of pial.

    The domain's point near the pole that is farthest from the domain's rim: slits run up to both poles.
    """
    order = np.argsort(hemisphere.surfaces["pial"][:, 1], kind="stable")
    n = max(1, len(order) // _POLE_PART)
    poles = np.stack([hemisphere.direction[part].mean(axis=0) for part in (order[:n], order[-n:])])
    poles /= np.linalg.norm(poles, axis=1, keepdims=True)
    near = domain.points @ poles.T > np.cos(_POLE_SLACK)
    return np.stack([domain.points[np.argmax(np.where(one, domain.rim_distance, -1))] for one in near.T])


@dataclass(frozen=True, eq=False)
class _Half:
    """One hemisphere of the atlas."""

    placement: Placement
    surfaces: dict[str, np.ndarray]
    faces: np.ndarray
    face_component: np.ndarray
    sulcal_depth: np.ndarray
    curvature: np.ndarray
    direction: np.ndarray
    target: np.ndarray


def _divide(plan: Plan, placement: Placement, features: np.ndarray, rough: _Base, exact: _Base) -> _Half:
    seeds, offsets = _settle(plan, placement, features, rough)
    target = placement.share * exact.domain.mass.sum()
    fixed = placement.pole != 0
    best, least = None, np.inf
    for _ in range(_MAX_ATTEMPTS):
        offsets, found = fit_offsets(exact.domain, seeds, offsets, target, whole=True)
        error = float(np.abs(found.mass / target - 1).max())
        if error < least:
            best, least = (seeds, offsets, found.label), error
        if error < _AREA_ERROR:
            break
        # Cells that are in each other's way about a slit lie differently after they have settled anew.
        seeds, offsets = relax(exact.domain, seeds, offsets, [target] * _SETTLE_STEPS, fixed=fixed)
    assert best is not None
    return _cut_half(placement, exact, *best, target)


def _settle(plan: Plan, placement: Placement, features: np.ndarray, base: _Base) -> tuple[np.ndarray, np.ndarray]:
    """Seeds float64 [k, 3] and offsets float64 [k] of round cells of about the right areas, in good order.

    Cells start equal, where places can be exchanged freely; then they grow apart.
    """
    domain = base.domain
    fixed = placement.pole != 0
    even = replace(placement, share=placement.share_when_even)
    target, start = placement.share * domain.mass.sum(), even.share * domain.mass.sum()
    seeds = plan.seeds(domain, even, features, base.wall_center, base.poles)
    offsets, _ = fit_offsets(domain, seeds, np.zeros(len(seeds)), start, tolerance=0.1, polish=False)
    seeds, offsets = relax(domain, seeds, offsets, [start] * _RELAX_STEPS, fixed=fixed)
    seat = plan.arrange(seeds, even, features)
    seeds, offsets = seeds[seat], offsets[seat]
    if not np.allclose(target, start):
        seeds, offsets = relax(domain, seeds, offsets, growth(start, target) + [target] * _SETTLE_STEPS, fixed=fixed)
        seat = plan.arrange(seeds, placement, features, same_share=1.1)
        seeds, offsets = relax(domain, seeds[seat], offsets[seat], [target] * _SETTLE_STEPS, fixed=fixed)
    # A cell that lies across a slit moves to the side where most of it is.
    return relax(domain, seeds, offsets, [target] * _WHOLE_STEPS, fixed=fixed, whole=True)


def _cut_half(
    placement: Placement, base: _Base, seeds: np.ndarray, offsets: np.ndarray, label: np.ndarray, target: np.ndarray
) -> _Half:
    """Cut the domain into cells and put the medial wall back."""
    cells = cut_cells(base.domain, seeds, offsets, label)
    n_points, n_base = len(base.domain.points), len(base.cut.corners)
    # Points of the domain are vertices of the base mesh; the cut points of cells follow all of those.
    vertex = np.concatenate([base.vertex_of_point, n_base + np.arange(len(cells.corners) - n_points)])
    on_edge = cells.weights[n_points:, 2] == 0
    ends = base.vertex_of_point[cells.corners[n_points:, :2][on_edge]]
    wall = split_at(base.cut.faces[base.cut.label == 1], ends, n_base + np.flatnonzero(on_edge), n_base)
    faces = np.concatenate([vertex[cells.faces], wall]).astype(np.int32)
    component = np.concatenate([placement.rows[cells.label], np.full(len(wall), -1)]).astype(np.int32)
    corners, weights = base.vertex_of_point[cells.corners[n_points:]], cells.weights[n_points:]

    def carry(values: np.ndarray) -> np.ndarray:
        on_base = base.cut.interpolate(values.astype(np.float64))
        return np.concatenate([on_base, np.einsum("pk,pk...->p...", weights, on_base[corners])])

    side = base.hemisphere
    return _Half(
        placement=placement,
        surfaces={name: carry(side.surfaces[name]).astype(np.float32) for name in SURFACES},
        faces=faces,
        face_component=component,
        sulcal_depth=carry(side.sulcal_depth).astype(np.float32),
        curvature=carry(side.curvature).astype(np.float32),
        direction=carry(side.direction),
        target=target,
    )


def _assemble(
    components: ComponentTable, features: np.ndarray, layout: str, plan: Plan, seed: int, halves: list[_Half]
) -> Atlas:
    left, right = halves
    n_left = len(left.direction)
    faces = np.concatenate([left.faces, right.faces + n_left]).astype(np.int32)
    face_component = np.concatenate([left.face_component, right.face_component])
    surfaces = {name: np.concatenate([left.surfaces[name], right.surfaces[name]]) for name in SURFACES}
    placed = face_component >= 0
    face_area = triangle_areas(surfaces["pial"], faces)
    target = np.zeros(len(components))
    for half in halves:
        target[half.placement.rows] = half.target
    area = np.bincount(face_component[placed], face_area[placed], len(components))
    quality = measure_quality(
        components=components,
        features=features,
        direction=np.concatenate([left.direction, right.direction]),
        faces=faces,
        face_component=face_component,
        n_left_faces=len(left.faces),
        area=area,
        target_area=target,
        embedding=plan.points,
        seed=seed,
    )
    sulcal_depth = np.concatenate([left.sulcal_depth, right.sulcal_depth])
    curvature = np.concatenate([left.curvature, right.curvature])
    for array in (*surfaces.values(), faces, face_component, sulcal_depth, curvature, target, area):
        array.setflags(write=False)
    return Atlas(
        components=components,
        surfaces=surfaces,
        faces=faces,
        face_component=face_component,
        sulcal_depth=sulcal_depth,
        curvature=curvature,
        n_left_vertices=n_left,
        n_left_faces=len(left.faces),
        target_area=target,
        area=area,
        layout=layout,
        quality=quality,
    )

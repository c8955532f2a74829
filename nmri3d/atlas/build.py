"""From a component table and its features to an atlas: layout, cells, cut mesh, figures of quality.

Convention. A hemisphere is first cut along the smooth border of its medial wall; what is left is the domain that the
cells divide, with the faces that the flat surface cuts away. Seeds and the places of components are found on the coarsest
mesh, which decides how cells lie; only the areas are fitted on the mesh asked for. A body beside the cortex is
divided by the same steps, whole, along its smooth surface in space, and follows the hemispheres in vertices and faces.

Left out: what a layout decides before any mesh is looked at (`plan`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from nmri3d.atlas.bodies import FINENESS, body
from nmri3d.atlas.body import Body
from nmri3d.atlas.cutting import Cut, cut_at_level, split_at, triangle_areas
from nmri3d.atlas.layout import MIN_FACES, Placement, share_out
from nmri3d.atlas.parcels import Atlas, BodyRange
from nmri3d.atlas.plan import Plan, make_plan
from nmri3d.atlas.power import Domain, cut_cells, plain_offsets
from nmri3d.atlas.quality import measure_quality
from nmri3d.atlas.surfaces import RESOLUTIONS, SURFACES, Hemisphere, cortex
from nmri3d.atlas.transport import fit_offsets, growth, relax
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError

_FACES_WANTED = 30
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
_AGAIN_STEPS = 2
_MAX_ATTEMPTS = 4
_AREA_ERROR, _FACE_ERROR = 0.01, 1.0
"""A hemisphere is settled again where a parcel is off by more than this share of its area, or by so many mean faces, since
the area of a parcel of few faces jumps as a vertex changes hands."""
_MANY, _LONG_STEP = 1000, 1.35
"""More cells than so many grow in longer steps; each has so many neighbors to give way to."""


@dataclass(frozen=True, eq=False)
class _Base:
    """A hemisphere whose medial wall is cut out, or a whole body: the cut, its wall faces, and the domain outside."""

    part: Hemisphere | Body
    cut: Cut
    domain: Domain
    vertex_of_point: np.ndarray
    wall_center: np.ndarray
    poles: np.ndarray
    n_faces: float
    """Mean faces of the uncut mesh that fit in the domain, by area on pial."""


def build_atlas(
    components: ComponentTable,
    structures: np.ndarray,
    features: np.ndarray,
    layout: str,
    area: str,
    resolution: str,
    seed: int,
    progress: Callable[[float, str], None],
) -> Atlas:
    """Build an atlas; the arguments are those of `Atlas.build`, already checked; structures str [n]."""
    plan = make_plan(
        layout, components, structures, features, area, seed, lambda share, what: progress(0.5 * share, what)
    )
    housing = plan.housing
    sides = (housing.left, housing.right)
    resolution = _enough(max(len(rows) for rows in sides), resolution)
    fine = _bases(resolution)
    placements = [
        share_out(rows, components, area, MIN_FACES / base.n_faces) for rows, base in zip(sides, fine, strict=True)
    ]
    smallest = [placement.share.min() for placement in placements if len(placement.rows)]
    rough = _coarsest(resolution, min(smallest, default=1.0))
    parts = []
    for side, name in enumerate(("left", "right")):
        progress(0.5 + 0.2 * side, f"parcels of the {name} hemisphere")
        parts.append(_divide(plan, placements[side], features, rough[side], fine[side]))
    for name, rows in housing.bodies.items():
        progress(0.85, f"parcels of the {name}")
        base = _body_base(name, len(rows))
        placement = share_out(rows, components, area, MIN_FACES / base.n_faces, poles=False)
        parts.append(_divide(plan, placement, features, base, base))
    progress(0.9, "quality of the atlas")
    atlas = _assemble(components, features, layout, plan, seed, parts)
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
        part=hemisphere,
        cut=cut,
        domain=domain,
        vertex_of_point=used,
        wall_center=wall.sum(axis=0),
        poles=_poles(hemisphere, domain),
        n_faces=area[outside].sum() / area.sum() * len(hemisphere.faces),
    )


@lru_cache(maxsize=6)
def _body_base(name: str, most: int) -> _Base:
    """A body with faces enough for `most` parcels. Raises InputError where none has."""
    for fineness in range(FINENESS):
        found = body(name, fineness)
        if len(found.faces) >= _FACES_WANTED * most:
            break
    if len(found.faces) < 1.1 * MIN_FACES * most:
        raise InputError(
            f"the {name} has {len(found.faces):,} faces, too few for {most:,} parcels of at least {MIN_FACES}; "
            "let fewer components lie there"
        )
    cut = cut_at_level(found.faces, np.full(len(found.points), -1.0))
    area = triangle_areas(found.points, found.faces)
    size = triangle_areas(found.direction, found.faces)
    return _Base(
        part=found,
        cut=cut,
        domain=Domain(found.direction, cut.faces, area, size, on_sphere=False),
        vertex_of_point=np.arange(len(found.points)),
        wall_center=np.zeros(3),
        poles=np.zeros((2, 3)),
        n_faces=float(len(found.faces)),
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
    """One hemisphere of the atlas, or one body."""

    part: Hemisphere | Body
    placement: Placement
    surfaces: dict[str, np.ndarray]
    faces: np.ndarray
    face_component: np.ndarray
    sulcal_depth: np.ndarray
    curvature: np.ndarray
    direction: np.ndarray
    inner: np.ndarray
    target: np.ndarray


def _divide(plan: Plan, placement: Placement, features: np.ndarray, rough: _Base, exact: _Base) -> _Half:
    if not len(placement.rows):
        return _blank_half(placement, exact)
    seeds, offsets = _settle(plan, placement, features, rough)
    target = placement.share * exact.domain.mass.sum()
    fixed = placement.pole != 0
    allowed = np.maximum(_AREA_ERROR, _FACE_ERROR / (placement.share * exact.n_faces))
    best, least = None, np.inf
    for _ in range(_MAX_ATTEMPTS):
        offsets, found = fit_offsets(exact.domain, seeds, offsets, target, whole=True)
        error = float((np.abs(found.mass / target - 1) / allowed).max())
        if error < least:
            best, least = (seeds, offsets, found.label), error
        if error < 1:
            break
        # Cells that are in each other's way about a slit lie differently after they have settled anew, as plain cells first:
        # offsets that hold with pieces forbidden mean little without.
        offsets, _ = fit_offsets(exact.domain, seeds, offsets, target, tolerance=0.1, polish=False)
        seeds, offsets = relax(exact.domain, seeds, offsets, [target] * _AGAIN_STEPS, fixed=fixed)
        seeds, offsets = relax(exact.domain, seeds, offsets, [target], fixed=fixed, whole=True)
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
    offsets, _ = fit_offsets(domain, seeds, plain_offsets(seeds), start, tolerance=0.1, polish=False)
    seeds, offsets = relax(domain, seeds, offsets, [start] * _RELAX_STEPS, fixed=fixed)
    seat = plan.arrange(seeds, even, features)
    seeds, offsets = seeds[seat], offsets[seat]
    if not np.allclose(target, start):
        steps = growth(start, target, _LONG_STEP) if len(seeds) > _MANY else growth(start, target)
        seeds, offsets = relax(domain, seeds, offsets, steps + [target] * _SETTLE_STEPS, fixed=fixed)
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

    return _carried(base.part, placement, faces, component, carry, target)


def _blank_half(placement: Placement, base: _Base) -> _Half:
    """A hemisphere on which no component lies."""
    component = np.full(len(base.cut.faces), -1, dtype=np.int32)
    return _carried(base.part, placement, base.cut.faces, component, base.cut.interpolate, np.zeros(0))


def _carried(
    part: Hemisphere | Body,
    placement: Placement,
    faces: np.ndarray,
    component: np.ndarray,
    carry: Callable[[np.ndarray], np.ndarray],
    target: np.ndarray,
) -> _Half:
    """The divided part; `carry` brings values at the vertices of the uncut mesh to those of the cut one."""
    return _Half(
        part=part,
        placement=placement,
        surfaces={name: carry(part.surfaces[name]).astype(np.float32) for name in SURFACES},
        faces=faces,
        face_component=component,
        sulcal_depth=carry(part.sulcal_depth).astype(np.float32),
        curvature=carry(part.curvature).astype(np.float32),
        direction=carry(part.direction),
        inner=carry(part.inner).astype(np.float32) if isinstance(part, Body) else np.zeros((0, 3), dtype=np.float32),
        target=target,
    )


def _assemble(
    components: ComponentTable, features: np.ndarray, layout: str, plan: Plan, seed: int, parts: list[_Half]
) -> Atlas:
    first_vertex = np.cumsum([0, *(len(part.direction) for part in parts)])
    first_face = np.cumsum([0, *(len(part.faces) for part in parts)])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, first_vertex, strict=False)])
    faces = faces.astype(np.int32)
    face_component = np.concatenate([part.face_component for part in parts])
    surfaces = {name: np.concatenate([part.surfaces[name] for part in parts]) for name in SURFACES}
    placed = face_component >= 0
    face_area = triangle_areas(surfaces["pial"], faces)
    target = np.zeros(len(components))
    for part in parts:
        target[part.placement.rows] = part.target
    area = np.bincount(face_component[placed], face_area[placed], len(components))
    quality = measure_quality(
        components=components,
        features=features,
        direction=np.concatenate([part.direction for part in parts]),
        faces=faces,
        face_component=face_component,
        part_of_face=np.repeat(np.arange(len(parts)), np.diff(first_face)),
        area=area,
        target_area=target,
        embedding=plan.points,
        seed=seed,
    )
    bodies = tuple(
        BodyRange(part.part.name, part.part.side, int(vertex), int(face))
        for part, vertex, face in zip(parts, first_vertex, first_face, strict=False)
        if isinstance(part.part, Body)
    )
    sulcal_depth = np.concatenate([part.sulcal_depth for part in parts])
    curvature = np.concatenate([part.curvature for part in parts])
    inner = np.concatenate([part.inner for part in parts])
    for array in (*surfaces.values(), faces, face_component, sulcal_depth, curvature, target, area, inner):
        array.setflags(write=False)
    return Atlas(
        components=components,
        surfaces=surfaces,
        faces=faces,
        face_component=face_component,
        sulcal_depth=sulcal_depth,
        curvature=curvature,
        n_left_vertices=int(first_vertex[1]),
        n_left_faces=int(first_face[1]),
        target_area=target,
        area=area,
        layout=layout,
        quality=quality,
        bodies=bodies,
        body_inner=inner,
    )

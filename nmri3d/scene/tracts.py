"""Tracts: which measured edges are drawn, how wide, in which color, and along which path through the white matter.

Convention. Points are mm in RAS. A tube stands for one edge of a DTI scan that has a measured score, and for nothing
else. It leaves the source's parcel at the parcel's central vertex along the inward normal (that of the whole parcel),
bends through the core of its hemisphere, or through the middle of the medial walls (where the corpus callosum is) to the
other one, and arrives likewise; tracts that run between the same places lie side by side, as a bundle. The path is a
uniform cubic B-spline, clamped at both ends. A path says where the two ends are, not how information flows through space.

Width. A tube's cross-section grows in proportion to |score|: radius = sqrt(THINNEST^2 + (THICKEST^2 - THINNEST^2) f),
f = |score| / reference, with the largest |score| of the scan's kept edges as the reference. The smallest stays visible.

Colors. "sign": the two ends of the DTI color map, so that a tube and a parcel of one sign have one hue. "direction": red
left-right, green anterior-posterior, blue superior-inferior, as radiologists read it, by the path's own direction.

Left out: which edges are measured (scans/dti.py), triangles (tubes.py), VTK (tract_actor.py). numpy only. The browser
does the same (app/web/tracts.js), with the numbers of `tract_rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.results import Tracts
from nmri3d.scene.colors import Variant, color_map

if TYPE_CHECKING:
    from nmri3d.atlas import Atlas
    from nmri3d.atlas.nodes import Nodes

MOST_TUBES = 2000
"""Tubes that are ever drawn at once: the strongest."""
FIRST_TUBES = 200
"""Tubes that are drawn while nobody has chosen a share of the effect: more are hard to tell apart."""
THINNEST, THICKEST = 0.35, 2.0
"""Radius in mm of a tube of score 0 and of the reference score."""
SAMPLES = 29
"""Points of a path."""

TractColors = Literal["sign", "direction"]
TRACT_COLORS = ("sign", "direction")

SIGN_PLACES = (0.1, 0.9)
"""Places on the DTI color map that color tubes of negative and of positive score."""
AXIS_COLORS: dict[Variant, tuple[tuple[int, int, int], ...]] = {
    "standard": ((255, 48, 48), (48, 240, 80), (72, 112, 255)),
    "colorblind": ((213, 94, 0), (240, 228, 66), (86, 180, 233)),
}
"""Colors of left-right, anterior-posterior, superior-inferior; the color-blind ones are of Okabe and Ito (2008)."""
BRIGHTEST = 250
"""Largest channel of a direction's color, so that no direction is darker than another."""
DIMMED = 0.3
"""Share of brightness that is left to the other tubes while one is selected."""

_KNOTS = 7
_DEPTH, _DEPTH_SHARE, _LEAST_DEPTH = 14.0, 0.35, 2.0
_PULL, _PULL_LENGTH = 0.85, 45.0
_CORE_SPREAD = (0.15, 0.85, 0.35)
_GATE_SPREAD = (0.0, 0.42, 0.16)
_GATE_APPROACH = 9.0
_ARCH = 80.0


@dataclass(frozen=True, eq=False)
class TractFrame:
    """Where tracts end and pass on one surface of an atlas of n components.

    anchor  float32 [n, 3], mm: the end of a component's tracts, on the surface; NaN without a place
    inward  float32 [n, 3], unit: the inward normal of its parcel; NaN without a place
    side    int8 [n], 0 left, 1 right, -1 without a place; of a body the side of the midline that the anchor lies on
    core    float32 [2, 3], mm: middle of each hemisphere
    gate    float32 [2, 3], mm: middle of each medial wall
    """

    anchor: np.ndarray
    inward: np.ndarray
    side: np.ndarray
    core: np.ndarray
    gate: np.ndarray


def tract_frame(atlas: Atlas, surface: str) -> TractFrame:
    """The frame of a surface of the atlas. Raises InputError for an unknown surface."""
    if surface not in atlas.surfaces:
        raise InputError(f"there is no surface {surface!r}; the surfaces are {', '.join(atlas.surfaces)}")
    points = atlas.surfaces[surface].astype(np.float64)
    corners = points[atlas.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(axis=1)
    n, left = len(atlas.components), atlas.n_left_vertices
    halves = (slice(None, left), slice(left, atlas.n_cortex_vertices))
    core = np.stack([(points[half].min(axis=0) + points[half].max(axis=0)) / 2 for half in halves])
    gate = core.copy()
    for half, faces in enumerate((slice(None, atlas.n_left_faces), slice(atlas.n_left_faces, atlas.n_cortex_faces))):
        wall = atlas.face_component[faces] < 0
        if wall.any():
            gate[half] = np.median(middle[faces][wall], axis=0)
    center = atlas.center_vertex
    there = center >= 0
    row = atlas.face_component
    outward = np.stack([np.bincount(row[row >= 0], normal[row >= 0, axis], n) for axis in range(3)], axis=1)
    on_right = np.where(center < atlas.n_cortex_vertices, center >= left, points[center, 0] > 0)
    side = np.where(there, on_right, -1).astype(np.int8)
    anchor = np.where(there[:, None], points[center], np.nan)
    to_core = core[np.maximum(side, 0)] - anchor
    # a parcel that surrounds a fold may face every way at once: its tracts then leave towards the core
    size = np.linalg.norm(outward, axis=1, keepdims=True)
    area = np.bincount(row[row >= 0], np.linalg.norm(normal[row >= 0], axis=1), n)[:, None]
    inward = np.where(size > 0.05 * area, -outward / np.maximum(size, 1e-12), _unit(to_core))
    if surface == "flat":  # there is no inside: tracts arch over the map, towards the viewer
        core[:, 2] = gate[:, 2] = _ARCH
        inward = np.tile([0.0, 0.0, 1.0], (n, 1))
    inward[~there] = np.nan
    return TractFrame(
        anchor.astype(np.float32),
        inward.astype(np.float32),
        side,
        core.astype(np.float32),
        gate.astype(np.float32),
    )


def node_frame(nodes: Nodes, side: np.ndarray) -> TractFrame:
    """The frame of a layout of balls: tracts run from middle to middle and bend towards the middle of all.

    side: int8 [n], hemispheres of the components on the cortex; it decides nothing here.
    """
    there = np.isfinite(nodes.radius)
    middle = np.median(nodes.center[there], axis=0).astype(np.float32)
    both = np.stack([middle, middle])
    inward = np.where(there[:, None], _unit(middle - nodes.center), np.nan).astype(np.float32)
    return TractFrame(nodes.center, inward, side, both, both)


def blended_frame(a: TractFrame, b: TractFrame, t: float) -> TractFrame:
    """The frame a share t of the way from one surface to another."""

    def mix(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        result: np.ndarray = ((1 - t) * x + t * y).astype(np.float32)
        return result

    inward = _unit(mix(a.inward, b.inward)).astype(np.float32)
    return TractFrame(mix(a.anchor, b.anchor), inward, a.side, mix(a.core, b.core), mix(a.gate, b.gate))


@dataclass(frozen=True)
class TractStyle:
    """What is drawn of the tracts of a scan, and how.

    share      the fewest edges that carry this share (0 to 1) of the |score| of all measured edges; None: the
               FIRST_TUBES strongest
    colors     "sign" or "direction"
    variant    of the colors
    reference  |score| of the thickest tube; None: the largest of the scan's kept edges

    Raises InputError for a share, a way to color or a reference that cannot be.
    """

    share: float | None = None
    colors: TractColors = "sign"
    variant: Variant = "standard"
    reference: float | None = None

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share <= 1:
            raise InputError(f"a share of the total effect lies between 0 and 1, got {self.share!r}")
        if self.colors not in TRACT_COLORS:
            raise InputError(f"tracts cannot be colored by {self.colors!r}; choose one of {', '.join(TRACT_COLORS)}")
        if self.reference is not None and not 0 < self.reference < float("inf"):
            raise InputError(f"the thickest tube needs a finite |score| above 0, got {self.reference!r}")


def placed(tracts: Tracts, components: ComponentTable) -> np.ndarray:
    """bool [edges]: whether both ends have a parcel. The other edges (of biases) are counted, never drawn."""
    return np.isin(tracts.source, components.cortical) & np.isin(tracts.target, components.cortical)


def drawable(tracts: Tracts, components: ComponentTable) -> Tracts:
    """The edges that can be drawn, strongest first, at most MOST_TUBES: both ends placed, |score| above 0 and finite.

    `total` and `count` stay those of all measured edges.
    """
    size = np.abs(tracts.score)
    fit = np.flatnonzero(placed(tracts, components) & np.isfinite(size) & (size > 0))
    best = fit[np.argsort(-size[fit], kind="stable")][:MOST_TUBES]
    return replace(
        tracts, source=tracts.source[best], target=tracts.target[best], slot=tracts.slot[best], score=tracts.score[best]
    )


def chosen_edges(edges: Tracts, share: float | None = None, row: int | None = None) -> np.ndarray:
    """int32: positions in `drawable` edges of those to draw, strongest first; row: only those into and out of it."""
    keep = np.ones(len(edges), dtype=bool)
    if share is not None:
        size = np.abs(edges.score, dtype=np.float64)
        keep &= np.cumsum(size) - size < share * edges.total
    if row is not None:
        keep &= (edges.source == row) | (edges.target == row)
    chosen = np.flatnonzero(keep)
    return (chosen[:FIRST_TUBES] if share is None else chosen).astype(np.int32)


def carried_share(edges: Tracts, chosen: np.ndarray) -> float:
    """Share of the |score| of all measured edges that the chosen ones carry; NaN where that is 0."""
    carried = float(np.abs(edges.score[chosen], dtype=np.float64).sum())
    return carried / edges.total if edges.total > 0 else float("nan")


def tract_rules() -> dict[str, Any]:
    """The numbers by which tracts are drawn, for the browser: plain values, and the spline's matrices as nested lists."""
    value, slope = _spline()
    return {
        "first": FIRST_TUBES,
        "thinnest": THINNEST,
        "thickest": THICKEST,
        "samples": SAMPLES,
        "brightest": BRIGHTEST,
        "dimmed": DIMMED,
        "depth": [_DEPTH, _DEPTH_SHARE, _LEAST_DEPTH],
        "pull": [_PULL, _PULL_LENGTH],
        "core_spread": list(_CORE_SPREAD),
        "gate_spread": list(_GATE_SPREAD),
        "gate_approach": _GATE_APPROACH,
        "sign_colors": {variant: sign_colors(variant).tolist() for variant in AXIS_COLORS},
        "axis_colors": {variant: [list(color) for color in colors] for variant, colors in AXIS_COLORS.items()},
        "value": value.tolist(),
        "slope": slope.tolist(),
    }


def reference_score(edges: Tracts) -> float:
    """The |score| that the thickest tube stands for, in the scan's units: the largest of the kept edges; 0 if none."""
    size = np.abs(edges.score)
    return float(size[np.isfinite(size)].max(initial=0.0))


def tube_radius(score: np.ndarray, reference: float) -> np.ndarray:
    """Radius in mm, float32, of tubes of these scores; THICKEST at the reference and beyond."""
    share = np.clip(np.abs(np.asarray(score, dtype=np.float64)) / reference, 0.0, 1.0) if reference > 0 else 0.0
    return np.sqrt(THINNEST**2 + (THICKEST**2 - THINNEST**2) * share + np.zeros(np.shape(score))).astype(np.float32)


def tract_paths(frame: TractFrame, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paths from sources to targets (component rows [e]): points and unit tangents, float32 [e, SAMPLES, 3]."""
    knots = _knots(frame, np.asarray(source), np.asarray(target))
    basis, slope = _spline()
    points = np.einsum("sk,ekx->esx", basis, knots)
    tangents = _unit(np.einsum("sk,ekx->esx", slope, knots))
    return points.astype(np.float32), tangents.astype(np.float32)


def sign_colors(variant: Variant = "standard") -> np.ndarray:
    """uint8 [2, 3]: the colors of a negative and of a positive score."""
    return color_map("DTI", variant).colors(np.array(SIGN_PLACES))


def tube_colors(score: np.ndarray, tangents: np.ndarray, style: TractStyle) -> np.ndarray:
    """Colors along paths, uint8 [e, SAMPLES, 3], for scores [e] and unit tangents [e, SAMPLES, 3].

    "direction" mixes the three axes' colors by the squares of the direction's cosines and brings the largest channel to
    BRIGHTEST; which way the edge runs along the axis makes no difference.
    """
    if style.colors == "sign":
        color = sign_colors(style.variant)[(np.asarray(score) > 0).astype(int)]
        return np.repeat(color[:, None], tangents.shape[1], axis=1)
    mixed = np.square(tangents.astype(np.float64)) @ np.array(AXIS_COLORS[style.variant], dtype=np.float64)
    mixed *= BRIGHTEST / np.maximum(mixed.max(axis=-1, keepdims=True), 1e-9)
    return np.floor(mixed + 0.5).astype(np.uint8)


# --- paths -----------------------------------------------------------------------------------------------------------


def _knots(frame: TractFrame, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Control points of the splines, float64 [e, _KNOTS, 3]."""
    a, b = frame.anchor[source].astype(np.float64), frame.anchor[target].astype(np.float64)
    distance = np.linalg.norm(b - a, axis=1, keepdims=True)
    depth = np.clip(_DEPTH_SHARE * distance, _LEAST_DEPTH, _DEPTH)
    inside_a, inside_b = a + depth * frame.inward[source], b + depth * frame.inward[target]
    middle = (inside_a + inside_b) / 2
    side_a, side_b = frame.side[source], frame.side[target]
    crosses = (side_a != side_b)[:, None]

    core = frame.core[side_a].astype(np.float64)
    core = core + (middle - core) * _CORE_SPREAD
    pull = _PULL * distance / (distance + _PULL_LENGTH)
    bend = middle + pull * (core - middle)

    gate_a, gate_b = frame.gate[side_a].astype(np.float64), frame.gate[side_b].astype(np.float64)
    spread = (middle - (gate_a + gate_b) / 2) * _GATE_SPREAD
    outwards = np.where(side_a == 0, -1.0, 1.0)[:, None] * np.array([_GATE_APPROACH, 0.0, 0.0])
    before = np.where(crosses, gate_a + spread + outwards, (inside_a + bend) / 2)
    after = np.where(crosses, gate_b + spread - outwards, (inside_b + bend) / 2)
    through = np.where(crosses, (gate_a + gate_b) / 2 + spread, bend)
    return np.stack([a, inside_a, before, through, after, inside_b, b], axis=1)


def _spline() -> tuple[np.ndarray, np.ndarray]:
    """Values and slopes [SAMPLES, _KNOTS] of the clamped uniform cubic B-splines at even steps, ends included."""
    spans = _KNOTS - 3
    knots = np.concatenate([[0.0] * 3, np.arange(spans + 1.0), [float(spans)] * 3])
    at = np.linspace(0.0, spans, SAMPLES)
    at[-1] = np.nextafter(spans, 0)  # intervals are half open
    value = _basis(knots, at, 3)
    value[-1] = np.eye(_KNOTS)[-1]
    lower = _basis(knots, at, 2)
    slope = np.zeros_like(value)
    for k in range(_KNOTS):
        for j, sign in ((k, 1.0), (k + 1, -1.0)):
            width = knots[j + 3] - knots[j]
            if width > 0:
                slope[:, k] += sign * 3 * lower[:, j] / width
    return value, slope


def _basis(knots: np.ndarray, at: np.ndarray, degree: int) -> np.ndarray:
    """B-splines of a degree at the places, float64 [len(at), len(knots) - degree - 1] (Cox and de Boor)."""
    values = ((knots[:-1] <= at[:, None]) & (at[:, None] < knots[1:])).astype(np.float64)
    for d in range(1, degree + 1):
        n = len(knots) - d - 1
        left, right = knots[d : d + n] - knots[:n], knots[d + 1 : d + 1 + n] - knots[1 : n + 1]
        rising = np.divide(at[:, None] - knots[:n], left, out=np.zeros((len(at), n)), where=left > 0)
        falling = np.divide(knots[d + 1 : d + 1 + n] - at[:, None], right, out=np.zeros((len(at), n)), where=right > 0)
        values = rising * values[:, :n] + falling * values[:, 1 : n + 1]
    return values


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)

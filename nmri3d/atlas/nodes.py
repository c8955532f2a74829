"""Layouts without a cortex: every component is a ball, in a stack, in rings, or in a network. And parcels that curl up.

`stack`: one level a layer, the embedding on top, the unembedding at the bottom; MLPs wind around the axis, heads stand
in a ring around them in the order of their index; what else a network has fills the middle of its level. `radial`: one
ring a layer, the embedding in the middle, later layers farther out and lower, all balls equally dense; a layer of more
than RING fills a broad ring. In both, each layer is turned by the golden angle against the one before, so that no two
stand in each other's way.

`network`: a force-directed graph (Fruchterman and Reingold 1991, in networkx) of what is alike, each component and its
nearest neighbors by features; and of the stream, each MLP, embedding and unembedding, or whatever is the only one of
its kind in its layer, and what lies one layer before and behind it, so that it hangs together and has a direction.

Convention. mm, RAS, centered on the origin; the layouts are about as large as the brain. The volume of a ball follows
the parameters of its component, but no radius is under SMALLEST of the largest; no two balls touch. Components without
a place (`ComponentTable.cortical`) have no ball: NaN.

A parcel curls up into its ball: distance from the parcel's center, as a share r of the way to its border, becomes the
angle 2 asin(r) from the ball's pole (Lambert's equal-area projection, backwards), and the azimuth stays. Around a slit
of the flat surface, the border is laid around a circle first, and the rest between. So a ball is
another shape of the same faces, with the same texture coordinates; its whole border lies at the other pole.

Left out: lines between balls (a tube is a measured edge, scene/tracts.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.atlas.layout import centered, depths
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError

NODE_LAYOUTS = ("stack", "radial", "network")

SMALLEST = 0.4
"""Radius of the smallest ball, as a share of the largest (4 to 10 pixels in the specification)."""

RING = 128
"""Most components of a layer that stand in one ring of `radial`."""

_HEIGHT = 165.0
_RADIUS = 75.0
_CLEARANCE = 0.92
_NEIGHBORS = 4
_SPRING_STEPS, _FEW_STEPS, _MANY = 120, 30, 1500
_PUSHES = 60
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


@dataclass(frozen=True, eq=False)
class Nodes:
    """Balls of n components.

    name    one of NODE_LAYOUTS
    center  float32 [n, 3], mm; NaN without a place
    radius  float32 [n], mm; NaN without a place
    """

    name: str
    center: np.ndarray
    radius: np.ndarray


def node_layout(name: str, components: ComponentTable, features: np.ndarray, seed: int = 0) -> Nodes:
    """Where each component's ball is, and how large. Deterministic; `seed` begins the forces of the network.

    features float [n, k] decide what is alike in the network; the other layouts do without. Raises InputError for an
    unknown name, and for a model without any component that has a place.
    """
    if name not in NODE_LAYOUTS:
        raise InputError(f"there is no layout of nodes {name!r}; choose one of {', '.join(NODE_LAYOUTS)}")
    rows = components.cortical
    if not len(rows):
        raise InputError("this model has no component with a place, so that there is nothing to lay out")
    depth = depths(components, rows) + 1  # 0 for the embedding
    if name == "stack":
        places = _stack(components, rows, depth)
    elif name == "radial":
        places = _radial(components, rows, depth)
    else:
        places = _network(components, rows, depth, np.asarray(features)[rows], seed)
    places -= (places.min(axis=0) + places.max(axis=0)) / 2
    center = np.full((len(components), 3), np.nan, dtype=np.float32)
    radius = np.full(len(components), np.nan, dtype=np.float32)
    center[rows], radius[rows] = places, _radii(places, components.n_params[rows])
    return Nodes(name, center, radius)


def _stack(components: ComponentTable, rows: np.ndarray, depth: np.ndarray) -> np.ndarray:
    places = np.zeros((len(rows), 3))
    places[:, 2] = _HEIGHT * (0.5 - depth / max(depth.max(), 1))
    kind = components.kind[rows]
    for one, reach in (("head", 0.75), ("mlp", 0.24)):
        for layer in np.unique(depth[kind == one]):
            inside = np.flatnonzero((kind == one) & (depth == layer))
            places[inside, :2] = reach * _RADIUS * _ring(len(inside), layer)
    rest = ~np.isin(kind, ["head", "mlp", "embed", "unembed"])
    for layer in np.unique(depth[rest]):
        inside = np.flatnonzero(rest & (depth == layer))
        reach = 0.75 if len(inside) > 12 else 0.45 if len(inside) > 1 else 0.0
        places[inside, :2] = reach * _RADIUS * _disk(np.linspace(0, 1, len(inside)), layer)
    return places


def _radial(components: ComponentTable, rows: np.ndarray, depth: np.ndarray) -> np.ndarray:
    ringed = components.kind[rows] != "unembed"
    places = np.zeros((len(rows), 3))
    taken = 0.0
    for layer in np.unique(depth[ringed]):
        inside = np.flatnonzero(ringed & (depth == layer))
        middle = taken + len(inside) / 2
        within = taken + np.arange(len(inside)) + 0.5 if len(inside) > RING else np.full(len(inside), middle)
        share = within / ringed.sum() if layer > 0 else np.zeros(len(inside))
        taken += len(inside)
        around = _ring(len(inside), layer) * np.sqrt(share)[:, None] if len(inside) <= RING else _disk(share, layer)
        places[inside, :2] = 1.25 * _RADIUS * around
        places[inside, 2] = -0.6 * _RADIUS * share
    # The unembedding closes the way: below the middle, at the height of the outermost ring.
    places[~ringed, 2] = -0.6 * _RADIUS
    return places


def _ring(count: int, layer: float) -> np.ndarray:
    """float64 [count, 2]: places on a circle of radius 1, turned by the golden angle a layer."""
    angle = 2 * np.pi * np.arange(count) / count + _GOLDEN_ANGLE * layer
    return np.column_stack([-np.sin(angle), np.cos(angle)])


def _disk(share: np.ndarray, layer: float) -> np.ndarray:
    """float64 [count, 2]: places of a golden spiral, turned by the golden angle a layer, for shares of the disk's area."""
    angle = _GOLDEN_ANGLE * (np.arange(len(share)) + layer)
    return np.sqrt(share)[:, None] * np.column_stack([-np.sin(angle), np.cos(angle)])


def _network(
    components: ComponentTable, rows: np.ndarray, depth: np.ndarray, features: np.ndarray, seed: int
) -> np.ndarray:
    import networkx

    values = centered(features).astype(np.float32)
    square = (values**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square - 2 * values @ values.T, 0)
    np.fill_diagonal(distance, np.inf)
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(rows)))
    near = np.argsort(distance, axis=1, kind="stable")[:, : min(_NEIGHBORS, len(rows) - 1)]
    graph.add_edges_from((a, int(b)) for a, others in enumerate(near) for b in others)
    kind = components.kind[rows]
    _, group, size = np.unique(
        [f"{one} {layer}" for one, layer in zip(kind, depth, strict=True)], return_inverse=True, return_counts=True
    )
    hub = size[group] == 1
    for layer in range(int(depth.max())):
        here, there = np.flatnonzero(depth == layer), np.flatnonzero(depth == layer + 1)
        graph.add_edges_from((int(a), int(b)) for a in here for b in there if hub[a] or hub[b])
    start = np.random.default_rng(seed).normal(size=(len(rows), 3)) + np.array([0.0, 1.0, 0.0]) * depth[:, None] / 4
    steps = _SPRING_STEPS if len(rows) <= _MANY else _FEW_STEPS
    found = networkx.spring_layout(graph, dim=3, iterations=steps, pos=dict(enumerate(start)), seed=seed)
    places = np.array([found[node] for node in range(len(rows))])
    places -= places.mean(axis=0)
    # Principal axes: the longest from back to front, as a brain lies; turned so that depth runs to the front and right.
    axes = np.linalg.svd(places, full_matrices=False)[2][[1, 0, 2]]
    places = places @ axes.T
    for axis, by in ((1, depth.astype(float)), (0, (kind == "mlp").astype(float))):
        if places[:, axis] @ (by - by.mean()) < 0:
            places[:, axis] *= -1
    far = np.quantile(np.linalg.norm(places, axis=1), 0.95)
    return _pushed_apart(places * (_RADIUS / max(far, 1e-9)))


def _pushed_apart(places: np.ndarray) -> np.ndarray:
    """Places [k, 3] with those that lie too close moved apart, so that balls are large enough to be seen."""
    from scipy.spatial import cKDTree

    least = 0.75 * _RADIUS * (4 / max(len(places), 1)) ** (1 / 3)
    for _ in range(_PUSHES):
        pairs = cKDTree(places).query_pairs(least, output_type="ndarray")
        if not len(pairs):
            break
        apart = places[pairs[:, 0]] - places[pairs[:, 1]]
        distance = np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-6)
        push = 0.25 * (least - distance) * apart / distance
        for axis in range(3):
            places[:, axis] += np.bincount(pairs[:, 0], push[:, axis], len(places))
            places[:, axis] -= np.bincount(pairs[:, 1], push[:, axis], len(places))
    return places


def _radii(places: np.ndarray, n_params: np.ndarray) -> np.ndarray:
    """float64 [k]: radii whose cubes follow the parameters, as large as they can be without two balls that touch."""
    from scipy.spatial import cKDTree

    size = np.cbrt(np.maximum(n_params.astype(np.float64), 0))
    size = np.maximum(size / size.max(), SMALLEST) if size.max() > 0 else np.ones(len(places))
    if len(places) < 2:
        return 0.2 * _RADIUS * size
    near = min(24, len(places))
    distance, other = cKDTree(places).query(places, k=near)
    room = distance[:, 1:] / (size[:, None] + size[other[:, 1:]])
    # A pair that lies very close would make all others tiny: the closest few give way to their own neighbors instead.
    scale = min(np.quantile(room.min(axis=1), 0.1), 0.16 * _RADIUS)
    radius = _CLEARANCE * scale * size
    limit = (distance[:, 1:] * size[:, None] / (size[:, None] + size[other[:, 1:]])).min(axis=1)
    result: np.ndarray = np.minimum(radius, _CLEARANCE * limit)
    return result


def ball_directions(
    sphere: np.ndarray,
    n_left_vertices: int,
    vertex_of_split: np.ndarray,
    component_of_split: np.ndarray,
    split_faces: np.ndarray,
    n_cortex_vertices: int | None = None,
) -> np.ndarray:
    """float32 [n_split, 3]: where each vertex of a split mesh lies on its component's ball of radius 1.

    sphere float [v, 3] is the atlas' sphere, mm; split_faces int [f, 3] number the split vertices; vertices from
    n_cortex_vertices on belong to bodies beside the cortex. Vertices without a component get 0.
    """
    last = len(sphere) if n_cortex_vertices is None else n_cortex_vertices
    direction = np.asarray(sphere, dtype=np.float64).copy()
    for half in (slice(None, n_left_vertices), slice(n_left_vertices, last)):
        direction[half] = _from_center(direction[half])
    vertex = np.asarray(vertex_of_split)
    component = np.asarray(component_of_split)
    n_owners = np.bincount(vertex, minlength=len(sphere))
    on_border = n_owners[vertex] > 1
    balls = np.zeros((len(vertex), 3), dtype=np.float32)
    owner = component[split_faces[:, 0]]
    order = np.argsort(component, kind="stable")
    bounds = np.searchsorted(component[order], np.arange(component.max(initial=-1) + 2))
    for row in range(len(bounds) - 1):
        own = order[bounds[row] : bounds[row + 1]]
        if len(own):
            faces = np.searchsorted(own, split_faces[owner == row])
            curl = _curled if vertex[own[0]] < last else _curled_body
            balls[own] = curl(direction[vertex[own]], on_border[own], faces)
    return balls


def _from_center(points: np.ndarray) -> np.ndarray:
    """Unit vectors from the center of the sphere on which the points lie (least squares)."""
    system = np.column_stack([2 * points, np.ones(len(points))])
    center = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0][:3]
    away = points - center
    result: np.ndarray = away / np.linalg.norm(away, axis=1, keepdims=True)
    return result


def _curled(direction: np.ndarray, on_border: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """float64 [k, 3]: a patch of the unit sphere, [k, 3], curled up into a whole sphere, its border at one pole.

    faces int [f, 3] of the patch.
    """
    pole = direction.mean(axis=0)
    pole /= max(np.linalg.norm(pole), 1e-12)
    first, second = _across(pole)
    angle = np.arccos(np.clip(direction @ pole, -1, 1))
    azimuth = np.arctan2(direction @ second, direction @ first)
    rim = np.flatnonzero(on_border)
    if not len(rim):  # a patch without a border: nothing else is left of the sphere
        rim = np.array([int(np.argmax(angle))])
    rim = rim[np.argsort(azimuth[rim], kind="stable")]
    reach = np.interp(azimuth, azimuth[rim], angle[rim], period=2 * np.pi)
    share = np.where(on_border, 1.0, angle / np.maximum(reach, 1e-12))
    if (share[~on_border] >= 1).any():  # around a slit its border has several distances in one direction
        share, azimuth = _spread_on_disk(direction, faces, azimuth)
    return _lambert(share, azimuth, pole, first, second)


def _across(pole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to a pole and to each other."""
    first = np.cross(pole, np.eye(3)[np.argmin(np.abs(pole))])
    first /= np.linalg.norm(first)
    return first, np.cross(pole, first)


def _lambert(
    share: np.ndarray, azimuth: np.ndarray, pole: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """float64 [k, 3]: places on the unit sphere of shares of the way from its pole to the other, and azimuths, [k]."""
    polar = 2 * np.arcsin(np.clip(share, 0.0, 1.0))
    around = np.cos(azimuth)[:, None] * first + np.sin(azimuth)[:, None] * second
    result: np.ndarray = np.cos(polar)[:, None] * pole + np.sin(polar)[:, None] * around
    return result


def _curled_body(points: np.ndarray, on_border: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """float64 [k, 3]: a patch of a body, points [k, 3] in mm, curled up into a whole sphere, its border at one pole."""
    away = points - points.mean(axis=0)
    if not on_border.any():  # the whole body
        return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
    outward = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]).sum(axis=0)
    pole = outward / max(np.linalg.norm(outward), 1e-12)
    first, second = _across(pole)
    share, azimuth = _spread_on_disk(points, faces, np.arctan2(away @ second, away @ first))
    return _lambert(share, azimuth, pole, first, second)


def _spread_on_disk(points: np.ndarray, faces: np.ndarray, azimuth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the middle, 0 to 1, and azimuth [k] of a patch whose longest border is laid around a circle.

    Each inner point lies at the mean of those it shares an edge with (Tutte 1963): no face folds over, whatever the
    border looks like. The circle is turned so that azimuths [k] stay as far as they can.
    """
    import scipy.sparse as sparse
    from scipy.sparse.linalg import spsolve

    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(a, b) for a, b in sides.tolist()}
    following = {a: b for a, b in sides.tolist() if (b, a) not in known}
    loops: list[list[int]] = []
    while following:
        loop = [next(iter(following))]
        while loop[-1] in following:
            loop.append(following.pop(loop[-1]))
        loops.append(loop)
    rim = np.array(max(loops, key=len))
    along = np.cumsum(np.linalg.norm(points[rim[1:]] - points[rim[:-1]], axis=1))
    turn = np.zeros(len(points))
    turn[rim[1:]] = 2 * np.pi * along / along[-1]
    fixed = np.zeros(len(points), dtype=bool)
    fixed[rim] = True
    shift = np.angle(np.exp(1j * (azimuth[rim] - turn[rim])).sum())
    circle = np.exp(1j * (turn + shift))
    edges = np.unique(np.sort(sides, axis=1), axis=0)
    both = np.concatenate([edges, edges[:, ::-1]])
    graph = sparse.csr_matrix((np.ones(len(both)), both.T), shape=(len(points), len(points)))
    laplacian = sparse.diags(np.asarray(graph.sum(axis=1)).ravel()) - graph
    place = np.where(fixed, circle, 0)
    inner = ~fixed
    if inner.any():
        pulled = -laplacian[inner][:, fixed] @ circle[fixed]
        place[inner] = spsolve(laplacian[inner][:, inner].tocsc().astype(complex), pulled)
    return np.abs(place), np.angle(place)

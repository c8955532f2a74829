"""From places on one sphere to places on two hemispheres of the cortex, neighbors beside neighbors.

The sphere of an embedding is cut by a plane into two caps of equal weight. A cap is a disk, and so is a hemisphere of
the cortex outside of its medial wall: the middle of a cap goes to the middle of the lateral surface, its rim to the
border of the medial wall. What the cut parts therefore faces its old neighbor across the midline, as the two medial
surfaces of a brain do. The plane is the one, of N_DIRECTIONS, that cuts the least of the graph of neighbors; the whole
is turned about the lateral axis so that depth runs as far as it does from back to front.

Within a hemisphere the components then take seats, one each, evenly spread over the cortex, so that the sum of their
squared distances from where the disk puts them is least: optimal transport between two sets of equal points, which is
an assignment (Kuhn and Munkres; solved by scipy).

Convention. Directions are unit vectors float64 [k, 3]. Azimuth is counted in the sagittal plane from front (+y) up (+z),
on both hemispheres alike, so that they mirror each other.

Left out: what is fitted afterwards, cells of given areas (`transport`) and exchanges that improve on this
(`arrangement`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.atlas.power import Domain

N_DIRECTIONS = 400
_N_TURNS = 72
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


@dataclass(frozen=True, eq=False)
class Halves:
    """k components on two disks.

    on_left  bool [k]
    radius   float64 [k], 0 at the middle of the disk, 1 at its rim; the square is the share of the half that lies within
    azimuth  float64 [k], radians
    """

    on_left: np.ndarray
    radius: np.ndarray
    azimuth: np.ndarray


def halve(points: np.ndarray, weight: np.ndarray, graph: np.ndarray, depth: np.ndarray, left_share: float) -> Halves:
    """Cut an embedding in two.

    points float64 [k, 3] unit vectors, weight float64 [k], graph float64 [k, k] (what should not be cut), depth float64
    [k]; the left half takes `left_share` of the weight, as near as whole components allow, and at least one of them.
    """
    cut, on_left, axis = np.inf, np.zeros(len(points), dtype=bool), np.array([0.0, 0.0, 1.0])
    one, other = np.nonzero(np.triu(graph))
    strength = graph[one, other]
    for direction in _spread_directions(N_DIRECTIONS):
        order = np.argsort(-(points @ direction), kind="stable")
        total = np.cumsum(weight[order]) - weight[order] / 2
        n_left = int(np.clip(np.searchsorted(total, left_share * weight.sum()), 1, len(points) - 1))
        side = np.zeros(len(points), dtype=bool)
        side[order[:n_left]] = True
        parted = strength[side[one] != side[other]].sum()
        if parted < cut:
            cut, on_left, axis = parted, side, direction
    radius, azimuth = np.zeros(len(points)), np.zeros(len(points))
    first, second = _across(axis)
    for side in (on_left, ~on_left):
        height = points[side] @ axis * (1 if side is on_left else -1)
        radius[side] = np.sqrt((np.argsort(np.argsort(-height, kind="stable")) + 0.5) / side.sum())
        azimuth[side] = np.arctan2(points[side] @ second, points[side] @ first)
    turns = np.linspace(0, 2 * np.pi, _N_TURNS, endpoint=False)
    centered = depth - depth.mean()
    forward = [(radius * np.cos(sign * azimuth + turn)) @ centered for sign in (1, -1) for turn in turns]
    best = int(np.argmax(np.round(forward, 9)))
    sign, turn = (1, -1)[best // _N_TURNS], turns[best % _N_TURNS]
    return Halves(on_left, radius, sign * azimuth + turn)


def seats(domain: Domain, wall_center: np.ndarray, radius: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """float64 [k, 3]: evenly spread directions on a hemisphere, one for each of k components, near where it belongs.

    `wall_center` float64 [3] points at the middle of the medial wall; radius and azimuth are those of `Halves`.
    """
    from scipy.optimize import linear_sum_assignment

    n = len(radius)
    number = np.arange(n)
    even = _on_hemisphere(domain, wall_center, np.sqrt((number + 0.5) / n), _GOLDEN_ANGLE * number)
    wanted = _on_hemisphere(domain, wall_center, radius, azimuth)
    component, seat = linear_sum_assignment(-wanted @ even.T)
    found = np.empty_like(even)
    found[component] = even[seat]
    return found


def _on_hemisphere(domain: Domain, wall_center: np.ndarray, radius: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """float64 [k, 3]: where on the sphere of a hemisphere places on the disk lie."""
    lateral = -wall_center / np.linalg.norm(wall_center)
    front = np.array([0.0, 1.0, 0.0]) - lateral[1] * lateral
    front /= np.linalg.norm(front)
    up = np.array([0.0, 0.0, 1.0]) - lateral[2] * lateral - front[2] * front
    up /= np.linalg.norm(up)
    angle = np.arccos(np.clip(domain.face_center @ lateral, -1, 1))
    order = np.argsort(angle, kind="stable")
    within = np.cumsum(domain.mass[order]) / domain.mass.sum()
    polar = np.interp(radius**2, within, angle[order])[:, None]
    around = np.cos(azimuth)[:, None] * front + np.sin(azimuth)[:, None] * up
    return np.cos(polar) * lateral + np.sin(polar) * around


def _spread_directions(n: int) -> np.ndarray:
    """float64 [n, 3]: unit vectors, evenly spread over the sphere (a golden spiral)."""
    height = 1 - (2 * np.arange(n) + 1) / n
    turn = _GOLDEN_ANGLE * np.arange(n)
    flat = np.sqrt(1 - height**2)
    return np.column_stack([flat * np.cos(turn), flat * np.sin(turn), height])


def _across(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to an axis and to each other."""
    first = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    first /= np.linalg.norm(first)
    return first, np.cross(axis, first)

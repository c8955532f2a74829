"""Where components belong before parcels are cut: depth, share of area, starting point on the sphere.

`anatomical`: depth runs from back to front, along the y axis of the sphere. Which hemisphere a component lies on follows
from its kind, or from what the network says (`structures`). Embedding and unembedding take a fixed share of the right
hemisphere at the occipital and the frontal pole of pial (which lie 20 to 35 degrees off the y axis of the sphere). The
rest stand in rows around the axis, as high as a cell is wide, so that a row holds a few layers; within what depth allows,
components with similar features lie side by side.

Convention. Shares are of a hemisphere, or another part of the brain, and sum to 1 on each. `depth` is the layer, -1 for
the embedding and the number of layers for the unembedding.

Left out: components without a place (`ComponentTable.cortical`), such as attention output biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.atlas.power import Domain
from nmri3d.components import ComponentTable

LAYOUTS = ("anatomical", "umap", "spectral")

POLE_SHARE = 0.04
"""Share of the right hemisphere that the embedding takes, and the unembedding."""

MIN_FACES = 20
"""A parcel is at least as large as so many mean faces of the uncut mesh."""


@dataclass(frozen=True, eq=False)
class Placement:
    """The k components of one hemisphere.

    rows   int64 [k], rows of the component table, by depth
    depth  float64 [k]
    share  float64 [k], of the hemisphere's area; sums to 1
    pole   int [k]: -1 at the posterior pole, 1 at the anterior pole, else 0
    """

    rows: np.ndarray
    depth: np.ndarray
    share: np.ndarray
    pole: np.ndarray

    @property
    def share_when_even(self) -> np.ndarray:
        """float64 [k]: the shares if all but the poles had the same."""
        inner = self.pole == 0
        return np.where(inner, self.share[inner].sum() / max(inner.sum(), 1), self.share)


def pole_rows(components: ComponentTable) -> np.ndarray:
    """int64: the rows of embedding and unembedding, as far as there are."""
    return np.concatenate([components.rows("embed"), components.rows("unembed")])


def depths(components: ComponentTable, rows: np.ndarray) -> np.ndarray:
    """float64 [k]: the layer of each row, -1 for the embedding, the number of layers for the unembedding.

    What else has no layer stands in the middle of them.
    """
    kind, n_layers = components.kind[rows], int(components.layer.max(initial=-1)) + 1
    layer = np.where(components.layer[rows] < 0, (n_layers - 1) / 2, components.layer[rows])
    return np.where(kind == "embed", -1, np.where(kind == "unembed", n_layers, layer)).astype(float)


def area_weights(components: ComponentTable, area: str) -> np.ndarray:
    """float64 [n]: what the areas of components follow: their parameters, or one each (`area` "equal")."""
    return components.n_params.astype(np.float64) if area == "parameters" else np.ones(len(components))


def share_out(
    rows: np.ndarray, components: ComponentTable, area: str, min_share: float, *, poles: bool = True
) -> Placement:
    """The components `rows` of one part of the brain with their shares of its area, none under `min_share`.

    poles: whether the embedding and the unembedding take the poles there.
    """
    kind = components.kind[rows]
    pole = np.where(kind == "embed", -1, np.where(kind == "unembed", 1, 0)) * poles
    depth = depths(components, rows)
    order = np.argsort(depth, kind="stable")
    rows, pole, depth = rows[order], pole[order], depth[order]
    inner = pole == 0
    share = np.full(len(rows), POLE_SHARE)
    if inner.any():
        weight = area_weights(components, area)[rows[inner]]
        rest = 1 - POLE_SHARE * (~inner).sum()
        share[inner] = rest * shares_above(weight, min_share / rest)
    else:
        share[:] = 1 / max(len(rows), 1)
    return Placement(rows, depth, share, pole)


def shares_above(weight: np.ndarray, least: float) -> np.ndarray:
    """float64 [k]: shares proportional to `weight` [k], none under `least`, summing to 1."""
    weight = np.asarray(weight, dtype=np.float64)
    if weight.sum() <= 0:
        weight = np.ones_like(weight)
    raised = np.zeros(len(weight), dtype=bool)
    while True:
        free = 1 - least * raised.sum()
        total = weight[~raised].sum()
        share = np.where(raised, least, free * weight / total if total > 0 else 1 / len(weight))
        low = ~raised & (share < least)
        if not low.any():
            return share / share.sum()
        raised |= low


def spread_seeds(domain: Domain, placement: Placement) -> np.ndarray:
    """float64 [k, 3]: points of a body, far from each other, the shallow components behind and the deep ones in front.

    Each is the point farthest from all before it (Gonzalez 1985); the first is the one that lies farthest behind.
    """
    k, points = len(placement.rows), domain.points
    chosen = np.empty(k, dtype=np.int64)
    far = np.full(len(points), np.inf)
    following = int(np.argmin(points[:, 1]))
    for number in range(k):
        chosen[number] = following
        far = np.minimum(far, ((points - points[following]) ** 2).sum(axis=1))
        following = int(np.argmax(far))
    seeds = points[chosen]
    result: np.ndarray = seeds[np.argsort(seeds[:, 1], kind="stable")]
    return result


def centered(features: np.ndarray) -> np.ndarray:
    """float64 [k, d]: features less their mean, on which no distance depends but rounding does."""
    features = np.asarray(features, dtype=np.float64)
    return features - features.mean(axis=0)


def principal_component(features: np.ndarray) -> np.ndarray:
    """float64 [k]: score on the first principal component, its sign fixed by its largest loading."""
    values = centered(features)
    if not values.any():
        return np.zeros(len(values))
    _, _, axes = np.linalg.svd(values, full_matrices=False)
    axis = axes[0] * np.sign(axes[0][np.argmax(np.abs(axes[0]))])
    return values @ axis


def starting_seeds(
    domain: Domain, placement: Placement, features: np.ndarray, wall_center: np.ndarray, poles: np.ndarray
) -> np.ndarray:
    """float64 [k, 3]: unit vectors, in rows around the y axis, denser where the domain has more mass.

    `wall_center` float64 [3] points at the middle of the medial wall, `poles` float64 [2, 3] are the posterior and the
    anterior pole.
    """
    points, mass = domain.points[domain.faces].mean(axis=1), domain.mass / domain.mass.sum()
    seeds = np.zeros((len(placement.rows), 3))
    seeds[placement.pole == -1], seeds[placement.pole == 1] = poles
    inner = np.flatnonzero(placement.pole == 0)
    if not len(inner):
        return seeds
    # Depth as an angle from the posterior pole, and the longitude counted from the medial wall on.
    angle = np.arccos(np.clip(-points[:, 1], -1, 1))
    toward = np.arctan2(wall_center[2], wall_center[0])
    longitude = np.mod(np.arctan2(points[:, 2], points[:, 0]) - toward, 2 * np.pi)
    by_angle = np.argsort(angle, kind="stable")
    cumulative = np.cumsum(mass[by_angle])
    start = placement.share[placement.pole == -1].sum()
    stop = 1 - placement.share[placement.pole == 1].sum()
    bounds = np.interp([start, stop], cumulative, angle[by_angle])
    cell = domain.size.sum() / len(placement.rows)
    n_rows = max(1, round((bounds[1] - bounds[0]) / (0.93 * np.sqrt(cell))))
    edges = np.linspace(bounds[0], bounds[1], n_rows + 1)
    row_mass = np.interp(edges, angle[by_angle], cumulative)
    share = placement.share[inner]
    middle = start + np.cumsum(share) - share / 2
    row_of = np.clip(np.searchsorted(row_mass, middle) - 1, 0, n_rows - 1)
    score = principal_component(features[placement.rows[inner]])
    for row in range(n_rows):
        members = np.flatnonzero(row_of == row)
        if not len(members):
            continue
        members = members[np.argsort(score[members], kind="stable")]
        inside = (angle >= edges[row]) & (angle <= edges[row + 1])
        order = np.flatnonzero(inside)[np.argsort(longitude[inside], kind="stable")]
        along = np.cumsum(mass[order])
        shift = 0.25 if row % 2 else 0.0
        wanted = (np.cumsum(share[members]) - (0.5 + shift) * share[members]) / share[members].sum() * along[-1]
        phi = np.interp(wanted, along, longitude[order]) + toward
        theta = (edges[row] + edges[row + 1]) / 2
        seeds[inner[members]] = np.column_stack(
            [np.sin(theta) * np.cos(phi), np.full(len(members), -np.cos(theta)), np.sin(theta) * np.sin(phi)]
        )
    return seeds

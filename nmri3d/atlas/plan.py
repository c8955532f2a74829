"""What a layout decides before any mesh is looked at: who lies on which hemisphere, and where about.

    anatomical  heads left, MLPs right, or where the network says (`structures`), depth from back to front (`layout`);
                depth binds the exchanges
    umap        one embedding over all components (`embedding`), cut into two hemispheres and laid out on them
    spectral    (`hemispheres`); only likeness binds the exchanges, depth shows as far as the embedding has it

In all of them embedding and unembedding keep their poles on the right hemisphere. Bodies beside the cortex are laid out
in `anatomical` only: an embedding knows one sphere, and what is bound to a part of the brain cannot follow it.

Left out: cells, areas, meshes (`build`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nmri3d.atlas.arrangement import arrange_by_likeness, exchange_places, similarity
from nmri3d.atlas.embedding import embed, neighbor_graph
from nmri3d.atlas.hemispheres import halve, seats
from nmri3d.atlas.layout import (
    POLE_SHARE,
    Placement,
    area_weights,
    depths,
    pole_rows,
    spread_seeds,
    starting_seeds,
)
from nmri3d.atlas.power import Domain
from nmri3d.atlas.structures import Housing, house, require_both_sides
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError


@dataclass(frozen=True, eq=False)
class Plan:
    """A layout of the n components of a table.

    housing          rows of the hemispheres, poles included, and of the bodies beside them
    points           float64 [n, 3], the embedding: unit vectors, NaN for rows without a place; None in `anatomical`
    radius, azimuth  float64 [n], place on the hemisphere's disk (`hemispheres`), NaN for poles; None in `anatomical`
    """

    housing: Housing
    points: np.ndarray | None = None
    radius: np.ndarray | None = None
    azimuth: np.ndarray | None = None

    def seeds(
        self, domain: Domain, placement: Placement, features: np.ndarray, wall_center: np.ndarray, poles: np.ndarray
    ) -> np.ndarray:
        """float64 [k, 3]: where the cells of a hemisphere or body start; arguments as of `starting_seeds`."""
        if not domain.on_sphere:
            return spread_seeds(domain, placement)
        if self.radius is None or self.azimuth is None:
            return starting_seeds(domain, placement, features, wall_center, poles)
        seeds = np.zeros((len(placement.rows), 3))
        seeds[placement.pole == -1], seeds[placement.pole == 1] = poles
        inner = placement.pole == 0
        rows = placement.rows[inner]
        seeds[inner] = seats(domain, wall_center, self.radius[rows], self.azimuth[rows])
        return seeds

    def arrange(
        self, seeds: np.ndarray, placement: Placement, features: np.ndarray, *, same_share: float = np.inf
    ) -> np.ndarray:
        """int64 [k]: which seed each component takes; see `arrangement`. features float [n, d], of the whole table."""
        mine = features[placement.rows]
        if self.points is None:
            return exchange_places(seeds, placement, similarity(mine), same_share=same_share)
        return arrange_by_likeness(seeds, placement, mine, same_share=same_share)


def make_plan(
    layout: str,
    components: ComponentTable,
    structures: np.ndarray,
    features: np.ndarray,
    area: str,
    seed: int,
    progress: Callable[[float, str], None],
) -> Plan:
    """The plan of a layout; structures str [n]; `progress` gets the share of the work that is done.

    Raises InputError where the components are too few to cover two hemispheres, and where a network binds components to
    parts of the brain that the layout does not know.
    """
    if layout == "anatomical":
        return Plan(house(components, structures, features, area))
    bound = sorted(set(structures[components.cortical].tolist()) - {"cortex"})
    if bound:
        raise InputError(
            f"{layout} spreads all components over the cortex, and this network has some that belong to "
            f"{', '.join(bound)}; use the anatomical layout"
        )
    poles = pole_rows(components)
    others = np.setdiff1d(components.cortical, np.concatenate([components.rows("head"), components.rows("mlp"), poles]))
    inner = np.concatenate([components.rows("head"), components.rows("mlp"), others])
    require_both_sides(components, max(len(inner) - 1, 0), min(len(inner), 1) + len(poles))
    rows = np.concatenate([inner, poles])
    progress(0.0, "neighbors among the components")
    graph = neighbor_graph(features[rows])
    points = embed(layout, graph, seed, lambda share: progress(share, f"{layout} embedding"))
    weight = area_weights(components, area)[inner]
    if not weight.any():
        weight = np.ones(len(inner))
    n = len(inner)
    left_share = 1 / (2 - POLE_SHARE * len(poles))
    halves = halve(points[:n], weight, graph[:n, :n], depths(components, inner), left_share if n > 1 else 0.5)
    everywhere = np.full((3, len(components)), np.nan)
    everywhere[0, inner], everywhere[1, inner] = halves.radius, halves.azimuth
    placed = np.full((len(components), 3), np.nan)
    placed[rows] = points
    return Plan(
        Housing(inner[halves.on_left], np.concatenate([inner[~halves.on_left], poles]), {}),
        placed,
        everywhere[0],
        everywhere[1],
    )

"""The figures of an atlas as rows for people: what it is called, its value, what chance gives, what it means.

Left out: how figures are measured (`quality`, `moran`), and how rows are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from nmri3d.atlas.moran import Moran


class Figure(NamedTuple):
    """One row of the layout panel.

    name      key of the figure in `Atlas.quality`, or "morans_i"
    label     what people call it
    value     as text
    baseline  as text: what a random assignment, or permutations, give; empty where there is no such thing
    meaning   one sentence
    """

    name: str
    label: str
    value: str
    baseline: str
    meaning: str


_ROWS: tuple[tuple[str, str, str, str], ...] = (
    (
        "trustworthiness",
        "Trustworthiness",
        ".3f",
        "Whether the 10 nearest parcels of a component are near it in feature space too: 1 at best, 0.5 by chance.",
    ),
    (
        "trustworthiness_corrected",
        "Kept of the embedding",
        ".2f",
        "How much of the embedding's trustworthiness above chance is left on the cortex; above 1 the exchanges of places "
        "improved on it.",
    ),
    (
        "knn_share",
        "Shared neighbors",
        ".1%",
        "The share of a component's 10 nearest parcels that are among its 10 nearest in feature space.",
    ),
    (
        "depth_spearman",
        "Depth, back to front",
        ".3f",
        "Rank correlation of a component's layer with how far forward its parcel lies: 1 where depth runs from the "
        "occipital to the frontal pole.",
    ),
    (
        "area_error_max",
        "Largest error of area",
        ".2%",
        "How far the parcel that misses its area most is from it.",
    ),
    (
        "connected_share",
        "Parcels in one piece",
        ".0%",
        "The share of parcels whose faces hang together.",
    ),
    (
        "isoperimetric_median",
        "Roundness",
        ".2f",
        "The median isoperimetric quotient of the parcels on the sphere: 1 for a disk, 0.79 for a square.",
    ),
    (
        "border_roughness",
        "Border roughness",
        ".3f",
        "The length of the borders over that of the same borders smoothed: 1 where nothing is jagged.",
    ),
)


def describe(quality: Mapping[str, float], moran: Moran | None = None) -> tuple[Figure, ...]:
    """Rows for the figures that an atlas has, and for Moran's I of a scan on it where that was measured.

    A figure that is not defined for the layout or the model (absent, or NaN) has no row.
    """
    rows = []
    for name, label, form, meaning in _ROWS:
        value, chance = quality.get(name, math.nan), quality.get(f"{name}_random", math.nan)
        if not math.isnan(value):
            rows.append(
                Figure(name, label, f"{value:{form}}", "" if math.isnan(chance) else f"{chance:{form}}", meaning)
            )
    if moran is not None:
        rows.append(
            Figure(
                "morans_i",
                "Clustering of activity (Moran's I)",
                f"{moran.index:.2f} (z = {moran.z:.1f})",
                f"{moran.expected:.2f}",
                "Whether parcels that share a border are active alike in this scan, against components of one kind and "
                "two layers changing places; z above 3 is beyond chance.",
            )
        )
    return tuple(rows)

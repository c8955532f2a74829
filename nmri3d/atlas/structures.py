"""Which part of the brain each component lies on: the hemispheres of the cortex, the cerebellum, the hippocampi.

A network says, for each component, where in the brain it stands (`structures`): "left" and "right" bind it to a
hemisphere, "cerebellum" and "hippocampus" to those bodies, and "cortex" leaves the hemisphere open. Of a language
model's cortex heads go left and MLPs right. Any other open components are shared out over both hemispheres, so that
these hold equal weights: the largest one by one, then of every depth the same share, split along the first principal
component of the features, so that the similar stay together. The hippocampi share theirs in the same way; one alone
lies on the left.

Convention. Weight is what areas follow: parameters, or one each. Bodies without a component are not there.

Left out: where on its part a component lies (`layout`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nmri3d.atlas.layout import area_weights, depths, pole_rows, principal_component
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError

STRUCTURES = ("cortex", "left", "right", "cerebellum", "hippocampus")
"""What a network may say of a component."""

_LARGE = 4.0
"""A component of more than so many times the mean weight is placed by itself."""


@dataclass(frozen=True, eq=False)
class Housing:
    """Rows of the component table by part of the brain, int64 each; `bodies` holds only those that have some.

    left, right  of the hemispheres, embedding and unembedding included where they take the poles of the right one
    """

    left: np.ndarray
    right: np.ndarray
    bodies: dict[str, np.ndarray]


def checked_structures(components: ComponentTable, structures: Sequence[str] | None) -> np.ndarray:
    """str [n]: where each component stands; "cortex" for all where nothing is said. Raises InputError for other names."""
    if structures is None:
        return np.full(len(components), "cortex")
    found = np.array(list(structures), dtype=np.str_)
    unknown = sorted(set(found.tolist()) - set(STRUCTURES))
    if len(found) != len(components) or unknown:
        raise InputError(
            f"a network names one structure a component, of {', '.join(STRUCTURES)}; this one names {len(found)} for "
            f"{len(components)} components{f', among them {unknown[0]!r}' if unknown else ''}"
        )
    return found


def house(components: ComponentTable, structures: np.ndarray, features: np.ndarray, area: str) -> Housing:
    """The part of the brain of each component that has a place; see the module's first lines.

    structures str [n]; features float [n, d]. Raises InputError where all is cortex and too little for two hemispheres.
    """
    placed = np.isin(np.arange(len(components)), components.cortical)
    poles = pole_rows(components)
    poles = poles[structures[poles] == "cortex"]

    def rows_of(structure: str) -> np.ndarray:
        return np.setdiff1d(np.flatnonzero(placed & (structures == structure)), poles)

    free, left, right = rows_of("cortex"), rows_of("left"), rows_of("right")
    kinds = set(components.kind[free].tolist())
    weight = area_weights(components, area)
    if kinds == {"head", "mlp"}:
        halves = free[components.kind[free] == "head"], free[components.kind[free] == "mlp"]
    else:
        loads = float(weight[left].sum()), float(weight[right].sum())
        halves = share_sides(free, components, features, weight, loads)
    left, right = np.concatenate([left, halves[0]]), np.concatenate([right, halves[1], poles])
    if (structures[placed] == "cortex").all():
        require_both_sides(components, len(left), len(right))
    bodies = {"cerebellum": rows_of("cerebellum")}
    pair = share_sides(rows_of("hippocampus"), components, features, weight, (0.0, 0.0))
    bodies["hippocampus left"], bodies["hippocampus right"] = pair
    return Housing(left, right, {name: rows for name, rows in bodies.items() if len(rows)})


def require_both_sides(components: ComponentTable, n_left: int, n_right: int) -> None:
    """Raise InputError unless both hemispheres have a component."""
    if n_left < 1 or n_right < 1:
        raise InputError(
            f"an atlas needs components on both hemispheres, and this model has {len(components.cortical)} with a place "
            "on the cortex; it needs at least two heads or MLPs, or one of them and an embedding"
        )


def share_sides(
    rows: np.ndarray,
    components: ComponentTable,
    features: np.ndarray,
    weight: np.ndarray,
    loads: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 of the left and of the right side, of nearly equal weight; weight float64 [n] of the whole table.

    loads: weight that lies on either side already.
    """
    if not len(rows):
        return rows, rows
    own = weight[rows]
    large = own > _LARGE * own.mean()
    sides: tuple[list[int], list[int]] = ([], [])
    load = list(loads)
    for row in rows[large][np.argsort(-own[large], kind="stable")]:
        lighter = int(load[1] < load[0])
        sides[lighter].append(int(row))
        load[lighter] += float(weight[row])
    small = rows[~large]
    total = float(weight[small].sum())
    share = float(np.clip((load[1] + total - load[0]) / (2 * total), 0, 1)) if total > 0 else 0.5
    score = principal_component(features[small]) if len(small) else np.zeros(0)
    depth = depths(components, small)
    seen = taken = 0.0
    for one in np.unique(depth):
        inside = np.flatnonzero(depth == one)
        inside = inside[np.argsort(score[inside], kind="stable")]
        held = weight[small[inside]] if total > 0 else np.ones(len(inside))
        until = np.append(0.0, np.cumsum(held))
        seen += float(until[-1])
        miss = np.abs(taken + until - share * seen)
        n_left = int(np.flatnonzero(miss <= miss.min() + 1e-9 * max(seen, 1.0))[-1])
        taken += float(until[n_left])
        sides[0].extend(small[inside[:n_left]].tolist())
        sides[1].extend(small[inside[n_left:]].tolist())
    left, right = (np.array(sorted(side), dtype=np.int64) for side in sides)
    return left, right

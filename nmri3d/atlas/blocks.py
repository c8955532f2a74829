"""Which of many cells a point belongs to, for all points of a surface at once, by blocks of points that lie together.

A point x belongs to the cell with the greatest `x . seed_i + offset_i` (power.py). Let j be the best cell at the middle
c of a block of radius r. Anywhere in the block cell i is better than j by at most

    c . (seed_i - seed_j) + offset_i - offset_j + r |seed_i - seed_j|

so that only cells for which this is positive need to be compared there: a few dozen of thousands. The result is exact.

Convention. Blocks hold BLOCK points each; the last of a surface are filled up with copies of their own points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 32
_MARGIN = 1e-5
"""What single precision may be wrong by, in values of order 1."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """n points in b blocks: order int [b, BLOCK] (point numbers), points float64 [b, BLOCK, 3], center float32 [b, 3],
    radius float32 [b]."""

    order: np.ndarray
    points: np.ndarray
    center: np.ndarray
    radius: np.ndarray


def make_blocks(points: np.ndarray) -> Blocks:
    """Blocks of points float64 [n, 3], by halving along the longest axis until BLOCK are left."""
    parts, done = [np.arange(len(points))], []
    while parts:
        part = parts.pop()
        if len(part) <= BLOCK:
            done.append(part)
            continue
        own = points[part]
        axis = int(np.argmax(own.max(axis=0) - own.min(axis=0)))
        half = BLOCK * max(1, round(len(part) / (2 * BLOCK)))
        by = np.argpartition(own[:, axis], half)
        parts += [part[by[:half]], part[by[half:]]]
    order = np.stack([np.resize(part, BLOCK) for part in done])
    inside = points[order]
    center = (inside.min(axis=1) + inside.max(axis=1)) / 2
    radius = np.linalg.norm(inside - center[:, None], axis=2).max(axis=1)
    return Blocks(order, inside, center.astype(np.float32), (radius + _MARGIN).astype(np.float32))


def best_cells(blocks: Blocks, n_points: int, seeds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64 [n_points]: the cell of each point, for seeds float64 [k, 3] and offsets float64 [k]."""
    narrow, shift = seeds.astype(np.float32), (offsets - offsets.mean()).astype(np.float32)
    value = blocks.center @ narrow.T + shift
    best = np.argmax(value, axis=1)
    length = np.einsum("kd,kd->k", narrow, narrow)
    apart = length + length[best, None] - 2 * narrow[best] @ narrow.T
    reach = blocks.radius[:, None] * np.sqrt(np.maximum(apart, 0)) + _MARGIN
    value += reach
    block, cell = np.nonzero(value >= np.take_along_axis(value - reach, best[:, None], axis=1))
    count = np.bincount(block, minlength=len(best))
    # Filled up with the best cell at the middle, which is among those of its block anyway.
    among = np.repeat(best[:, None], count.max(), axis=1)
    among[block, np.arange(len(block)) - np.repeat(np.cumsum(count) - count, count)] = cell
    result = np.empty(n_points, dtype=np.int64)
    # Blocks with few cells to compare do not pay for those with many.
    for few, many in ((0, 12), (12, 24), (24, 48), (48, len(seeds) + 1)):
        chosen = np.flatnonzero((count > few) & (count <= many))
        if not len(chosen):
            continue
        cells = among[chosen, : count[chosen].max()]
        values = blocks.points[chosen] @ seeds[cells].transpose(0, 2, 1) + offsets[cells][:, None]
        found = np.take_along_axis(cells, np.argmax(values, axis=2), axis=1)
        result[blocks.order[chosen]] = found
    return result

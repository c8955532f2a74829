"""Which of many cells a point belongs to, for all points of a surface at once, by blocks of points that lie together.

A point x belongs to the cell with the greatest `x . seed_i + offset_i` (power.py). Let j be the best cell at the middle
c of a block of radius r. Anywhere in the block cell i is better than j by at most

    c . (seed_i - seed_j) + offset_i - offset_j + r |seed_i - seed_j|

so that only cells for which this is positive need to be compared there: a few dozen of thousands. The same is asked
of groups of blocks first, and of a block then only what is left to its group. The result is exact.

Convention. Blocks hold BLOCK points each and groups GROUP blocks; what is missing at the end of a surface is filled up with
copies of its own points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 32
GROUP = 32
_MARGIN = 1e-5
"""What single precision may be wrong by, in values of order 1."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """n points in g groups of GROUP blocks; b = g GROUP.

    order         int [b, BLOCK], point numbers
    points        float64 [b, BLOCK, 3]
    center        float32 [g, GROUP, 3]; radius float32 [g, GROUP]: balls around the blocks
    group_center  float32 [1, g, 3]; group_radius float32 [1, g]: balls around the groups
    """

    order: np.ndarray
    points: np.ndarray
    center: np.ndarray
    radius: np.ndarray
    group_center: np.ndarray
    group_radius: np.ndarray


def make_blocks(points: np.ndarray) -> Blocks:
    """Blocks of points float64 [n, 3], by halving along the longest axis until groups, then blocks are left."""
    order = np.stack(
        [
            np.resize([np.resize(block, BLOCK) for block in _halved(points, group, BLOCK)], (GROUP, BLOCK))
            for group in _halved(points, np.arange(len(points)), GROUP * BLOCK)
        ]
    )
    inside = points[order]
    center, radius = _balls(inside)
    return Blocks(
        order.reshape(-1, BLOCK),
        inside.reshape(-1, BLOCK, 3),
        center,
        radius,
        *_balls(inside.reshape(1, len(order), -1, 3)),
    )


def _halved(points: np.ndarray, whole: np.ndarray, size: int) -> list[np.ndarray]:
    """Points number `whole` in parts of `size` that lie together; one part may have fewer."""
    parts, done = [whole], []
    while parts:
        part = parts.pop()
        if len(part) <= size:
            done.append(part)
            continue
        own = points[part]
        axis = int(np.argmax(own.max(axis=0) - own.min(axis=0)))
        half = size * max(1, round(len(part) / (2 * size)))
        by = np.argpartition(own[:, axis], half)
        parts += [part[by[:half]], part[by[half:]]]
    return done


def _balls(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles float32 [a, b, 3] and radii float32 [a, b] of balls around points [a, b, n, 3]."""
    center = ((points.min(axis=2) + points.max(axis=2)) / 2).astype(np.float32)
    radius = np.linalg.norm(points - center[:, :, None], axis=3).max(axis=2)
    return center, (radius + _MARGIN).astype(np.float32)


def best_cells(blocks: Blocks, n_points: int, seeds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64 [n_points]: the cell of each point, for seeds float64 [k, 3] and offsets float64 [k]."""
    planes = np.column_stack([seeds, offsets - offsets.mean()]).astype(np.float32)
    every = np.arange(len(seeds))[None]
    of_group, n_of_group = _in_reach(blocks.group_center, blocks.group_radius, planes, every, np.array([len(seeds)]))
    result = np.empty(n_points, dtype=np.int64)
    for groups, most in _of_like_length(n_of_group):
        of_block, n_of_block = _in_reach(
            blocks.center[groups], blocks.radius[groups], planes, of_group[groups, :most], n_of_group[groups]
        )
        number = (groups[:, None] * GROUP + np.arange(GROUP)).ravel()
        for part, width in _of_like_length(n_of_block):
            cells, chosen = of_block[part, :width], number[part]
            values = blocks.points[chosen] @ seeds[cells].transpose(0, 2, 1) + offsets[cells][:, None]
            result[blocks.order[chosen]] = np.take_along_axis(cells, np.argmax(values, axis=2), axis=1)
    return result


def _in_reach(
    center: np.ndarray, radius: np.ndarray, planes: np.ndarray, cells: np.ndarray, n_cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cells that may be the best somewhere in balls: int [a b, widest], and how many of each row they are, int [a b].

    center  float32 [a, b, 3], radius [a, b]; planes  float32 [k, 4], seeds and offsets
    cells   int [a, c]: of a row of balls only the first `n_cells` [a] are asked
    What is left of a row is filled up with one of its cells.
    """
    seeds, shift = planes[cells, :3], planes[cells, 3]
    shift = np.where(np.arange(cells.shape[1]) < n_cells[:, None], shift, -np.inf)
    value = center @ seeds.transpose(0, 2, 1) + shift[:, None]
    best = np.argmax(value, axis=2)[..., None]
    own = np.take_along_axis(seeds, best, axis=1)  # [a, b, 3]
    length = np.einsum("acd,acd->ac", seeds, seeds)
    apart = (
        length[:, None]
        + np.take_along_axis(length, best[..., 0], axis=1)[..., None]
        - 2 * own @ seeds.transpose(0, 2, 1)
    )
    needed = np.take_along_axis(value, best, axis=2) - _MARGIN
    reaches = value + radius[..., None] * np.sqrt(np.maximum(apart, 0)) >= needed
    reaches = reaches.reshape(-1, cells.shape[1])
    ball, column = np.nonzero(reaches)
    count = np.bincount(ball, minlength=len(reaches))
    of_row = np.repeat(np.arange(len(cells)), center.shape[1])
    result = np.repeat(cells[of_row, best.ravel()][:, None], count.max(), axis=1)
    result[ball, np.arange(len(ball)) - np.repeat(np.cumsum(count) - count, count)] = cells[of_row[ball], column]
    return result, count


def _of_like_length(count: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Rows in parts of about as many cells each, with the most of a part: few do not pay for many."""
    part = np.maximum(np.ceil(np.log2(count / 12)), 0)
    for number in np.unique(part):
        rows = np.flatnonzero(part == number)
        yield rows, int(count[rows].max())

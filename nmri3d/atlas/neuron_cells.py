"""Equal, round cells: a region of texels divided among n neurons, so that each gets the same number of texels.

A balanced bisection gives cells of exactly equal size; then neighboring cells exchange texels. Two cells together keep
their texels and their sizes, and divide them along the line across the way between their centers, which is where the
border of a power diagram runs. Repeated over all pairs of neighbors, with centers at the centroids, this comes to rest at
a centroidal power diagram of equal capacities: cells about as round as hexagons. As texels are coarse, it would get
stuck far from there; so the places of texels are blurred at first, by less and less.

Convention. A region is bool [h, w]; a cell is a number from 0 to n - 1, -1 outside. Neighbors are the texels left, right,
above and below. Sizes are floor(m / n) or one more, for m texels, whatever is done. Deterministic by seed.

Sources: Balzer, Schlömer, Deussen 2009 ("Capacity-constrained point distributions"); Aurenhammer, Hoffmann, Aronov 1998.
Left out: which neuron gets which cell (neuron_places.py).
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np

from nmri3d.errors import InputError

_SHAKEN_PASSES, _QUIET_PASSES = 12, 5
"""Times that every pair of neighbors is looked at: at first with the texels' places blurred, then as they are."""
_BLUR = 1.5
"""Texels by which places are blurred at first (one standard deviation); less and less from pass to pass."""
_SETTLED = 0.001
"""Cells are at rest when fewer of the texels change hands in a quiet pass."""


def equal_cells(region: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Cells int32 [h, w] of a connected region, bool [h, w]; sizes differ by at most one texel, and each is connected.

    Raises InputError for more cells than texels.
    """
    texels = np.argwhere(region)
    if not 0 < n <= len(texels):
        raise InputError(f"{len(texels)} texels cannot be divided among {n} neurons; draw the charts larger")
    points = texels.astype(np.float32)
    members, sizes = _bisect(points, n)
    members = _relax(points, members, sizes, region, np.random.default_rng(seed))
    cell = np.full(region.shape, -1, dtype=np.int32)
    for column in members.T:
        used = column >= 0
        cell[tuple(texels[column[used]].T)] = np.flatnonzero(used)
    return make_connected(cell, n)


def neighbor_pairs(cell: np.ndarray) -> np.ndarray:
    """int64 [m, 2]: pairs of cells that touch, lower number first, sorted."""
    found = []
    n = int(cell.max(initial=-1)) + 1
    for a, b in ((cell[:, :-1], cell[:, 1:]), (cell[:-1], cell[1:])):
        touch = (a != b) & (a >= 0) & (b >= 0)
        one, other = a[touch].astype(np.int64), b[touch]
        found.append(np.minimum(one, other) * n + np.maximum(one, other))
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(n, 1)), axis=1)


def _bisect(points: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Members int32 [n, c] of each cell (-1 behind the last) and sizes [n], by cutting across the longest axis."""
    start = np.arange(n + 1) * len(points) // n  # cell i has the places start[i] to start[i + 1] in `order`
    order = np.arange(len(points))
    nodes = np.array([0, n])  # bounds of the cells of each node
    while (np.diff(nodes) > 1).any():
        bounds = start[nodes]
        node = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        here = points[order].astype(np.float64)
        count = np.maximum(np.diff(bounds), 1)[:, None]
        center = np.stack([np.bincount(node, here[:, axis]) for axis in (0, 1)], axis=1) / count
        apart = here - center[node]
        products = (apart[:, 0] ** 2, apart[:, 1] ** 2, apart[:, 0] * apart[:, 1])
        yy, xx, xy = (np.bincount(node, product) for product in products)
        angle = 0.5 * np.arctan2(2 * xy, yy - xx)
        along = apart[:, 0] * np.cos(angle)[node] + apart[:, 1] * np.sin(angle)[node]
        order = order[np.lexsort((along, node))]
        nodes = np.unique(np.concatenate([nodes, (nodes[:-1] + nodes[1:]) // 2]))
    sizes = np.diff(start)
    place = start[:-1, None] + np.arange(sizes.max())
    members = np.where(place < start[1:, None], order[np.minimum(place, len(order) - 1)], -1)
    return members.astype(np.int32), sizes


def _relax(
    points: np.ndarray, members: np.ndarray, sizes: np.ndarray, region: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Exchange texels between neighbors until few change hands."""
    # one more point, far away, stands for "no texel": -1 finds it
    padded = np.concatenate([points, np.full((1, 2), np.nan, dtype=np.float32)])
    center = np.nanmean(padded[members], axis=1)
    texels = np.flatnonzero(region)
    cell = np.full(region.size, -1, dtype=np.int32)
    n = len(members)
    for number in range(_SHAKEN_PASSES + _QUIET_PASSES):
        blur = _BLUR * max(0.0, 1 - number / _SHAKEN_PASSES)
        for column in members.T:
            used = column >= 0
            cell[texels[column[used]]] = np.flatnonzero(used)
        pairs = neighbor_pairs(cell.reshape(region.shape))
        moved = 0
        for matching in _matchings(pairs, n, generator):
            moved += _exchange(padded, members, sizes, center, matching, blur, generator)
        if blur == 0 and moved < _SETTLED * len(points):
            break
    return members


def _exchange(
    padded: np.ndarray,
    members: np.ndarray,
    sizes: np.ndarray,
    center: np.ndarray,
    pairs: np.ndarray,
    blur: float,
    generator: np.random.Generator,
) -> int:
    """Divide the texels of each pair anew, in place; no cell is in two pairs. Returns how many change hands."""
    i, j = pairs.T
    width = members.shape[1]
    both = np.concatenate([members[i], members[j]], axis=1)
    way = center[j] - center[i]
    where = padded[both]
    along = where[..., 0] * way[:, :1] + where[..., 1] * way[:, 1:]  # NaN, no texel, sorts behind all
    if blur:
        reach = blur * np.linalg.norm(way, axis=1, keepdims=True)
        along += reach * generator.standard_normal(along.shape, dtype=np.float32)
    order = np.argsort(along, axis=1)
    ranked = np.take_along_axis(both, order, axis=1)
    k = np.arange(width)
    first, second = sizes[i][:, None], sizes[j][:, None]
    members[i] = np.where(k < first, ranked[:, :width], -1)
    members[j] = np.where(k < second, np.take_along_axis(ranked, np.minimum(first + k, 2 * width - 1), axis=1), -1)
    for cells, size in ((i, first), (j, second)):
        center[cells] = np.nansum(padded[members[cells]], axis=1) / size
    return int(((order[:, :width] >= width) & (k < first)).sum())


def _matchings(pairs: np.ndarray, n: int, generator: np.random.Generator) -> list[np.ndarray]:
    """All pairs, int [m, 2], in groups in which no cell is twice."""
    groups = []
    left = pairs[generator.permutation(len(pairs))]
    first = np.empty(n, dtype=np.int64)
    while len(left):
        # a pair goes first if it stands before every other pair of its two cells
        first[:] = len(left)
        place = np.arange(len(left))
        np.minimum.at(first, left[:, 0], place)
        np.minimum.at(first, left[:, 1], place)
        now = (first[left[:, 0]] == place) & (first[left[:, 1]] == place)
        groups.append(left[now])
        left = left[~now]
    return groups


# -- connected cells ---------------------------------------------------------------------------------------------------


def pieces_of(cell: np.ndarray) -> tuple[np.ndarray, int]:
    """Number of the connected piece that each texel lies in, int32 [h, w], -1 outside; and how many there are."""
    import scipy.sparse as sparse
    from scipy.sparse.csgraph import connected_components

    number = np.full(cell.shape, -1, dtype=np.int64)
    inside = cell >= 0
    number[inside] = np.arange(inside.sum())
    edges = []
    for a, b in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1),), (slice(1, None),)),
    ):
        same = (cell[a] == cell[b]) & (cell[a] >= 0)
        edges.append(np.stack([number[a][same], number[b][same]]))
    joined = np.concatenate(edges, axis=1)
    size = int(inside.sum())
    graph = sparse.coo_matrix((np.ones(joined.shape[1], dtype=np.int8), joined), shape=(size, size))
    n_pieces, piece = connected_components(graph, directed=False)
    result = np.full(cell.shape, -1, dtype=np.int32)
    result[inside] = piece
    return result, int(n_pieces)


def make_connected(cell: np.ndarray, n: int) -> np.ndarray:
    """Cells int32 [h, w] of which each is connected, of the same sizes where that can be.

    Pieces that are cut off from their cell (by a notch in the region) go to a neighbor; then texels are handed on from
    cell to cell, until each has its size again. Where no way is left, a cell keeps a texel too many or too few.
    """
    cell = cell.copy()
    sizes = np.bincount(cell[cell >= 0], minlength=n)
    for _ in range(8):
        piece, n_pieces = pieces_of(cell)
        if n_pieces == n:
            break
        _give_fragments_away(cell, piece, n_pieces)
    surplus = np.bincount(cell[cell >= 0], minlength=n) - sizes
    for taker in np.repeat(np.arange(n), np.maximum(-surplus, 0)):
        _hand_on(cell, surplus, int(taker))
    return cell


def _give_fragments_away(cell: np.ndarray, piece: np.ndarray, n_pieces: int) -> None:
    """Give each texel of a piece that is not the largest of its cell to the neighbor with the nearest center."""
    inside = piece >= 0
    size = np.bincount(piece[inside], minlength=n_pieces)
    owner = np.zeros(n_pieces, dtype=np.int64)
    owner[piece[inside]] = cell[inside]
    order = np.lexsort((np.arange(n_pieces), -size, owner))
    largest = np.append(True, owner[order][1:] != owner[order][:-1])
    cut_off = np.ones(n_pieces, dtype=bool)
    cut_off[order[largest]] = False
    left = deque(_texels(inside & cut_off[piece]))
    for texel in left:
        cell[texel] = -2
    patience = 4 * len(left) + 4
    while left and patience:
        patience -= 1
        texel = left.popleft()
        around = [cell[at] for at in _around(cell, texel) if cell[at] >= 0]
        if around:
            counts = np.bincount(around)
            cell[texel] = int(np.argmax(counts))
        else:
            left.append(texel)
    for texel in left:  # a piece of the region with no other cell beside it
        cell[texel] = owner[piece[texel]]


def _hand_on(cell: np.ndarray, surplus: np.ndarray, taker: int) -> None:
    """Bring one texel from the nearest cell with a surplus to `taker`, each cell on the way giving one to the next."""
    neighbors: dict[int, list[int]] = {}
    for a, b in neighbor_pairs(cell).tolist():
        neighbors.setdefault(a, []).append(b)
        neighbors.setdefault(b, []).append(a)
    came_from = {taker: taker}
    waiting = deque([taker])
    while waiting:
        here = waiting.popleft()
        if surplus[here] > 0:
            path = [here]
            while path[-1] != taker:
                path.append(came_from[path[-1]])
            before = cell.copy()
            if all(_give_one(cell, giver, receiver) for giver, receiver in pairwise(path)):
                surplus[here] -= 1
                surplus[taker] += 1
                return
            cell[...] = before
        for other in neighbors.get(here, []):
            if other not in came_from:
                came_from[other] = here
                waiting.append(other)


def _give_one(cell: np.ndarray, giver: int, receiver: int) -> bool:
    """Give one texel of a cell to another beside it, so that what is left of the first stays in one piece."""
    own = set(_texels(cell == giver))
    if len(own) < 2:
        return False
    goal = np.argwhere(cell == receiver).mean(axis=0)
    border = [texel for texel in own if any(cell[at] == receiver for at in _around(cell, texel))]
    for texel in sorted(border, key=lambda at: (float(((np.array(at) - goal) ** 2).sum()), at)):
        rest = own - {texel}
        seen = {min(rest)}
        waiting = deque(seen)
        while waiting:
            for at in _around(cell, waiting.popleft()):
                if at in rest and at not in seen:
                    seen.add(at)
                    waiting.append(at)
        if len(seen) == len(rest):
            cell[texel] = receiver
            return True
    return False


def _texels(where: np.ndarray) -> list[tuple[int, int]]:
    """The texels of a region, bool [h, w], row by row."""
    return [(row, column) for row, column in np.argwhere(where).tolist()]


def _around(cell: np.ndarray, texel: tuple[int, int]) -> list[tuple[int, int]]:
    """The texels left, right, above and below, within the picture."""
    y, x = texel
    height, width = cell.shape
    beside = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
    return [(v, u) for v, u in beside if 0 <= v < height and 0 <= u < width]

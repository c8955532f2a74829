"""Cells of one piece each, where the medial wall and the slits of the flat surface cut those of a power diagram.

The largest piece of a cell stays its own. The rest goes to the cells around it, point by point from its rim inwards, each
to the one of which the power diagram has the greatest value there: borders with those cells are as straight as any.

Left out: what that does to the masses, which are fitted to it (`transport`).
"""

from __future__ import annotations

import numpy as np

from nmri3d.atlas.power import Domain, nearest_cell, vertex_pieces


def whole_cells(domain: Domain, seeds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64 [n]: the cell of each point, every cell of one piece."""
    label = nearest_cell(domain, seeds, offsets)
    pieces, _, main = _largest_pieces(domain, label)
    loose = ~main[pieces]
    edges = domain.edges
    while loose.any():
        inward = np.concatenate([edges[loose[edges[:, 0]]], edges[loose[edges[:, 1]]][:, ::-1]])
        inward = inward[~loose[inward[:, 1]]]
        if not len(inward):
            break
        point, cell = inward[:, 0], label[inward[:, 1]]
        value = np.einsum("ek,ek->e", domain.points[point], seeds[cell]) + offsets[cell]
        order = np.lexsort((cell, -value, point))
        first = np.append(True, np.diff(point[order]) > 0)
        label[point[order][first]] = cell[order][first]
        loose[point] = False
    return label


def forbid_fragments(domain: Domain, label: np.ndarray) -> Domain | None:
    """The domain with every cell forbidden the points that are cut off from its largest piece; None if there are none."""
    pieces, of_piece, main = _largest_pieces(domain, label)
    if main.all():
        return None
    fragments = [(np.flatnonzero(pieces == piece), int(of_piece[piece])) for piece in np.flatnonzero(~main)]
    return domain.forbidding(fragments)


def _largest_pieces(domain: Domain, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Piece of each point int [n], cell of each piece int [p], and whether a piece is its cell's largest, bool [p]."""
    pieces = vertex_pieces(domain.edges, label)
    weight = np.bincount(domain.faces.ravel(), np.repeat(domain.mass, 3), len(label))
    size = np.bincount(pieces, weights=weight)
    of_piece = np.zeros(len(size), dtype=np.int64)
    of_piece[pieces] = label
    order = np.lexsort((size, of_piece))
    main = np.zeros(len(size), dtype=bool)
    main[order[np.append(of_piece[order][1:] != of_piece[order][:-1], True)]] = True
    return pieces, of_piece, main

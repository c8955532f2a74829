"""Round cells of given areas: a centroidal power diagram, by optimal transport.

For fixed seeds, the offsets that give the cells the masses asked for are found by damped Newton steps, whose matrix is
a sparse graph Laplacian over cells that touch (power.py). Seeds move to the centroids of their cells (Lloyd), which
makes the cells round on the sphere. Where the masses differ much, cells start equal and grow apart in small steps, so
that none is lost on the way.

Convention. Seeds are unit vectors float64 [k, 3], offsets float64 [k] (only their differences count), masses float64
[k] in the unit of the domain.

Sources: Aurenhammer, Hoffmann, Aronov 1998 (weights for given capacities); Kitagawa, Merigot, Thibert 2019 (damped
Newton); de Goes et al. 2012 (centroids and capacities together).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nmri3d.atlas.power import Domain, Measure, measure, vertex_pieces


def _newton_step(found: Measure, target: np.ndarray) -> np.ndarray:
    """Change of offsets that brings the masses to the target, to first order; its mean is zero."""
    import scipy.sparse as sparse
    from scipy.sparse.linalg import spsolve

    # The Laplacian knows no constant (all offsets up together change nothing), and an empty cell has a zero row.
    ridge = 1e-9 * found.laplacian.diagonal().max()
    if ridge == 0:  # one cell: it has everything
        return np.zeros(len(target))
    step = spsolve((found.laplacian + ridge * sparse.identity(len(target))).tocsc(), target - found.mass)
    return step - step.mean()


def _revive(domain: Domain, seeds: np.ndarray, offsets: np.ndarray, found: Measure) -> np.ndarray:
    """Offsets with those of empty cells raised until each owns the point nearest to its seed."""
    offsets = offsets.copy()
    for cell in np.flatnonzero(found.mass <= 0):
        value = domain.points @ seeds[cell]
        point = int(np.argmax(value))
        offsets[cell] = (domain.points[point] @ seeds.T + offsets).max() - value[point] + 1e-6
    return offsets


def _advance(
    domain: Domain,
    seeds: np.ndarray,
    offsets: np.ndarray,
    target: np.ndarray,
    found: Measure,
    *,
    must_improve: bool,
    label: np.ndarray | None = None,
) -> tuple[np.ndarray, Measure] | None:
    """One Newton step, shortened until no cell shrinks to under a third of what it has or should have.

    With `must_improve` also until the masses are closer to the target than before; None where no step does.
    """
    step = _newton_step(found, target)
    floor = np.minimum(found.mass, target) / 3
    before = np.linalg.norm(found.mass / target - 1)
    for halving in range(6):
        trial = offsets + 0.5**halving * step
        new = measure(domain, seeds, trial, label)
        if (new.mass >= floor).all() and not (must_improve and np.linalg.norm(new.mass / target - 1) >= before):
            return trial, new
    return None


def fit_offsets(
    domain: Domain,
    seeds: np.ndarray,
    offsets: np.ndarray,
    target: np.ndarray,
    *,
    tolerance: float = 1e-3,
    max_steps: int = 6,
    polish: bool = True,
) -> tuple[np.ndarray, Measure]:
    """Offsets float64 [k] for which every cell's mass is its target to `tolerance` (relative), and what they give.

    A mass jumps a little whenever a vertex changes hands, and where it does, no offset may give the target exactly. So
    the last steps (`polish`) leave every vertex to its cell and move only the crossings on the edges, which is
    continuous. Stops early where no step, however short, comes closer.
    """
    found = measure(domain, seeds, offsets)
    for _ in range(max_steps):
        if (found.mass <= 0).any():
            offsets = _revive(domain, seeds, offsets, found)
            found = measure(domain, seeds, offsets)
        if np.abs(found.mass / target - 1).max() < tolerance:
            break
        better = _advance(domain, seeds, offsets, target, found, must_improve=True)
        if better is None:
            break
        offsets, found = better
    for _ in range(max_steps if polish and (found.mass > 0).all() else 0):
        if np.abs(found.mass / target - 1).max() < tolerance:
            break
        better = _advance(domain, seeds, offsets, target, found, must_improve=True, label=found.label)
        if better is None:
            break
        offsets, found = better
    return offsets, found


def relax(
    domain: Domain,
    seeds: np.ndarray,
    offsets: np.ndarray,
    goals: Iterable[np.ndarray],
    *,
    fixed: np.ndarray,
    over_relaxation: float = 1.5,
    max_newton_steps: int = 3,
) -> tuple[np.ndarray, np.ndarray]:
    """Seeds and offsets after one step a goal: seeds move to centroids, then offsets toward the goal's masses [k].

    `fixed` bool [k] marks seeds that stay where they are. Masses are met roughly; `fit_offsets` meets them exactly.
    """
    found = measure(domain, seeds, offsets)
    for goal in goals:
        norm = np.linalg.norm(found.moment, axis=1, keepdims=True)
        center = np.where(norm > 0, found.moment / np.where(norm > 0, norm, 1.0), seeds)
        move = np.where(fixed[:, None], 0.0, over_relaxation * (center - seeds))
        floor = np.minimum(found.mass, goal) / 3
        for halving in range(4):
            trial = seeds + 0.5**halving * move
            trial /= np.linalg.norm(trial, axis=1, keepdims=True)
            # With the value at its centroid kept, a cell whose seed moves stays where it is, to first order.
            kept = offsets - np.einsum("ck,ck->c", center, trial - seeds)
            found = measure(domain, trial, kept)
            if (found.mass >= floor).all():
                break
        seeds, offsets = trial, kept
        for _ in range(max_newton_steps):
            if (found.mass <= 0).any():
                offsets = _revive(domain, seeds, offsets, found)
                found = measure(domain, seeds, offsets)
            better = _advance(domain, seeds, offsets, goal, found, must_improve=False)
            if better is None:
                break
            offsets, found = better
            if np.abs(found.mass / goal - 1).max() < 0.2:
                break
    return seeds, offsets


def growth(start: np.ndarray, stop: np.ndarray, factor: float = 1.5) -> list[np.ndarray]:
    """Masses on the way from `start` [k] to `stop` [k], which no cell leaves by more than about `factor` a step."""
    n_steps = int(np.ceil(np.abs(np.log(stop / start)).max() / np.log(factor)))
    path = [start ** (1 - step / n_steps) * stop ** (step / n_steps) for step in range(1, n_steps + 1)]
    return [masses * (stop.sum() / masses.sum()) for masses in path]


def forbid_fragments(domain: Domain, label: np.ndarray) -> Domain | None:
    """The domain with every cell forbidden the points that are cut off from its largest piece; None if there are none."""
    pieces = vertex_pieces(domain.faces, label)
    weight = np.bincount(domain.faces.ravel(), np.repeat(domain.mass, 3), len(label))
    size = np.bincount(pieces, weights=weight)
    of_piece = np.zeros(len(size), dtype=np.int64)
    of_piece[pieces] = label
    order = np.lexsort((size, of_piece))
    main = np.zeros(len(size), dtype=bool)
    main[order[np.append(of_piece[order][1:] != of_piece[order][:-1], True)]] = True
    if main.all():
        return None
    fragments = [(np.flatnonzero(pieces == piece), int(of_piece[piece])) for piece in np.flatnonzero(~main)]
    return replace(domain, forbidden=(*domain.forbidden, *fragments))

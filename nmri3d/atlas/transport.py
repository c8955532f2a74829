"""Round cells of given areas on a sphere or another surface: a centroidal power diagram, by optimal transport.

For fixed seeds, the offsets that give the cells the masses asked for are found by damped Newton steps, whose matrix is
a sparse graph Laplacian over cells that touch (power.py). Seeds move to the centroids of their cells (Lloyd), which
makes the cells round. Where the masses differ much, cells start equal and grow apart in small steps, so that none is
lost on the way. At the end cells are made whole (`pieces`), and fitted as such.

Convention. Seeds float64 [k, 3] are unit vectors where the domain is a sphere; offsets float64 [k] (only their
differences count), masses float64 [k] in the unit of the domain.

Sources: Aurenhammer, Hoffmann, Aronov 1998 (weights for given capacities); Kitagawa, Merigot, Thibert 2019 (damped
Newton); de Goes et al. 2012 (centroids and capacities together).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nmri3d.atlas.pieces import forbid_fragments, whole_cells
from nmri3d.atlas.power import Domain, Measure, measure, nearest_cell, plain_offsets

_LOST = 0.05
"""A relative error of area that the last steps, with whose vertex is whose decided, could not mend."""
_STEPS_FROM_NOTHING = 40
_MAX_REPAIRS = 6
_SHORTENINGS = 8
_OVER_RELAXATION = 1.5
"""Seeds go so many times as far as to the centroid: that comes to rest sooner."""
_LEAST = 10
"""A cell may lose all but one in so many of its mass when seeds move; Newton gives it back."""


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
        point = int(np.argmin(((domain.points - seeds[cell]) ** 2).sum(axis=1)))
        value = domain.points[point] @ seeds.T
        offsets[cell] = (value + offsets).max() - value[cell] + 1e-6
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
    whole: bool = False,
) -> tuple[np.ndarray, Measure] | None:
    """One Newton step, shortened until no cell shrinks to under a third of what it has or should have.

    With `must_improve` also until the masses are closer to the target than before; None where no step does.
    """
    step = _newton_step(found, target)
    floor = np.minimum(found.mass, target) / 3
    before = np.linalg.norm(found.mass / target - 1)
    for halving in range(6):
        trial = offsets + 0.5**halving * step
        new = _measure(domain, seeds, trial, whole) if label is None else measure(domain, seeds, trial, label)
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
    whole: bool = False,
) -> tuple[np.ndarray, Measure]:
    """Offsets float64 [k] for which every cell's mass is its target to `tolerance` (relative), and what they give.

    A mass jumps a little whenever a vertex changes hands, and where it does, no offset may give the target exactly. So
    the last steps (`polish`) leave every vertex to its cell and move only the crossings on the edges, which is
    continuous. With `whole`, what is cut off from a cell belongs to those around it (`whole_cells`). Stops early where no
    step, however short, comes closer.
    """
    offsets, found = last, _ = _approach_again(domain, seeds, offsets, target, tolerance, max_steps, whole)
    for _ in range(_MAX_REPAIRS if whole else 0):
        # What is cut off changes hands as offsets change, and then no step comes closer: from now on it may not come back.
        repaired = forbid_fragments(domain, nearest_cell(domain, seeds, last))
        if _error(found, target) < tolerance or repaired is None:
            break
        domain = repaired
        last, new = _approach(domain, seeds, last, target, tolerance, max_steps, whole)
        if _error(new, target) < _error(found, target):
            offsets, found = last, new
    for _ in range(max_steps if polish and (found.mass > 0).all() else 0):
        if _error(found, target) < tolerance:
            break
        better = _advance(domain, seeds, offsets, target, found, must_improve=True, label=found.label)
        if better is None:
            break
        offsets, found = better
    return offsets, found


def _approach_again(
    domain: Domain,
    seeds: np.ndarray,
    offsets: np.ndarray,
    target: np.ndarray,
    tolerance: float,
    max_steps: int,
    whole: bool,
) -> tuple[np.ndarray, Measure]:
    """As `_approach`, and from a plain Voronoi diagram where that leads nowhere."""
    offsets, found = _approach(domain, seeds, offsets, target, tolerance, max_steps, whole)
    if _error(found, target) > _LOST:
        plain = _approach(domain, seeds, plain_offsets(seeds), target, tolerance, _STEPS_FROM_NOTHING, whole)
        if _error(plain[1], target) < _error(found, target):
            return plain
    return offsets, found


def _approach(
    domain: Domain,
    seeds: np.ndarray,
    offsets: np.ndarray,
    target: np.ndarray,
    tolerance: float,
    max_steps: int,
    whole: bool,
) -> tuple[np.ndarray, Measure]:
    """Offsets after Newton steps that come closer to the target, and what they give; stops where none does."""
    found = _measure(domain, seeds, offsets, whole)
    for _ in range(max_steps):
        if (found.mass <= 0).any():
            offsets = _revive(domain, seeds, offsets, found)
            found = _measure(domain, seeds, offsets, whole)
        if _error(found, target) < tolerance:
            break
        better = _advance(domain, seeds, offsets, target, found, must_improve=True, whole=whole)
        if better is None:
            break
        offsets, found = better
    return offsets, found


def _measure(domain: Domain, seeds: np.ndarray, offsets: np.ndarray, whole: bool) -> Measure:
    return measure(domain, seeds, offsets, whole_cells(domain, seeds, offsets) if whole else None)


def _error(found: Measure, target: np.ndarray) -> float:
    return float(np.abs(found.mass / target - 1).max())


def relax(
    domain: Domain,
    seeds: np.ndarray,
    offsets: np.ndarray,
    goals: Iterable[np.ndarray],
    *,
    fixed: np.ndarray,
    max_newton_steps: int = 3,
    whole: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Seeds and offsets after one step a goal: seeds move to centroids, then offsets toward the goal's masses [k].

    `fixed` bool [k] marks seeds that stay where they are. Masses are met roughly; `fit_offsets` meets them exactly.
    With `whole`, cells are of one piece (`whole_cells`), and a seed behind a slit comes to where its cell is; seeds
    then go no farther than to the centroid, and only steps that bring the masses closer are taken, since masses jump
    with the pieces.
    """
    reach = 1.0 if whole else _OVER_RELAXATION
    found = _measure(domain, seeds, offsets, whole)
    for goal in goals:
        norm = np.linalg.norm(found.moment, axis=1, keepdims=True) if domain.on_sphere else found.size[:, None]
        center = np.where(norm > 0, found.moment / np.where(norm > 0, norm, 1.0), seeds)
        move = np.where(fixed[:, None], 0.0, reach * (center - seeds))
        floor = np.minimum(found.mass, goal) / _LEAST
        for _ in range(_SHORTENINGS):
            trial = seeds + move
            if domain.on_sphere:
                trial /= np.linalg.norm(trial, axis=1, keepdims=True)
            # With the value at its centroid kept, a cell whose seed moves stays where it is, to first order.
            kept = offsets - np.einsum("ck,ck->c", center, trial - seeds)
            new = _measure(domain, trial, kept, whole)
            lost = new.mass < floor
            if not lost.any():
                seeds, offsets, found = trial, kept, new
                break
            # Those that would be all but lost and those beside them move much less, and all a little: a large cell that
            # turns reaches beyond those that it touches.
            move[lost | (found.laplacian[:, lost] != 0).toarray().any(axis=1)] /= 3
            move *= 0.8
        else:
            if whole:  # pieces hold each other where they are, and would the next time
                break
        for _ in range(max_newton_steps):
            if (found.mass <= 0).any():
                offsets = _revive(domain, seeds, offsets, found)
                found = _measure(domain, seeds, offsets, whole)
            better = _advance(domain, seeds, offsets, goal, found, must_improve=whole, whole=whole)
            if better is None:
                break
            offsets, found = better
            if np.abs(found.mass / goal - 1).max() < 0.2:
                break
    return seeds, offsets


def growth(start: np.ndarray, stop: np.ndarray, factor: float = 1.15) -> list[np.ndarray]:
    """Masses on the way from `start` [k] to `stop` [k], which no cell leaves by more than about `factor` a step."""
    n_steps = int(np.ceil(np.abs(np.log(stop / start)).max() / np.log(factor)))
    path = [start ** (1 - step / n_steps) * stop ** (step / n_steps) for step in range(1, n_steps + 1)]
    return [masses * (stop.sum() / masses.sum()) for masses in path]

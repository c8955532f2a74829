"""Which neuron gets which cell: neurons with similar features lie side by side.

A tree of balanced cuts comes first: the cells are halved across their longest side, the neurons along the direction in
which their features vary most, and each half goes on by itself. Then neurons trade places in pairs, wherever that raises
how much each resembles those around it. "Around" is a blur of the features over the cells, wide at first and at last as
narrow as one cell; what a trade gains follows from the blurred map, less what a neuron itself adds to it:

    trade a and b if  (F_a - F_b) . (G_a - G_b) < s (K(0) - K(a, b)) |F_a - F_b|^2,   G = K F, K a Gaussian

With s = 1 that is exact for one pair alone; all pairs trade at once, and then s = 0.65 ends best.

Convention. Cells have places float32 [n, 2] one cell apart, neurons features float32 [n, k] whose inner products say how
alike they are. Deterministic by seed.

Source of the second step: sorting on a map by swaps against a blurred target (Barthel et al. 2023, "Improved evaluation and
generation of grid layouts"). Left out: the cells (neuron_cells.py), and what features are.
"""

from __future__ import annotations

import numpy as np

_WIDEST = 0.1
"""Width of the first blur, as a share of the map's side; the last one is _NARROWEST cells wide."""
_NARROWEST = 0.7
_LEVELS, _ROUNDS = 7, 90
_ROUNDS_A_BLUR = 5
_OWN_PART = 0.65
"""s, the share of a neuron's own part of the map that is taken off."""
_REACH = 1.5
"""Partners lie about so many widths of the blur apart."""


def place_neurons(places: np.ndarray, features: np.ndarray, seed: int = 0) -> np.ndarray:
    """int64 [n]: the neuron that each cell gets, for cells at places float [n, 2] and features float [n, k]."""
    from scipy.ndimage import gaussian_filter
    from scipy.sparse import csr_matrix

    n = len(places)
    places = np.asarray(places, dtype=np.float32)
    places = places - places.min(axis=0)
    features = np.asarray(features, dtype=np.float32) - np.mean(features, axis=0, dtype=np.float64).astype(np.float32)
    at = by_tree(places, features)
    if n < 4 or not features.any():
        return at
    generator = np.random.default_rng(seed)
    column, row = np.floor(places).astype(np.int64).T
    width, height = int(column.max()) + 1, int(row.max()) + 1
    bin_of = row * width + column
    gather = csr_matrix((np.ones(n, dtype=np.float32), (bin_of, np.arange(n))), shape=(height * width, n))
    held = gather.sum(axis=1).A1.astype(np.float32).reshape(height, width)
    widest = max(_WIDEST * np.sqrt(n), 2 * _NARROWEST)
    for blur in np.geomspace(widest, _NARROWEST, _LEVELS):
        # bins far from all cells have no weight, and nothing is read there
        weight = np.maximum(gaussian_filter(held, blur, mode="constant", truncate=3), 1e-6)[..., None]
        own = 1 / (2 * np.pi * blur**2)
        for number in range(_ROUNDS):
            if number % _ROUNDS_A_BLUR == 0:
                # like the cells beyond the rim, those that a bin lacks are made up for by the weight
                held_features = (gather @ features[at]).reshape(height, width, -1)
                around = gaussian_filter(held_features, (blur, blur, 0), mode="constant", truncate=3) / weight
                around = around.reshape(height * width, -1)[bin_of]
            a, b = _partners(places, _REACH * blur, generator)
            apart = features[at[a]] - features[at[b]]
            gain = np.einsum("pk,pk->p", apart, around[a] - around[b])
            distance = ((places[a] - places[b]) ** 2).sum(axis=1)
            own_part = _OWN_PART * own * (1 - np.exp(-distance / (2 * blur**2)))
            better = gain < own_part * np.einsum("pk,pk->p", apart, apart)
            a, b = a[better], b[better]
            at[a], at[b] = at[b], at[a]
    return at


def by_tree(places: np.ndarray, features: np.ndarray) -> np.ndarray:
    """int64 [n]: the neuron that each cell gets by halving cells and neurons together."""
    at = np.empty(len(places), dtype=np.int64)
    waiting = [(np.arange(len(places)), np.arange(len(places)))]
    while waiting:
        cells, neurons = waiting.pop()
        if len(cells) == 1:
            at[cells[0]] = neurons[0]
            continue
        across = np.argmax(np.ptp(places[cells], axis=0))
        cells = cells[np.argsort(places[cells, across], kind="stable")]
        neurons = neurons[np.argsort(_main_direction(features[neurons]), kind="stable")]
        half = len(cells) // 2
        waiting += [(cells[:half], neurons[:half]), (cells[half:], neurons[half:])]
    return at


def _main_direction(features: np.ndarray) -> np.ndarray:
    """Scores [m] on about the first principal component, by power iteration."""
    centered = features - features.mean(axis=0)
    direction = centered[np.argmax((centered**2).sum(axis=1))]
    for _ in range(6):
        direction = (centered @ direction) @ centered
        length = float(np.linalg.norm(direction))
        if length == 0:
            break
        direction = direction / length
    scores: np.ndarray = centered @ direction
    return scores


def _partners(places: np.ndarray, reach: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cells paired off with others about `reach` away: neighbors along random strips of blurred places."""
    blurred = places + generator.standard_normal(places.shape, dtype=np.float32) * np.float32(reach)
    angle = generator.uniform(0, np.pi)
    along = blurred[:, 0] * np.cos(angle) + blurred[:, 1] * np.sin(angle)
    strip = np.floor((blurred[:, 1] * np.cos(angle) - blurred[:, 0] * np.sin(angle)) / (2 * reach + 1))
    # one key for both: strips are farther apart than anything along them
    order = np.argsort(strip * (2 * float(np.abs(along).max()) + 1) + along, kind="stable")
    half = len(order) // 2
    return order[0 : 2 * half : 2], order[1 : 2 * half : 2]

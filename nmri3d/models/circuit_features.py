"""What components of all kinds are compared by when they are laid out together, from the weights alone.

    own weights   `weights.layout_features`: log spectra and sketches of what a head's OV and QK circuits, or an MLP, read and
                  write
    composition   `composition`: the log of each score over chance, of what a component reads by each slot from every
                  writer, and of what every reader takes from it; 0 where there is no score
    place         depth, and kind

Each block is centered over the components with a place on the cortex and scaled so that their mean squared distance from
the center is the square of its weight. The weights are those of several tried with which neighborhoods on the cortex of
the default model were the most trustworthy (0.93; 0.91 with composition at 1, 0.89 without depth and kind).

Left out: activations (functional features: `nmri3d.template.functional`).
"""

from __future__ import annotations

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.models.composition import Composition

OWN_WEIGHTS, COMPOSITION, PLACE = 1.0, 0.5, 0.3
"""Weights of the three blocks."""


def circuit_features(components: ComponentTable, own: np.ndarray, composition: Composition) -> np.ndarray:
    """float32 [n, k] of the n components; rows without a place on the cortex are 0.

    own float32 [n, j] from `layout_features`.
    """
    score = composition.score / composition.chance
    log = np.log(np.where(np.isfinite(score) & (score > 0), score, 1.0))
    profile = np.concatenate([*log, *np.swapaxes(log, 1, 2)], axis=1)
    n_layers = int(components.layer.max(initial=-1)) + 1
    depth = np.where(components.kind == "embed", -1, np.where(components.kind == "unembed", n_layers, components.layer))
    kinds = np.stack([components.kind == kind for kind in ("head", "mlp")], axis=1)
    blocks = ((own, OWN_WEIGHTS), (profile, COMPOSITION), (depth[:, None], PLACE), (kinds, PLACE))
    placed = np.zeros((len(components), 1), dtype=bool)
    placed[components.cortical] = True
    return np.concatenate(
        [np.where(placed, weight * _scaled(block, placed[:, 0]), 0) for block, weight in blocks], axis=1
    )


def _scaled(block: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """float32 [n, k]: a block centered over `placed` bool [n], of unit mean squared length there."""
    centered = block.astype(np.float32) - block[placed].mean(axis=0, dtype=np.float64).astype(np.float32)
    size = float(np.sqrt((centered[placed] ** 2).sum(axis=1, dtype=np.float64).mean()))
    return centered / size if size > 0 else centered

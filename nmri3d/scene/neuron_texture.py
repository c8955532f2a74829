"""The texture of the neuron level: colors of neurons over the grey folding, texel by texel.

Convention. By the rules of texture.py, a neuron's color gives two: as it shows in a sulcus, S, and on a gyrus, G. A texel
of that neuron, with a fold f in 0..1 (0 sulcus, 1 gyrus), is

    floor(S * (1 - f) + G * f + 0.5)

with f kept in FOLD_LEVELS steps. Texels without a neuron are transparent black. Nearest texel, no mipmaps: ids have no mean.

Left out: VTK. numpy only.
"""

from __future__ import annotations

import numpy as np

from nmri3d.atlas import Atlas
from nmri3d.atlas.neurons import NeuronAtlas
from nmri3d.scene.texture import fold_of_sulcal_depth, texture_image, texture_layout

FOLD_LEVELS = 32


def fold_image(atlas: Atlas, neurons: NeuronAtlas) -> np.ndarray:
    """uint8 [h, w]: fold of every texel, 0 (sulcus) to FOLD_LEVELS - 1 (gyrus)."""
    fold = neurons.picture(atlas, fold_of_sulcal_depth(atlas.sulcal_depth))
    return np.floor(np.clip(fold, 0, 1) * (FOLD_LEVELS - 1) + 0.5).astype(np.uint8)


def neuron_image(
    colors: np.ndarray, image: np.ndarray, fold: np.ndarray, glass: np.ndarray | None = None
) -> np.ndarray:
    """The texture, uint8 [h, w, 4], for colors of neurons, uint8 [n, 4]; alpha 0 shows the grey folding.

    image int32 [h, w]: neuron of each texel, -1 none; fold uint8 [h, w], as `fold_image` has it; glass: strength of each
    neuron, [n] in 0..1, for a cortex of glass. Raises AlignmentError for colors of another shape or dtype.
    """
    layout = texture_layout(len(colors))
    pairs = texture_image(colors, layout, glass).reshape(-1, 2, layout.width, 4)
    sulcus, gyrus = (np.ascontiguousarray(pairs[:, half]).reshape(-1, 4)[: len(colors) + 1] for half in (0, 1))
    there = image >= 0
    row = image[there]
    share = fold[there][:, None].astype(np.float32) / (FOLD_LEVELS - 1)
    result = np.zeros((*image.shape, 4), dtype=np.uint8)
    result[there] = (sulcus[row] * (1 - share) + gyrus[row] * share + 0.5).astype(np.uint8)
    return result


def ring_around(image: np.ndarray, neuron: int) -> np.ndarray:
    """bool [h, w]: the texels around a neuron's cell, which mark it without covering its color."""
    from scipy.ndimage import binary_dilation

    cell = image == neuron
    ring: np.ndarray = binary_dilation(cell, np.ones((3, 3), dtype=bool)) & ~cell & (image >= 0)
    return ring

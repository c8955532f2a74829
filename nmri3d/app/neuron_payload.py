"""What the browser is sent of the neuron level: once a brain, where neurons lie; once a step, one byte for each.

The picture of ids goes as one code a texel and the ids that those do not tell, both compressed (zlib): read from left to
right and top to bottom, a texel has the id of the one to its left (0), above (1), above to the right (2), above to the left
(3), or the next one of the list (4). Beyond the rim lies -1. Ids in the list are rows of the neuron table, or -1.

A step goes as one byte a neuron: place on the color bar, 0 to TOP, or NO_VALUE; with the bar, in under 2 kB beside.

Convention. Little-endian. Left out: raw values, which are asked for one at a time.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from nmri3d.atlas import Atlas
from nmri3d.atlas.neurons import NeuronAtlas, parcels_of
from nmri3d.results import Scan
from nmri3d.scene.colors import DisplayRange
from nmri3d.scene.neuron_texture import FOLD_LEVELS, fold_image

TOP, NO_VALUE = 254, 255
COORDINATE = 65535
"""Stands for 1 in texture coordinates."""


def chart_payload(
    atlas: Atlas, neurons: NeuronAtlas, vertex_of_split: np.ndarray, component_of_split: np.ndarray
) -> dict[str, Any]:
    """Where the neurons lie on the cortex.

    width, height  of the picture; codes, ids: see above; fold: uint8 a texel, each less the one to its left, compressed
    vertices       int32, the vertices of the split mesh that have texture coordinates; coordinates: uint16 (u, v) of each
    mlps           [component row, first neuron row, neurons] of each MLP
    """
    codes, ids = encoded(neurons.image)
    fold = np.where(neurons.image >= 0, fold_image(atlas, neurons), 0).astype(np.int16)
    difference = np.diff(fold, axis=1, prepend=np.int16(0)).astype(np.uint8)  # modulo 256
    vertices = np.flatnonzero(np.isin(component_of_split, neurons.component))
    coordinates = neurons.texture_coordinates(atlas, vertex_of_split[vertices], component_of_split[vertices])
    height, width = neurons.image.shape
    return {
        "width": width,
        "height": height,
        "codes": zlib.compress(codes.tobytes(), 6),
        "ids": zlib.compress(ids.astype("<i4").tobytes(), 6),
        "fold": zlib.compress(difference.tobytes(), 6),
        "fold_levels": FOLD_LEVELS,
        "vertices": vertices.astype("<i4").tobytes(),
        "coordinates": np.floor(coordinates * COORDINATE + 0.5).astype("<u2").tobytes(),
        "mlps": [[row, int(rows[0]), len(rows)] for row, rows in parcels_of(atlas, neurons.neurons).items()],
        "count": len(neurons.neurons),
        "top": TOP,
    }


def encoded(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes uint8 [h, w] and the list of ids int32 of a picture int32 [h, w]; see the module's first lines."""
    padded = np.pad(image, 1, constant_values=-1)
    left, above = padded[1:-1, :-2], padded[:-2, 1:-1]
    right_above, left_above = padded[:-2, 2:], padded[:-2, :-2]
    codes = np.full(image.shape, 4, dtype=np.uint8)
    for code, other in ((3, left_above), (2, right_above), (1, above), (0, left)):  # the first that fits counts
        codes[image == other] = code
    return codes, image[codes == 4]


def step_payload(scan: Scan, step: int, display: DisplayRange) -> dict[str, Any]:
    """One step of a scan of neurons on a bar."""
    return {
        "codes": coded(scan.values[step], display),
        "units": scan.units,
        "palette": "DTI" if scan.signed and scan.mode != "T2" else scan.mode,
        "vmin": display.vmin,
        "vmax": display.vmax,
        "scale": display.scale,
        "ticks": [[place, label] for place, label in display.ticks()],
    }


def coded(values: np.ndarray, display: DisplayRange) -> bytes:
    """A byte for each of the values [n]."""
    place = display.fraction(values)
    known = ~np.isnan(place)
    codes = np.full(len(place), NO_VALUE, dtype=np.uint8)
    codes[known] = np.floor(place[known] * TOP + 0.5)
    return codes.tobytes()

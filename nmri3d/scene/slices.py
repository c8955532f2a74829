"""Slices of the label volume as pictures: axial, coronal and sagittal, painted by the same colors as the surface.

Convention. Radiological: the patient is seen from the feet (axial) and from the front (coronal), so the patient's left is on
the right of the picture; a sagittal slice has anterior on its left. A pixel shows one voxel, or `zoom` pixels each way do.
A component's cortex has exactly the color of the color bar, unpainted cortex and white matter have the two greys of the
surface's folding; outside is clear (alpha 0). The outline of a selected component lies around it, never on it. Rows of a
picture count from its top. The browser draws the same pictures (app/web/slices.js); `slice_rules` tells it how.

Left out: text. `three_slices` says which letter belongs where.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nmri3d.atlas.volume import WHITE_MATTER, LabelVolume
from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.texture import UNDERLAY_GYRUS, UNDERLAY_SULCUS

UNPAINTED, WHITE = UNDERLAY_GYRUS, UNDERLAY_SULCUS
GLOW = (0, 255, 170)
CROSSHAIR = (102, 170, 136)
BACKGROUND = (10, 12, 16)
CONVENTION = "radiological: left is on the right"


@dataclass(frozen=True)
class Plane:
    """How a slice lies: the array axis that it cuts, and those along its picture's width and height, `across` the lower.

    Both run against the picture, so that it begins at the right or front, and on top. letters: at its left, right, top and
    bottom edge.
    """

    cut: int
    across: int
    down: int
    letters: tuple[str, str, str, str]


PLANES: dict[str, Plane] = {
    "axial": Plane(cut=2, across=0, down=1, letters=("R", "L", "A", "P")),
    "coronal": Plane(cut=1, across=0, down=2, letters=("R", "L", "S", "I")),
    "sagittal": Plane(cut=0, across=1, down=2, letters=("A", "P", "S", "I")),
}


def slice_rules() -> dict[str, Any]:
    """What a browser needs to draw the same slices."""
    return {
        "planes": {
            name: {"cut": plane.cut, "across": plane.across, "down": plane.down, "letters": list(plane.letters)}
            for name, plane in PLANES.items()
        },
        "unpainted": list(UNPAINTED),
        "white": list(WHITE),
        "glow": list(GLOW),
        "convention": CONVENTION,
    }


def slice_labels(volume: LabelVolume, axis: str, mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels int32 and tissue uint8, [height, width], of the slice of voxels at `mm` along its axis, as its picture lies.

    Empty (-1 and outside) beyond the image. Raises InputError for an unknown axis or no finite place.
    """
    plane = _plane(axis)
    if not np.isfinite(mm):
        raise InputError(f"a slice lies at a number of mm, not at {mm}")
    index = int(volume.index_of(np.full(3, float(mm)))[plane.cut])
    shape = (volume.shape[plane.down], volume.shape[plane.across])
    if not 0 <= index < volume.shape[plane.cut]:
        return np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.uint8)
    labels, tissue = (np.take(array, index, axis=plane.cut)[::-1, ::-1].T for array in (volume.labels, volume.tissue))
    return labels, tissue


def slice_image(
    volume: LabelVolume,
    axis: str,
    mm: float,
    colors: np.ndarray,
    *,
    selected: int | None = None,
    zoom: int = 1,
) -> np.ndarray:
    """One slice as RGBA, uint8 [height, width, 4], for colors of components, uint8 [n, 4] (alpha 0: unpainted).

    axis: "axial", "coronal" or "sagittal"; mm: the RAS coordinate along it; selected: row that is outlined; zoom: pixels a
    voxel. Raises InputError for what is unknown, AlignmentError for colors of other components.
    """
    colors = np.asarray(colors)
    if colors.ndim != 2 or colors.shape[1] != 4 or colors.dtype != np.uint8:
        raise AlignmentError(f"colors must be uint8 [components, 4], got {colors.dtype} {list(colors.shape)}")
    labels, tissue = slice_labels(volume, axis, mm)
    if labels.max(initial=-1) >= len(colors):
        raise AlignmentError(f"{len(colors)} colors were given for a volume of more components; make it anew")
    if zoom < 1 or int(zoom) != zoom:
        raise InputError(f"a slice is enlarged by a whole number of at least 1, not by {zoom}")
    alpha = colors[:, 3:] / 255.0
    painted = np.floor(np.array(UNPAINTED) * (1 - alpha) + colors[:, :3] * alpha + 0.5)
    image = np.zeros((*labels.shape, 4), dtype=np.uint8)
    image[tissue == WHITE_MATTER] = (*WHITE, 255)
    cortex = labels >= 0
    image[cortex, :3] = painted[labels[cortex]]
    image[cortex, 3] = 255
    image = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
    if selected is not None:
        inside = (labels == selected).repeat(zoom, axis=0).repeat(zoom, axis=1)
        image[_around(inside, max(1, round(zoom / 3)))] = (*GLOW, 255)
    return image


@dataclass(frozen=True, eq=False)
class SlicesPicture:
    """Three slices through one point, side by side, and what is to be written on them.

    pixels  uint8 [height, width, 3]
    texts   (text, x, y, anchor): where its anchor ("left", "right", "top", "bottom", "center": the side of the text that
            is at x, y) lies in pixels from the top left corner
    """

    pixels: np.ndarray
    texts: tuple[tuple[str, float, float, str], ...]


def three_slices(
    volume: LabelVolume,
    point: tuple[float, float, float],
    colors: np.ndarray,
    *,
    selected: int | None = None,
    zoom: int = 3,
    crosshair: bool = True,
) -> SlicesPicture:
    """Axial, coronal and sagittal slice through a point in mm (RAS), with crosshair and a scale bar of 50 mm.

    Pictures stand in the middle of the common height. Raises what `slice_image` raises.
    """
    place = np.asarray(point, dtype=np.float64)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise InputError(f"slices go through a point of three numbers in mm, not {point!r}")
    images = {
        name: slice_image(volume, name, float(place[plane.cut]), colors, selected=selected, zoom=zoom)
        for name, plane in PLANES.items()
    }
    margin, foot = 6 * zoom, 12 * zoom
    height = max(image.shape[0] for image in images.values()) + 2 * margin + foot
    width = sum(image.shape[1] for image in images.values()) + margin * (len(images) + 1)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[:] = BACKGROUND
    texts: list[tuple[str, float, float, str]] = []
    left = margin
    for name, image in images.items():
        plane = PLANES[name]
        tall, wide = image.shape[:2]
        top = margin + (height - 2 * margin - foot - tall) // 2
        panel = pixels[top : top + tall, left : left + wide]
        seen = image[..., 3] > 0
        panel[seen] = image[seen][:, :3]
        if crosshair:
            column, row = (int(value) for value in place_in_slice(volume, name, place) * zoom)
            for lines, at in ((panel.swapaxes(0, 1), column), (panel, row)):
                if 0 <= at < len(lines):
                    lines[at] = (lines[at].astype(np.uint16) + np.array(CROSSHAIR)) // 2
        middle_x, middle_y = left + wide / 2, top + tall / 2
        sides = ((left, middle_y), (left + wide, middle_y), (middle_x, top), (middle_x, top + tall))
        for letter, (x, y), anchor in zip(plane.letters, sides, ("left", "right", "top", "bottom"), strict=True):
            texts.append((letter, float(x), float(y), anchor))
        texts.append((f"{name} {'xyz'[plane.cut]} = {place[plane.cut]:.0f} mm", middle_x, height - foot / 2, "center"))
        left += wide + margin
    bar = round(50 / volume.voxel * zoom)
    pixels[height - foot : height - foot + max(1, zoom // 2), margin : margin + bar] = (195, 208, 221)
    texts.append(("50 mm", margin + bar / 2, height - foot / 2, "center"))
    texts.append((CONVENTION, float(width - margin), float(margin), "right"))
    return SlicesPicture(pixels, tuple(texts))


def place_in_slice(volume: LabelVolume, axis: str, point: np.ndarray) -> np.ndarray:
    """Column and row, float64 [2], of a point in mm in the picture of a slice at zoom 1; a voxel's middle is at + 0.5."""
    plane = _plane(axis)
    index = (np.asarray(point, dtype=np.float64) - volume.affine[:3, 3]) / volume.voxel + 0.5
    return np.array([volume.shape[plane.across] - index[plane.across], volume.shape[plane.down] - index[plane.down]])


def point_in_slice(volume: LabelVolume, axis: str, point: np.ndarray, column: float, row: float) -> np.ndarray:
    """The inverse: the point in mm, float64 [3], at a column and row of the slice through `point`."""
    plane = _plane(axis)
    result = np.array(point, dtype=np.float64)
    for along, place in ((plane.across, column), (plane.down, row)):
        result[along] = (volume.shape[along] - place - 0.5) * volume.voxel + volume.affine[along, 3]
    return result


def _plane(axis: str) -> Plane:
    if axis not in PLANES:
        raise InputError(f"there is no slice {axis!r}; slices are {', '.join(PLANES)}")
    return PLANES[axis]


def _around(inside: np.ndarray, width: int) -> np.ndarray:
    """Pixels outside of a mask and at most `width` pixels from it, across edges and corners."""
    from scipy.ndimage import maximum_filter

    return maximum_filter(inside, size=2 * width + 1, mode="constant") & ~inside

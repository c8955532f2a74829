"""The legend of a figure's tracts, one line: what colors and widths mean, how many tubes are drawn, what they carry.

Convention. Sizes are pixels. Parts are written from left to right as long as they fit, the most needed first: colors,
widths (in the unit of the color bar), counts, the circuit's faithfulness. Swatches are as thick as the tubes would be,
relative to the thickest. The faithfulness is that of the circuit which the scan names by its share of the effect; what is
drawn may be another part.

Left out: the place of the line in the figure (image.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nmri3d.export.lettering import Pen
from nmri3d.results import Scan
from nmri3d.scene.colors import plain_number
from nmri3d.scene.tract_actor import TractActor
from nmri3d.scene.tracts import AXIS_COLORS, THICKEST, carried_share, sign_colors, tube_radius

WIDTH_SHARES = (1.0, 0.25, 0.02)
"""Shares of the largest |score| whose widths are shown."""


def draw_tract_legend(
    figure: Any,
    pen: Pen,
    tracts: TractActor,
    scan: Scan,
    *,
    left: float,
    right: float,
    middle: float,
    label_color: str,
    data_color: str,
) -> None:
    """Write the line between the pixels `left` and `right`, centered on the height `middle`."""
    line = _Line(figure, pen, left, right, middle)
    line.text("TRACTS", label_color)
    for name, color in color_keys(tracts):
        line.swatch(name, color / 255, 0.42, data_color)
    line.gap()
    reference = tracts.reference
    for share in WIDTH_SHARES:
        height = 0.62 * float(tube_radius(np.array(share), 1.0)) / THICKEST
        line.swatch(plain_number(reference * share), np.array([0.7, 0.74, 0.8]), height, data_color)
    line.gap()
    for part in [*count_texts(tracts), *faithfulness_text(scan)]:
        line.text(part, data_color)


def color_keys(tracts: TractActor) -> list[tuple[str, np.ndarray]]:
    """Meaning and color, uint8 [3], of the tubes' colors."""
    style = tracts.style
    if style.colors == "direction":
        names = ("left-right", "front-back", "up-down")
        return [(name, np.array(color)) for name, color in zip(names, AXIS_COLORS[style.variant], strict=True)]
    negative, positive = sign_colors(style.variant)
    return [("supports", positive), ("opposes", negative)]


def count_texts(tracts: TractActor) -> list[str]:
    """How many tubes are drawn, of how many edges, what they carry, and how many edges have no place."""
    if tracts.edges is None:
        return []
    share = carried_share(tracts.edges, tracts.shown)
    carried = f", {100 * share:.{1 if share < 0.0995 else 0}f} % of the effect" if np.isfinite(share) else ""
    texts = [f"{len(tracts.shown):,} of {tracts.edges.count:,} edges{carried}"]
    if tracts.n_without_place:
        texts.append(f"{tracts.n_without_place:,} without a place")
    return texts


def faithfulness_text(scan: Scan) -> list[str]:
    """How much of the metric the scan's circuit keeps when all else is replaced; nothing where it is not defined."""
    faithfulness = float(scan.details.get("faithfulness", np.nan))
    share = scan.provenance.config.get("share")
    if not np.isfinite(faithfulness) or not isinstance(share, int | float):
        return []
    return [f"circuit of {100 * share:.0f} %: faithfulness {faithfulness:.2f}"]


class _Line:
    """Pieces side by side; what does not fit any more is left out, with all that would follow."""

    def __init__(self, figure: Any, pen: Pen, left: float, right: float, middle: float) -> None:
        self._figure, self._pen = figure, pen
        self._x, self._right, self._middle = left, right, middle
        self._full = False

    def text(self, text: str, color: str) -> None:
        self._put(self._pen.width(text), lambda x: self._write(x, text, color))

    def swatch(self, text: str, color: np.ndarray, height: float, text_color: str) -> None:
        size = self._pen.size
        length, thickness = 1.6 * size, max(1.0, height * size)

        def draw(x: float) -> None:
            from matplotlib.patches import Rectangle

            low = self._middle - thickness / 2
            bar = Rectangle((x, low), length, thickness, facecolor=tuple(color), linewidth=0, transform=None)
            self._figure.add_artist(bar)
            self._write(x + length + 0.45 * size, text, text_color)

        self._put(length + 0.45 * size + self._pen.width(text), draw)

    def gap(self) -> None:
        self._x += self._pen.size

    def _put(self, width: float, draw: Callable[[float], None]) -> None:
        self._full = self._full or self._x + width > self._right
        if not self._full:
            draw(self._x)
            self._x += width + 1.1 * self._pen.size

    def _write(self, x: float, text: str, color: str) -> None:
        self._pen.write(x, self._middle, text, color, va="center_baseline")

"""The color bar of a figure: which color stands for which value, in which unit, and how many values lie outside.

Convention. Sizes follow the figure's text. Bars stand at the right edge, one beside the other, each in a margin that it takes.

Left out: display ranges and tables of colors (scene/colors.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.export.lettering import readable_text
from nmri3d.results import Scan
from nmri3d.scene.colors import ColorMap, DisplayRange

if TYPE_CHECKING:
    from nmri3d.export.image import ScanFigure


@dataclass(frozen=True, eq=False)
class ColorBar:
    """What a bar is of: a step of a scan, of components or of neurons, on a display range, in colors."""

    scan: Scan
    step: int
    display: DisplayRange
    colors: ColorMap

    @property
    def values(self) -> np.ndarray:
        """The values that are painted, float [n]: those of components with a place, or of all neurons."""
        rows = self.scan.components.cortical
        values: np.ndarray = self.scan.values[self.step]
        return values[rows] if len(rows) else values


def draw_color_bar(figure: ScanFigure, bar: ColorBar) -> int:
    """Draw a bar left of the margin that is taken already. Returns the pixels it takes, 0 where there is no room."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Polygon, Rectangle

    text, pen, theme = figure.text, figure.pen, figure.theme
    ticks = bar.display.ticks()
    tick_room = max(pen.width(label) for _, label in ticks)
    thickness = round(1.3 * text)
    unit_room = 2.2 * text
    room = round(thickness + 0.9 * text + tick_room + unit_room + 1.2 * text)
    available = figure.height - figure.top - figure.bottom
    tall = round(min(0.72 * available, 34 * text))
    if figure.right + room > figure.width / 2 or tall < 8 * text:
        return 0
    left = figure.width - figure.right - room
    low = round(figure.bottom + (available - tall) / 2)
    x: float
    # one strip of the bar a color, as an image, so that no seam shows between them
    strip = bar.colors.table[np.floor(np.linspace(0, 255, tall) + 0.5).astype(int)][::-1]
    figure.figure.figimage(np.repeat(strip[:, None], thickness, axis=1), left, low, origin="upper")
    frame: dict[str, Any] = {"transform": None, "linewidth": figure.points(0.05), "edgecolor": theme.label}
    figure.figure.add_artist(Rectangle((left, low), thickness, tall, facecolor="none", **frame))
    middle, point = left + thickness / 2, 0.9 * text
    y: float
    below, above = bar.display.outside(bar.values)
    for count, base, direction, color in (
        (below, low, -1, bar.colors.table[0]),
        (above, low + tall, 1, bar.colors.table[-1]),
    ):
        if count:
            corners = [(left, base), (left + thickness, base), (middle, base + direction * point)]
            figure.figure.add_artist(Polygon(corners, facecolor=color / 255, **frame))
            word = "below" if direction < 0 else "above"
            y = base + direction * (point + 0.3 * text)
            pen.write(left, y, f"{count:,} {word}", theme.label, scale=0.9, va="top" if direction < 0 else "bottom")
    for fraction, label in ticks:
        y = low + fraction * tall
        x = left + thickness
        tick = Line2D([x, x + 0.35 * text], [y, y], color=theme.label, linewidth=figure.points(0.06), transform=None)
        figure.figure.add_artist(tick)
        pen.write(x + 0.6 * text, y, label, theme.data, va="center_baseline")
    suffix = {"log": ", log scale", "linear": "", "symmetric": ""}[bar.display.scale]
    x = left + thickness + 0.9 * text + tick_room + unit_room / 2
    unit = pen.shorten(readable_text(bar.scan.units + suffix), available)
    pen.write(x, low + tall / 2, unit, theme.data, rotation=90, ha="center", va="center", rotation_mode="anchor")
    return room

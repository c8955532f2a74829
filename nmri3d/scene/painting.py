"""Painting one step of a scan on a scene: colors of the components, glass where there are tracts, and the tracts' tubes.

Convention. A scan with tracts is shown on a cortex of glass, any other on a solid one.

Left out: ranges and color maps (colors.py), figures around the brain (export/image.py).
"""

from __future__ import annotations

from nmri3d.results import Scan
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.colors import ColorMap, DisplayRange, component_colors, strengths
from nmri3d.scene.tracts import TractStyle


def paint_scan(
    scene: BrainScene,
    scan: Scan,
    step: int,
    display: DisplayRange,
    colors: ColorMap,
    *,
    tracts: TractStyle | None = None,
    marked: int | None = None,
) -> None:
    """Show a step of a scan on the scene.

    tracts: how its tubes are drawn; marked: the one that stands out, as a place among those that can be drawn.
    Raises InputError for a marked tube that is not there.
    """
    values = scan.values[step]
    glass = strengths(values, display) if scan.tracts is not None else None
    scene.paint(component_colors(values, display, colors), glass)
    scene.show_tracts(scan.tracts, tracts)
    if marked is not None:
        scene.tracts.mark(marked)

"""Painting one step of a scan on a scene: colors of the components, glass where there are tracts, and the tracts' tubes.

Convention. A scan with tracts is shown on a cortex of glass, and so is any scan of a network with bodies in or under
the cortex; any other on a solid one, unless the caller says otherwise.

Left out: ranges and color maps (colors.py), figures around the brain (export/image.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nmri3d.results import Scan
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.colors import ColorMap, DisplayRange, component_colors, strengths
from nmri3d.scene.tracts import TractStyle

if TYPE_CHECKING:
    from nmri3d.atlas.neurons import NeuronAtlas


@dataclass(frozen=True, eq=False)
class NeuronLevel:
    """What MLP parcels show instead of one color: a step of a scan of neurons, on a display range, in colors."""

    neurons: NeuronAtlas
    scan: Scan
    step: int
    display: DisplayRange
    colors: ColorMap


def paint_scan(
    scene: BrainScene,
    scan: Scan,
    step: int,
    display: DisplayRange,
    colors: ColorMap,
    *,
    tracts: TractStyle | None = None,
    marked: int | None = None,
    glass: bool | None = None,
) -> None:
    """Show a step of a scan on the scene.

    tracts: how its tubes are drawn; marked: the one that stands out, as a place among those that can be drawn; glass:
    whether the cortex is translucent, None for what the scan asks for.
    Raises InputError for a marked tube that is not there.
    """
    values = scan.values[step]
    translucent = scan.tracts is not None or scene.hides_bodies if glass is None else glass
    scene.paint(component_colors(values, display, colors), strengths(values, display) if translucent else None)
    if scene.volume is not None:
        scene.volume.paint(component_colors(values, display, colors), strengths(values, display))
    scene.show_tracts(scan.tracts, tracts)
    if marked is not None:
        scene.tracts.mark(marked)


def paint_neurons(scene: BrainScene, level: NeuronLevel | None, *, glass: bool = False) -> None:
    """Open the MLP parcels of a scene into their neurons, or with None close them again.

    Raises AlignmentError for neurons of another atlas or a scan of others.
    """
    if level is None:
        if scene.neurons is not None:
            scene.show_neurons(None)
        return
    actor = scene.neurons
    if actor is None or actor.neurons is not level.neurons:
        actor = scene.show_neurons(level.neurons)
    values = level.scan.values[level.step]
    if actor is not None:
        shown = component_colors(values, level.display, level.colors)
        actor.paint(shown, strengths(values, level.display) if glass else None)

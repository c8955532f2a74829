"""Up to four brains in one figure, all seen from one camera: before, after and change; two prompts; two models.

Convention. The first brain's camera holds for all: its preset, or its very pose where it was turned by hand. Every brain
has a figure of its own, with header and color bar (image.py), under a title; figures stand in reading order, two to a row
where there are four. Brains that show one quantity share one display range, so that their colors compare; signed ones
share one about zero. The background is opaque.

Left out: making the brains and their scans.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nmri3d.errors import InputError
from nmri3d.export.image import ScanFigure, checked_step
from nmri3d.files import written_whole
from nmri3d.results import Scan
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.colors import ColorMap, DisplayRange, display_range, scan_color_map
from nmri3d.scene.stage import CameraState
from nmri3d.scene.tracts import TractStyle

MOST = 4


@dataclass(frozen=True, eq=False)
class View:
    """One brain of the figure: what it shows, and how. display and colors: the scan's own where None."""

    scene: BrainScene
    scan: Scan
    step: int
    title: str = ""
    display: DisplayRange | None = None
    colors: ColorMap | None = None
    tracts: TractStyle | None = None


def save_beside(views: Sequence[View], path: str | os.PathLike[str], *, size: tuple[int, int] = (1920, 1080)) -> Path:
    """Write the figure as PNG, whole or not at all; returns its path.

    Raises InputError for a number of views other than 2 to 4, for a step, size or file type that cannot be.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise InputError(
            f"brains side by side are written as .png, not as {target.suffix or 'a file without a suffix'}"
        )
    if not 2 <= len(views) <= MOST:
        raise InputError(f"two to {MOST} brains stand side by side, and {len(views)} were given")
    columns = 2 if len(views) == MOST else len(views)
    rows = -(-len(views) // columns)
    width, height = size[0] // columns, size[1] // rows
    ranges = common_ranges(views)
    first = views[0].scene.stage
    preset, pose = first.preset, first.pose
    picture = np.zeros((height * rows, width * columns, 3), dtype=np.uint8)
    for at, (view, display) in enumerate(zip(views, ranges, strict=True)):
        row, column = divmod(at, columns)
        tile = _tile(view, display, (width, height), preset, pose)
        picture[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    _write(picture, target)
    return target


def common_ranges(views: Sequence[View]) -> list[DisplayRange]:
    """The display range of each view: one that holds all for those of one mode, unit, scale and sign."""
    own = [view.display or display_range(view.scan) for view in views]
    keys = [(view.scan.mode, view.scan.units, shown.scale) for view, shown in zip(views, own, strict=True)]
    result = []
    for view, key, shown in zip(views, keys, own, strict=True):
        if view.display is not None:
            result.append(shown)
            continue
        alike = [other for other, its in zip(own, keys, strict=True) if its == key]
        result.append(replace(shown, vmin=min(o.vmin for o in alike), vmax=max(o.vmax for o in alike)))
    return result


def _tile(
    view: View, display: DisplayRange, size: tuple[int, int], preset: str | None, pose: CameraState
) -> np.ndarray:
    """One brain's figure under its title, uint8 [height, width, 3]."""
    from matplotlib.image import imread

    from nmri3d.scene.painting import paint_scan

    step = checked_step(view.scan, view.step)
    colors = view.colors or scan_color_map(view.scan)
    paint_scan(view.scene, view.scan, step, display, colors, tracts=view.tracts)
    if preset is None:
        view.scene.stage.stand(pose)
    else:
        view.scene.view(preset)
    figure = ScanFigure(view.scene, view.scan, step, size, 100, False, display, colors)
    if view.title:
        figure.title = view.title
    png = figure.png(color_bar=True, header=True)
    return np.round(imread(io.BytesIO(png))[..., :3] * 255).astype(np.uint8)


def _write(picture: np.ndarray, target: Path) -> None:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, picture, format="png")
    with written_whole(target) as file:
        file.write(buffer.getvalue())

"""Brains side by side, from Python: `nmri3d.side_by_side([before, after, change], "figure.png")`.

Left out: the page's own linked views (app/web/linked.js), which turn under the mouse.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nmri3d.errors import InputError

if TYPE_CHECKING:
    from nmri3d.jupyter import Brain


def side_by_side(
    brains: Sequence[Brain],
    path: str | os.PathLike[str],
    *,
    titles: Sequence[str] = (),
    size: tuple[int, int] = (1920, 1080),
) -> Path:
    """Write two to four brains as one PNG figure, seen from the first one's camera; returns its path.

    Each shows what it shows already (`Brain.show`, `Brain.scan`); those of one quantity share one display range.

    Raises InputError for another number of brains, for titles of another number, and for a brain that shows nothing.
    """
    from nmri3d.export.beside import View, save_beside

    if titles and len(titles) != len(brains):
        raise InputError(f"{len(brains)} brains need {len(brains)} titles, or none; {len(titles)} were given")
    views = []
    for number, brain in enumerate(brains):
        shown = brain.shown
        if shown is None:
            raise InputError(f"brain {number} shows nothing yet; call its show or scan first")
        scan, step, _, colors, style = shown
        views.append(View(brain.scene, scan, step, titles[number] if titles else "", None, colors, style))
    return save_beside(views, path, size=size)

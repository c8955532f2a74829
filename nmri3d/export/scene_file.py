"""A scene as a 3D file, of the kind that its suffix names.

    .glb   binary glTF for 3D viewers and VR headsets (glb.py)
    .html  a page that needs no network, with all steps of the scan (web_page.py)
    .vtm   VTK multi-block with the raw values, for ParaView and PyVista (vtm.py)

Left out: the files themselves.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nmri3d.errors import InputError

if TYPE_CHECKING:
    from nmri3d.results import Scan
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.colors import ColorMap, DisplayRange

SUFFIXES = (".glb", ".html", ".htm", ".vtm")


def scene_file_path(path: str | os.PathLike[str]) -> Path:
    """The path, if such a file can be written. Raises InputError if not."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"a brain is exported as .glb, .html or .vtm, not as {suffix or 'a file without a suffix'}; "
            "screenshot writes pictures and movie writes movies"
        )
    return Path(path)


def save_scene_file(
    scene: BrainScene,
    path: str | os.PathLike[str],
    scan: Scan | None = None,
    step: int = 0,
    display: DisplayRange | None = None,
    colors: ColorMap | None = None,
) -> Path:
    """Write what a scene shows; returns the path. Raises InputError for another suffix."""
    suffix = scene_file_path(path).suffix.lower()
    if suffix == ".glb":
        from nmri3d.export.glb import save_glb

        return save_glb(scene, path, scan, step)
    if suffix == ".vtm":
        from nmri3d.export.vtm import save_vtm

        return save_vtm(scene, path, scan)
    from nmri3d.export.web_page import save_web_page

    return save_web_page(scene, path, scan, step, display, colors)

"""A scan as one web page (.html) that needs no network and no server: the painted brain, which turns under the mouse.

Convention. All steps of the scan are in the page, so that its tokens can be stepped through; what is under the mouse is
named with its raw value. Geometry, textures and values are one compressed block in the page. A content security policy
in the page forbids every request.

Left out: measuring, for which there is no model in the page. Needs a browser with WebGL 2 and DecompressionStream (2023).
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import struct
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmri3d.errors import InputError
from nmri3d.export import viewing
from nmri3d.files import written_whole
from nmri3d.results import Scan
from nmri3d.scene.colors import ColorMap, DisplayRange

if TYPE_CHECKING:
    from nmri3d.scene.brain import BrainScene


def save_web_page(
    scene: BrainScene,
    path: str | os.PathLike[str],
    scan: Scan | None = None,
    step: int = 0,
    display: DisplayRange | None = None,
    colors: ColorMap | None = None,
) -> Path:
    """Write the page, whole or not at all; returns the path.

    scan, step, display, colors: what the scene shows; all needed but for a brain without a scan. Raises InputError
    for another suffix than .html or .htm.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"a web page ends in .html; name it {target.stem}.html")
    content = web_page(scene, scan, step, display, colors).encode()
    with written_whole(target) as file:
        file.write(content)
    return target


def web_page(
    scene: BrainScene,
    scan: Scan | None = None,
    step: int = 0,
    display: DisplayRange | None = None,
    colors: ColorMap | None = None,
) -> str:
    """The page's text."""
    if scan is None or display is None or colors is None:
        paint = viewing.anatomy_part(scene)
    else:
        paint = viewing.paint_part(scene, scan, step, display, colors)
    parts = {
        "looks": viewing.looks_part(scene),
        "cortex": viewing.cortex_part(scene),
        "marks": viewing.marks_part(scene),
        "view": viewing.view_part(scene),
        "paint": paint,
    }
    page = (files("nmri3d.export") / "web" / "page.html").read_text(encoding="utf-8")
    for name, text in (
        ("title", html.escape(f"{paint['title']} · Neural MRI 3D")),
        ("style", viewing.viewer_style()),
        ("script", viewing.viewer_script()),
        ("content", base64.b64encode(gzip.compress(packed(parts), mtime=0)).decode()),
    ):
        page = page.replace("{{" + name + "}}", text, 1)
    return page


def packed(parts: dict[str, Any]) -> bytes:
    """Parts as one block: length of the JSON (uint32), the JSON, then the arrays' bytes, which it names by their place."""
    block = bytearray()

    def place(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: place(part) for name, part in value.items()}
        if isinstance(value, list):
            return [place(part) for part in value]
        if isinstance(value, bytes):
            block.extend(bytes(-len(block) % 4))
            at = len(block)
            block.extend(value)
            return {"at": at, "bytes": len(value)}
        return value

    document = json.dumps(place(parts), ensure_ascii=False, allow_nan=False).encode()
    return struct.pack("<I", len(document)) + document + bytes(block)

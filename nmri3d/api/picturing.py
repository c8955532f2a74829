"""What the API needs of pictures and maps, which it may not import: two callables that the top hands over.

Convention. Both are called in a worker thread, report progress and may raise Cancelled.

Left out: the drawing itself (nmri3d/app/exporting.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nmri3d.models.backend import Progress
from nmri3d.results import Scan

EXPORT_FORMATS = ("png", "glb", "html", "vtm", "mp4", "gif")


@dataclass(frozen=True)
class Map:
    """A model's components on the cortex: `arrays` by name (vertices float32 [n, 3] mm RAS of the asked surface, faces int64
    [m, 3], face_component int64 [m], target_area, area, …), `quality` figures by name, and the choices that made it."""

    layout: str
    area: str
    features: str
    surface: str
    resolution: str
    arrays: Mapping[str, np.ndarray]
    quality: Mapping[str, float]


@dataclass(frozen=True)
class ExportWish:
    """What is to be drawn of a scan (None: the bare brain), and as what; see `nmri3d.Brain` for the choices."""

    format: str
    scan: Scan | None = None
    step: int = -1
    layout: str = "anatomical"
    features: str = "weights"
    area: str = "parameters"
    form: str = "pial"
    view: str = "lateral_left"
    size: tuple[int, int] = (1920, 1080)
    title: str = ""


@dataclass(frozen=True)
class Exported:
    """A file: its bytes, media type and name."""

    content: bytes
    media_type: str
    filename: str


class Picturing(Protocol):
    """Maps and pictures of the loaded model."""

    def map(self, choices: Mapping[str, Any], progress: Progress) -> Map:
        """The map by `layout`, `area`, `features`, `surface` (and `resolution`); kept for all clients as long as the model."""

    def export(self, wish: ExportWish, progress: Progress) -> Exported:
        """A picture, movie or 3D file of the loaded model's brain."""

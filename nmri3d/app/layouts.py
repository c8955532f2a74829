"""Which layout the page's brain has: what a visitor may choose, building it, and its figures in words.

Convention. A cortical layout is another atlas; the layouts of balls (nmri3d/atlas/nodes.py) are further forms of any atlas.
An atlas is shared by all visitors and kept as long as the model. Positions in mm, RAS.

Left out: the maps themselves (nmri3d/atlas), the drawn scene (brain.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nmri3d.app.state import require_choice, require_message
from nmri3d.atlas import AREAS, LAYOUTS, Atlas, describe
from nmri3d.models.backend import Backend, Progress
from nmri3d.service import Service
from nmri3d.template import SOURCES, layout_features


@dataclass(frozen=True)
class LayoutChoice:
    """A cortical layout: its name, what components are compared by, and what a parcel's area follows."""

    layout: str = LAYOUTS[0]
    features: str = SOURCES[0]
    area: str = AREAS[0]


def read_choice(message: Any) -> LayoutChoice:
    """What a browser chooses. Raises InputError for anything that is not on offer."""
    message = require_message(message)
    return LayoutChoice(
        require_choice(message.get("layout"), LAYOUTS, "layout"),
        require_choice(message.get("features"), SOURCES, "source of features"),
        require_choice(message.get("area"), AREAS, "share of area"),
    )


def build_atlas(service: Service, choice: LayoutChoice, progress: Progress) -> Atlas:
    """The atlas of the loaded model in a layout, built in the model's turn, kept for all visitors; in a worker thread.

    Raises what `Service.derive`, `Atlas.build` and `functional_features` raise.
    """

    def make(backend: Backend, report: Progress) -> Atlas:
        features = layout_features(backend, choice.features, lambda share, what: report(0.6 * share, what))
        first = 0.0 if features is None else 0.6
        return Atlas.build(
            backend,
            choice.layout,
            area=choice.area,
            features=features,
            progress=lambda share, what: report(first + (1 - first) * share, what),
        )

    return service.derive(("atlas", choice), make, progress=progress)


def layout_finding(atlas: Atlas, choice: LayoutChoice) -> dict[str, Any]:
    """The layout for people: {"layout", "features", "area", "parcels", "rows": [{"name", "value", "random", "what"}]}.

    parcels: how many, and how large, in words. value, random: a figure and that of a random assignment, as text; random
    is empty where there is no such thing.
    """
    areas = atlas.area[atlas.area > 0]
    rows = [
        {"name": figure.label, "value": figure.value, "random": figure.baseline, "what": figure.meaning}
        for figure in describe(atlas.quality)
    ]
    parcels = f"{len(areas)} parcels of {areas.min():,.0f} to {areas.max():,.0f} mm² on pial"
    return {**asdict(choice), "parcels": parcels, "rows": rows}


def parcel_balls(atlas: Atlas, surface: str) -> tuple[np.ndarray, np.ndarray]:
    """Balls that stand for the parcels of a surface: centers float32 [n, 3], radii float32 [n], mm; NaN without a place.

    A ball lies at its parcel's centroid and has a third of its area, so that most balls are clear of each other.
    """
    centers = atlas.centroids(surface)
    radius = np.sqrt(atlas.area / (3 * 4 * np.pi))
    return centers, np.where(atlas.area > 0, radius, np.nan).astype(np.float32)

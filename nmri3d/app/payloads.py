"""What is sent to the browser as data: components and cortex once, each form of it on first use, colors and scans once.

Convention. Arrays go as raw bytes, little-endian: float32 values, int32 indices, int16 normals (32767 is 1). A scan's
values are [steps, components]; a step of one scan costs 4 bytes a component, and the rest of a payload is under 2 kB.
The tracts of a DTI scan cost 13 bytes each, at most 2,000 of them, and 8 kB; where they run follows in the browser from
the frames that come with the cortex (28 bytes a component and surface).
The browser works out texture and colors by the same rules as nmri3d/scene (texture.py, colors.py). A surface costs 18 bytes
a vertex of the drawn mesh; a layout of balls 16 bytes a component, and once 6 bytes a vertex for all of them.

Left out: the mesh itself in its first form, which VtkLocalView sends.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.app.layouts import LayoutChoice
from nmri3d.results import MODES, SLOTS, Scan
from nmri3d.scene.camera import VIEWS, CameraPreset
from nmri3d.scene.colors import color_map, display_range
from nmri3d.scene.texture import TextureLayout
from nmri3d.scene.tracts import TractFrame, drawable, placed, reference_score, tract_frame, tract_rules

if TYPE_CHECKING:
    from nmri3d.atlas import Atlas

FIRST_SURFACE = "pial"
"""The surface in which a brain comes."""

OVERVIEW = CameraPreset((-0.55, 0.45, 0.70), (0.0, 0.0, 1.0))
"""Where the page's camera begins: from the left, the front and above, so that both hemispheres are seen."""


def palettes_payload() -> dict[str, dict[str, bytes]]:
    """The color table of every variant and mode, uint8 [256, 3]."""
    return {
        "standard": {mode: color_map(mode, "standard").table.tobytes() for mode in MODES},
        "colorblind": {mode: color_map(mode, "colorblind").table.tobytes() for mode in MODES},
    }


def components_payload(atlas: Atlas, choice: LayoutChoice, epoch: int, *, again: bool = False) -> dict[str, Any]:
    """The component table, and nothing of the cortex: all that a page with remote rendering needs.

    epoch: number of the brain on its page; again: whether its model was shown before, in another layout.
    """
    table = atlas.components
    return {
        "epoch": epoch,
        "again": again,
        **asdict(choice),
        "ids": list(table.ids),
        "kind": table.kind.tolist(),
        "layer": _bytes(table.layer, "<i4"),
        "n_params": table.n_params.tolist(),
        "surface": FIRST_SURFACE,
        "bodies": [asdict(body) for body in atlas.bodies],
    }


def geometry_payload(
    atlas: Atlas,
    texture: TextureLayout,
    vertex_of_split: np.ndarray,
    choice: LayoutChoice,
    epoch: int,
    *,
    again: bool = False,
) -> dict[str, Any]:
    """Components and cortex: who owns which face, and how the drawn mesh follows from the atlas.

    vertex_of_split int32 [n_split] leads from the drawn mesh's vertices to those of the atlas.
    """
    frame = tract_frame(atlas, FIRST_SURFACE)
    return {
        **components_payload(atlas, choice, epoch, again=again),
        "face_component": _bytes(atlas.face_component, "<i4"),
        "vertex_of_split": _bytes(vertex_of_split, "<i4"),
        "border_edges": _bytes(atlas.border_edges(), "<i4"),
        "n_vertices": len(atlas.vertices),
        "n_left_vertices": int(atlas.n_left_vertices),
        "n_left_faces": int(atlas.n_left_faces),
        "texture": asdict(texture),
        "tracts": {"side": _bytes(frame.side, "i1"), "frame": frame_payload(frame)},
        "views": {name: asdict(preset) for name, preset in {"overview": OVERVIEW, **VIEWS}.items()},
    }


def surface_payload(name: str, points: np.ndarray, normals: np.ndarray, frame: TractFrame) -> dict[str, Any]:
    """A surface of the drawn mesh: points float32 [n_split, 3] in mm, unit normals [n_split, 3], where tracts end."""
    return {
        "name": name,
        "kind": "flat" if name == "flat" else "surface",
        "points": _bytes(points, "<f4"),
        "normals": directions_payload(normals),
        "frame": frame_payload(frame),
    }


def balls_payload(name: str, center: np.ndarray, radius: np.ndarray, frame: TractFrame) -> dict[str, Any]:
    """A layout of balls: centers [n, 3] and radii [n] in mm, NaN without a place, and where tracts end."""
    return {
        "name": name,
        "kind": "nodes",
        "center": _bytes(center, "<f4"),
        "radius": _bytes(radius, "<f4"),
        "frame": frame_payload(frame),
    }


def directions_payload(directions: np.ndarray) -> bytes:
    """Unit vectors [n, 3] as int16, 32767 for 1."""
    return _bytes(np.round(directions * 32767), "<i2")


def frame_payload(frame: TractFrame) -> dict[str, bytes]:
    """Where tracts end and pass on a form; see scene/tracts.py."""
    return {part: _bytes(getattr(frame, part), "<f4") for part in ("anchor", "inward", "core", "gate")}


def tracts_payload(scan: Scan) -> dict[str, Any] | None:
    """The tracts of a DTI scan that can be drawn, strongest first, and the rules by which they are; None without any.

    slot: place in `slots`, uint8. total, count: of all measured edges. without_place: kept edges that cannot be drawn,
    since an end has no parcel. reference: |score| of the thickest tube.
    """
    if scan.tracts is None:
        return None
    edges = drawable(scan.tracts, scan.components)
    return {
        "source": _bytes(edges.source, "<i4"),
        "target": _bytes(edges.target, "<i4"),
        "slot": _bytes(np.array([SLOTS.index(str(slot)) for slot in edges.slot]), "u1"),
        "slots": list(SLOTS),
        "score": _bytes(edges.score, "<f4"),
        "total": float(edges.total),
        "count": int(edges.count),
        "without_place": int((~placed(scan.tracts, scan.components)).sum()),
        "reference": reference_score(edges),
        "rules": tract_rules(),
    }


def palette_of(scan: Scan) -> str:
    """The mode whose color table a scan is painted with, as `nmri3d.scene.colors.scan_color_map` has it."""
    return "DTI" if scan.signed and scan.mode != "T2" else scan.mode


def scan_payload(scan: Scan) -> dict[str, Any]:
    """One scan with its display range. T1's integers go as float32 for their colors; the table holds them exactly.

    A DTI scan brings its tubes along, as `tracts` (tracts_payload), and the range then tells the |score| of the thickest
    one, so that locking the range locks the tubes' widths, too.
    """
    shown = display_range(scan)
    tracts = tracts_payload(scan)
    special = np.asarray(scan.details.get("special", np.zeros(len(scan.tokens), dtype=bool)), dtype=bool)
    return {
        "mode": scan.mode,
        "steps": scan.n_steps,
        "values": _bytes(scan.values, "<f4"),
        "tokens": list(scan.tokens),
        "special": special.tolist(),
        "units": scan.units,
        "step_axis": scan.step_axis,
        "palette": palette_of(scan),
        "range": {
            "vmin": shown.vmin,
            "vmax": shown.vmax,
            "scale": shown.scale,
            "ticks": [[place, label] for place, label in shown.ticks()],
            "tract_reference": tracts["reference"] if tracts else None,
        },
        "tracts": tracts,
        "prompt": scan.provenance.prompt or "",
        "created": scan.provenance.created,
        "seconds": scan.provenance.seconds,
    }


def _bytes(array: np.ndarray, dtype: str) -> bytes:
    return np.ascontiguousarray(array, dtype=dtype).tobytes()

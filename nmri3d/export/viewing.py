"""The parts of an interactive brain (web/viewer.js), for the self-contained page and for the notebook's live view.

Convention. Five parts, each plain JSON with arrays as {"type": f4 | u4 | i4 | u1, "data": bytes}: `looks` (lights, background,
angle of view), `cortex` and `marks` (shapes), `view` (where the camera stands at first) and `paint` (the textures of all
steps, the raw values, and what is written around). The colors are the scene's own (scene/texture.py, scene/colors.py).

Left out: the transport (web_page.py, jupyter_live.py).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.export.facts import header_texts, model_name
from nmri3d.export.image import shown_tokens
from nmri3d.export.lettering import readable_token
from nmri3d.export.shapes import Shape, cortex_shapes, cortex_texture, mark_shapes
from nmri3d.export.tract_legend import color_keys, count_texts, faithfulness_text
from nmri3d.results import Scan
from nmri3d.scene.camera import VIEW_ANGLE, VIEWS
from nmri3d.scene.colors import ColorMap, DisplayRange, component_colors, strengths
from nmri3d.scene.texture import texture_image

if TYPE_CHECKING:
    from nmri3d.scene.brain import BrainScene

BUTTONS = (
    ("L", "the left", "lateral_left"),
    ("R", "the right", "lateral_right"),
    ("S", "above", "dorsal"),
    ("I", "below", "ventral"),
    ("A", "the front", "anterior"),
    ("P", "the back", "posterior"),
)
"""Letter, name and preset of the viewer's buttons."""
_STOPS = 33
_TYPES = {"f4": np.float32, "u4": np.uint32, "i4": np.int32, "u1": np.uint8}
_SCRIPTS = ("orbit.js", "gl_scene.js", "viewer.js")


@cache
def viewer_script() -> str:
    """The viewer, JavaScript: defines `nmriViewer(root, told)`."""
    return "\n".join(_file(name) for name in _SCRIPTS)


@cache
def viewer_style() -> str:
    """The viewer's style sheet."""
    return _file("viewer.css")


def _file(name: str) -> str:
    return (files("nmri3d.export") / "web" / name).read_text(encoding="utf-8")


def looks_part(scene: BrainScene) -> dict[str, Any]:
    """Lights, background and the views to choose from; the same for the whole life of a scene."""
    from nmri3d.scene.marks import GLOW

    lights = []
    for light in scene.plotter.renderer.lights:
        direction = np.array(light.GetPosition(), dtype=np.float64) - np.array(light.GetFocalPoint())
        lights.append([*(direction / np.linalg.norm(direction)).tolist(), float(light.GetIntensity())])
    return {
        "lights": lights,
        "background": list(scene.plotter.renderer.GetBackground()),
        "glow": [int(GLOW[i : i + 2], 16) / 255 for i in (1, 3, 5)],
        "angle": VIEW_ANGLE,
        "views": [[letter, name, list(VIEWS[view].side), list(VIEWS[view].up)] for letter, name, view in BUTTONS],
    }


def cortex_part(scene: BrainScene) -> dict[str, Any]:
    """The cortex as the scene draws it."""
    return {"shapes": [_shape(shape) for shape in cortex_shapes(scene)]}


def marks_part(scene: BrainScene) -> dict[str, Any]:
    """Borders, glow, tubes."""
    marks = mark_shapes(scene)
    textures = {
        name: {"width": image.shape[1], "height": image.shape[0], "pixels": _array(image, "u1")}
        for name, image in marks.textures.items()
    }
    return {"shapes": [_shape(shape) for shape in marks.shapes], "textures": textures}


def view_part(scene: BrainScene) -> dict[str, Any]:
    """Where the camera stands: a preset, which the viewer fits to its own size, or an exact pose."""
    if scene.stage.preset is not None:
        view = VIEWS[scene.stage.preset]
        return {"side": list(view.side), "up": list(view.up)}
    camera = scene.plotter.camera
    pose = {"position": camera.GetPosition(), "middle": camera.GetFocalPoint(), "up": camera.GetViewUp()}
    return {"pose": {name: list(place) for name, place in pose.items()}}


def anatomy_part(scene: BrainScene) -> dict[str, Any]:
    """What to paint while no scan is shown: what the scene has now, with the components' names."""
    table = scene.atlas.components
    return {
        "frames": _frames(scene, cortex_texture(scene)[None], translucent=scene.is_glass),
        "values": _array(np.full(len(table), np.nan), "f4"),
        "measured": False,
        "components": list(table.ids),
        "tokens": [],
        "steps": 1,
        "step": 0,
        "units": "",
        "scan": "",
        "title": f"the brain of a model of {len(table.cortical)} components",
        "header": [[["", "NEURAL MRI 3D   Model Resonance Imaging"], ["VIEW", scene.surface or "morph"]]],
    }


def paint_part(scene: BrainScene, scan: Scan, step: int, display: DisplayRange, colors: ColorMap) -> dict[str, Any]:
    """All steps of a scan, painted, and what is written around the brain; the scene must show the scan."""
    translucent = scan.tracts is not None or scene.hides_bodies
    frames = []
    for values in scan.values:
        glass = strengths(values, display) if translucent else None
        frames.append(texture_image(component_colors(values, display, colors), scene.layout, glass))
    tokens, marked = shown_tokens(scan, step)
    left, right = header_texts(scan, scene.surface or "morph")
    lines: list[list[list[str]]] = [[["", "NEURAL MRI 3D   Model Resonance Imaging"]]]
    lines += [[list(a), list(b)] for a, b in zip(left, right, strict=True)]
    provenance = scan.provenance
    suffix = ", log scale" if display.scale == "log" else ""
    cortical = scan.components.cortical
    part = {
        "frames": _frames(scene, np.stack(frames), translucent=translucent),
        "values": _array(scan.values, "f4"),
        "measured": True,
        "components": list(scan.components.ids),
        "tokens": [readable_token(token) for token in tokens],
        "steps": scan.n_steps,
        "step": step,
        "units": scan.units,
        "scan": f"{provenance.fingerprint} {scan.mode} {provenance.created} {provenance.prompt}",
        "title": f"{scan.mode} scan of {model_name(provenance.model_id)}",
        "header": lines,
        "bar": {
            "unit": scan.units + suffix,
            "colors": [f"rgb({r},{g},{b})" for r, g, b in colors.colors(np.linspace(0, 1, _STOPS)).tolist()],
            "ticks": [list(tick) for tick in display.ticks()],
            "outside": [list(display.outside(values[cortical])) for values in scan.values],
        },
    }
    if scan.n_steps == 1 and tokens:
        part["marked"] = marked
    if scan.tracts is not None:
        keys = [[f"rgb({r},{g},{b})", name] for name, (r, g, b) in color_keys(scene.tracts)]
        told = [["", text] for text in [*count_texts(scene.tracts), *faithfulness_text(scan)]]
        part["legend"] = [["", "TRACTS"], *keys, *told]
    return part


def _frames(scene: BrainScene, images: np.ndarray, *, translucent: bool) -> dict[str, Any]:
    layout = scene.layout
    return {
        "width": layout.width,
        "height": layout.height,
        "translucent": translucent,
        "pixels": _array(images, "u1"),
    }


def _shape(shape: Shape) -> dict[str, Any]:
    return {
        "name": shape.name,
        "points": _array(shape.points, "f4"),
        "normals": None if shape.normals is None else _array(shape.normals, "f4"),
        "triangles": _array(shape.triangles, "u4"),
        "color": list(shape.color),
        "colors": None if shape.colors is None else _array(shape.colors, "u1"),
        "texture_coordinates": None if shape.texture_coordinates is None else _array(shape.texture_coordinates, "f4"),
        "texture": shape.texture,
        "component": None if shape.component is None else _array(shape.component, "i4"),
        "lit": shape.lit,
        "translucent": shape.translucent,
        "glass": shape.glass,
        "material": list(shape.material),
    }


def _array(values: np.ndarray, kind: str) -> dict[str, Any]:
    return {"type": kind, "data": np.ascontiguousarray(values, dtype=_TYPES[kind]).tobytes()}

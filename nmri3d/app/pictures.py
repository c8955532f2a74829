"""Pictures to keep: what a page shows, drawn anew on the server as a PNG file of 1920 x 1080 pixels.

Convention. A page's own scene is never touched: pictures have one of their own, of the same atlas, built with the first
picture and kept. It is used by one worker thread at a time, and only one picture of the process is drawn at a time
(VTK's and Matplotlib's process-wide tables are not made for more). What a browser asks for is checked here before use.

Left out: the figure around the brain, which is nmri3d/export/image.py.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nmri3d.app.state import require_choice, require_index, require_number, require_share, require_vector
from nmri3d.atlas import SURFACES, Atlas
from nmri3d.atlas.nodes import NODE_LAYOUTS, Nodes
from nmri3d.atlas.volume import label_volume
from nmri3d.errors import Cancelled, InputError
from nmri3d.export.image import save_image
from nmri3d.results import Scan
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.camera import VIEWS, Hemispheres
from nmri3d.scene.colors import VARIANTS, DisplayRange, Variant, display_range, scan_color_map, strengths
from nmri3d.scene.painting import NeuronLevel
from nmri3d.scene.tracts import TRACT_COLORS, TractStyle, drawable

SIZE = (1920, 1080)

_WINDOW_HEIGHT = 720
"""Pixels of the window that stands for the browser's; only its shape matters, and a picture has its own size."""

_DRAWING = threading.Lock()


@dataclass(frozen=True)
class CameraPose:
    """Where a camera stands, what it looks at (mm, RAS), what is up for it, and its vertical angle of view in degrees."""

    position: tuple[float, float, float]
    focal_point: tuple[float, float, float]
    view_up: tuple[float, float, float]
    view_angle: float

    def __post_init__(self) -> None:
        sight = np.subtract(self.focal_point, self.position)
        across = np.cross(sight, self.view_up)
        if np.linalg.norm(across) <= 1e-6 * np.linalg.norm(sight) * np.linalg.norm(self.view_up):
            raise InputError("a camera must look somewhere, and its up must not lie along its sight; reset the view")


@dataclass(frozen=True)
class PictureWish:
    """What a picture is to show of a scan.

    step       row of the scan's values
    form       names of two forms (surfaces or layouts of balls) and the share of the way from the first to the second
    glass      whether the cortex is translucent
    borders    whether there are lines between the parcels
    volume     whether voxels are drawn instead of the cortex
    neurons    whether MLP parcels show their neurons
    hemispheres  which are shown
    variant    of the color maps
    threshold  share of the display range below which a component stays grey
    display    a locked display range, None for the scan's own
    pose       where the camera stands
    aspect     width / height of the frame that the person sees
    selected   component row that glows, -1 for none
    tracts     how the tubes of a DTI scan are drawn
    marked     tube that stands out, as a place among those that can be drawn; None for none
    """

    step: int
    form: tuple[str, str, float]
    glass: bool
    borders: bool
    volume: bool
    neurons: bool
    hemispheres: Hemispheres
    variant: Variant
    threshold: float
    display: DisplayRange | None
    pose: CameraPose
    aspect: float
    selected: int
    tracts: TractStyle
    marked: int | None


def read_wish(message: Any, scan: Scan, selected: int, pose: CameraPose | None) -> PictureWish:
    """Check what a browser asks for. `pose` is that of a camera on the server, None where the browser has it.

    Raises InputError for anything that is missing, out of range or of the wrong type.
    """
    if not isinstance(message, dict):
        raise InputError("a picture needs to be told what it shows; reload the page and try again")
    view = require_choice(message.get("view"), ("overview", *VIEWS), "view")
    locked = message.get("range")
    palette = require_choice(message.get("palette"), VARIANTS, "palette")
    variant: Variant = "colorblind" if palette == "colorblind" else "standard"
    style, marked = _read_tracts(message.get("tracts"), scan, variant)
    return PictureWish(
        step=require_index(message.get("step"), scan.n_steps, "token"),
        form=_read_form(message.get("form")),
        glass=message.get("glass") is True,
        borders=message.get("borders") is True,
        volume=message.get("volume") is True,
        neurons=message.get("neurons") is True,
        hemispheres=VIEWS[view].hemispheres if view in VIEWS else "both",
        variant=variant,
        threshold=require_share(message.get("threshold"), "threshold"),
        display=None if locked is None else _read_range(locked),
        pose=read_pose(message.get("camera")) if pose is None else pose,
        aspect=require_number(message.get("aspect"), 0.1, 10, "shape of the frame"),
        selected=selected,
        tracts=style,
        marked=marked,
    )


def _read_form(message: Any) -> tuple[str, str, float]:
    """From where to where, and how far: [name, name, share]."""
    if not isinstance(message, list | tuple) or len(message) != 3:
        raise InputError("a picture needs to know which surface or layout is shown; reload the page and try again")
    first, second = (require_choice(name, (*SURFACES, *NODE_LAYOUTS), "surface or layout") for name in message[:2])
    return first, second, require_share(message[2], "share of the way between two forms")


def is_hidden(values: np.ndarray, shown: DisplayRange, threshold: float) -> np.ndarray:
    """bool [n], which components stay grey: those below a share `threshold` of the bar (for a symmetric one, of half)."""
    if threshold <= 0:
        return np.zeros(len(values), dtype=bool)
    hidden: np.ndarray = strengths(values, shown) < threshold
    return hidden


class Pictures:
    """The pictures of one page and one atlas.

    nodes: layouts of balls by name; its owner may add to it, and what is in it can be drawn.
    """

    def __init__(self, atlas: Atlas, nodes: Mapping[str, Nodes] | None = None) -> None:
        self._atlas = atlas
        self._nodes: Mapping[str, Nodes] = {} if nodes is None else nodes
        self._scene: BrainScene | None = None
        self._lock = threading.Lock()
        self._closed = False

    def draw(self, scan: Scan, wish: PictureWish, level: NeuronLevel | None = None) -> bytes:
        """The picture as PNG; takes about a second, so call it in a worker thread. level: the neurons that are shown.

        Raises what `save_image` and `BrainScene` raise, Cancelled once it is closed.
        """
        try:
            with self._lock, _DRAWING:
                if self._closed:
                    raise Cancelled("The picture was cancelled: its model is gone.")
                return self._draw(scan, wish, level)
        finally:
            self._free_if_closed()  # close() may have come meanwhile, and does not wait

    def close(self) -> None:
        """Free the scene, at once or when the picture under way is done; safe to call twice."""
        self._closed = True
        self._free_if_closed()

    def _free_if_closed(self) -> None:
        if self._closed and self._lock.acquire(blocking=False):
            try:
                scene, self._scene = self._scene, None
                if scene is not None:
                    scene.close()
            finally:
                self._lock.release()

    def _draw(self, scan: Scan, wish: PictureWish, level: NeuronLevel | None) -> bytes:
        if self._scene is None:
            self._scene = BrainScene(self._atlas)
        scene = self._scene
        self._shape(scene, wish.form)
        scene.show_borders(wish.borders)
        scene.show_hemispheres("both" if scene.form.kind == "flat" else wish.hemispheres)
        if wish.volume:  # taking a form ended the last one
            scene.show_volume(label_volume(self._atlas))
        scene.select(None if wish.selected < 0 else wish.selected)
        scene.render_window.SetSize(round(_WINDOW_HEIGHT * wish.aspect), _WINDOW_HEIGHT)
        pose = wish.pose
        scene.stage.stand((pose.position, pose.focal_point, pose.view_up, (pose.view_angle,)))
        shown = wish.display or display_range(scan)
        if level is not None:
            level = replace(level, scan=_thresholded(level.scan, wish, level.display))
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = save_image(
                    scene,
                    _thresholded(scan, wish, shown),
                    wish.step,
                    Path(folder) / "picture.png",
                    size=SIZE,
                    display=shown,
                    colors=scan_color_map(scan, wish.variant),
                    tracts=wish.tracts,
                    marked=wish.marked,
                    glass=wish.glass,
                    neurons=level,
                )
                return path.read_bytes()
        finally:
            # The next picture comes from another thread, where a context that is still current here cannot be used.
            release = getattr(scene.render_window, "ReleaseCurrent", None)
            if release is not None:
                release()

    def _shape(self, scene: BrainScene, form: tuple[str, str, float]) -> None:
        """Give the scene a form. Raises InputError for a layout of balls that was not made yet."""
        for name in form[:2]:
            if name in self._nodes and name not in scene.forms:
                scene.add_nodes(self._nodes[name])
        scene.morph(*form)


def _thresholded(scan: Scan, wish: PictureWish, shown: DisplayRange) -> Scan:
    """The scan without what the threshold hides at the shown step, saying so in its unit."""
    if wish.threshold <= 0:
        return scan
    values = scan.values.astype(np.float64)
    values[wish.step, is_hidden(values[wish.step], shown, wish.threshold)] = np.nan
    if shown.scale == "log":
        limit = shown.vmin * (shown.vmax / shown.vmin) ** wish.threshold
    elif shown.scale == "symmetric":
        limit = shown.vmax * wish.threshold
    else:
        limit = shown.vmin + (shown.vmax - shown.vmin) * wish.threshold
    size = "|v|" if shown.scale == "symmetric" else "v"
    return replace(scan, values=values, units=f"{scan.units}, {size} ≥ {limit:.4g}")


def read_pose(camera: Any) -> CameraPose:
    """Where a browser says that its camera stands. Raises InputError for what is no camera."""
    if not isinstance(camera, dict):
        raise InputError("the browser did not tell where its camera stands; reload the page and try again")
    return CameraPose(
        require_vector(camera.get("position"), "camera's position"),
        require_vector(camera.get("focalPoint"), "camera's focal point"),
        require_vector(camera.get("viewUp"), "camera's up direction"),
        require_number(camera.get("viewAngle"), 1, 120, "camera's angle of view"),
    )


def _read_tracts(message: Any, scan: Scan, variant: Variant) -> tuple[TractStyle, int | None]:
    """How tubes are drawn and which one is marked; a message of a scan without tubes may leave it out."""
    if scan.tracts is None or message is None:
        return TractStyle(variant=variant), None
    if not isinstance(message, dict):
        raise InputError("a picture with tracts needs to know how they are drawn; reload the page and try again")
    share, colors = message.get("share"), require_choice(message.get("colors"), TRACT_COLORS, "color of tracts")
    reference, marked = message.get("reference"), message.get("marked")
    count = len(drawable(scan.tracts, scan.components))
    style = TractStyle(
        share=None if share is None else require_share(share, "share of the effect"),
        colors="direction" if colors == "direction" else "sign",
        variant=variant,
        reference=None if reference is None else require_number(reference, 1e-30, 3.5e38, "score of the thickest tube"),
    )
    return style, None if marked == -1 else require_index(marked, count, "tract")


def _read_range(locked: Any) -> DisplayRange:
    if not isinstance(locked, dict):
        raise InputError("a locked range needs its two ends; lock it anew")
    limits = [require_number(locked.get(end), -3.5e38, 3.5e38, "end of the locked range") for end in ("vmin", "vmax")]
    scale = require_choice(locked.get("scale"), ("linear", "log", "symmetric"), "scale")
    return DisplayRange(limits[0], limits[1], scale)  # type: ignore[arg-type]

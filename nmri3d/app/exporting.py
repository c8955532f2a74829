"""Maps and pictures of the loaded model for the API: the implementation of `nmri3d.api.picturing.Picturing`.

Convention. Atlases are those of the page, kept for all as long as the model. A picture has a scene of its own, made and
freed in one worker thread; only one picture of the process is drawn at a time, as in pictures.py, and a movie lets others
go first between its frames. VTK is imported with the first picture.

Left out: neurons, voxels and locked ranges, which pages and `nmri3d.Brain` have.
"""

from __future__ import annotations

import io
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmri3d.api.picturing import Exported, ExportWish, Map
from nmri3d.api.routes.exports import MEDIA_TYPES, filename
from nmri3d.errors import AlignmentError, InputError
from nmri3d.models.backend import Backend, Progress
from nmri3d.service import Service

if TYPE_CHECKING:
    from nmri3d.app.layouts import LayoutChoice
    from nmri3d.atlas import Atlas
    from nmri3d.atlas.nodes import Nodes
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.colors import ColorMap, DisplayRange

MOST_MOVIE_SECONDS = 120.0
"""Length of a movie that the server makes; a longer one is for the command line."""


class Exporter:
    """Maps and pictures over one service. Thread-safe."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def map(self, choices: Mapping[str, Any], progress: Progress) -> Map:
        """The map by `layout`, `area`, `features` and `surface`.

        Raises InputError for a choice that is not on offer, and what `Service.derive` raises.
        """
        from nmri3d.app.layouts import build_atlas, read_choice
        from nmri3d.app.state import require_choice
        from nmri3d.atlas import SURFACES

        choice = read_choice(dict(choices))
        surface = require_choice(choices.get("surface"), SURFACES, "surface")
        atlas = build_atlas(self._service, choice, progress)
        arrays = {
            "vertices": atlas.surfaces[surface],
            "faces": atlas.faces,
            "face_component": atlas.face_component,
            "sulcal_depth": atlas.sulcal_depth,
            "target_area": atlas.target_area,
            "area": atlas.area,
        }
        return Map(choice.layout, choice.area, choice.features, surface, "auto", arrays, dict(atlas.quality))

    def export(self, wish: ExportWish, progress: Progress) -> Exported:
        """A picture, movie or 3D file of the loaded model's brain.

        Raises InputError for a wish that cannot be met, AlignmentError for a scan of another model, and Cancelled.
        """
        from nmri3d.app.layouts import LayoutChoice, build_atlas
        from nmri3d.app.pictures import _DRAWING

        if wish.format not in MEDIA_TYPES:
            raise InputError(f"there is no export as {wish.format!r}; choose one of {', '.join(MEDIA_TYPES)}")
        choice = LayoutChoice(wish.layout, wish.features, wish.area)
        atlas = build_atlas(self._service, choice, lambda share, what: progress(0.3 * share, what))
        nodes = self._nodes(wish.form, choice, atlas, progress)
        while not _DRAWING.acquire(timeout=0.2):
            progress(0.3, "waiting for another picture")
        try:
            progress(0.3, "drawing")
            content = _drawn(atlas, nodes, wish, lambda share, what: progress(0.3 + 0.7 * share, what))
        finally:
            _DRAWING.release()
        return Exported(content, MEDIA_TYPES[wish.format], _filename(wish))

    def _nodes(self, form: str, choice: LayoutChoice, atlas: Atlas, progress: Progress) -> Nodes | None:
        """The layout of balls that a form names, kept as long as the model; None for a surface."""
        from nmri3d.atlas.nodes import NODE_LAYOUTS, node_layout
        from nmri3d.template import layout_features

        if form not in NODE_LAYOUTS:
            return None

        def make(backend: Backend, report: Progress) -> Nodes:
            features = layout_features(backend, choice.features, report)
            return node_layout(form, atlas.components, backend.layout_features() if features is None else features)

        return self._service.derive(("nodes", form, choice.features), make, progress=progress)


def _drawn(atlas: Atlas, nodes: Nodes | None, wish: ExportWish, progress: Progress) -> bytes:
    """The content of the file."""
    from nmri3d.scene.brain import BrainScene

    scene = BrainScene(atlas, nodes=() if nodes is None else (nodes,))
    try:
        scene.show_borders(True)
        scene.show_form(wish.form)
        scene.view("dorsal" if scene.form.kind == "flat" else wish.view)
        if scene.form.kind != "surface":
            scene.show_hemispheres("both")
        return _painted(scene, wish, progress)
    finally:
        scene.close()


def _painted(scene: BrainScene, wish: ExportWish, progress: Progress) -> bytes:
    from nmri3d.export.image import checked_step
    from nmri3d.scene.colors import display_range, scan_color_map
    from nmri3d.scene.painting import paint_scan

    scan = wish.scan
    if scan is None:
        return _bare(scene, wish)
    _require_same_components(scene, wish)
    step, display, colors = checked_step(scan, wish.step), display_range(scan), scan_color_map(scan)
    paint_scan(scene, scan, step, display, colors)
    progress(0.2, "drawing")
    if wish.format == "png":
        from nmri3d.export.image import ScanFigure
        from nmri3d.export.lettering import readable_text

        figure = ScanFigure(scene, scan, step, wish.size, 100, False, display, colors)
        figure.title = readable_text(wish.title) or figure.title
        return figure.png(color_bar=True, header=True)
    if wish.format in ("mp4", "gif"):
        return _movie(scene, wish, step, progress)
    return _scene_file(scene, wish, step, display, colors)


def _bare(scene: BrainScene, wish: ExportWish) -> bytes:
    """The parcels in their grey anatomy, without a scan."""
    if wish.format == "png":
        from matplotlib.image import imsave

        buffer = io.BytesIO()
        imsave(buffer, scene.screenshot(wish.size), format="png")
        return buffer.getvalue()
    if wish.format in ("mp4", "gif"):
        raise InputError("A movie shows a scan; name its mode, or take a picture of the bare brain.")
    return _scene_file(scene, wish)


def _movie(scene: BrainScene, wish: ExportWish, step: int, progress: Progress) -> bytes:
    """The prompt played through, or one turn where there is nothing to play."""
    from nmri3d.app.pictures import _DRAWING
    from nmri3d.export.movie import HOLD, LAST, save_movie

    scan = wish.scan
    assert scan is not None
    plays = scan.n_steps > 1
    if plays and scan.n_steps * HOLD + LAST > MOST_MOVIE_SECONDS:
        raise InputError(
            f"A movie of {scan.n_steps:,} tokens is longer than the {MOST_MOVIE_SECONDS:.0f} seconds that the server makes; "
            "choose positions or a shorter prompt, or use `nmri3d movie`."
        )

    def next_frame(share: float, what: str) -> None:
        progress(0.2 + 0.8 * share, what)
        _DRAWING.release()  # another picture takes a second, a movie minutes
        time.sleep(0.001)
        _DRAWING.acquire()

    with tempfile.TemporaryDirectory() as folder:
        path = save_movie(
            scene,
            scan,
            Path(folder) / f"movie.{wish.format}",
            kind="tokens" if plays else "turntable",
            step=step,
            size=wish.size,
            progress=next_frame,
        )
        return path.read_bytes()


def _scene_file(
    scene: BrainScene,
    wish: ExportWish,
    step: int = 0,
    display: DisplayRange | None = None,
    colors: ColorMap | None = None,
) -> bytes:
    """A 3D file of what the scene shows; a .vtm and its folder as one zip file."""
    from nmri3d.export.scene_file import save_scene_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{_stem(wish)}.{wish.format}"
        save_scene_file(scene, path, wish.scan, step, display, colors)
        if wish.format != "vtm":
            return path.read_bytes()
        return _zipped(Path(folder))


def _zipped(folder: Path) -> bytes:
    """All files of a folder; what VTK writes is compressed already."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()


def _require_same_components(scene: BrainScene, wish: ExportWish) -> None:
    if wish.scan is not None and wish.scan.components != scene.atlas.components:
        raise AlignmentError("The model was changed while this scan was measured; ask for the picture again.")


def _filename(wish: ExportWish) -> str:
    """The file's name."""
    return f"{_stem(wish)}.{'zip' if wish.format == 'vtm' else wish.format}"


def _stem(wish: ExportWish) -> str:
    """The file's name without suffix, from its title, else from model and mode."""
    text = wish.title
    if not text and wish.scan is not None:
        text = f"{Path(wish.scan.provenance.model_id).name} {wish.scan.mode}"
    return filename(text)

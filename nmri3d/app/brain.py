"""One model's brain on one page: the scene, its view in the browser, and, with remote rendering, its painting.

Convention. With client rendering the scene is sent once, with every ribbon that the browser will move, and the server
never draws. With remote rendering the same scene is painted and drawn here, and each change sends one picture.

Left out: markup (panels/canvas.py) and the browser's side (web/painter.js).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nmri3d.app.panels import canvas
from nmri3d.app.payloads import OVERVIEW, SURFACES, components_payload, geometry_payload
from nmri3d.app.pictures import CameraPose, Pictures, is_hidden
from nmri3d.app.state import require_choice, require_index, require_share
from nmri3d.atlas import Atlas
from nmri3d.models.backend import Progress
from nmri3d.results import Scan
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.camera import VIEWS, fit
from nmri3d.scene.colors import (
    VARIANTS,
    DisplayRange,
    Variant,
    component_colors,
    display_range,
    scan_color_map,
    strengths,
)
from nmri3d.scene.mesh import vertex_normals
from nmri3d.scene.tracts import TRACT_COLORS, TractStyle, drawable, reference_score
from nmri3d.service import Service

GLOW = ("selection halo", "selection glow", "selection")
"""Names of the scene's glowing ribbons, from the outside to the core."""


def build_scene(service: Service, *, remote: bool, progress: Progress) -> BrainScene:
    """The scene of the loaded model's brain; call it in a worker thread, it takes up to some seconds. Nothing is drawn.

    Visitors share the atlas: the service keeps it as long as the model, and builds it in the model's turn, so that no
    swap closes the model meanwhile. Raises what `Service.derive`, `Atlas.build` and `BrainScene` raise.
    """
    atlas = service.derive("atlas", lambda backend, _: Atlas.build(backend), progress=progress)
    scene = BrainScene(atlas, surface=SURFACES[0])
    scene.show_borders(True)
    if not remote:
        # The serializer leaves out what is invisible, so every ribbon is there at first; the browser hides the glow.
        scene.select(int(atlas.components.cortical[0]))
        scene.tracts.place_holder()
    return scene


class PageBrain:
    """The brain of one model on one page.

    template  name of the trame template that shows it
    pictures  draws pictures to keep, on a scene of their own
    """

    def __init__(self, server: Any, scene: BrainScene, epoch: int, *, remote: bool) -> None:
        self.atlas = scene.atlas
        self.epoch = epoch
        self.remote = remote
        self.scene = scene
        self.template = f"brain_{epoch}"
        self.pictures = Pictures(scene.atlas)
        self._server = server
        self._scans: dict[str, Scan] = {}
        self._mode = "T1"
        self._step = 0
        self._threshold = 0.0
        self._variant: Variant = "standard"
        self._locked: dict[tuple[str, str], DisplayRange] = {}  # by mode and unit
        self._tract_style = TractStyle()
        self._locked_reference: float | None = None
        if remote:
            self.turn("overview")
        self.view = canvas.build_brain(server, self.template, self.scene.render_window, remote=remote)

    def payload(self) -> dict[str, Any]:
        """What the browser is told of this brain."""
        if self.remote:
            return components_payload(self.atlas, self.epoch)
        scene = self.scene
        normals = {name: vertex_normals(self.atlas.surfaces[name], self.atlas.faces) for name in SURFACES}
        actors = scene.plotter.actors
        identify = self.view.get_scene_object_id
        payload = geometry_payload(self.atlas, scene.layout, scene.vertex_of_split, normals, self.epoch)
        payload["scene"] = {
            "cortex": identify(scene.actor),
            "texture": identify(scene.texture),
            "borders": identify(actors["borders"]),
            "glow": [identify(actors[name]) for name in GLOW],
            "tracts": identify(scene.tracts.actor),
        }
        return payload

    def close(self) -> None:
        """Free the view and the scenes."""
        self.pictures.close()
        self.view.release_resources()
        self._server.state[f"trame__template_{self.template}"] = ""
        if not self.remote:
            self._server.state[f"scene_{self.template}"] = None
        self.scene.close()

    # -- remote rendering; with client rendering these only take note ---------------------------------------------------

    def keep(self, scan: Scan) -> None:
        """A scan was made."""
        self._scans[scan.mode] = scan
        if scan.mode == self._mode:
            self._step = scan.n_steps - 1
            self._show_tracts()
            self._paint()

    def show(self, mode: str) -> None:
        """Another tab was opened."""
        self._mode = mode
        scan = self._scans.get(mode)
        self._step = 0 if scan is None else scan.n_steps - 1
        self._show_tracts()
        self._paint()

    def step(self, step: Any) -> None:
        """Another token is looked at."""
        scan = self._scans.get(self._mode)
        self._step = require_index(step, 1 if scan is None else scan.n_steps, "token")
        self._paint()

    def look(self, threshold: Any, locked: Any) -> None:
        """The threshold was moved, or the range locked or freed."""
        self._threshold = require_share(threshold, "threshold")
        if not locked:
            self._locked, self._locked_reference = {}, None
        elif not self._locked:
            self._locked = {(mode, scan.units): display_range(scan) for mode, scan in self._scans.items()}
            dti = self._scans.get("DTI")
            if dti is not None and dti.tracts is not None:
                self._locked_reference = reference_score(drawable(dti.tracts, dti.components)) or None
        self._restyle_tracts()
        self._paint()

    def color(self, variant: Any) -> None:
        """Other color maps are wanted."""
        self._variant = "colorblind" if require_choice(variant, VARIANTS, "palette") == "colorblind" else "standard"
        self._restyle_tracts()
        self._paint()

    def look_at_tracts(self, share: Any, colors: Any, edge: Any) -> None:
        """Other tubes are wanted: share of the effect (None: the strongest few), colors, the one that stands out (-1)."""
        share = None if share is None else require_share(share, "share of the effect")
        require_choice(colors, TRACT_COLORS, "color of tracts")
        self._tract_style = replace(self._tract_style, share=share, colors=colors)
        edges = self.scene.tracts.edges
        if self.remote and edges is not None:
            self.scene.tracts.mark(None if edge == -1 else require_index(edge, len(edges), "tract"))
        self._restyle_tracts()
        if self.remote:
            self.view.update()

    @property
    def pose(self) -> CameraPose | None:
        """Where the camera stands; None if the browser has it."""
        if not self.remote:
            return None
        camera = self.scene.plotter.camera
        return CameraPose(camera.GetPosition(), camera.GetFocalPoint(), camera.GetViewUp(), camera.GetViewAngle())

    def select(self, row: int) -> None:
        """A component was selected (-1: none)."""
        if self.remote:
            self.scene.select(None if row < 0 else row)
            self.view.update()

    def show_surface(self, name: Any) -> None:
        """Another surface is wanted."""
        self.scene.show_surface(require_choice(name, SURFACES, "surface"))
        self._refresh()

    def turn(self, name: Any) -> None:
        """A preset of the camera is wanted."""
        name = require_choice(name, ("overview", *VIEWS), "view")
        if name == "overview":
            scene = self.scene
            scene.show_hemispheres("both")
            width, height = scene.render_window.GetSize()
            points = self.atlas.surfaces[scene.surface or SURFACES[0]].astype(np.float64)
            side, up = np.array(OVERVIEW.side), np.array(OVERVIEW.up)
            focal_point, position = fit(points, side, up, aspect=width / max(1, height), margin=1.16)
            camera = scene.plotter.camera
            camera.SetFocalPoint(*focal_point)
            camera.SetPosition(*position)
            camera.SetViewUp(*OVERVIEW.up)
            scene.plotter.renderer.ResetCameraClippingRange()
        else:
            self.scene.view(name)
        self._refresh()

    def turned(self) -> None:
        """The person has turned the brain."""
        self._server.state.letters = self.scene.orientation_letters()

    def pick(self, x: Any, y: Any) -> dict[str, int]:
        """What is at shares x, y of the picture's width and height from its top left corner: {"row", "edge"}, -1 for none.

        row: of the component table; edge: place among the tracts that can be drawn. A tube goes before the cortex.
        """
        width, height = self.scene.render_window.GetSize()
        across = require_share(x, "place in the picture") * (width - 1)
        down = require_share(y, "place in the picture") * (height - 1)
        edge = self.scene.pick_tract(across, down)
        row = self.scene.pick(across, down) if edge is None else None
        return {"row": -1 if row is None else row, "edge": -1 if edge is None else edge}

    def _show_tracts(self) -> None:
        """Put the tubes of the open tab's scan into the server's own picture."""
        if not self.remote:
            return
        scan = self._scans.get(self._mode)
        self.scene.show_tracts(None if scan is None else scan.tracts, self._styled())

    def _restyle_tracts(self) -> None:
        if self.remote:
            self.scene.tracts.restyle(self._styled())

    def _styled(self) -> TractStyle:
        return replace(self._tract_style, variant=self._variant, reference=self._locked_reference)

    def _paint(self) -> None:
        if not self.remote:
            return
        scan, glass = self._scans.get(self._mode), None
        if scan is None:
            colors = np.zeros((len(self.atlas.components), 4), dtype=np.uint8)
        else:
            values = scan.values[self._step]
            shown = self._locked.get((self._mode, scan.units)) or display_range(scan)
            colors = component_colors(values, shown, scan_color_map(scan, self._variant))
            colors[is_hidden(values, shown, self._threshold), 3] = 0
            if scan.tracts is not None:
                glass = strengths(values, shown)
        self.scene.paint(colors, glass)
        self.view.update()

    def _refresh(self) -> None:
        self.turned()
        if hasattr(self, "view"):
            self.view.update()

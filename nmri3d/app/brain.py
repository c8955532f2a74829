"""One model's brain on one page: the scene, its view in the browser, and, with remote rendering, its painting.

Convention. With client rendering the scene is sent once, with every ribbon that the browser will move, and the server
never draws. With remote rendering the same scene is painted and drawn here, and each change sends one picture.

Left out: markup (panels/canvas.py) and the browser's side (web/painter.js).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nmri3d.app.hidden_volume import add_hidden_volume
from nmri3d.app.layouts import LayoutChoice, build_atlas
from nmri3d.app.panels import canvas
from nmri3d.app.payloads import (
    FIRST_SURFACE,
    OVERVIEW,
    balls_payload,
    components_payload,
    directions_payload,
    geometry_payload,
    surface_payload,
)
from nmri3d.app.pictures import CameraPose, Pictures, is_hidden
from nmri3d.app.state import require_choice, require_index, require_mode, require_share
from nmri3d.atlas import SURFACES
from nmri3d.atlas.nodes import NODE_LAYOUTS, Nodes, node_layout
from nmri3d.models.backend import Backend, Progress
from nmri3d.results import MODES, Scan
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
from nmri3d.scene.cortex import BODIES
from nmri3d.scene.neurons import NAME as NEURONS
from nmri3d.scene.neurons import place_holder as neuron_place_holder
from nmri3d.scene.tracts import TRACT_COLORS, TractStyle, drawable, reference_score
from nmri3d.scene.twin import add_twin
from nmri3d.service import Service
from nmri3d.template import layout_features

FORMS = (*SURFACES, *NODE_LAYOUTS)
"""What a brain can look like: surfaces, and layouts of balls."""

GLOW = ("selection halo", "selection glow", "selection")
"""Names of the scene's glowing ribbons, from the outside to the core."""


def build_scene(
    service: Service, *, remote: bool, progress: Progress, choice: LayoutChoice | None = None
) -> BrainScene:
    """The scene of the loaded model's brain; call it in a worker thread, it takes up to some seconds. Nothing is drawn.

    Visitors share the atlas. Raises what `build_atlas` and `BrainScene` raise.
    """
    atlas = build_atlas(service, choice or LayoutChoice(), progress)
    scene = BrainScene(atlas, surface=FIRST_SURFACE)
    scene.show_borders(True)
    if not remote:
        # The serializer leaves out what is invisible, so every ribbon is there at first; the browser hides the glow.
        scene.select(int(atlas.components.cortical[0]))
        scene.tracts.place_holder()
        scene.hand_over_bodies()
        add_hidden_volume(scene)
        add_twin(scene)
        neuron_place_holder(scene.plotter)
    return scene


class PageBrain:
    """The brain of one model on one page.

    template  name of the trame template that shows it
    pictures  draws pictures to keep, on a scene of their own
    """

    def __init__(
        self,
        server: Any,
        scene: BrainScene,
        epoch: int,
        *,
        remote: bool,
        choice: LayoutChoice | None = None,
        before: PageBrain | None = None,
    ) -> None:
        """`before`: the brain of the same model that this one takes the place of."""
        self.atlas = scene.atlas
        self.epoch = epoch
        self.remote = remote
        self.scene = scene
        self.choice = choice or LayoutChoice()
        self.template = f"brain_{epoch}"
        self._nodes: dict[str, Nodes] = {}  # layouts of balls that were asked for
        self.pictures = Pictures(scene.atlas, self._nodes)
        self._again = before is not None
        self._server = server
        self._scans: dict[str, Scan] = {}
        self._mode = "T1"
        self._step = 0
        self._threshold = 0.0
        self._variant: Variant = "standard"
        self._locked: dict[tuple[str, str], DisplayRange] = {}  # by mode and unit
        self._tract_style = TractStyle()
        self._locked_reference: float | None = None
        self._glass = set(MODES) if scene.bodies is not None else {"DTI"}  # modes on a cortex of glass
        self._turned_to = "overview"
        if remote:
            self.turn("overview")
        self.view = canvas.build_brain(server, self.template, self.scene.render_window, remote=remote)
        if before is not None:
            self._follow(before)

    def _follow(self, before: PageBrain) -> None:
        """Show what another brain of the same model shows."""
        for name in ("_mode", "_step", "_threshold", "_variant", "_tract_style", "_locked_reference"):
            setattr(self, name, getattr(before, name))
        self._scans, self._locked, self._glass = dict(before._scans), dict(before._locked), set(before._glass)
        if self.remote:
            self.scene.select(before.scene.selected)
            self._show_tracts()
            self._paint()

    def payload(self) -> dict[str, Any]:
        """What the browser is told of this brain."""
        if self.remote:
            return components_payload(self.atlas, self.choice, self.epoch, again=self._again)
        scene = self.scene
        actors = scene.plotter.actors
        identify = self.view.get_scene_object_id
        payload = geometry_payload(
            self.atlas, scene.layout, scene.vertex_of_split, self.choice, self.epoch, again=self._again
        )
        payload["scene"] = {
            "cortex": identify(scene.actor),
            "texture": identify(scene.texture),
            "borders": identify(actors["borders"]),
            "glow": [identify(actors[name]) for name in GLOW],
            "tracts": identify(scene.tracts.actor),
            "volume": identify(actors["volume"]),
            "twin": identify(actors["twin"]),
            "bodies": identify(actors[BODIES]) if scene.bodies is not None else None,
            "neurons": identify(actors[NEURONS]),
            "neuron_texture": identify(actors[NEURONS].GetTexture()),
        }
        return payload

    # -- forms ---------------------------------------------------------------------------------------------------------

    def prepare(self, name: str, backend: Backend, progress: Progress) -> None:
        """Make one of FORMS ready to be shown or sent; in a worker thread."""
        if name in NODE_LAYOUTS and name not in self._nodes:
            features = layout_features(backend, self.choice.features, progress)
            if features is None:
                features = backend.layout_features()
            nodes = node_layout(name, self.atlas.components, features)
            self.scene.add_nodes(nodes)
            self._nodes[name] = nodes

    def form_payload(self, name: str) -> dict[str, Any]:
        """A form for the browser, once it is prepared."""
        form = self.scene.form_of(name)
        if name in NODE_LAYOUTS:
            nodes = self._nodes[name]
            return balls_payload(name, nodes.center, nodes.radius, form.frame)
        return surface_payload(name, form.points, form.normals, form.frame)

    def directions(self) -> bytes:
        """Where the vertices of the drawn mesh lie on the balls of their components, int16 [n_split, 3]."""
        return directions_payload(self.scene.balls)

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

    def recall(
        self, scans: Mapping[str, Scan], mode: str, step: int | None = None, pose: CameraPose | None = None
    ) -> None:
        """Show these scans instead of those that were kept. step: None for the last; pose: None for the present one."""
        if not self.remote:
            return
        self._scans, self._mode = dict(scans), mode
        last = scans[mode].n_steps - 1 if mode in scans else 0
        self._step = last if step is None else min(step, last)
        if pose is not None:
            camera = self.scene.plotter.camera
            camera.SetPosition(*pose.position)
            camera.SetFocalPoint(*pose.focal_point)
            camera.SetViewUp(*pose.view_up)
            camera.SetViewAngle(pose.view_angle)
            self.scene.plotter.renderer.ResetCameraClippingRange()
            self.turned()
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

    def show_form(self, name: str) -> None:
        """Another form is wanted, one that is prepared; the view is fitted to it."""
        if self.remote:
            self.scene.show_form(name)
            self.turn(self._turned_to)

    def show_borders(self, on: Any) -> None:
        """Lines between the parcels are wanted, or not."""
        if self.remote:
            self.scene.show_borders(on is True)
            self.view.update()

    def make_glass(self, mode: Any, wanted: Any) -> None:
        """A translucent cortex is wanted in a tab, or a solid one."""
        mode = require_mode(mode)
        self._glass = self._glass | {mode} if wanted is True else self._glass - {mode}
        self._paint()

    def turn(self, name: Any) -> None:
        """A preset of the camera is wanted. What is flat is seen from above only."""
        name = require_choice(name, ("overview", *VIEWS), "view")
        self._turned_to = name
        scene = self.scene
        if scene.form.kind == "flat":
            scene.view("dorsal")
        elif name == "overview":
            scene.show_hemispheres("both")
            width, height = scene.render_window.GetSize()
            side, up = np.array(OVERVIEW.side), np.array(OVERVIEW.up)
            focal_point, position = fit(scene.stage.framing, side, up, aspect=width / max(1, height), margin=1.16)
            camera = scene.plotter.camera
            camera.SetFocalPoint(*focal_point)
            camera.SetPosition(*position)
            camera.SetViewUp(*OVERVIEW.up)
            scene.plotter.renderer.ResetCameraClippingRange()
        else:
            scene.view(name)
        self._refresh()

    def turned(self) -> None:
        """The person has turned the brain. Letters name directions of the anatomy, which only a folded surface has."""
        folded = self.scene.form.kind == "surface"
        self._server.state.letters = self.scene.orientation_letters() if folded else {}

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
            if self._mode in self._glass:
                glass = strengths(values, shown)
        self.scene.paint(colors, glass)
        self.view.update()

    def _refresh(self) -> None:
        self.turned()
        if hasattr(self, "view"):
            self.view.update()

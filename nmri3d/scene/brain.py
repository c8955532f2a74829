"""The drawn brain: one mesh, one small texture, a few ribbons, tubes; for pictures off-screen and for a trame view.

Convention. Points are mm in RAS. Pixels count from the top left corner of the picture. Geometry moves only when the form
changes (forms.py: a surface of the cortex, or a layout of balls); `paint` writes one texel column a component
(texture.py) and never touches the mesh. Hemispheres are hidden on the cortex only; balls are shown all. A hippocampus
goes with its hemisphere, the cerebellum is always shown; both are solid in a cortex of glass.

Left out: what the colors mean (colors.py), text of any kind (HTML on the page, export/image.py in files), trame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.audit import dropped_actors
from nmri3d.scene.camera import VIEWS, Hemispheres
from nmri3d.scene.cortex import BodiesActor, CortexActor
from nmri3d.scene.forms import Form, Forms, mixed
from nmri3d.scene.marks import Marks
from nmri3d.scene.mesh import split_along_borders
from nmri3d.scene.neurons import NeuronActor
from nmri3d.scene.picking import MISS, Hit, first_hit
from nmri3d.scene.ribbons import shown_sides
from nmri3d.scene.stage import Stage
from nmri3d.scene.texture import fold_of_atlas, texture_layout
from nmri3d.scene.tract_actor import TractActor
from nmri3d.scene.tracts import TractStyle
from nmri3d.scene.volume import VolumeActor

if TYPE_CHECKING:
    from nmri3d.atlas import Atlas
    from nmri3d.atlas.neurons import NeuronAtlas
    from nmri3d.atlas.nodes import Nodes
    from nmri3d.atlas.volume import LabelVolume
    from nmri3d.results import Tracts

BACKGROUND = "#0a0c10"
PICK_SLACK = 4.0
"""Pixels by which a tube may be missed: a thin one is hard to hit."""


@dataclass
class SceneStats:
    """Counters, to prove what an action costs.

    n_value_updates     textures written (paint)
    n_mesh_builds       meshes built or rebuilt; 1 for the whole life of a scene
    n_geometry_updates  times that points and normals moved (change of form, morph)
    """

    n_value_updates: int = 0
    n_mesh_builds: int = 0
    n_geometry_updates: int = 0


class BrainScene:
    """A cortex that shows colors of components.

    stage                    window, lights, camera (stage.py); close() frees it
    plotter, render_window   PyVista's plotter and VTK's window, of the stage
    mesh, actor, texture     the split mesh (pyvista.PolyData, float32 points, normals, texture coordinates), its actor
                             and its vtkTexture
    vertex_of_split          int32 [n_split], atlas vertex of each mesh vertex
    component_of_split       int32 [n_split], component row of each mesh vertex, -1 where none
    face_component           int32 [n_faces], component row of each face, faces in the atlas' order (left first)
    split_faces              int32 [n_faces, 3], all faces as mesh vertices, also those of a hidden hemisphere
    drawn_faces              int64 [k], numbers of the faces that cortex and bodies draw
    layout                   TextureLayout: where colors lie in the texture
    form                     Form that is shown; its name is "" within a morph
    tracts                   TractActor: the tubes of a DTI scan
    bodies                   BodiesActor of the cerebellum and the hippocampi, None where the atlas has none
    neurons                  NeuronActor while the MLP parcels show their neurons, else None
    volume                   VolumeActor while voxels are drawn instead of the cortex, else None

    nodes: layouts of balls that can be shown beside the surfaces. Raises InputError for an unknown surface, MachineError
    where nothing can be rendered.
    """

    def __init__(
        self,
        atlas: Atlas,
        *,
        surface: str = "pial",
        nodes: Iterable[Nodes] = (),
        off_screen: bool = True,
        background: str = BACKGROUND,
    ) -> None:
        self.atlas = atlas
        self.stats = SceneStats()
        self.layout = texture_layout(len(atlas.components), tuple(atlas.body_components.tolist()))
        self.face_component = np.asarray(atlas.face_component, dtype=np.int32)
        split = split_along_borders(atlas.faces, self.face_component)
        self.vertex_of_split, self.component_of_split, self.split_faces = split.vertex, split.component, split.faces
        self._forms = Forms(atlas, split)
        for layout in nodes:
            self._forms.add(layout)
        self.form: Form = self._forms.get(self._known(surface))
        self._hemispheres: Hemispheres = "both"
        self._covered = np.zeros(len(split.faces), dtype=bool)
        self.drawn_faces = np.arange(len(split.faces))
        self._split = split
        self.neurons: NeuronActor | None = None
        self.volume: VolumeActor | None = None

        self.stage = Stage(off_screen=off_screen, background=background)
        self.plotter, self.render_window = self.stage.plotter, self.stage.render_window
        fold = fold_of_atlas(atlas)[split.vertex]
        self._cortex = CortexActor(self.plotter, split, self.layout, fold, self.form.points, self.form.normals)
        self.mesh, self.actor, self.texture = self._cortex.mesh, self._cortex.actor, self._cortex.texture
        coordinates = self.layout.texture_coordinates(split.component, fold)
        self.bodies: BodiesActor | None = None
        if atlas.bodies:
            first, form = atlas.n_cortex_faces, self.form
            self.bodies = BodiesActor(self.plotter, self.texture, split, first, coordinates, form.points, form.normals)
        self.stats.n_mesh_builds += 1
        self._marks = Marks(self.plotter, atlas)
        self.tracts = TractActor(self.plotter, atlas, self.form.frame)
        self._vertices: tuple[np.ndarray, np.ndarray] | None = self._forms.vertices(surface)
        self._marks.follow(self.form, self._vertices)
        self._choose_faces()
        self.view("lateral_left")

    # --- values ------------------------------------------------------------------------------------------------------

    def paint(self, colors: np.ndarray, glass: np.ndarray | None = None) -> None:
        """Show colors of components, uint8 [n_components, 4]; alpha 0 shows the grey anatomy.

        glass: strength of each component, [n_components] in 0..1, for a translucent cortex (texture.py); None for a
        solid one. Raises AlignmentError for any other shape or dtype.
        """
        self._cortex.paint(colors, glass)
        self._marks.soften_borders(self.is_glass)
        self.stage.supersample = self.is_glass
        self.stats.n_value_updates += 1

    @property
    def is_glass(self) -> bool:
        """Whether the cortex is painted as glass."""
        return self._cortex.is_glass

    @property
    def hides_bodies(self) -> bool:
        """Whether there are bodies that a solid cortex would hide, wholly or in part."""
        return self.bodies is not None and self.form.kind == "surface"

    def hand_over_bodies(self) -> None:
        """Let the cortex hold all faces and the bodies next to none, for a browser that parts them itself."""
        if self.bodies is not None:
            self._cortex.draw_faces(np.arange(len(self.split_faces)))
            self.bodies.place_holder()

    def show_tracts(self, tracts: Tracts | None, style: TractStyle | None = None) -> None:
        """Draw the tracts of a DTI scan as tubes; None takes them away. They are seen in a cortex of glass (`paint`)."""
        self.tracts.set(tracts, style or TractStyle())

    # --- geometry ----------------------------------------------------------------------------------------------------

    @property
    def surfaces(self) -> tuple[str, ...]:
        """Names of the surfaces of the cortex that can be shown."""
        return tuple(self.atlas.surfaces)

    @property
    def surface(self) -> str | None:
        """Name of the surface or layout that is shown; None within a morph."""
        return self.form.name or None

    @property
    def forms(self) -> tuple[str, ...]:
        """Names of all that `show_form` shows: the surfaces, then the layouts of balls."""
        return self._forms.names

    def add_nodes(self, nodes: Nodes) -> None:
        """Make a layout of balls one of the forms."""
        self._forms.add(nodes)

    def show_surface(self, name: str) -> None:
        """Show another surface of the atlas; a preset view is fitted to it. Raises InputError for an unknown name."""
        self.show_form(self._known(name))

    def show_form(self, name: str) -> None:
        """Show a surface or a layout of balls; a preset view is fitted to it. Raises InputError for an unknown name."""
        form = self._forms.get(name)
        self._move(form, None if form.kind == "nodes" else self._forms.vertices(name))

    def morph(self, a: str, b: str, t: float) -> None:
        """Show the form a share t (0 to 1) of the way from form a to form b.

        Raises InputError for an unknown form, another share, and a way to or from the flat surface, which is cut.
        """
        first, second = self._forms.get(a), self._forms.get(b)
        form = mixed(first, second, t)
        if form.name:
            self.show_form(form.name)
        elif "nodes" in (first.kind, second.kind):
            self._move(form, None)
        else:
            self._move(form, self._forms.vertices_between(a, b, t))

    def form_of(self, name: str) -> Form:
        """A form that need not be shown: its points, normals, faces, and where tracts pass."""
        return self._forms.get(name)

    @property
    def balls(self) -> np.ndarray:
        """float32 [n_split, 3]: where each vertex lies on its component's ball of radius 1."""
        return self._forms.balls

    def show_hemispheres(self, hemispheres: Hemispheres) -> None:
        """Show "both", "left" or "right"."""
        if hemispheres not in ("both", "left", "right"):
            raise InputError(f"there is no hemisphere {hemispheres!r}; choose both, left or right")
        self._hemispheres = hemispheres
        self._choose_faces()
        self._marks.show(hemispheres)
        self.tracts.show(self._shown_hemispheres)
        if self.volume is not None:
            self.volume.show(hemispheres)

    @property
    def hemispheres(self) -> Hemispheres:
        """The hemispheres of the cortex that are shown."""
        return self._hemispheres

    def hide_faces(self, faces: np.ndarray | None) -> None:
        """Leave faces, bool [n_faces], to another actor that draws them (neurons.py); None takes all back.

        Raises AlignmentError for another shape.
        """
        if faces is not None and np.shape(faces) != self._covered.shape:
            raise AlignmentError(f"this brain has {len(self._covered)} faces, and {np.shape(faces)} were given")
        self._covered[:] = False if faces is None else faces
        self._choose_faces()

    def show_neurons(self, neurons: NeuronAtlas | None) -> NeuronActor | None:
        """Show the MLP parcels neuron by neuron, unpainted until the returned actor is painted; None shows parcels again.

        Raises AlignmentError for the neurons of another atlas.
        """
        actor = None if neurons is None else NeuronActor(self.plotter, self.atlas, neurons, self._split)
        if self.neurons is not None and actor is None:  # another actor of its name takes the place by itself
            self.neurons.close()
        self.neurons = actor
        if actor is not None:
            actor.follow(self.form.points, self.form.normals)
        self.hide_faces(None if actor is None else actor.faces)
        return actor

    def show_volume(self, volume: LabelVolume | None) -> VolumeActor | None:
        """Show the voxels of a label volume instead of the cortex and its marks, unpainted until the returned actor is
        painted; None shows the cortex again, and so does another form. The cortex takes its pial form; the camera stays.

        Raises AlignmentError for the volume of another atlas.
        """
        actor = None if volume is None else VolumeActor(self.plotter, self.atlas, volume)
        if self.volume is not None:
            self.volume.close()
        self.volume = None
        if actor is not None:
            if self.form.name != "pial":
                self.show_form("pial")
            self.volume = actor
            actor.show(self._hemispheres)
            actor.select(self.selected)
        self._marks.follow(self.form, None if actor is not None else self._vertices)
        self._marks.show(self._hemispheres)
        self._choose_faces()
        return actor

    # --- marks -------------------------------------------------------------------------------------------------------

    def select(self, row: int | None) -> None:
        """Glow around the parcel of a component row, and draw its tracts only; None takes the glow away and draws all.

        A row without a place on the cortex has no border and glows nowhere. Raises InputError for no such row.
        """
        self._marks.select(row)
        self.tracts.select(row)
        if self.volume is not None:
            self.volume.select(row)

    @property
    def selected(self) -> int | None:
        """The row that glows, if any."""
        return self._marks.selected

    def show_borders(self, on: bool) -> None:
        """Draw thin dark lines between parcels, or take them away; there are none in a layout of balls."""
        self._marks.show_borders(on)

    # --- camera ------------------------------------------------------------------------------------------------------

    def view(self, name: str) -> None:
        """Stand the camera at a preset (camera.VIEWS) and fit the brain; a medial view hides the other hemisphere."""
        if name not in VIEWS:
            raise InputError(f"there is no view {name!r}; the views are {', '.join(VIEWS)}")
        if self._hemispheres != VIEWS[name].hemispheres:
            self.show_hemispheres(VIEWS[name].hemispheres)
        self.stage.fit(name)

    def orientation_letters(self) -> dict[str, str]:
        """Letters at the picture's edges, `top`, `bottom`, `left`, `right`, for the current camera."""
        return self.stage.orientation_letters()

    def pick(self, x: float, y: float) -> int | None:
        """Component row under a pixel of the render window, counted from its top left corner.

        None on the background, on the medial wall, and where a hidden hemisphere would be.
        """
        if self.volume is not None:
            ray = self.stage.ray(x, y)
            return None if ray is None else self.volume.pick(ray)
        face, _ = self._hit(x, y)
        row = -1 if face is None else int(self.face_component[face])
        return row if row >= 0 else None

    def pick_neuron(self, x: float, y: float) -> int | None:
        """Row of the neuron table under a pixel while neurons are shown; None where there is none."""
        return self._hit(x, y).neuron

    def pick_tract(self, x: float, y: float) -> int | None:
        """The tube under a pixel, as a position in `tracts.edges`; None where there is none within PICK_SLACK pixels."""
        ray = self.stage.ray(x, y)
        if ray is None:
            return None
        return self.tracts.nearest(ray, PICK_SLACK * self.field_of_view()[1] / self.render_window.GetSize()[1])

    # --- pictures ----------------------------------------------------------------------------------------------------

    def screenshot(self, size: tuple[int, int] | None = None, transparent: bool = False) -> np.ndarray:
        """The picture, uint8 [height, width, 3], or [..., 4] with a transparent background (straight alpha).

        size: (width, height) in pixels, the window's by default. A preset view is fitted to the size; any other view
        keeps what it shows. The window has its own size again afterwards. Raises InputError for a size that cannot be.
        """
        return self.stage.screenshot(size, transparent)

    def field_of_view(self, size: tuple[int, int] | None = None) -> tuple[float, float]:
        """Width and height in mm that a screenshot of this size shows, measured at the middle of the brain."""
        return self.stage.field_of_view(size)

    def audit(self) -> list[str]:
        """Visible actors that vtk.js would not show, each with its reason; empty if the browser shows all."""
        names = {actor.GetAddressAsString(""): name for name, actor in self.plotter.renderer.actors.items()}
        return dropped_actors(self.plotter.renderer, names)

    def close(self) -> None:
        """Free the window and its memory; safe to call twice. The scene cannot be used afterwards."""
        self.stage.close()

    def __enter__(self) -> BrainScene:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _hit(self, x: float, y: float) -> Hit:
        ray = self.stage.ray(x, y)
        return MISS if ray is None else first_hit(ray, self._cortex, self.bodies, self.neurons, glass=self.is_glass)

    @property
    def _shown_hemispheres(self) -> Hemispheres:
        return "both" if self.form.kind == "nodes" else self._hemispheres

    def _known(self, surface: str) -> str:
        if surface not in self.atlas.surfaces:
            raise InputError(f"there is no surface {surface!r}; the surfaces are {', '.join(self.atlas.surfaces)}")
        return surface

    def _move(self, form: Form, vertices: tuple[np.ndarray, np.ndarray] | None) -> None:
        preset = self.stage.preset
        if self.volume is not None:
            self.show_volume(None)
        self.form, self._vertices = form, vertices
        self._cortex.place(form.points, form.normals)
        if self.bodies is not None:
            self.bodies.place(form.points, form.normals)
        if self.neurons is not None:
            self.neurons.follow(form.points, form.normals)
        self._choose_faces()
        self._marks.follow(form, vertices)
        self._marks.show(self._hemispheres)
        self.tracts.follow(form.frame)
        self.tracts.show(self._shown_hemispheres)
        self.stats.n_geometry_updates += 1
        if preset is not None:
            self.stage.fit(preset)

    def _choose_faces(self) -> None:
        """Draw the faces that the form has, on the shown hemispheres, and that nothing else draws; frame what is there."""
        shown = self.form.faces & shown_sides(self.atlas.face_side, self._shown_hemispheres)
        there = np.zeros(len(self.form.points), dtype=bool)
        there[self.split_faces[shown]] = True
        self.stage.framing = self.form.points[there].astype(np.float64)
        if self.volume is not None:  # it frames what it stands for, and draws it
            shown[:] = False
        drawn = self.drawn_faces = np.flatnonzero(shown & ~self._covered)
        if self.bodies is not None:
            self.bodies.draw_faces(drawn)
            drawn = drawn[drawn < self.atlas.n_cortex_faces]
        self._cortex.draw_faces(drawn)
        if self.neurons is not None:
            self.neurons.show(shown)

"""`nmri3d.Brain`: a painted brain in a notebook or a script, live, as a picture, as a movie or as a 3D file.

    brain = nmri3d.open("smollm2-135m")
    brain.scan("fMRI", "The capital of France is")      # the last line of a cell: the brain, turning under the mouse
    brain.screenshot("figure.png", size=(1920, 1080))

Convention. Methods that change what is shown return the brain itself, so that they chain; as the last line of a cell it
shows itself, live where there is a kernel (jupyter_live.py), and a cell that is already there follows every change. What
is chosen stays chosen until it is chosen anew.

Left out: the controls of the page (`nmri3d serve` has them).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.errors import AlignmentError, InputError
from nmri3d.results import Scan

if TYPE_CHECKING:
    from nmri3d.atlas import Atlas
    from nmri3d.jupyter_live import LiveView
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.colors import ColorMap, DisplayRange
    from nmri3d.scene.tracts import TractColors, TractStyle

NOTEBOOK_SIZE = (1120, 630)

Progress = Callable[[float, str], None]


def open(model: Any = "smollm2-135m", layout: str = "anatomical", surface: str = "pial", **options: Any) -> Brain:
    """The brain of a model, which `Brain.scan` scans: of its name, as nmri3d.load takes it, or of a loaded model.

    options: as nmri3d.load takes them (device, dtype, revision, backend). Raises what nmri3d.load and Brain raise.
    """
    if isinstance(model, (str, os.PathLike)):
        from nmri3d.models import load

        model = load(os.fspath(model), **options)
    elif options:
        raise InputError(f"{', '.join(options)} choose how a model is loaded, and this one is; pass its name instead")
    return Brain(model, layout=layout, surface=surface)


class Brain:
    """The brain of a model, or of an atlas that was built before.

    model_or_atlas   what nmri3d.load returns, or an Atlas
    layout           anatomical, umap or spectral on the cortex, or stack, radial or network as balls; only for a model, an
                     atlas has its own
    surface          surface, or layout of balls, that is shown first (`show_form`)
    borders          thin lines between parcels
    features         what components are compared by: "weights", or "functional", how they vary together over the
                     reference text (measured once a model, which takes a while)
    area             what a parcel's area follows: "parameters" or "equal"

    Raises InputError for an unknown layout, surface or choice.
    """

    def __init__(
        self,
        model_or_atlas: Any,
        layout: str = "anatomical",
        surface: str = "pial",
        *,
        borders: bool = True,
        features: str = "weights",
        area: str = "parameters",
    ) -> None:
        from nmri3d.atlas import LAYOUTS, NODE_LAYOUTS, Atlas
        from nmri3d.scene.brain import BrainScene
        from nmri3d.template import layout_features

        if layout not in (*LAYOUTS, *NODE_LAYOUTS):
            raise InputError(f"there is no layout {layout!r}; choose one of {', '.join((*LAYOUTS, *NODE_LAYOUTS))}")
        self._features: np.ndarray | None = None  # None: the model's own
        if isinstance(model_or_atlas, Atlas):
            atlas = model_or_atlas
        elif hasattr(model_or_atlas, "layout_features"):
            on_cortex = LAYOUTS[0] if layout in NODE_LAYOUTS else layout
            self._features = layout_features(model_or_atlas, features)
            atlas = Atlas.build(model_or_atlas, on_cortex, area=area, features=self._features)
        else:
            raise InputError(
                f"a brain is made of a model or an atlas, not of {type(model_or_atlas).__name__}; "
                "pass what nmri3d.load or nmri3d.Atlas.build returns"
            )
        self.atlas: Atlas = atlas
        self.model = None if atlas is model_or_atlas else model_or_atlas
        self.scene: BrainScene = BrainScene(atlas)
        self.scene.show_borders(borders)
        self._shown: tuple[Scan, int, DisplayRange, ColorMap, TractStyle] | None = None
        self._live: LiveView | None = None
        self.show_form(layout if layout in NODE_LAYOUTS else surface)

    def scan(self, mode: str, prompt: str | None = None, *, token: int | None = None, **options: Any) -> Brain:
        """Scan the brain's model and show the result, which is then `current_scan`.

        mode, prompt, options: as nmri3d.scan takes them; token: as `show`. Raises what nmri3d.scan raises, InputError
        for a brain that was made of an atlas.
        """
        if self.model is None:
            raise InputError(
                "this brain was made of an atlas and has no model to scan; make it of a model, or use show"
            )
        from nmri3d.scans import scan

        return self.show(scan(self.model, mode, prompt, **options), token)

    @property
    def shown(self) -> tuple[Scan, int, DisplayRange, ColorMap, TractStyle] | None:
        """What is shown: scan, step, display range, color map, style of its tracts; None before there is anything."""
        return self._shown

    @property
    def current_scan(self) -> Scan | None:
        """The scan that is shown, if any."""
        return None if self._shown is None else self._shown[0]

    def show(
        self,
        scan: Scan,
        token: int | None = None,
        *,
        display: DisplayRange | None = None,
        colors: ColorMap | None = None,
        tract_share: float | None = None,
        tract_colors: TractColors = "sign",
    ) -> Brain:
        """Paint one step of a scan: `token` counts scan.tokens, negative from the end; the last one by default.

        display and colors: the default range and color map of the scan where not given; give one range to two scans
        to compare them. A DTI scan shows its tracts in a cortex of glass: tract_share is the share of the effect (0 to
        1) that the drawn ones carry, the 200 strongest where not given; tract_colors is "sign" or "direction". With a
        component selected, only its own tracts are drawn.

        Raises InputError for a step that is not there or a share or color that cannot be, AlignmentError for a scan of
        another model.
        """
        from nmri3d.export.image import checked_step
        from nmri3d.scene.colors import display_range, scan_color_map
        from nmri3d.scene.painting import paint_scan
        from nmri3d.scene.tracts import TractStyle

        if scan.components != self.atlas.components:
            raise AlignmentError("this scan is of other components than the brain; build the brain from its model")
        step = checked_step(scan, -1 if token is None else token)
        display, colors = display or display_range(scan), colors or scan_color_map(scan)
        safe = colors.name == scan_color_map(scan, "colorblind").name
        style = TractStyle(share=tract_share, colors=tract_colors, variant="colorblind" if safe else "standard")
        paint_scan(self.scene, scan, step, display, colors, tracts=style)
        self._shown = (scan, step, display, colors, style)
        return self._changed()

    def view(self, name: str) -> Brain:
        """Turn to a preset: lateral_left, lateral_right, medial_left, medial_right, dorsal, ventral, anterior, posterior."""
        self.scene.view(name)
        self._changed()
        if self._live is not None:
            self._live.turn(self.scene)
        return self

    def show_surface(self, name: str) -> Brain:
        """Show another surface of the atlas: pial, inflated, white, sphere, flat."""
        self.scene.show_surface(name)
        return self._changed()

    def show_form(self, name: str) -> Brain:
        """Show a surface of the atlas, or every component as a ball: stack, radial, network (atlas/nodes.py)."""
        self._make_form(name)
        self.scene.show_form(name)
        return self._changed()

    def select(self, component: str | None) -> Brain:
        """Glow around a component, by its id; None takes the glow away. Raises InputError for an unknown id."""
        self.scene.select(None if component is None else self.atlas.components.row(component))
        return self._changed()

    def screenshot(
        self,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int] = (1920, 1080),
        dpi: float = 100,
        transparent: bool = False,
        surface: str | None = None,
        view: str | None = None,
        color_bar: bool = True,
        header: bool = True,
    ) -> Path:
        """Write what is shown as a PNG figure (export/image.py); returns its path. surface and view: chosen first.

        Raises InputError if no scan has been shown, or for a size, surface, view or file type that cannot be.
        """
        from nmri3d.export.image import save_image

        if self._shown is None:
            raise InputError("there is nothing to take a picture of; call brain.show(scan) first")
        if surface is not None:
            self.show_form(surface)
        if view is not None:
            self.view(view)
        scan, step, display, colors, style = self._shown
        return save_image(
            self.scene,
            scan,
            step,
            path,
            size=size,
            dpi=dpi,
            transparent=transparent,
            color_bar=color_bar,
            header=header,
            display=display,
            colors=colors,
            tracts=style,
        )

    def movie(
        self,
        path: str | os.PathLike[str],
        *,
        kind: str = "tokens",
        fps: float | None = None,
        seconds: float | None = None,
        hold: float | None = None,
        size: tuple[int, int] | None = None,
        forms: tuple[str, str] = ("pial", "inflated"),
        color_bar: bool = True,
        header: bool = True,
        progress: Progress | None = None,
    ) -> Path:
        """Write what is shown as a movie, .mp4, .webm or .gif (export/movie.py); returns its path.

        kind: "tokens" (the prompt played through), "turntable" (one turn) or "morph" (from one of `forms` to the other and
        back). fps: frames a second, 30, or 15 for a GIF. seconds: length of the movie; hold: seconds a token. size:
        1280 x 720, or 800 x 450 for a GIF. progress: called with the share that is done and a word; by default a bar
        on a terminal. Whatever it raises, and Ctrl-C, ends the work and leaves no file.

        Raises InputError if no scan has been shown or for what cannot be asked, MachineError if the encoder fails.
        """
        from nmri3d.export.movie import save_movie
        from nmri3d.terminal_bar import bar_where_none

        if self._shown is None:
            raise InputError("there is nothing to make a movie of; call brain.show(scan) first")
        scan, step, display, colors, style = self._shown
        for name in forms if kind == "morph" else ():
            self._make_form(name)
        with bar_where_none(progress) as told:
            try:
                return save_movie(
                    self.scene,
                    scan,
                    path,
                    kind=kind,
                    step=step,
                    fps=fps,
                    seconds=seconds,
                    hold=hold,
                    size=size,
                    forms=forms,
                    color_bar=color_bar,
                    header=header,
                    display=display,
                    colors=colors,
                    tracts=style,
                    progress=told,
                )
            finally:
                self._paint()

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write what is shown as a 3D file, .glb, .html or .vtm (export/scene_file.py); returns its path.

        Raises InputError for another suffix.
        """
        from nmri3d.export.scene_file import save_scene_file

        return save_scene_file(self.scene, path, *(() if self._shown is None else self._shown[:4]))

    @property
    def live(self) -> Any:
        """The live view, an ipywidget: for a place in a layout of widgets, or to show it where NMRI3D_JUPYTER is static.

        Raises MachineError where anywidget is missing.
        """
        if self._live is None:
            from nmri3d.jupyter_live import LiveView

            self._live = LiveView(on_step=self._step_to, on_row=self._select_row)
            self._changed()
        return self._live.widget

    def close(self) -> None:
        """Free the render window, and take live views away; the brain cannot be used afterwards."""
        if self._live is not None:
            self._live.close()
            self._live = None
        self.scene.close()

    def __enter__(self) -> Brain:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._shown is None:
            return f"Brain({self.atlas!r}, nothing shown)"
        scan, step, *_ = self._shown
        token = f" at token {step} {scan.tokens[step]!r}" if scan.tokens else ""
        return f"Brain({self.atlas!r}, {scan.mode} of {scan.provenance.model_id}{token})"

    def _repr_png_(self) -> bytes:
        """The picture for a notebook: the figure, or the grey anatomy while no scan is shown."""
        if self._shown is None:
            return self._anatomy_png()
        with tempfile.TemporaryDirectory() as folder:
            return self.screenshot(Path(folder) / "brain.png", size=NOTEBOOK_SIZE).read_bytes()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """What Jupyter shows: the live view, the picture where there is no kernel behind it, a line where there are none."""
        from nmri3d.jupyter_live import wanted

        bundle: dict[str, Any] = {"image/png": self._repr_png_(), "text/plain": repr(self)}
        if wanted():
            described = self.live._repr_mimebundle_()
            data = described[0] if isinstance(described, tuple) else described
            bundle |= {kind: content for kind, content in data.items() if kind != "text/plain"}
        return bundle

    def _anatomy_png(self) -> bytes:
        import io

        from matplotlib.image import imsave

        buffer = io.BytesIO()
        imsave(buffer, self.scene.screenshot(NOTEBOOK_SIZE), format="png")
        return buffer.getvalue()

    def _changed(self) -> Brain:
        """Let the live view follow."""
        if self._live is not None:
            shown = None if self._shown is None else self._shown[:4]
            marks = None if self._shown is None else (id(self._shown[0]), self._shown[4])
            self._live.follow(self.scene, shown, marks)
        return self

    def _make_form(self, name: str) -> None:
        """Lay the balls out, if that is what is asked for and was not done before."""
        from nmri3d.atlas.nodes import NODE_LAYOUTS, node_layout

        if name in NODE_LAYOUTS and name not in self.scene.forms:
            components = self.atlas.components
            features = self._features
            if features is None and self.model is not None:
                features = self.model.layout_features()
            elif features is None and name == "network":
                raise InputError("a network of what is alike needs the model's features; make the brain of a model")
            elif features is None:  # the other layouts do without
                features = np.ones((len(components), 1))
            self.scene.add_nodes(node_layout(name, components, features))

    def _paint(self) -> None:
        if self._shown is not None:
            from nmri3d.scene.painting import paint_scan

            scan, step, display, colors, style = self._shown
            paint_scan(self.scene, scan, step, display, colors, tracts=style)

    def _step_to(self, step: int) -> None:
        """A step was chosen in the live view."""
        if self._shown is not None and 0 <= step < self._shown[0].n_steps:
            self._shown = (self._shown[0], step, *self._shown[2:])
            self._paint()

    def _select_row(self, row: int) -> None:
        """A component was clicked in the live view; -1 for none."""
        if -1 <= row < len(self.atlas.components):
            self.scene.select(None if row < 0 else row)
            self._changed()

"""`nmri3d.Brain`: a painted brain in a notebook or a script, as a picture.

    brain = nmri3d.Brain(model)
    brain.show(scan, token=4).view("lateral_left")
    brain.screenshot("figure.png", size=(1920, 1080))

Convention. Methods that change what is shown return the brain itself, so that they chain; as the last line of a cell it
shows itself. What is chosen stays chosen until it is chosen anew.

Left out: a live view that turns under the mouse (`nmri3d serve` has one), movies and 3D files.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmri3d.errors import AlignmentError, InputError
from nmri3d.results import Scan

if TYPE_CHECKING:
    from nmri3d.atlas import Atlas
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.colors import ColorMap, DisplayRange
    from nmri3d.scene.tracts import TractColors, TractStyle

NOTEBOOK_SIZE = (1120, 630)


class Brain:
    """The brain of a model, or of an atlas that was built before.

    model_or_atlas   what nmri3d.load returns, or an Atlas
    layout           layout of the components on the cortex; only for a model, an atlas has its own
    surface          surface that is shown first
    borders          thin lines between parcels

    Raises InputError for an unknown layout or surface.
    """

    def __init__(
        self, model_or_atlas: Any, layout: str = "anatomical", surface: str = "pial", *, borders: bool = True
    ) -> None:
        from nmri3d.atlas import Atlas
        from nmri3d.scene.brain import BrainScene

        if isinstance(model_or_atlas, Atlas):
            atlas = model_or_atlas
        elif hasattr(model_or_atlas, "layout_features"):
            atlas = Atlas.build(model_or_atlas, layout=layout)
        else:
            raise InputError(
                f"a brain is made of a model or an atlas, not of {type(model_or_atlas).__name__}; "
                "pass what nmri3d.load or nmri3d.Atlas.build returns"
            )
        self.atlas: Atlas = atlas
        self.scene: BrainScene = BrainScene(atlas, surface=surface)
        self.scene.show_borders(borders)
        self._shown: tuple[Scan, int, DisplayRange, ColorMap, TractStyle] | None = None

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
        return self

    def view(self, name: str) -> Brain:
        """Turn to a preset: lateral_left, lateral_right, medial_left, medial_right, dorsal, ventral, anterior, posterior."""
        self.scene.view(name)
        return self

    def show_surface(self, name: str) -> Brain:
        """Show another surface of the atlas: pial, inflated, white, sphere."""
        self.scene.show_surface(name)
        return self

    def select(self, component: str | None) -> Brain:
        """Glow around a component, by its id; None takes the glow away. Raises InputError for an unknown id."""
        self.scene.select(None if component is None else self.atlas.components.row(component))
        return self

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
            self.scene.show_surface(surface)
        if view is not None:
            self.scene.view(view)
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

    def close(self) -> None:
        """Free the render window; the brain cannot be used afterwards."""
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
        """What Jupyter shows: the picture, and a line of text where there are no pictures."""
        return {"image/png": self._repr_png_(), "text/plain": repr(self)}

    def _anatomy_png(self) -> bytes:
        import io

        from matplotlib.image import imsave

        buffer = io.BytesIO()
        imsave(buffer, self.scene.screenshot(NOTEBOOK_SIZE), format="png")
        return buffer.getvalue()

"""A scan as a picture file: the brain, its color bar, a DICOM-style header, and the prompt with the shown token marked.

Convention. `size` is the picture in pixels and is met exactly; `dpi` is written into the file and changes no pixel.
Text grows with the picture and is never smaller than 11 pixels (lettering.py); a part that would leave the brain less
than half of the picture's width or height is left out, so small pictures show the brain alone. The bar shows the display
range of the whole scan; its arrows and counts tell how many values of the shown step lie outside. A DTI scan shows its tracts
in a cortex of glass, with a legend of their colors and widths, and its prompt with the measured position marked. With a
transparent background, text has one tone that reads on white and on black. What was measured, and on what, is also written into
the PNG's text chunks.

Left out: PDF and SVG.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.errors import AlignmentError, InputError
from nmri3d.export.color_bar import ColorBar, draw_color_bar
from nmri3d.export.facts import header_texts, model_name
from nmri3d.export.lettering import Pen, readable_text, readable_token, text_size, window_around
from nmri3d.export.tract_legend import draw_tract_legend
from nmri3d.files import written_whole
from nmri3d.results import Scan
from nmri3d.scene.colors import ColorMap, DisplayRange, display_range, scan_color_map

if TYPE_CHECKING:
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.painting import NeuronLevel
    from nmri3d.scene.tracts import TractStyle


@dataclass(frozen=True)
class _Theme:
    """Colors of everything that is not the brain."""

    background: str
    label: str
    data: str
    accent: str
    chip: str


_DARK = _Theme(background="#0a0c10", label="#66aa88", data="#c3d0dd", accent="#00ffaa", chip="#12332a")
_ON_ANYTHING = _Theme(background="none", label="#6f8278", data="#707c88", accent="#0b8f66", chip="none")


def save_image(
    scene: BrainScene,
    scan: Scan,
    step: int,
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] = (1920, 1080),
    dpi: float = 100,
    transparent: bool = False,
    color_bar: bool = True,
    header: bool = True,
    display: DisplayRange | None = None,
    colors: ColorMap | None = None,
    tracts: TractStyle | None = None,
    marked: int | None = None,
    glass: bool | None = None,
    neurons: NeuronLevel | None = None,
) -> Path:
    """Paint one step of a scan on the scene and write the picture as PNG, whole or not at all; returns its path.

    step: row of scan.values, negative from the end. size: (width, height) in pixels. display and colors: the default
    range and map of the scan where not given. tracts: how the tubes of a DTI scan are drawn; marked: the one that stands
    out, as a place among those that can be drawn. glass: whether the cortex is translucent, None for what the scan asks
    for. neurons: what MLP parcels show instead of one color. The scene keeps its camera, and shows the scan afterwards.

    Raises InputError for a step, size, dpi or file type that cannot be, AlignmentError if the scan is of other
    components than the scene's atlas.
    """
    from nmri3d.scene.painting import paint_neurons, paint_scan

    target = _png_path(path)
    step = checked_step(scan, step)
    if not 1 <= dpi <= 10_000:
        raise InputError(f"dpi must lie between 1 and 10000, got {dpi}")
    if scan.components != scene.atlas.components:
        raise AlignmentError("this scan is of other components than the brain; build the brain from the scan's model")
    display = display or display_range(scan)
    colors = colors or scan_color_map(scan)
    paint_scan(scene, scan, step, display, colors, tracts=tracts, marked=marked, glass=glass)
    paint_neurons(scene, neurons, glass=bool(glass))
    figure = ScanFigure(scene, scan, step, size, dpi, transparent, display, colors)
    if neurons is not None:
        figure.bars.append(ColorBar(neurons.scan, neurons.step, neurons.display, neurons.colors))
    content = figure.png(color_bar=color_bar, header=header)
    with written_whole(target) as file:
        file.write(content)
    return target


class ScanFigure:
    """One picture under way: takes margins for its parts from the full rectangle; what is left is the brain's.

    The scene must show the scan. `png` gives the whole picture; `lay_out` and `lettering` give what stands around the
    brain, for a movie that draws it once and the brain often.
    """

    def __init__(
        self,
        scene: BrainScene,
        scan: Scan,
        step: int,
        size: tuple[int, int],
        dpi: float,
        transparent: bool,
        display: DisplayRange,
        colors: ColorMap,
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        from nmri3d.scene.stage import checked_size

        self.scene, self.scan, self.step = scene, scan, step
        self.width, self.height = checked_size(size)
        self.transparent, self.display, self.colors = transparent, display, colors
        self.theme = _ON_ANYTHING if transparent else _DARK
        # the hundredth of a pixel keeps the canvas from being rounded down to one pixel less
        inches = ((self.width + 0.01) / dpi, (self.height + 0.01) / dpi)
        self.figure = Figure(figsize=inches, dpi=dpi, facecolor=self.theme.background)
        FigureCanvasAgg(self.figure)
        self.text = text_size(self.width, self.height)
        self.pen = Pen(self.figure, self.text)
        self.top = self.right = self.bottom = 0  # margins taken, whole pixels
        self.tokens, self.marked_token = shown_tokens(scan, step)
        self.title = "NEURAL MRI 3D   Model Resonance Imaging"
        self.bars = [ColorBar(scan, step, display, colors)]

    def lay_out(self, *, color_bar: bool, header: bool) -> tuple[int, int, int, int]:
        """Draw everything but the brain. Returns the brain's place: left, bottom, width, height in pixels."""
        line = 1.5 * self.text
        header_room = round(4 * line + 0.8 * self.text)
        token_room = round(3.2 * self.text) if self.tokens else 0
        legend_room = round(2.2 * self.text) if self.scan.tracts is not None else 0
        letter_room = round(1.8 * self.text)
        with_header = header and header_room + token_room + legend_room + 2 * letter_room <= self.height / 2
        if with_header:
            self.top, self.bottom = header_room, token_room + legend_room
        for bar in self.bars if color_bar else ():
            self.right += draw_color_bar(self, bar)
        around = letter_room if with_header else 0
        box = (
            around,
            self.bottom + around,
            self.width - self.right - 2 * around,
            self.height - self.top - self.bottom - 2 * around,
        )
        if with_header:
            self._draw_header(line, self.scene.field_of_view((box[2], box[3])))
            self._draw_letters(*box)
            if token_room:
                self._draw_tokens(token_room)
            if legend_room:
                self._draw_legend(token_room + legend_room / 2 + (0.0 if token_room else 0.4 * self.text))
        return box

    def lettering(self) -> np.ndarray:
        """What `lay_out` drew, uint8 [height, width, 3], on the figure's background."""
        self.figure.canvas.draw()
        return np.asarray(self.figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]

    def png(self, *, color_bar: bool, header: bool) -> bytes:
        """The whole picture as the content of a PNG file."""
        box = self.lay_out(color_bar=color_bar, header=header)
        brain = self.scene.screenshot((box[2], box[3]), transparent=self.transparent)
        self.figure.figimage(brain, box[0], box[1], origin="upper")
        buffer = io.BytesIO()
        self.figure.savefig(
            buffer,
            format="png",
            dpi=self.figure.dpi,
            facecolor="none" if self.transparent else self.theme.background,
            metadata=self.metadata(),
        )
        return buffer.getvalue()

    def _draw_header(self, line: float, fov: tuple[float, float]) -> None:
        view = f"{self.scene.surface or 'morph'}, FOV {fov[0]:.0f} × {fov[1]:.0f} mm"
        left, right = header_texts(self.scan, view)
        edge, top = self.text * 1.2, self.height - 0.9 * self.text
        half = self.width / 2 - 2 * edge
        pen, theme = self.pen, self.theme
        title = pen.shorten(self.title, self.width - 2 * edge)
        pen.write(edge, top, title, theme.accent, va="top")
        indent = pen.width("WEIGHTS  ")
        for number, ((left_label, left_text), (right_label, right_text)) in enumerate(zip(left, right, strict=True), 1):
            y = top - number * line
            pen.write(edge, y, left_label, theme.label, va="top")
            text = pen.shorten(readable_text(left_text), half - indent)
            pen.write(edge + indent, y, text, theme.data, va="top")
            text = pen.shorten(readable_text(right_text), half - indent)
            pen.write(self.width - edge, y, text, theme.data, va="top", ha="right")
            start = self.width - edge - pen.width(text)
            pen.write(start - pen.width("  "), y, right_label, theme.label, va="top", ha="right")

    def _draw_legend(self, middle: float) -> None:
        edge = 1.2 * self.text
        draw_tract_legend(
            self.figure,
            self.pen,
            self.scene.tracts,
            self.scan,
            left=edge,
            right=self.width - edge,
            middle=middle,
            label_color=self.theme.label,
            data_color=self.theme.data,
        )

    def _draw_tokens(self, room_below: float) -> None:
        from matplotlib.patches import FancyBboxPatch

        texts = [readable_token(token) for token in self.tokens]
        gap, pad = 0.5 * self.text, 0.45 * self.text
        edge = 1.2 * self.text
        room = self.width - 2 * edge
        texts = [self.pen.shorten(text, room / 2) for text in texts]
        widths = [self.pen.width(text) + 2 * pad + gap for text in texts]
        ellipsis = self.pen.width("… ")
        first, last = window_around(widths, self.marked_token, room, ellipsis)
        x, middle = edge, room_below / 2
        if first > 0:
            self.pen.write(x, middle, "…", self.theme.label, va="center_baseline")
            x += ellipsis
        height = 1.9 * self.text
        for number in range(first, last):
            shown = number == self.marked_token
            box = FancyBboxPatch(
                (x, middle - height / 2),
                widths[number] - gap,
                height,
                boxstyle=f"round,pad=0,rounding_size={0.25 * self.text}",
                facecolor=self.theme.chip if shown else "none",
                edgecolor=self.theme.accent if shown else self.theme.label,
                linewidth=self.points(0.12 if shown else 0.05),
                alpha=1.0 if shown else 0.7,
                transform=None,
            )
            self.figure.add_artist(box)
            color = self.theme.accent if shown else self.theme.data
            self.pen.write(x + pad, middle, texts[number], color, va="center_baseline")
            x += widths[number]
        if last < len(texts):
            self.pen.write(x, middle, "…", self.theme.label, va="center_baseline")

    def _draw_letters(self, left: int, bottom: int, width: int, height: int) -> None:
        letters = self.scene.orientation_letters()
        centers = {
            "top": (left + width / 2, bottom + height + 0.9 * self.text),
            "bottom": (left + width / 2, bottom - 0.9 * self.text),
            "left": (left - 0.6 * self.text, bottom + height / 2),
            "right": (left + width + 0.6 * self.text, bottom + height / 2),
        }
        for edge, (x, y) in centers.items():
            self.pen.write(x, y, letters[edge], self.theme.label, scale=1.2, ha="center", va="center")

    def points(self, share: float) -> float:
        """Line width in points for a share of the text height, at least one pixel."""
        return float(max(1.0, share * self.text) * 72 / self.figure.dpi)

    def metadata(self) -> dict[str, Any]:
        """What was measured, and on what, by name; written into files."""
        provenance = self.scan.provenance
        entries = {
            "Title": f"{self.scan.mode} of {model_name(provenance.model_id)}",
            "Software": "nmri3d",
            "Creation Time": provenance.created,
            "nmri3d.model": model_name(provenance.model_id),
            "nmri3d.fingerprint": provenance.fingerprint,
            "nmri3d.mode": self.scan.mode,
            "nmri3d.units": self.scan.units,
            "nmri3d.prompt": provenance.prompt or "",
            "nmri3d.step": str(self.step),
            "nmri3d.display": f"{self.display.vmin!r} to {self.display.vmax!r}, {self.display.scale}",
        }
        return {key: value for key, value in entries.items() if value}


def shown_tokens(scan: Scan, step: int) -> tuple[tuple[str, ...], int]:
    """The prompt's tokens and the one to mark: the shown step, or for DTI the position whose logits were measured."""
    if scan.tokens or "prompt_tokens" not in scan.details:
        return scan.tokens, step
    tokens = tuple(str(token) for token in scan.details["prompt_tokens"])
    position = int(scan.details["position"]) if "position" in scan.details else -1
    return tokens, position % len(tokens) if tokens else 0


def _png_path(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if target.suffix.lower() == ".png":
        return target
    if target.suffix.lower() in (".jpg", ".jpeg", ".tif", ".tiff", ".pdf", ".svg", ".eps", ".webp", ".gif"):
        raise InputError(f"pictures are written as PNG, not as {target.suffix}; name the file {target.stem}.png")
    return target.with_name(target.name + ".png")


def checked_step(scan: Scan, step: int) -> int:
    """A row of scan.values, from 0. Raises InputError for a step that is not there or is no whole number."""
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or not -scan.n_steps <= step < scan.n_steps:
        raise InputError(f"there is no step {step!r}; this scan has steps 0 to {scan.n_steps - 1}")
    return int(step) % scan.n_steps

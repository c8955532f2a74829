"""The texture that paints the brain: one texel column a component, two texel rows for the folding. The one place
where its layout is written down; server, browser (JavaScript), movie and glTF file all follow it.

Layout. Slots 0 .. n_components - 1 are the rows of the component table; slot n_components is what belongs to no
component (the medial wall). Slot s lies in column s % width of band s // width. A band is two texel rows: row 2b is the
color at the bottom of a sulcus, row 2b + 1 the color on the crown of a gyrus. Row 0 is at v = 0 (VTK's and OpenGL's
order). A vertex of slot s with fold f (0 sulcus .. 1 gyrus) has the fixed texture coordinates

    u = (s % width + 0.5) / width        v = (2 * (s // width) + 0.5 + f) / height

All corners of a face share u exactly, and v stays between the centers of the band's two rows, so linear interpolation
never shows a neighbor's color. Interpolation on, mipmaps off, repeat off, edge clamp on.

Colors. With a component's color c (RGBA, 0..255) and a = alpha / 255:

    gyrus  row: floor(UNDERLAY_GYRUS  * (1 - a) + c * a                + 0.5)
    sulcus row: floor(UNDERLAY_SULCUS * (1 - a) + c * a * SULCUS_SHADE + 0.5)

so an unpainted component (alpha 0) and the medial wall show the plain grey folding, and a painted one keeps the color
bar's color on the gyri and is slightly darker in the sulci. Columns that no slot uses hold the underlay.

Glass. With a strength s (0..1) a component the cortex is translucent, so that tracts are seen in it: a weak component is
clear glass, a strong one shows its color. The fourth channel is the opacity (255 without glass). With w = s * a:

    color of either row: floor(GLASS * (1 - w) + (color above) * w + 0.5), GLASS_SULCUS or GLASS_GYRUS
    opacity:             floor(255 * (GLASS_LEAST + (GLASS_MOST - GLASS_LEAST) * w) + 0.5)

Components of `solid` (those of the cerebellum and the hippocampi) are no glass. In it they are opaque, and have their own
color but for the weakest, which show the grey folding and so the shape: w = min(1, SOLID_GAIN * s) * a in place of a.

Left out: VTK. numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmri3d.errors import AlignmentError, InputError

if TYPE_CHECKING:
    from nmri3d.atlas import Atlas

MAX_WIDTH = 4096
"""Widest texture; every WebGL 2 device takes it."""
UNDERLAY_SULCUS = (62, 65, 72)
UNDERLAY_GYRUS = (126, 130, 138)
SULCUS_SHADE = 0.85
"""Share of a painted color's brightness that is left at the bottom of a sulcus."""
GLASS_SULCUS = (118, 126, 140)
GLASS_GYRUS = (190, 200, 216)
GLASS_LEAST, GLASS_MOST = 0.13, 0.6
SOLID_GAIN = 4.0
_FOLD_WIDTH = 0.6
"""Share of the sulcal depth's standard deviation over which the folding goes from sulcus to gyrus."""


@dataclass(frozen=True)
class TextureLayout:
    """Where the colors of components lie in the texture; see the module's first lines."""

    n_components: int
    width: int
    height: int
    underlay_sulcus: tuple[int, int, int] = UNDERLAY_SULCUS
    underlay_gyrus: tuple[int, int, int] = UNDERLAY_GYRUS
    sulcus_shade: float = SULCUS_SHADE
    glass_sulcus: tuple[int, int, int] = GLASS_SULCUS
    glass_gyrus: tuple[int, int, int] = GLASS_GYRUS
    glass_opacity: tuple[float, float] = (GLASS_LEAST, GLASS_MOST)
    solid: tuple[int, ...] = ()
    solid_gain: float = SOLID_GAIN

    @property
    def n_slots(self) -> int:
        """Components, and one more for what belongs to none."""
        return self.n_components + 1

    def texture_coordinates(self, component: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """(u, v), float32 [n, 2], of vertices with a component row [n] (-1: none) and a fold [n] in 0..1."""
        slot = np.where(np.asarray(component) < 0, self.n_components, component)
        band, column = np.divmod(slot, self.width)
        u = (column + 0.5) / self.width
        v = (2 * band + 0.5 + np.clip(fold, 0.0, 1.0)) / self.height
        return np.stack([u, v], axis=1).astype(np.float32)


def texture_layout(n_components: int, solid: tuple[int, ...] = ()) -> TextureLayout:
    """Layout for a table of n components, of which `solid` are no glass.

    Raises InputError if they do not fit (over 8 million).
    """
    if n_components < 0:
        raise InputError(f"a texture needs a number of components of at least 0, got {n_components}")
    slots = n_components + 1
    bands = -(-slots // MAX_WIDTH)
    if 2 * bands > MAX_WIDTH:
        raise InputError(f"{n_components} components do not fit in one texture; the most is {MAX_WIDTH**2 // 2 - 1}")
    return TextureLayout(n_components, min(slots, MAX_WIDTH), 2 * bands, solid=solid)


def texture_image(
    colors: np.ndarray, layout: TextureLayout | None = None, glass: np.ndarray | None = None
) -> np.ndarray:
    """The texture, uint8 [height, width, 4], row 0 at v = 0, for colors of components, uint8 [n, 4].

    glass: strength of each component, [n] in 0..1, for a cortex of glass; None for a solid one.
    Raises AlignmentError for any other shape or dtype, or if the layout is for another number of components.
    """
    colors = np.asarray(colors)
    if colors.ndim != 2 or colors.shape[1] != 4 or colors.dtype != np.uint8:
        raise AlignmentError(f"colors must be uint8 [components, 4], got {colors.dtype} {list(colors.shape)}")
    layout = layout or texture_layout(len(colors))
    if len(colors) != layout.n_components:
        raise AlignmentError(f"{len(colors)} colors were given for an atlas of {layout.n_components} components")
    if glass is not None and np.shape(glass) != (len(colors),):
        raise AlignmentError(f"glass needs one strength a component, [{len(colors)}]; got {list(np.shape(glass))}")
    bands = layout.height // 2
    rows = np.zeros((bands * layout.width, 4))
    rows[: len(colors)] = colors
    alpha = (rows[:, 3:] / 255.0).reshape(bands, 1, layout.width, 1)
    shade = np.array([layout.sulcus_shade, 1.0]).reshape(1, 2, 1, 1)
    underlay = np.array([layout.underlay_sulcus, layout.underlay_gyrus], dtype=np.float64).reshape(1, 2, 1, 3)
    painted = rows[:, :3].reshape(bands, 1, layout.width, 3) * shade
    image = np.full((bands, 2, layout.width, 4), 255.0)
    if glass is None:
        image[..., :3] = underlay * (1.0 - alpha) + painted * alpha
    else:
        strength = np.zeros(bands * layout.width)
        strength[: len(colors)] = np.clip(np.nan_to_num(glass), 0.0, 1.0)
        strength = strength.reshape(alpha.shape)
        weight, firm = strength * alpha, np.minimum(1.0, layout.solid_gain * strength) * alpha
        clear = np.array([layout.glass_sulcus, layout.glass_gyrus], dtype=np.float64).reshape(1, 2, 1, 3)
        least, most = layout.glass_opacity
        through = np.ones(bands * layout.width, dtype=bool)
        through[list(layout.solid)] = False
        through = through.reshape(alpha.shape)
        solid = underlay * (1.0 - firm) + painted * firm
        image[..., :3] = np.where(through, clear * (1.0 - weight) + painted * weight, solid)
        image[..., 3:] = np.where(through, 255 * (least + (most - least) * weight), 255.0)
    return np.floor(image + 0.5).astype(np.uint8).reshape(layout.height, layout.width, 4)


def fold_of_sulcal_depth(sulcal_depth: np.ndarray) -> np.ndarray:
    """Fold, float32 [n] in 0 (sulcus) .. 1 (gyrus), from FreeSurfer's sulcal depth (positive: deep).

    A soft step about depth 0, as the printed atlases have, rather than the raw depth: half-way walls stay narrow.
    """
    depth = np.asarray(sulcal_depth, dtype=np.float64)
    width = _FOLD_WIDTH * float(depth.std()) or 1.0
    return (0.5 - 0.5 * np.tanh(depth / width)).astype(np.float32)


def fold_of_atlas(atlas: Atlas) -> np.ndarray:
    """float32 [v]: the folding of the cortex, and that of the bodies by itself."""
    parts = [atlas.n_cortex_vertices, *(body.first_vertex for body in atlas.bodies[1:])] if atlas.bodies else []
    return np.concatenate([fold_of_sulcal_depth(part) for part in np.split(atlas.sulcal_depth, parts)])

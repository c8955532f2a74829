"""The brain as a volume: voxels of the same parcels, painted by the same colors, and seen through where they are weak.

Convention. A voxel of the cortex has the color of its component, or the grey of plain tissue, and an opacity per mm of the
way through it: OPACITY[0] where a component is unpainted or weak, OPACITY[1] where it is strongest, in between by its
strength (colors.strengths), and at least SELECTED for the selected one, whose border to its neighbors glows. All else is
clear, white matter too, so that the far side is seen. Color and opacity go to the renderer as four bytes a voxel, and the
nearest voxel's are taken: nothing is mixed between neighbors, so that no color appears that stands for no value.

There is no light. What shows the folds is how deep a voxel lies: its color is darkened by the share of tissue around it,
which is counted in whole numbers (two box filters of width `2 round(REACH / voxel) + 1` along each axis, nothing beyond
the image). VTK and vtk.js so draw the same bytes; `volume_rules` tells a browser what it needs to make them.

Left out: white matter as voxels; what a browser does (app/web/volume.js).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyvista
from scipy.ndimage import convolve1d
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPiecewiseFunction
from vtkmodules.vtkRenderingCore import vtkColorTransferFunction, vtkVolume, vtkVolumeProperty
from vtkmodules.vtkRenderingVolumeOpenGL2 import vtkOpenGLGPUVolumeRayCastMapper

from nmri3d.atlas import Atlas
from nmri3d.atlas.volume import OUTSIDE, LabelVolume
from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.camera import Hemispheres
from nmri3d.scene.ribbons import shown_sides
from nmri3d.scene.texture import UNDERLAY_GYRUS

OPACITY = (0.02, 0.8)
SELECTED = 0.9
GLOW = (0, 255, 170)
SAMPLE_DISTANCE = 0.7
"""mm between two samples on a line of sight."""
REACH = 3.0
"""mm around a voxel in which tissue darkens it."""
OPEN, DARKENING, DARKEST = 0.52, 1.5, 0.5
"""Share of tissue up to which a voxel keeps its color; what it loses for each share beyond; what it keeps at least."""


def volume_rules() -> dict[str, Any]:
    """What a browser needs to draw the same volume; see the module's first lines."""
    return {
        "opacity": list(OPACITY),
        "selected": SELECTED,
        "glow": list(GLOW),
        "unpainted": list(UNDERLAY_GYRUS),
        "sample_distance": SAMPLE_DISTANCE,
        "reach": REACH,
        "open": OPEN,
        "darkening": DARKENING,
        "darkest": DARKEST,
    }


def depth_shade(volume: LabelVolume) -> np.ndarray:
    """Share of its color that a voxel keeps, uint8 [x, y, z], 255 for all."""
    width = 2 * int(np.floor(REACH / volume.voxel + 0.5)) + 1
    count = (volume.tissue != OUTSIDE).astype(np.int32)
    for axis in range(3):
        for _ in range(2):
            count = convolve1d(count, np.ones(width, dtype=np.int32), axis=axis, mode="constant")
    kept = np.clip(1 - DARKENING * (count / width**6 - OPEN), DARKEST, 1.0)
    return np.floor(255 * kept + 0.5).astype(np.uint8)


def component_rgba(colors: np.ndarray, strength: np.ndarray, selected: int | None = None) -> np.ndarray:
    """Color and opacity of voxels of each component, uint8 [n, 4], for colors uint8 [n, 4] and strengths [n].

    Raises AlignmentError for any other shape or dtype.
    """
    colors = np.asarray(colors)
    if colors.ndim != 2 or colors.shape[1] != 4 or colors.dtype != np.uint8:
        raise AlignmentError(f"colors must be uint8 [components, 4], got {colors.dtype} {list(colors.shape)}")
    if np.shape(strength) != (len(colors),):
        raise AlignmentError(
            f"a volume needs one strength a component, [{len(colors)}]; got {list(np.shape(strength))}"
        )
    painted = colors[:, 3:] / 255.0
    weight = np.clip(np.nan_to_num(strength), 0.0, 1.0) * painted[:, 0]
    opacity = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * weight
    if selected is not None:
        opacity[selected] = max(opacity[selected], SELECTED)
    table = np.empty((len(colors), 4))
    table[:, :3] = np.array(UNDERLAY_GYRUS) * (1 - painted) + colors[:, :3] * painted
    table[:, 3] = 255 * opacity
    return np.floor(table + 0.5).astype(np.uint8)


class VolumeActor:
    """A label volume of an atlas in a plotter; paint() writes four bytes a voxel, nothing else ever changes.

    actor    the vtkVolume, named "volume"
    volume   the LabelVolume
    image    vtkImageData with the colors, uint8 [x, y, z, 4], x running fastest

    Raises AlignmentError for a volume of another atlas.
    """

    def __init__(self, plotter: pyvista.Plotter, atlas: Atlas, volume: LabelVolume) -> None:
        n = len(atlas.components)
        if volume.labels.max(initial=-1) >= n:
            raise AlignmentError(f"this volume is of another atlas than the one of {n} components; make it anew")
        self.volume = volume
        self._plotter = plotter
        self._side = component_sides(atlas)
        self._hemispheres: Hemispheres = "both"
        self._selected: int | None = None
        self._colors = np.zeros((n, 4), dtype=np.uint8)
        self._strength = np.zeros(n)
        labels = np.ascontiguousarray(volume.labels.transpose(2, 1, 0)).ravel()  # VTK's order
        self._cortex = np.flatnonzero(labels >= 0)
        self._row = labels[self._cortex]
        shade = np.ascontiguousarray(depth_shade(volume).transpose(2, 1, 0)).ravel()
        self._shade = shade[self._cortex].astype(np.uint16)
        self._rgba = np.zeros((labels.size, 4), dtype=np.uint8)
        self.image: Any = vtkImageData()
        self.image.SetDimensions(*volume.shape)
        self.image.SetSpacing(volume.voxel, volume.voxel, volume.voxel)
        self.image.SetOrigin(*volume.affine[:3, 3])
        scalars = numpy_to_vtk(self._rgba, deep=False)  # shares memory: paint() writes in place
        scalars.SetName("colors")
        self.image.GetPointData().SetScalars(scalars)
        self.actor = _volume_prop(self.image)
        plotter.add_actor(self.actor, name="volume", reset_camera=False, render=False)
        self._write()

    def paint(self, colors: np.ndarray, strength: np.ndarray) -> None:
        """Show colors uint8 [n, 4] and strengths [n] (0..1) of components; alpha 0 shows plain, nearly clear tissue."""
        if len(colors) != len(self._colors):
            raise AlignmentError(f"{len(colors)} colors were given for an atlas of {len(self._colors)} components")
        component_rgba(colors, strength)  # refuse what cannot be shown before anything is kept
        self._colors, self._strength = np.array(colors), np.array(strength, dtype=np.float64)
        self._write()

    def select(self, row: int | None) -> None:
        """Make one component solid, with a glowing border; None takes it back. Raises InputError for no such row."""
        if row is not None and not 0 <= row < len(self._colors):
            raise InputError(f"there is no component row {row}; rows are 0 to {len(self._colors) - 1}")
        self._selected = row
        self._write()

    def show(self, hemispheres: Hemispheres) -> None:
        """Draw "both", "left" or "right"."""
        self._hemispheres = hemispheres
        self._write()

    def pick(self, ray: tuple[np.ndarray, np.ndarray]) -> int | None:
        """Component row of which most is seen along a ray (`Stage.ray`), by what each sample adds; None for nothing."""
        start, way = np.asarray(ray[0]), np.asarray(ray[1]) - np.asarray(ray[0])
        length = float(np.linalg.norm(way))
        low = self.volume.point_of(np.zeros(3)) - self.volume.voxel / 2
        high = low + self.volume.voxel * np.array(self.volume.shape)
        entry, leave = _through_box(start, way / length, low, high)
        along = np.arange(max(entry, 0.0), min(leave, length), SAMPLE_DISTANCE)
        row = self.volume.component_at(start + along[:, None] * way / length)
        row = row[row >= 0]
        opacity = 1 - (1 - self._table()[row, 3] / 255.0) ** SAMPLE_DISTANCE
        seen = opacity * np.cumprod(np.append(1.0, 1 - opacity))[:-1]
        total = np.bincount(row, seen, len(self._colors))
        best = int(np.argmax(total)) if len(row) else -1
        return best if best >= 0 and total[best] > 0 else None

    def close(self) -> None:
        """Take the volume away for good."""
        self._plotter.remove_actor(self.actor, render=False)

    def _table(self) -> np.ndarray:
        table = component_rgba(self._colors, self._strength, self._selected)
        if self._hemispheres != "both":
            table[~shown_sides(self._side, self._hemispheres), 3] = 0
        return table

    def _write(self) -> None:
        voxel = self._table()[self._row]
        voxel[:, :3] = (voxel[:, :3].astype(np.uint16) * self._shade[:, None] + 127) // 255
        if self._selected is not None:
            edge = self._is_edge(self._selected)
            voxel[edge, :3] = GLOW
        self._rgba[self._cortex] = voxel
        self.image.GetPointData().GetScalars().Modified()
        self.image.Modified()

    def _is_edge(self, row: int) -> np.ndarray:
        """bool [cortex voxels]: voxels of a component of which one of the six neighbors is another component's."""
        own = np.flatnonzero(self._row == row)
        x, y, _ = self.volume.shape
        labels = self.volume.labels.transpose(2, 1, 0).reshape(-1)
        edge = np.zeros(len(self._row), dtype=bool)
        for step in (1, -1, x, -x, x * y, -x * y):  # the image's outermost voxels are empty: no step leaves it
            other = labels[self._cortex[own] + step]
            edge[own] |= (other >= 0) & (other != row)
        return edge


def _volume_prop(image: Any) -> Any:
    """A vtkVolume of four dependent bytes a voxel, without light."""
    mapper = vtkOpenGLGPUVolumeRayCastMapper()
    mapper.SetInputData(image)
    mapper.SetSampleDistance(SAMPLE_DISTANCE)
    mapper.AutoAdjustSampleDistancesOff()
    mapper.UseJitteringOn()
    opacity, shades = vtkPiecewiseFunction(), vtkColorTransferFunction()
    opacity.AddPoint(0.0, 0.0)
    opacity.AddPoint(255.0, 1.0)
    shades.AddRGBPoint(0.0, 0.0, 0.0, 0.0)
    shades.AddRGBPoint(255.0, 1.0, 1.0, 1.0)
    look = vtkVolumeProperty()
    look.IndependentComponentsOff()
    look.SetInterpolationTypeToNearest()
    look.SetScalarOpacity(opacity)
    look.SetScalarOpacityUnitDistance(1.0)  # vtk.js has 1 too, and is not told
    look.SetColor(shades)
    look.ShadeOff()
    prop = vtkVolume()
    prop.SetMapper(mapper)
    prop.SetProperty(look)
    prop.PickableOff()
    return prop


def component_sides(atlas: Atlas) -> np.ndarray:
    """int8 [n]: 0 for a component that is shown with the left hemisphere, 1 with the right, 2 with both, -1 for no place."""
    side = np.full(len(atlas.components), -1, dtype=np.int8)
    placed = atlas.face_component >= 0
    side[atlas.face_component[placed]] = atlas.face_side[placed]
    return side


def _through_box(start: np.ndarray, direction: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Where a ray enters and leaves a box, as lengths along it; leaves before it enters where it misses."""
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (low - start) / direction, (high - start) / direction
    near, far = np.fmin(first, second), np.fmax(first, second)
    return float(np.nanmax(near)), float(np.nanmin(far))

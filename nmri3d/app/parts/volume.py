"""The volume's part of the page: the label volume, sent once when slices or the volume are first looked at.

Convention. A voxel goes as one uint16: 0 outside, 1 white matter, 2 + row for the cortex of a component; x runs fastest; the
whole is compressed (zlib) to about 0.2 MB. Painting costs nothing: the browser knows the colors of components.

Left out: what is drawn (scene/volume.py, scene/slices.py), the actor that the browser draws it with (hidden_volume.py), and
volumes in the server's own picture (remote rendering).
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import numpy as np

from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.state import require_whole
from nmri3d.atlas import Atlas
from nmri3d.atlas.volume import WHITE_MATTER, LabelVolume, component_points, label_volume
from nmri3d.errors import InputError
from nmri3d.scene.slices import slice_rules
from nmri3d.scene.volume import component_sides, volume_rules

VOXEL = 1.0
"""mm, of slices and volume alike."""


class VolumePart:
    """Sends the label volume of the brain that is shown."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {"label_volume": self._on_label_volume}

    async def _on_label_volume(self, epoch: Any) -> dict[str, Any] | None:
        """The volume of the brain of that epoch; None where it cannot be had, and then the log says why."""
        return await self._visit.supervise(self._send(epoch), "volume")

    async def _send(self, epoch: Any) -> dict[str, Any]:
        brain = self._visit.brain
        if brain is None or require_whole(epoch, 0, 2**53, "brain's number") != brain.epoch:
            raise InputError("that brain is no longer shown; ask for the slices of the present one")
        atlas = brain.atlas
        return await asyncio.to_thread(lambda: volume_payload(atlas, label_volume(atlas, VOXEL)))


def volume_payload(atlas: Atlas, volume: LabelVolume) -> dict[str, Any]:
    """A label volume and the rules by which it is drawn, for the browser.

    side: int8, 0 left, 1 right, -1 without a place. points: float32 [n, 3], where the crosshair goes for a component.
    """
    codes = np.where(volume.labels >= 0, volume.labels + 2, volume.tissue == WHITE_MATTER)
    return {
        "shape": list(volume.shape),
        "origin": volume.affine[:3, 3].tolist(),
        "voxel": volume.voxel,
        "codes": zlib.compress(np.ascontiguousarray(codes.transpose(2, 1, 0), dtype="<u2").tobytes()),
        "points": np.ascontiguousarray(component_points(atlas), dtype="<f4").tobytes(),
        "side": component_sides(atlas).tobytes(),
        "slices": slice_rules(),
        "rules": volume_rules(),
    }

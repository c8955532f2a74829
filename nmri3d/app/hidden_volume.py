"""A volume that is sent to the browser with the scene, hidden and as good as empty, for the page to fill when it is wanted.

What is in the way. trame-vtk 2.11 sends an invisible volume without its mapper, which a page cannot make by itself, and a
visible one is drawn by vtk.js at once, for which it compiles a large shader on every start.

What is done. The serializer of volumes is asked for a visible one, and its answer for volumes named HIDDEN is marked
invisible. All other volumes are sent as ever.

Left out: filling it (web/volume.js).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmri3d.atlas.volume import LabelVolume
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.volume import VolumeActor

HIDDEN = "hidden until the browser shows it"
"""VTK object name of volumes that are sent invisible."""


def add_hidden_volume(scene: BrainScene) -> Any:
    """Put a hidden volume of 2 x 2 x 2 empty voxels into a scene that is about to be sent; returns its vtkVolume."""
    _send_hidden_volumes()
    labels, tissue = np.full((2, 2, 2), -1, dtype=np.int32), np.zeros((2, 2, 2), dtype=np.uint8)
    actor = VolumeActor(scene.plotter, scene.atlas, LabelVolume(labels, tissue, np.eye(4))).actor
    actor.SetObjectName(HIDDEN)
    actor.UseBoundsOff()
    return actor


def _send_hidden_volumes() -> None:
    """Install the serializer; calling it again does no harm."""
    from trame_vtk.modules.vtk.serializers import initialize, registry

    serialize = initialize.generic_volume_serializer
    if not hasattr(serialize, "sends_hidden"):

        def serialize_hidden(parent: Any, actor: Any, *arguments: Any) -> Any:
            sent = serialize(parent, actor, *arguments)
            if sent is not None and actor.GetObjectName() == HIDDEN:
                sent["properties"]["visibility"] = 0
            return sent

        serialize_hidden.sends_hidden = True  # type: ignore[attr-defined]
        # Every new connection registers the serializers anew, by the names in that module.
        initialize.generic_volume_serializer = serialize_hidden
    registry.register_instance_serializer("vtkVolume", initialize.generic_volume_serializer)

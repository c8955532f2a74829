"""A second, empty cortex in the scene, for a browser to fill: the brain of another model beside the one that is shown.

Convention. It has the cortex' material and a texture of its own, and one triangle without any size: a browser is sent what
is visible, and vtk.js objects cannot be made where none came.

Left out: filling it (app/web/linked.js).
"""

from __future__ import annotations

import numpy as np

from nmri3d.scene.brain import BrainScene
from nmri3d.scene.cortex import CortexActor
from nmri3d.scene.mesh import SplitMesh
from nmri3d.scene.texture import texture_layout


def add_twin(scene: BrainScene) -> CortexActor:
    """Put the empty cortex into a scene that is about to be sent."""
    one = np.zeros(3, dtype=np.int32)
    split = SplitMesh(vertex=one, component=one, faces=np.array([[0, 1, 2]], dtype=np.int32))
    up = np.tile(np.array([0.0, 0.0, 1.0], dtype=np.float32), (3, 1))
    points = np.tile(scene.form.points.mean(axis=0, dtype=np.float64).astype(np.float32), (3, 1))
    return CortexActor(scene.plotter, split, texture_layout(1), np.zeros(3), points, up, name="twin")

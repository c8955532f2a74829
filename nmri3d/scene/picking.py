"""What a line of sight meets first: a face of the cortex, of a body, or of a parcel drawn neuron by neuron.

Convention. A line of sight is two points, in mm; distances along it are shares of its length. A body that is seen in a cortex
of glass goes before the glass.

Left out: voxels (volume.py) and tubes (tract_actor.py), which are met in their own ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from nmri3d.scene.cortex import BodiesActor, CortexActor
    from nmri3d.scene.neurons import NeuronActor


class Hit(NamedTuple):
    """Number of a face in the split mesh, and the row of the neuron there, None where there is none."""

    face: int | None
    neuron: int | None


MISS = Hit(None, None)


def first_hit(
    ray: tuple[np.ndarray, np.ndarray],
    cortex: CortexActor,
    bodies: BodiesActor | None,
    neurons: NeuronActor | None,
    *,
    glass: bool,
) -> Hit:
    """The first of all that is drawn on a line of sight. glass: whether the cortex is painted so."""
    bare, body = cortex.hit(ray), None if bodies is None else bodies.hit(ray)
    if body is not None and (bare is None or glass or body[1] <= bare[1]):
        bare = body
    found = None if neurons is None else neurons.hit(ray)
    if found is not None and (bare is None or found[2] <= bare[1]):
        return Hit(found[0], found[1] if found[1] >= 0 else None)
    return MISS if bare is None else Hit(bare[0], None)

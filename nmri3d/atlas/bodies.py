"""The bodies beside the cortex, by name; each is made when it is first asked for.

Left out: who lies on them (`structures`).
"""

from __future__ import annotations

from functools import lru_cache

from nmri3d.atlas.body import Body
from nmri3d.atlas.cerebellum import cerebellum
from nmri3d.atlas.hippocampus import hippocampus

BODIES = ("cerebellum", "hippocampus left", "hippocampus right")
FINENESS = 3
"""Meshes of each body, every one with four times the faces of the one before."""


@lru_cache(maxsize=len(BODIES))
def body(name: str, fineness: int = 0) -> Body:
    """The body of a name in BODIES; kept in memory, so that its arrays must not be written to."""
    if name == "cerebellum":
        return cerebellum(fineness)
    return hippocampus("left" if name.endswith("left") else "right", fineness)

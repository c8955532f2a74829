"""Marks on the brain: thin dark lines between parcels, and the glow around what is selected.

Convention. On a surface of the cortex the glow is three ribbons along the parcel's border; in a layout of balls it is two
translucent shells around the ball, and there are no lines. Sizes in mm.

Left out: ribbons themselves (ribbons.py, mesh.py).
"""

from __future__ import annotations

import numpy as np
import pyvista

from nmri3d.atlas import Atlas
from nmri3d.errors import InputError
from nmri3d.scene.camera import Hemispheres
from nmri3d.scene.forms import Form
from nmri3d.scene.mesh import polylines
from nmri3d.scene.ribbons import RibbonActor

GLOW = "#00ffaa"
BORDER_OPACITY, GLASS_BORDER_OPACITY = 1.0, 0.25
_GLOW_RIBBONS = (  # name, half width, lift, opacity; from the outside to the core
    ("selection halo", 2.4, 0.30, 0.16),
    ("selection glow", 1.3, 0.40, 0.35),
    ("selection", 0.55, 0.50, 1.0),
)
_GLOW_SHELLS = (("selection shell halo", 1.6, 0.14), ("selection shell", 1.25, 0.32))  # name, size, opacity


class Marks:
    """Border lines and the glow of one scene; invisible until they are asked for."""

    def __init__(self, plotter: pyvista.Plotter, atlas: Atlas) -> None:
        self._atlas = atlas
        side = atlas.vertex_side
        self._borders = RibbonActor(plotter, "borders", color="#10131a", half_width=0.16, lift=0.12, side=side)
        self._glow = [
            RibbonActor(plotter, name, color=GLOW, half_width=width, lift=lift, opacity=opacity, side=side)
            for name, width, lift, opacity in _GLOW_RIBBONS
        ]
        self._shells = [_shell(plotter, name, opacity) for name, _, opacity in _GLOW_SHELLS]
        self._border_paths: list[np.ndarray] | None = None
        self._with_borders = False
        self._vertices: tuple[np.ndarray, np.ndarray] | None = None
        self._form: Form | None = None
        self.selected: int | None = None

    def follow(self, form: Form, vertices: tuple[np.ndarray, np.ndarray] | None) -> None:
        """Move with the brain: its form, and points and normals of the unsplit vertices, None among balls."""
        self._form, self._vertices = form, vertices
        for ribbon in (self._borders, *self._glow):
            if vertices is None:
                ribbon.hide()
            else:
                ribbon.follow(*vertices)
        self._place_shells()

    def show(self, hemispheres: Hemispheres) -> None:
        """Draw only what lies on the given hemispheres."""
        for ribbon in (self._borders, *self._glow):
            ribbon.show(hemispheres)

    def show_borders(self, on: bool) -> None:
        """Draw lines between parcels, or take them away."""
        if on and self._border_paths is None:
            self._border_paths = polylines(self._atlas.border_edges())
        self._borders.set_paths((self._border_paths or []) if on else [], self._vertices)

    def soften_borders(self, glass: bool) -> None:
        """Lines are faint on a cortex of glass."""
        self._borders.actor.prop.opacity = GLASS_BORDER_OPACITY if glass else BORDER_OPACITY

    def select(self, row: int | None) -> None:
        """Glow around a component row; None takes the glow away. Raises InputError for no such row."""
        if row is not None and not 0 <= row < len(self._atlas.components):
            raise InputError(f"there is no component row {row}; rows are 0 to {len(self._atlas.components) - 1}")
        self.selected = row
        paths = [] if row is None else polylines(self._atlas.border_edges(row))
        for ribbon in self._glow:
            ribbon.set_paths(paths, self._vertices)
        self._place_shells()

    def _place_shells(self) -> None:
        nodes = None if self._form is None else self._form.nodes
        there = nodes is not None and self.selected is not None and bool(np.isfinite(nodes.radius[self.selected]))
        for actor, (_, size, _) in zip(self._shells, _GLOW_SHELLS, strict=True):
            actor.visibility = there
            if there and nodes is not None:
                actor.position = tuple(float(value) for value in nodes.center[self.selected])
                actor.scale = float(nodes.radius[self.selected]) * size


def _shell(plotter: pyvista.Plotter, name: str, opacity: float) -> pyvista.Actor:
    """A unit ball in the glow's color, invisible at first."""
    mesh = pyvista.Sphere(radius=1.0, theta_resolution=32, phi_resolution=24)
    actor = pyvista.Actor(mapper=pyvista.DataSetMapper(mesh))
    actor.mapper.scalar_visibility = False
    properties = actor.prop
    properties.color, properties.opacity = GLOW, opacity
    properties.ambient, properties.diffuse, properties.specular = 1.0, 0.0, 0.0
    properties.lighting = False
    actor.pickable = False
    actor.visibility = False
    plotter.add_actor(actor, name=name, reset_camera=False, render=False)
    return actor

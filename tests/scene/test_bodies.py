"""Bodies beside the cortex: seen in glass and under it, picked, hidden with their side, sent to a browser, exported."""

from __future__ import annotations

import numpy as np
import pytest

from nmri3d.export.shapes import cortex_shapes, drawn_shapes, mark_shapes
from nmri3d.export.vtm import vtm_blocks
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.texture import UNDERLAY_GYRUS, texture_image
from nmri3d.scene.tracts import tract_frame
from tests.scene.small_bodies import BACK, BELOW_CENTER, BELOW_RADIUS, FRONT, INSIDE, atlas_with_bodies

N = 14
SIZE = (400, 300)


@pytest.fixture(scope="module")
def shared():
    with BrainScene(atlas_with_bodies()) as scene:
        scene.render_window.SetSize(*SIZE)
        yield scene


@pytest.fixture
def scene(shared):
    shared.show_surface("pial")
    shared.view("lateral_left")
    shared.select(None)
    shared.show_borders(False)
    shared.paint(painted())
    return shared


def painted(strong: int | None = None) -> np.ndarray:
    """Blue everywhere, red on one component."""
    colors = np.tile(np.array([0, 0, 255, 255], dtype=np.uint8), (N, 1))
    if strong is not None:
        colors[strong] = (255, 0, 0, 255)
    return colors


def pixel_of(scene, point):
    """Column and row of a point in the window."""
    renderer = scene.plotter.renderer
    renderer.SetWorldPoint(*point, 1.0)
    renderer.WorldToDisplay()
    x, y, _ = renderer.GetDisplayPoint()
    return int(x), int(scene.render_window.GetSize()[1] - 1 - y)


def inside_center(scene):
    first = scene.atlas.bodies[1].first_vertex
    return scene.atlas.vertices[first:].mean(axis=0)


def test_a_body_inside_is_hidden_by_a_solid_cortex_and_shown_in_its_color_by_glass(scene):
    column, row = pixel_of(scene, inside_center(scene))
    scene.paint(painted(INSIDE))
    solid = scene.screenshot(SIZE)[row, column].astype(int)
    assert solid[0] < 60
    assert scene.pick(column, row) != INSIDE
    scene.paint(painted(INSIDE), np.where(np.arange(N) == INSIDE, 1.0, 0.0))
    glass = scene.screenshot(SIZE)[row, column].astype(int)
    assert glass[0] > glass[2] + 80
    assert scene.pick(column, row) == INSIDE


def test_a_body_below_is_picked_by_its_halves_and_hides_what_is_behind_it(scene):
    for offset, component in ((10.0, FRONT), (-10.0, BACK)):
        column, row = pixel_of(scene, BELOW_CENTER + np.array([-BELOW_RADIUS * 0.8, offset, 0]))
        assert scene.pick(column, row) == component
    column, row = pixel_of(scene, BELOW_CENTER + np.array([0, 10.0, 0]))
    scene.paint(painted(FRONT), np.ones(N))
    seen = scene.screenshot(SIZE)[row, column].astype(int)
    assert seen[0] > 150
    assert seen[2] < 60  # opaque: nothing of the background or of the other side


def test_bodies_go_with_their_side(scene):
    atlas = scene.atlas
    both = set(scene.drawn_faces.tolist())
    scene.show_hemispheres("right")
    right = set(scene.drawn_faces.tolist())
    scene.show_hemispheres("left")
    left = set(scene.drawn_faces.tolist())
    below, inside = (one.first_face for one in atlas.bodies)
    assert set(range(below, inside)) <= left & right & both
    assert set(range(inside, len(atlas.faces))) == (both - right) & set(range(below, len(atlas.faces)))
    assert scene.bodies.mesh.n_cells == len(atlas.faces) - below
    assert scene.mesh.n_cells == atlas.n_left_faces


def test_glass_takes_nothing_from_bodies_but_what_is_weak(scene):
    layout = scene.layout
    assert layout.solid == (FRONT, BACK, INSIDE)
    colors = painted(FRONT)
    plain = texture_image(colors, layout)
    strength = np.array([0.5] * 11 + [1.0, 0.0, 0.25])
    glass = texture_image(colors, layout, strength)
    assert np.array_equal(glass[:, [FRONT, INSIDE]], plain[:, [FRONT, INSIDE]])
    assert tuple(glass[1, BACK]) == (*UNDERLAY_GYRUS, 255)
    assert (glass[:, :11, 3] < 255).all()
    assert (glass[:, list(layout.solid), 3] == 255).all()


def test_bodies_follow_a_change_of_form_and_a_morph_leaves_them(scene):
    before = np.array(scene.bodies.mesh.points)
    scene.morph("pial", "inflated", 0.5)
    assert np.allclose(scene.bodies.mesh.points, before, atol=1e-4)
    assert not np.allclose(scene.mesh.points, scene.form_of("pial").points, atol=1.0)


def test_selection_glows_around_a_body_and_is_hidden_with_it(scene):
    scene.select(INSIDE)
    scene.select(FRONT)
    glow = scene.plotter.actors["selection"]
    assert glow.GetVisibility()
    points = np.asarray(glow.GetMapper().GetInput().GetPoints().GetData())
    assert np.abs(np.linalg.norm(points - BELOW_CENTER, axis=1) - BELOW_RADIUS).max() < 2
    scene.show_hemispheres("right")
    assert glow.GetVisibility()


def test_a_browser_is_sent_all_faces_and_a_body_actor_to_fill(scene):
    scene.hand_over_bodies()
    assert scene.mesh.n_cells == len(scene.split_faces)
    assert scene.bodies.actor.GetVisibility()
    assert scene.bodies.actor.GetTexture() is scene.texture
    assert scene.audit() == []


def test_exports_hold_bodies_by_name_and_opaque(scene):
    scene.paint(painted(), np.full(N, 0.5))
    shapes = {shape.name: shape for shape in drawn_shapes(scene).shapes}
    assert list(shapes)[:4] == ["cortex left", "cortex right", "cerebellum", "hippocampus left"]
    assert shapes["cortex left"].translucent
    assert not shapes["cerebellum"].translucent
    assert set(shapes["cerebellum"].component.tolist()) == {FRONT, BACK}
    assert set(shapes["hippocampus left"].component.tolist()) == {INSIDE}
    assert sum(len(shape.triangles) for shape in cortex_shapes(scene)) == len(scene.atlas.faces)
    assert not {shape.name for shape in mark_shapes(scene).shapes} & {"bodies", "cortex"}
    block = vtm_blocks(scene)["cortex"]
    assert block.n_cells == len(scene.atlas.faces)
    assert set(block.cell_data["component"].tolist()) >= {FRONT, BACK, INSIDE}


def test_tracts_have_an_end_on_bodies_and_the_hemispheres_cores_stay(scene):
    with_bodies, without = tract_frame(scene.atlas, "pial"), tract_frame(atlas_without(scene), "pial")
    assert np.allclose(with_bodies.core, without.core)
    assert np.allclose(with_bodies.gate, without.gate)
    assert np.isfinite(with_bodies.anchor[[FRONT, BACK, INSIDE]]).all()
    assert with_bodies.side[INSIDE] == 0


def atlas_without(scene):
    from tests.scene.small_atlas import small_atlas

    return small_atlas(3)

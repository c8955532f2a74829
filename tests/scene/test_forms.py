"""Surfaces and layouts of balls as forms of one mesh: what is drawn, and what a click finds there."""

import numpy as np
import pytest

from nmri3d.atlas.nodes import NODE_LAYOUTS, node_layout
from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.brain import BrainScene
from tests.scene.small_atlas import BIAS, small_atlas, small_table


@pytest.fixture(scope="module")
def scene():
    table = small_table()
    features = np.random.default_rng(0).normal(size=(len(table), 5))
    nodes = [node_layout(name, table, features) for name in NODE_LAYOUTS]
    with BrainScene(small_atlas(), nodes=nodes) as made:
        yield made


def colors_of(table, seed=0):
    """A color of its own for every component, no two near each other."""
    steps = np.linspace(60, 250, 3)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    chosen = np.random.default_rng(seed).permutation(grid)[: len(table)]
    return np.column_stack([chosen, np.full(len(table), 255)]).astype(np.uint8)


def test_forms_are_the_surfaces_and_the_layouts_of_balls(scene):
    assert scene.forms == ("pial", "inflated", "white", "sphere", "flat", *NODE_LAYOUTS)
    with pytest.raises(InputError, match=r"pial.*network"):
        scene.show_form("cloud")


@pytest.mark.parametrize("form", ["pial", "inflated", "white", "sphere", "flat", *NODE_LAYOUTS])
def test_a_click_finds_the_component_whose_color_is_seen(scene, form):
    table = scene.atlas.components
    colors = colors_of(table)
    scene.show_form(form)
    scene.render_window.SetSize(400, 300)
    scene.view("dorsal")
    scene.paint(colors)
    picture = scene.screenshot().astype(int)
    found = 0
    for y in range(3, 298, 3):
        for x in range(3, 398, 3):
            patch = picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3)
            if np.ptp(patch, axis=0).max() > 14:  # a border or a rim runs through
                continue
            row = scene.pick(x, y)
            if row is None:
                continue
            # shading changes brightness, not hue: the directions of the two colors agree
            seen, given = patch.mean(axis=0), colors[row, :3].astype(float)
            cosine = seen @ given / (np.linalg.norm(seen) * np.linalg.norm(given))
            others = colors[:, :3].astype(float)
            assert cosine > 0.985, f"{form} {x},{y}: row {row} is {given}, the picture {seen}"
            assert cosine >= (others @ seen / np.linalg.norm(others, axis=1) / np.linalg.norm(seen)).max() - 0.02
            found += 1
    assert found > 40


def test_the_flat_surface_draws_only_faces_with_a_component(scene):
    scene.show_form("flat")
    placed = scene.face_component >= 0
    assert scene.mesh.n_cells == placed.sum()
    assert np.array_equal(scene.form_of("flat").faces, placed)
    assert scene.form_of("pial").faces.all()
    scene.show_form("pial")
    assert scene.mesh.n_cells == len(placed)


def test_no_way_leads_to_or_from_the_flat_surface(scene):
    for a, b in (("pial", "flat"), ("flat", "network")):
        with pytest.raises(InputError, match="cut"):
            scene.morph(a, b, 0.5)
    scene.morph("pial", "flat", 1.0)
    assert scene.surface == "flat"


def test_half_way_to_the_balls_every_vertex_is_half_way(scene):
    scene.morph("inflated", "stack", 0.25)
    expected = 0.75 * scene.form_of("inflated").points + 0.25 * scene.form_of("stack").points
    drawn = scene.component_of_split >= 0
    np.testing.assert_allclose(scene.mesh.points[drawn], expected[drawn], atol=1e-4)
    assert scene.surface is None


def test_a_ball_lies_where_its_layout_says(scene):
    table = small_table()
    nodes = node_layout("stack", table, np.random.default_rng(0).normal(size=(len(table), 5)))
    points = scene.form_of("stack").points
    for row in table.cortical:
        own = points[scene.component_of_split == row].astype(float)
        assert np.linalg.norm(own - nodes.center[row], axis=1) == pytest.approx(nodes.radius[row], rel=1e-4)


def test_among_balls_the_glow_is_a_shell_and_there_are_no_lines(scene):
    scene.show_borders(True)
    scene.select(1)
    scene.show_form("stack")
    visible = {name for name, actor in scene.plotter.renderer.actors.items() if actor.visibility}
    assert visible == {"cortex", "selection shell", "selection shell halo"}
    scene.select(BIAS)
    assert "selection shell" not in {n for n, a in scene.plotter.renderer.actors.items() if a.visibility}
    scene.select(1)
    scene.show_form("pial")
    visible = {name for name, actor in scene.plotter.renderer.actors.items() if actor.visibility}
    assert visible == {"cortex", "borders", "selection", "selection glow", "selection halo"}
    scene.select(None)
    scene.show_borders(False)


def test_balls_are_all_shown_whatever_the_hemisphere(scene):
    scene.show_form("pial")
    scene.show_hemispheres("left")
    assert scene.mesh.n_cells == scene.atlas.n_left_faces
    scene.show_form("network")
    assert scene.mesh.n_cells == (scene.face_component >= 0).sum()
    scene.show_form("pial")
    assert scene.mesh.n_cells == scene.atlas.n_left_faces
    scene.show_hemispheres("both")


def test_faces_left_to_another_actor_are_neither_drawn_nor_found(scene):
    scene.show_form("pial")
    scene.view("lateral_left")
    scene.render_window.SetSize(300, 300)
    row = scene.pick(150, 150)
    assert row is not None
    scene.hide_faces(scene.face_component == row)
    assert scene.mesh.n_cells == (scene.face_component != row).sum()
    assert scene.pick(150, 150) != row
    scene.hide_faces(None)
    assert scene.pick(150, 150) == row
    with pytest.raises(AlignmentError, match="faces"):
        scene.hide_faces(np.zeros(3, dtype=bool))

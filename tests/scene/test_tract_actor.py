"""Tubes in the scene: what is seen of them, which one is picked, and that a brain without tracts has none."""

import numpy as np
import pytest

from nmri3d.errors import InputError
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.tracts import TractStyle, sign_colors, tract_frame, tract_paths
from nmri3d.scene.tubes import TRIANGLES_EACH
from tests.scene.small_atlas import LEFT_CAP
from tests.scene.small_tracts import small_tracts

SIZE = (480, 360)
CLEAR = np.zeros((11, 4), dtype=np.uint8)


@pytest.fixture
def glass(scene) -> BrainScene:
    scene.render_window.SetSize(*SIZE)
    scene.view("dorsal")
    scene.paint(CLEAR, np.zeros(11))
    return scene


def seen(scene: BrainScene, color: np.ndarray) -> float:
    """Share of the picture that has a hue."""
    picture = scene.screenshot(SIZE).astype(float)
    wanted = color / np.linalg.norm(color)
    size = np.linalg.norm(picture, axis=2)
    # the brain of glass before and around it takes some of a hue away, never its direction
    chroma = picture - picture.mean(axis=2, keepdims=True)
    along = chroma @ (wanted - wanted.mean())
    length = np.linalg.norm(chroma, axis=2) * np.linalg.norm(wanted - wanted.mean())
    return float(((length > 4) & (along > 0.95 * length) & (size > 60)).mean())


def test_tubes_show_both_signs_and_go_with_the_scan(glass):
    negative, positive = sign_colors()
    plain = glass.screenshot(SIZE)
    assert seen(glass, positive) == seen(glass, negative) == 0
    glass.show_tracts(small_tracts())
    assert seen(glass, positive) > 0.002
    assert seen(glass, negative) > 0.002
    glass.show_tracts(small_tracts(total=2.0), TractStyle(share=0.9))  # the strongest alone, which is positive
    assert seen(glass, negative) == 0
    glass.show_tracts(None)
    np.testing.assert_array_equal(glass.screenshot(SIZE), plain)


def test_the_cortex_is_glass_only_when_it_is_painted_so(glass):
    glass.show_tracts(small_tracts())
    glass.tracts.restyle(TractStyle(share=0.1))  # the strongest alone, which stays in the left half
    colors = np.tile(np.uint8([90, 90, 90, 255]), (11, 1))
    glass.paint(colors, np.zeros(11))
    inside = seen(glass, sign_colors()[1])
    assert inside > 0.002
    glass.paint(colors)
    assert seen(glass, sign_colors()[1]) < 0.1 * inside  # only the round ends stand out of the surface


def test_a_strong_component_keeps_its_color_in_the_glass(glass):
    glass.view("lateral_left")
    colors = np.zeros((11, 4), dtype=np.uint8)
    colors[LEFT_CAP] = [255, 0, 0, 255]

    def redness(strength: float) -> float:
        glass.paint(colors, np.full(11, strength))
        red, green, blue = glass.screenshot(SIZE)[SIZE[1] // 2, SIZE[0] // 2].astype(float)
        return red - (green + blue) / 2

    assert redness(0.0) < 6
    assert redness(1.0) > redness(0.5) > 20


def test_selecting_a_component_leaves_its_tracts(glass):
    glass.show_tracts(small_tracts())
    tracts = glass.tracts
    assert tracts.shown.tolist() == [0, 1, 2, 3, 4, 5]
    glass.select(8)
    assert tracts.shown.tolist() == [2, 3]
    assert tracts.mesh.n_cells == 2 * TRIANGLES_EACH
    glass.select(6)
    assert tracts.shown.tolist() == [5]
    glass.select(None)
    assert len(tracts.shown) == 6


def test_edges_without_a_place_are_counted(glass):
    glass.show_tracts(small_tracts())
    assert glass.tracts.n_without_place == 1
    assert len(glass.tracts.edges) == 6


def test_a_hidden_hemisphere_takes_its_tracts_along(glass):
    glass.show_tracts(small_tracts())
    glass.view("medial_left")
    assert glass.tracts.shown.tolist() == [0, 1, 5]
    glass.view("medial_right")
    assert glass.tracts.shown.tolist() == [3]
    glass.view("dorsal")
    assert len(glass.tracts.shown) == 6


def test_tubes_follow_the_surface(glass):
    glass.show_tracts(small_tracts())
    for surface in ("inflated", "pial"):
        glass.show_surface(surface)
        points = np.asarray(glass.tracts.mesh.points)
        frame = tract_frame(glass.atlas, surface)
        for row in (1, 4):
            assert np.linalg.norm(points - frame.anchor[row], axis=1).min() < 0.01
    glass.morph("pial", "inflated", 0.5)
    middle = (tract_frame(glass.atlas, "pial").anchor[1] + tract_frame(glass.atlas, "inflated").anchor[1]) / 2
    assert np.linalg.norm(np.asarray(glass.tracts.mesh.points) - middle, axis=1).min() < 0.01


def pixel_of(scene: BrainScene, point: np.ndarray) -> tuple[float, float]:
    renderer = scene.plotter.renderer
    renderer.SetWorldPoint(*point.tolist(), 1.0)
    renderer.WorldToDisplay()
    x, y, _ = renderer.GetDisplayPoint()
    return x - 0.5, SIZE[1] - y - 0.5


def test_a_tube_is_picked_where_it_is(glass):
    glass.show_tracts(small_tracts())
    points, _ = tract_paths(tract_frame(glass.atlas, "pial"), glass.tracts.edges.source, glass.tracts.edges.target)
    glass.screenshot(SIZE)
    hits = 0
    for edge in (0, 1, 2):
        glass.select(int(glass.tracts.edges.source[edge]))
        for sample in (6, 14, 22):
            found = glass.pick_tract(*pixel_of(glass, points[edge, sample]))
            assert found is not None
            hits += found == edge
    assert hits >= 7  # another tube may lie before one
    assert glass.pick_tract(3, 3) is None
    glass.show_tracts(None)
    assert glass.pick_tract(*pixel_of(glass, points[0, 14])) is None


def test_a_marked_tube_stands_out_and_the_others_step_back(glass):
    glass.show_tracts(small_tracts())
    before = np.asarray(glass.tracts.mesh.point_data["Colors"]).astype(int)
    radius = glass.tracts._radius.copy()
    glass.tracts.mark(1)
    after = np.asarray(glass.tracts.mesh.point_data["Colors"]).astype(int)
    changed = (after != before).any(axis=1).reshape(6, -1)
    assert changed.all(axis=1).tolist() == [True, False, True, True, True, True]
    assert not changed[1].any()
    assert (after[changed.ravel()] < before[changed.ravel()]).any(axis=1).all()
    assert (glass.tracts._radius > radius).tolist() == [False, True, False, False, False, False]
    glass.select(8)  # the marked one is not among these, so none steps back
    kept = np.asarray(glass.tracts.mesh.point_data["Colors"])
    assert {tuple(color) for color in kept.tolist()} == {tuple(color) for color in sign_colors().tolist()}
    with pytest.raises(InputError, match="no tract 6"):
        glass.tracts.mark(6)


def test_a_locked_reference_keeps_widths_comparable(glass):
    glass.show_tracts(small_tracts())
    own = glass.tracts._radius.copy()
    glass.show_tracts(small_tracts(), TractStyle(reference=4.0))
    assert (glass.tracts._radius < own).all()
    assert glass.tracts.reference == 4.0


def test_the_tubes_are_sent_to_a_browser_as_triangles(glass):
    glass.show_tracts(small_tracts())
    assert glass.audit() == []
    assert glass.tracts.mesh.n_verts == glass.tracts.mesh.n_lines == 0
    assert glass.tracts.mesh.n_cells == 6 * TRIANGLES_EACH

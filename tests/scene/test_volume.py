"""The volume as it is drawn: the bytes of its voxels, what shows on the screen, what a click meets."""

import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy

from nmri3d.atlas.volume import label_volume
from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.colors import component_colors, display_range, scan_color_map, strengths
from nmri3d.scene.painting import paint_scan
from nmri3d.scene.volume import (
    DARKEST,
    GLOW,
    OPACITY,
    SELECTED,
    VolumeActor,
    component_rgba,
    component_sides,
    depth_shade,
    volume_rules,
)
from tests.scene.small_atlas import LEFT_CAP, RIGHT_CAP
from tests.scene.test_colors import scan_of

RED, GREEN, BLUE = (220, 40, 40, 255), (40, 210, 60, 255), (50, 90, 230, 255)


@pytest.fixture(scope="module")
def volume(atlas):
    return label_volume(atlas, 2.0, cache=False)


@pytest.fixture
def shown(scene, volume):
    yield scene.show_volume(volume)
    scene.show_volume(None)


def painted(atlas, rows):
    """Colors and strengths: these rows solid, all else unpainted."""
    colors = np.zeros((len(atlas.components), 4), dtype=np.uint8)
    strength = np.zeros(len(colors))
    for row, color in rows.items():
        colors[row], strength[row] = color, 1.0
    return colors, strength


def voxels(actor):
    """The bytes that VTK draws, uint8 [x, y, z, 4]."""
    x, y, z = actor.image.GetDimensions()
    return vtk_to_numpy(actor.image.GetPointData().GetScalars()).reshape(z, y, x, 4).transpose(2, 1, 0, 3)


def pick_middle(scene):
    """What is picked in the middle of the window."""
    width, height = scene.render_window.GetSize()
    return scene.pick(width / 2, height / 2)


def test_opacity_follows_strength_and_never_invents_a_color():
    colors = np.array([RED, RED, RED, (9, 9, 9, 0)], dtype=np.uint8)
    table = component_rgba(colors, np.array([0.0, 0.5, 1.0, 1.0]))
    np.testing.assert_array_equal(table[:3, :3], colors[:3, :3])
    least, most = OPACITY
    np.testing.assert_allclose(table[:3, 3] / 255, [least, (least + most) / 2, most], atol=0.003)
    assert table[3, 3] == table[0, 3]  # unpainted: clear, whatever its strength
    assert tuple(table[3, :3]) == tuple(volume_rules()["unpainted"])
    assert component_rgba(colors, np.zeros(4), selected=0)[0, 3] == round(255 * SELECTED)
    np.testing.assert_array_equal(component_rgba(colors, np.full(4, np.nan))[:, 3], table[0, 3])


def test_deep_voxels_are_darker(volume):
    shade = depth_shade(volume)
    assert shade.shape == volume.shape
    index = np.argwhere(volume.labels >= 0)
    points = volume.point_of(index)
    depth = 40 - np.linalg.norm(points - np.where(points[:, :1] < 0, -45, 45) * [1, 0, 0], axis=1)
    shades = shade[tuple(index.T)]
    assert (shades[depth < 0.5] > 240).all()  # open to the outside
    assert shades[depth > 4].mean() < 0.75 * shades[depth < 1].mean()
    assert shade[tuple(volume.index_of(np.array([45.0, 0, 0])))] == round(255 * DARKEST)


def test_every_voxel_has_its_components_bytes(atlas, volume, shown):
    rng = np.random.default_rng(0)
    n = len(atlas.components)
    colors = rng.integers(1, 255, (n, 4)).astype(np.uint8)
    colors[:, 3] = 255
    strength = rng.uniform(0, 1, n)
    shown.paint(colors, strength)
    found = voxels(shown)
    assert not found[volume.labels < 0].any()
    table, shade = component_rgba(colors, strength).astype(int), depth_shade(volume).astype(int)
    index = np.argwhere(volume.labels >= 0)[::97]
    for x, y, z in index:
        row = volume.labels[x, y, z]
        expected = [*((table[row, :3] * shade[x, y, z] + 127) // 255), table[row, 3]]
        np.testing.assert_array_equal(found[x, y, z], expected)


def test_a_selected_component_is_solid_and_its_border_glows(atlas, volume, scene, shown):
    shown.paint(*painted(atlas, {}))
    scene.select(2)
    found = voxels(shown)
    own = volume.labels == 2
    assert (found[own, 3] == round(255 * SELECTED)).all()
    assert (found[(volume.labels >= 0) & ~own, 3] == round(255 * OPACITY[0])).all()
    glow = (found[..., :3] == GLOW).all(axis=-1)
    assert (own & glow).any()
    assert not (glow & ~own).any()
    for x, y, z in np.argwhere(own):
        around = [volume.labels[x + i, y + j, z + k] for i, j, k in [*np.eye(3, dtype=int), *-np.eye(3, dtype=int)]]
        assert glow[x, y, z] == any(other >= 0 and other != 2 for other in around)
    scene.select(None)
    assert (voxels(shown)[own, 3] == round(255 * OPACITY[0])).all()


def test_a_hidden_hemisphere_is_clear(atlas, volume, scene, shown):
    side = component_sides(atlas)
    shown.paint(*painted(atlas, {LEFT_CAP: RED, RIGHT_CAP: BLUE}))
    scene.view("medial_left")
    found = voxels(shown)
    own = side[np.maximum(volume.labels, 0)]
    assert not found[(volume.labels >= 0) & (own == 1), 3].any()
    assert found[(volume.labels >= 0) & (own == 0), 3].all()


@pytest.mark.parametrize(
    ("view", "row", "color"), [("lateral_left", LEFT_CAP, RED), ("lateral_right", RIGHT_CAP, BLUE)]
)
def test_the_picture_shows_the_component_in_its_color(atlas, scene, shown, view, row, color):
    shown.paint(*painted(atlas, {LEFT_CAP: RED, RIGHT_CAP: BLUE}))
    scene.view(view)
    picture = scene.screenshot((300, 200)).astype(int)
    center = picture[95:105, 145:155].reshape(-1, 3).mean(axis=0)
    share = center / np.array(color[:3])
    assert share.max() - share.min() < 0.12  # one color, only darker
    assert share.mean() > 0.7
    assert pick_middle(scene) == row
    assert scene.pick(1, 1) is None


def test_one_sees_and_picks_what_lies_behind_clear_tissue(atlas, scene, shown):
    behind = RIGHT_CAP
    shown.paint(*painted(atlas, {behind: GREEN}))
    scene.view("lateral_left")  # the right cap lies behind both walls and the whole left hemisphere
    picture = scene.screenshot((300, 200)).astype(int)
    red, green, blue = picture[95:105, 145:155].reshape(-1, 3).mean(axis=0)
    assert green > 1.8 * max(red, blue)
    assert pick_middle(scene) == behind
    scene.show_hemispheres("left")
    assert pick_middle(scene) == LEFT_CAP  # clear as it is, there is nothing else


def test_cortex_and_marks_make_room_and_come_back(atlas, volume, scene):
    scene.show_surface("inflated")
    scene.show_borders(True)
    scene.select(LEFT_CAP)
    before = {name: actor.visibility for name, actor in scene.plotter.actors.items() if name != "tracts"}
    assert before["cortex"]
    assert before["borders"]
    assert before["selection"]
    actor = scene.show_volume(volume)
    assert scene.surface == "pial"
    hidden = {name: scene.plotter.actors[name].visibility for name in before}
    assert not any(hidden.values())
    scene.select(RIGHT_CAP)
    scene.show_borders(True)
    scene.show_hemispheres("both")
    assert not any(scene.plotter.actors[name].visibility for name in before)
    assert scene.plotter.actors["volume"] is actor.actor
    scene.show_volume(None)
    assert {name: scene.plotter.actors[name].visibility for name in before} == before
    assert "volume" not in scene.plotter.actors
    scene.show_volume(volume)
    scene.show_surface("inflated")  # another form ends it
    assert scene.volume is None
    assert {name: scene.plotter.actors[name].visibility for name in before} == before


def test_the_camera_stays(scene, volume):
    scene.plotter.camera.position = (-300.0, 200.0, 150.0)
    before = [tuple(scene.plotter.camera.position), tuple(scene.plotter.camera.focal_point)]
    scene.show_volume(volume)
    after = [tuple(scene.plotter.camera.position), tuple(scene.plotter.camera.focal_point)]
    scene.show_volume(None)
    assert before == after


def test_a_scan_paints_the_volume_as_it_paints_the_surface(atlas, scene, volume, shown):
    rng = np.random.default_rng(1)
    values = rng.uniform(1, 2, (1, len(atlas.components))).astype(np.float32)
    scan = scan_of(values)
    display, colors = display_range(scan), scan_color_map(scan)
    paint_scan(scene, scan, 0, display, colors)
    expected = component_rgba(component_colors(values[0], display, colors), strengths(values[0], display))
    found = voxels(shown)
    for row in np.unique(volume.labels[volume.labels >= 0]):
        assert (found[volume.labels == row, 3] == expected[row, 3]).all()


def test_what_does_not_fit_is_refused(atlas, scene, volume, shown):
    n = len(atlas.components)
    with pytest.raises(AlignmentError, match="one strength a component"):
        shown.paint(np.zeros((n, 4), dtype=np.uint8), np.zeros(n + 1))
    with pytest.raises(AlignmentError, match=f"atlas of {n}"):
        shown.paint(np.zeros((n + 1, 4), dtype=np.uint8), np.zeros(n + 1))
    with pytest.raises(AlignmentError, match="uint8"):
        shown.paint(np.zeros((n, 4)), np.zeros(n))
    with pytest.raises(InputError, match="no component row"):
        shown.select(n)
    labels = volume.labels.copy()
    labels[labels >= 0] = n
    with pytest.raises(AlignmentError, match="another atlas"):
        VolumeActor(scene.plotter, atlas, type(volume)(labels, volume.tissue, volume.affine))


def test_the_browser_gets_it(scene, shown):
    assert scene.audit() == []

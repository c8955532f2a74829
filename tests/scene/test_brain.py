"""The drawn brain: pixels with known answers, picks, and what each action touches."""

import numpy as np
import pytest

from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.audit import KNOWN_MAPPERS, KNOWN_PROPS
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.texture import UNDERLAY_GYRUS
from tests.scene.small_atlas import BIAS, GEOMETRY, LEFT_CAP, RIGHT_CAP

SIZE = (320, 240)
BACKGROUND = [10, 12, 16]
# Hues far apart, so that a pixel names its component whatever its brightness
PURE = np.array(
    [
        [255, 0, 0, 255],
        [0, 255, 0, 255],
        [0, 0, 255, 255],
        [255, 255, 0, 255],
        [0, 255, 255, 255],
        [255, 0, 255, 255],
        [255, 128, 0, 255],
        [255, 255, 255, 255],
        [128, 0, 255, 255],
        [0, 255, 128, 255],
        [255, 0, 128, 255],
    ],
    dtype=np.uint8,
)


def center(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return picture[height // 2, width // 2].astype(float)


def direction(color: np.ndarray) -> np.ndarray:
    color = np.asarray(color, dtype=float)[..., :3]
    return color / np.linalg.norm(color, axis=-1, keepdims=True)


@pytest.mark.parametrize("color", [[255, 0, 0], [0, 255, 0], [0, 0, 255], [250, 140, 40]])
def test_the_pixel_at_a_parcels_center_has_its_color(scene, color):
    colors = PURE.copy()
    colors[LEFT_CAP, :3] = color
    scene.paint(colors)
    pixel = center(scene.screenshot(SIZE))
    assert direction(pixel) @ direction(color) > 0.995
    assert pixel.max() > 0.8 * max(color)


def test_a_face_turned_to_the_viewer_shows_the_color_itself(atlas):
    from dataclasses import replace

    gyrus_everywhere = replace(atlas, sulcal_depth=np.full_like(atlas.sulcal_depth, -9) + atlas.sulcal_depth * 1e-3)
    with BrainScene(gyrus_everywhere) as scene:
        scene.paint(np.tile(np.uint8([200, 120, 60, 255]), (11, 1)))
        np.testing.assert_allclose(center(scene.screenshot(SIZE)), [200, 120, 60], rtol=0.06)


def test_unpainted_is_grey_and_painting_one_leaves_the_rest(scene):
    pixel = center(scene.screenshot(SIZE))
    assert direction(pixel) @ direction(UNDERLAY_GYRUS) > 0.999
    colors = np.zeros((11, 4), dtype=np.uint8)
    colors[2] = [255, 0, 0, 255]
    before = scene.screenshot(SIZE).astype(int)
    scene.paint(colors)
    after = scene.screenshot(SIZE).astype(int)
    changed = np.abs(after - before).max(axis=-1) > 8
    assert 0.01 < changed.mean() < 0.2
    assert np.median(after[changed][:, 0]) > 100
    np.testing.assert_array_equal(after[120, 160], before[120, 160])


def test_every_face_has_one_texel_column_and_stays_within_its_band(scene):
    tcoords = np.asarray(scene.mesh.active_texture_coordinates)[scene.split_faces]
    assert np.ptp(tcoords[:, :, 0], axis=1).max() == 0
    columns = np.rint(tcoords[:, 0, 0] * scene.layout.width - 0.5).astype(int)
    expected = np.where(scene.face_component < 0, 11, scene.face_component)
    np.testing.assert_array_equal(columns, expected)
    assert tcoords[:, :, 1].min() >= 0.25 - 1e-6
    assert tcoords[:, :, 1].max() <= 0.75 + 1e-6


def test_painting_touches_no_geometry(scene):
    stamps = [a.GetMTime() for a in (scene.mesh, scene.mesh.GetPoints(), scene.mesh.GetPolys())]
    stats = (scene.stats.n_mesh_builds, scene.stats.n_geometry_updates, scene.stats.n_value_updates)
    texture = scene.texture.GetMTime()
    scene.paint(PURE)
    assert [a.GetMTime() for a in (scene.mesh, scene.mesh.GetPoints(), scene.mesh.GetPolys())] == stamps
    assert (scene.stats.n_mesh_builds, scene.stats.n_geometry_updates) == stats[:2] == (1, stats[1])
    assert scene.stats.n_value_updates == stats[2] + 1
    assert scene.texture.GetMTime() > texture
    with pytest.raises(AlignmentError):
        scene.paint(PURE[:5])


@pytest.mark.parametrize("view", ["lateral_left", "lateral_right", "dorsal", "anterior", "medial_left", "medial_right"])
def test_picks_agree_with_what_is_seen(scene, view):
    scene.paint(PURE)
    scene.view(view)
    picture = scene.screenshot()
    height, width = picture.shape[:2]
    rng = np.random.default_rng(0)
    seen = 0
    hues = direction(PURE)
    for x, y in zip(rng.integers(2, width - 2, 300), rng.integers(2, height - 2, 300), strict=True):
        rows = {scene.pick(float(x + dx), float(y + dy)) for dx in (-2, 0, 2) for dy in (-2, 0, 2)}
        if len(rows) > 1:  # on a border
            continue
        (row,) = rows
        pixel = picture[y, x].astype(float)
        if row is None:
            grey = np.ptp(pixel) < 0.15 * max(pixel.max(), 40)
            assert grey or pixel.tolist() == BACKGROUND
        else:
            seen += 1
            assert int(np.argmax(hues @ direction(pixel))) == row, (x, y, pixel)
    assert seen > 40


def test_picks_with_known_answers(scene):
    middle = (640, 360)
    assert scene.pick(*middle) == LEFT_CAP
    assert scene.pick(0, 0) is None
    assert scene.pick(-5, 360) is None
    scene.view("lateral_right")
    assert scene.pick(*middle) == RIGHT_CAP
    scene.view("medial_left")
    assert scene.pick(*middle) is None  # the medial wall
    scene.view("medial_right")
    assert scene.pick(*middle) is None
    scene.view("lateral_left")
    scene.show_hemispheres("right")  # the left cap is hidden, and the right medial wall stands behind it
    assert scene.pick(*middle) is None
    scene.view("lateral_left")
    assert scene.pick(*middle) == LEFT_CAP


def test_the_pick_follows_the_surface_and_the_camera(scene):
    scene.show_surface("inflated")
    assert scene.pick(640, 360) == LEFT_CAP
    scene.plotter.camera.Azimuth(180)
    assert scene.pick(640, 360) == RIGHT_CAP


def test_a_medial_view_shows_one_hemisphere_only(scene):
    assert scene.mesh.n_cells == len(scene.atlas.faces)
    first = scene.screenshot(SIZE)
    scene.view("medial_left")
    assert scene.mesh.n_cells == scene.atlas.n_left_faces
    assert scene.mesh.points[np.unique(scene.mesh.regular_faces)][:, 0].max() < 0
    scene.view("medial_right")
    assert scene.mesh.points[np.unique(scene.mesh.regular_faces)][:, 0].min() > 0
    scene.view("dorsal")
    assert scene.mesh.n_cells == len(scene.atlas.faces)
    assert scene.stats.n_mesh_builds == 1
    scene.view("lateral_left")
    np.testing.assert_array_equal(scene.screenshot(SIZE), first)


@pytest.mark.parametrize("size", [(1, 1), (37, 91), (333, 100), (640, 480), (1000, 1500)])
def test_a_screenshot_has_the_size_that_was_asked(scene, size):
    camera = scene.plotter.camera.GetPosition()
    assert scene.screenshot(size).shape == (size[1], size[0], 3)
    assert tuple(scene.render_window.GetSize()) == (1280, 720)
    assert scene.plotter.camera.GetPosition() == camera


@pytest.mark.parametrize("size", [(600, 150), (150, 600)])
@pytest.mark.parametrize("turned", [False, True])
def test_no_shape_of_picture_cuts_the_brain(scene, size, turned):
    scene.view("dorsal")
    if turned:
        scene.plotter.camera.Azimuth(20)
    picture = scene.screenshot(size)
    edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (edges == BACKGROUND).all()
    assert (picture != BACKGROUND).any(axis=-1).mean() > 0.05


def test_sizes_that_cannot_be_are_refused(scene):
    for size in [(0, 10), (10, -1), (20000, 10), (10.5, 10)]:
        with pytest.raises(InputError, match="size"):
            scene.screenshot(size)


def test_a_transparent_background_leaves_no_halo(atlas):
    with BrainScene(atlas, background="#ff0000") as scene:
        scene.paint(np.tile(np.uint8([0, 255, 255, 255]), (11, 1)))
        picture = scene.screenshot(SIZE, transparent=True)
        assert picture.shape == (240, 320, 4)
        assert picture[0, 0, 3] == 0
        assert picture[120, 160, 3] == 255
        soft = picture[(picture[..., 3] > 0) & (picture[..., 3] < 255)].astype(float)
        assert len(soft) > 20
        # cyan sheds no red light but for the little gloss; a halo of the background would be red
        assert (soft[:, 0] < 0.35 * soft[:, 1]).all()
        assert scene.screenshot(SIZE)[0, 0].tolist() == [255, 0, 0]


def green(picture: np.ndarray) -> np.ndarray:
    red, green_, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (green_ > 200) & (red < 60) & (blue > 100)


def test_selection_glows_around_its_parcel_only(scene):
    plain = scene.screenshot(SIZE)
    assert not green(plain).any()
    scene.select(LEFT_CAP)
    glowing = scene.screenshot(SIZE)
    where = np.argwhere(green(glowing))
    assert len(where) > 100
    radius = np.hypot(where[:, 0] - 119.5, where[:, 1] - 159.5)
    assert np.ptp(radius) < 0.25 * radius.mean()  # a ring: the border of the cap
    np.testing.assert_array_equal(glowing[120, 160], plain[120, 160])
    scene.select(None)
    np.testing.assert_array_equal(scene.screenshot(SIZE), plain)


def test_the_glow_hides_with_its_hemisphere_and_follows_the_surface(scene):
    scene.select(LEFT_CAP)
    scene.show_surface("inflated")
    assert green(scene.screenshot(SIZE)).sum() > 100
    scene.view("lateral_right")
    scene.show_hemispheres("right")
    assert not green(scene.screenshot(SIZE)).any()
    scene.view("lateral_left")
    assert green(scene.screenshot(SIZE)).sum() > 100


def test_what_has_no_place_glows_nowhere_and_what_is_no_row_is_refused(scene):
    scene.select(BIAS)
    assert scene.selected == BIAS
    assert not green(scene.screenshot(SIZE)).any()
    for row in (-1, 11):
        with pytest.raises(InputError, match="rows are 0 to 10"):
            scene.select(row)


def test_borders_are_dark_lines_between_parcels(scene):
    scene.paint(np.full((11, 4), 255, dtype=np.uint8))
    plain = scene.screenshot((800, 600)).astype(int)
    scene.show_borders(True)
    lined = scene.screenshot((800, 600)).astype(int)
    darker = (plain - lined).max(axis=-1) > 60
    assert 0.0005 < darker.mean() < 0.05
    assert scene.actor.mapper is not None
    scene.show_borders(False)
    np.testing.assert_array_equal(scene.screenshot((800, 600)), plain)


def test_a_morph_runs_from_one_surface_to_the_other(scene):
    scene.morph("pial", "inflated", 0.25)
    assert scene.surface is None
    expected = 0.75 * scene.form_of("pial").points + 0.25 * scene.form_of("inflated").points
    np.testing.assert_allclose(scene.mesh.points, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(scene.mesh.active_normals, axis=1), 1, atol=1e-5)
    scene.morph("pial", "inflated", 1.0)
    assert scene.surface == "inflated"
    np.testing.assert_array_equal(scene.mesh.points, scene.form_of("inflated").points)
    with pytest.raises(InputError, match="0 to 1"):
        scene.morph("pial", "inflated", 1.5)


def test_a_preset_is_fitted_anew_when_the_surface_changes_and_a_turned_camera_is_not(scene):
    width = scene.field_of_view()[0]
    scene.show_surface("inflated")
    assert scene.field_of_view()[0] > 1.2 * width
    scene.plotter.camera.Azimuth(10)
    position = scene.plotter.camera.GetPosition()
    scene.show_surface("pial")
    assert scene.plotter.camera.GetPosition() == position


def test_the_field_of_view_is_in_millimeters(scene):
    width, height = scene.field_of_view((500, 500))
    radius, _ = GEOMETRY["pial"]
    # perspective makes the near side look larger, so the field at the middle is a little wider than the brain
    assert width == pytest.approx(height)
    assert 2 * radius < height < 2.9 * radius


def test_letters_follow_the_camera(scene):
    assert scene.orientation_letters() == {"top": "S", "bottom": "I", "left": "A", "right": "P"}
    scene.plotter.camera.Azimuth(180)
    assert scene.orientation_letters() == {"top": "S", "bottom": "I", "left": "P", "right": "A"}


def test_unknown_names_are_refused_with_the_known_ones(scene):
    with pytest.raises(InputError, match="pial, inflated"):
        scene.show_surface("round")
    with pytest.raises(InputError, match="lateral_left"):
        scene.view("top")
    with pytest.raises(InputError, match="both, left or right"):
        scene.show_hemispheres("upper")


def test_the_audit_names_what_a_browser_would_drop(scene):
    import pyvista

    scene.select(LEFT_CAP)
    scene.show_borders(True)
    assert scene.audit() == []
    scene.plotter.add_text("hello", name="caption")
    scene.plotter.add_mesh(pyvista.Line(), render_lines_as_tubes=True, name="pipes", reset_camera=False)
    found = scene.audit()
    scene.plotter.remove_actor("caption")
    scene.plotter.remove_actor("pipes")
    assert len(found) == 2, found
    assert any(text.startswith("caption: ") for text in found), found
    assert any(text.startswith("pipes: ") and "tubes" in text for text in found), found
    assert scene.audit() == []


def test_the_audits_lists_are_those_of_the_installed_serializer():
    from trame_vtk.modules.vtk.serializers import initialize_serializers
    from trame_vtk.modules.vtk.serializers.registry import SERIALIZERS

    initialize_serializers()
    assert set(SERIALIZERS) >= KNOWN_PROPS | KNOWN_MAPPERS
    unlisted = {name for name in SERIALIZERS if "Mapper" in name or "Actor" in name} - KNOWN_PROPS - KNOWN_MAPPERS
    assert not unlisted


def serialized(scene: BrainScene) -> tuple[list[str], dict[str, int]]:
    """What trame-vtk would send: types of all instances, and number of values by hash of each array."""
    from trame_vtk.modules.vtk.serializers import (
        SynchronizationContext,
        initialize_serializers,
        reference_id,
        serialize,
    )

    initialize_serializers()
    window = scene.render_window
    types: list[str] = []
    arrays: dict[str, int] = {}

    def walk(node):
        if isinstance(node, dict):
            if "hash" in node:
                arrays[node["hash"]] = node["size"]
            if "type" in node and "properties" in node:
                types.append(node["type"])
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(serialize(None, window, reference_id(window), SynchronizationContext(), 1))
    return types, arrays


def test_the_browser_gets_every_actor_and_a_repaint_sends_the_texture_alone(scene):
    scene.select(LEFT_CAP)
    scene.show_borders(True)
    scene.tracts.place_holder()
    types, before = serialized(scene)
    assert sum("Actor" in name for name in types) == 6  # cortex, borders, three ribbons of the glow, tubes
    assert types.count("vtkTexture") == 1
    n_points = scene.mesh.n_points
    assert 2 * n_points in before.values()  # texture coordinates
    scene.paint(PURE)
    _, after = serialized(scene)
    new = {key: size for key, size in after.items() if key not in before}
    assert list(new.values()) == [4 * scene.layout.width * scene.layout.height]


def test_closing_twice_is_harmless(atlas):
    scene = BrainScene(atlas)
    scene.close()
    scene.close()

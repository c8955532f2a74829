"""Brains side by side in one figure: one camera, one range for one quantity."""

import numpy as np
import pytest
from matplotlib.image import imread

from nmri3d.errors import InputError
from nmri3d.export.beside import View, common_ranges, save_beside
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.colors import DisplayRange
from tests.export.conftest import make_scan


@pytest.fixture(scope="module")
def pair(atlas):
    with BrainScene(atlas) as first, BrainScene(atlas) as second:
        yield first, second


def views(pair, *scans):
    return [View(scene, scan, 0, f"brain {at}") for at, (scene, scan) in enumerate(zip(pair, scans, strict=True))]


def test_one_quantity_has_one_range_and_another_has_its_own(pair):
    low = make_scan()
    high = make_scan(values=3 * low.values)
    a, b = common_ranges(views(pair, low, high))
    assert (a.vmin, a.vmax) == (b.vmin, b.vmax)
    alone, _ = common_ranges(views(pair, low, low))
    assert a.vmin == alone.vmin
    assert a.vmax == pytest.approx(3 * alone.vmax, rel=1e-5)
    other = make_scan(units="another unit", values=3 * low.values)
    c, d = common_ranges(views(pair, low, other))
    assert c == alone
    assert d.vmax == pytest.approx(3 * alone.vmax, rel=1e-5)
    given = DisplayRange(0.0, 5.0, "linear")
    fixed = common_ranges([View(pair[0], low, 0, display=given), View(pair[1], high, 0)])
    assert fixed[0] == given


def test_the_same_scan_looks_the_same_in_both_halves_from_the_first_ones_camera(pair, tmp_path):
    scan = make_scan()
    first, second = pair
    first.view("dorsal")
    second.view("lateral_left")
    path = save_beside(views(pair, scan, scan), tmp_path / "pair.png", size=(800, 400))
    picture = np.round(imread(path)[..., :3] * 255).astype(int)
    assert picture.shape == (400, 800, 3)
    left, right = picture[60:340, :400], picture[60:340, 400:]
    assert np.abs(left - right).max() <= 2
    assert (left.max(axis=-1) > 60).mean() > 0.1
    assert np.abs(picture[:40, :400] - picture[:40, 400:]).max() > 50, "the titles differ"
    assert second.stage.preset == "dorsal"


def test_a_camera_turned_by_hand_holds_for_all(pair, tmp_path):
    scan = make_scan()
    first, second = pair
    first.view("lateral_left")
    second.view("dorsal")
    first.plotter.camera.Azimuth(40)
    picture = imread(save_beside(views(pair, scan, scan), tmp_path / "turned.png", size=(800, 400)))
    assert np.abs(picture[60:340, :400] - picture[60:340, 400:]).max() < 0.02
    np.testing.assert_allclose(first.plotter.camera.GetPosition(), second.plotter.camera.GetPosition())


def test_other_numbers_and_file_types_are_refused(pair, tmp_path):
    scan = make_scan()
    with pytest.raises(InputError, match="two to 4"):
        save_beside(views(pair, scan, scan)[:1], tmp_path / "one.png")
    with pytest.raises(InputError, match=r"\.png"):
        save_beside(views(pair, scan, scan), tmp_path / "pair.jpg")
    assert list(tmp_path.iterdir()) == []

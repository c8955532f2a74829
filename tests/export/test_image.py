"""Picture files: exact sizes, what stands on them, and refusals that leave nothing behind."""

import warnings

import numpy as np
import pytest
from PIL import Image

from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError, InputError
from nmri3d.export.image import save_image
from nmri3d.scene.colors import DisplayRange, color_map
from tests.export.conftest import make_scan

ACCENT = (0, 255, 170)


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def accent_columns(picture: np.ndarray) -> np.ndarray:
    """Columns of the token row that hold the accent color."""
    height = len(picture)
    row = picture[int(height * 0.93) :]
    return np.flatnonzero((np.abs(row - ACCENT).max(axis=-1) < 30).any(axis=0))


@pytest.mark.parametrize(("size", "dpi"), [((640, 360), 100), ((641, 479), 73), ((333, 777), 299.7), ((900, 200), 1)])
def test_size_is_exact_and_dpi_is_written(scene, scan, tmp_path, size, dpi):
    path = save_image(scene, scan, 0, tmp_path / "figure.png", size=size, dpi=dpi)
    with Image.open(path) as image:
        assert image.size == size
        assert image.info["dpi"][0] == pytest.approx(dpi, rel=0.02)


def test_dpi_changes_no_pixel_that_matters(scene, scan, tmp_path):
    low = pixels(save_image(scene, scan, 0, tmp_path / "low.png", size=(640, 360), dpi=72))
    high = pixels(save_image(scene, scan, 0, tmp_path / "high.png", size=(640, 360), dpi=600))
    assert (np.abs(low - high).max(axis=-1) > 60).mean() < 0.005  # font hinting only


def test_the_file_says_what_it_shows(scene, scan, tmp_path):
    path = save_image(scene, scan, -1, tmp_path / "sub" / "figure", size=(320, 180))
    assert path == tmp_path / "sub" / "figure.png"
    with Image.open(path) as image:
        assert image.info["nmri3d.fingerprint"] == scan.provenance.fingerprint
        assert image.info["nmri3d.prompt"] == "The capital of"
        assert image.info["nmri3d.step"] == "2"
        assert image.info["nmri3d.units"] == "L2 norm"


def test_the_shown_token_is_marked_and_moves_with_the_step(scene, scan, tmp_path):
    marks = []
    for step in range(3):
        picture = pixels(save_image(scene, scan, step, tmp_path / f"{step}.png", size=(960, 540)))
        columns = accent_columns(picture)
        assert len(columns) > 10
        marks.append(columns.mean())
    assert marks[0] < marks[1] < marks[2]
    assert len(accent_columns(pixels(save_image(scene, make_scan(()), 0, tmp_path / "t.png", size=(960, 540))))) == 0


def test_the_bar_shows_the_color_map_from_bottom_to_top(scene, scan, tmp_path):
    colors = color_map("T2")
    picture = pixels(save_image(scene, scan, 0, tmp_path / "a.png", size=(960, 540), colors=colors))
    plain = pixels(save_image(scene, scan, 0, tmp_path / "b.png", size=(960, 540), colors=colors, color_bar=False))
    # the first column of the rightmost fifth that holds both ends of the map is within the bar
    right = picture[:, 760:]

    def rows(color):
        hit = np.abs(right - color.astype(int)).max(axis=-1) <= 3
        return np.flatnonzero(hit[:, np.argmax(hit.sum(axis=0))])

    bottom, middle, top = (rows(colors.table[i]).mean() for i in (0, 128, 255))
    assert bottom > middle > top
    assert abs((bottom + top) / 2 - middle) < 8
    assert not (np.abs(plain[:, 900:] - colors.table[255].astype(int)).max(axis=-1) <= 3).any()


def test_arrows_stand_only_where_values_lie_outside(scene, scan, tmp_path):
    def text_above_bar(display):
        picture = pixels(save_image(scene, scan, 0, tmp_path / "x.png", size=(960, 540), display=display))
        quiet = save_image(scene, scan, 0, tmp_path / "q.png", size=(960, 540), display=DisplayRange(0.0, 10.0))
        changed = np.abs(picture - pixels(quiet)).max(axis=-1) > 40
        tall = changed[:, 800:]
        return tall[60:140].any(), tall[430:500].any()

    assert text_above_bar(DisplayRange(0.0, 10.0)) == (False, False)
    above, below = text_above_bar(DisplayRange(2.0, 5.0))
    assert above
    assert below


def test_header_and_bar_can_be_left_out(scene, scan, tmp_path):
    bare = pixels(save_image(scene, scan, 0, tmp_path / "bare.png", size=(640, 360), header=False, color_bar=False))
    np.testing.assert_array_equal(bare, scene.screenshot((640, 360)))


def test_a_small_picture_is_the_brain_alone(scene, scan, tmp_path):
    picture = pixels(save_image(scene, scan, 0, tmp_path / "icon.png", size=(48, 48)))
    np.testing.assert_array_equal(picture, scene.screenshot((48, 48)))


def test_transparent_pictures_have_alpha_and_readable_text(scene, scan, tmp_path):
    path = save_image(scene, scan, 1, tmp_path / "clear.png", size=(960, 540), transparent=True)
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        picture = np.asarray(image).astype(float)
    assert picture[300, 2, 3] == 0
    assert picture[270, 400, 3] == 255
    header = picture[:60, :300]
    text = header[header[..., 3] > 250][:, :3] / 255
    assert len(text) > 50
    luminance = (np.where(text <= 0.04045, text / 12.92, ((text + 0.055) / 1.055) ** 2.4)) @ [0.2126, 0.7152, 0.0722]
    tone = np.median(luminance)
    assert 1.05 / (tone + 0.05) > 3.9  # on white
    assert (tone + 0.05) / 0.05 > 3.9  # on black


@pytest.mark.parametrize(
    "tokens",
    [
        ("$x", "^2$", "\\frac"),
        ("\n", "\t", "", "\x00", "\u200b"),
        ("日本", "語", "العربية", "\U0001f9e0"),
        tuple(f" word{i}" for i in range(500)),
        ("x" * 3000, " end"),
    ],
)
def test_any_token_can_stand_in_a_figure(scene, tmp_path, tokens):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of glyphs that it lacks
        path = save_image(scene, make_scan(tokens), len(tokens) // 2, tmp_path / "t.png", size=(960, 540))
    assert len(accent_columns(pixels(path))) >= 2  # the sides of the marked chip


def test_the_scene_shows_the_scan_and_keeps_its_camera(scene, scan, tmp_path):
    camera = scene.plotter.camera.GetPosition()
    before = scene.stats.n_value_updates
    save_image(scene, scan, 0, tmp_path / "a.png", size=(320, 180))
    assert scene.stats.n_value_updates == before + 1
    assert scene.plotter.camera.GetPosition() == camera


def test_refusals_leave_no_file(scene, scan, tmp_path):
    small = ComponentTable(kind=["embed"], layer=[-1], index=[-1], n_params=[1])
    other = make_scan(values=np.ones((3, 1)), components=small)
    for arguments, options, error, words in [
        ((scan, 3, "a.png"), {}, InputError, "steps 0 to 2"),
        ((scan, -4, "a.png"), {}, InputError, "steps 0 to 2"),
        ((scan, 1.0, "a.png"), {}, InputError, "step 1.0"),
        ((scan, True, "a.png"), {}, InputError, "step True"),
        ((scan, 0, "a.pdf"), {}, InputError, "a.png"),
        ((scan, 0, "a.png"), {"size": (0, 5)}, InputError, "size"),
        ((scan, 0, "a.png"), {"dpi": 0}, InputError, "dpi"),
        ((other, 0, "a.png"), {}, AlignmentError, "other components"),
    ]:
        scan_, step, name = arguments
        with pytest.raises(error, match=words):
            save_image(scene, scan_, step, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_whole(scene, scan, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_image(scene, scan, 0, path, size=(64, 64))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]

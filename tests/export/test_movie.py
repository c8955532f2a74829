"""Movies: what their frames show, read back by an independent decoder; what ends the work leaves nothing behind."""

import stat

import numpy as np
import pytest
from PIL import Image

from nmri3d.errors import AlignmentError, Cancelled, InputError, MachineError
from nmri3d.export.camera_path import turned, turntable_pose
from nmri3d.export.image import save_image
from nmri3d.export.movie import save_movie
from nmri3d.scene.camera import VIEW_ANGLE
from tests.export.conftest import make_scan

SIZE = (640, 360)


def decoded(path) -> tuple[dict, np.ndarray]:
    """What the file says of itself, and its frames, int16 [n, height, width, 3]."""
    import imageio_ffmpeg

    frames = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    facts = next(frames)
    width, height = facts["size"]
    return facts, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames]).astype(
        np.int16
    )


def picture(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(np.int16)


@pytest.fixture
def figures(scene, scan, tmp_path):
    """The figure of each step, as a screenshot has it."""
    scene.show_form("pial")
    scene.view("lateral_left")
    return [picture(save_image(scene, scan, step, tmp_path / f"{step}.png", size=SIZE)) for step in range(3)]


def test_tokens_are_played_through_with_a_cross_fade(scene, scan, figures, tmp_path):
    path = save_movie(scene, scan, tmp_path / "play.mp4", size=SIZE, fps=10)
    facts, frames = decoded(path)
    assert facts["codec"] == "h264"
    assert facts["pix_fmt"].startswith("yuv420p")
    assert facts["fps"] == 10
    assert facts["size"] == SIZE
    assert len(frames) == 25  # three tokens of half a second, and a second more of the last
    for frame, expected in ((0, figures[0]), (4, figures[0]), (8, figures[1]), (13, figures[2]), (24, figures[2])):
        assert np.abs(frames[frame] - expected).mean() < 2.5
    half = (figures[0] * 2 + figures[1]) / 3  # 0.1 s of 0.3 into the second token
    assert np.abs(frames[6] - half).mean() < 2.5
    assert np.abs(frames[6] - half).mean() < np.abs(frames[6] - figures[1]).mean() / 2
    assert np.abs(figures[0] - figures[1]).mean() > 5  # or the above would say nothing


def test_a_mixed_frame_is_the_picture_of_the_mixed_colors(scene, scan):
    from nmri3d.export.movie import _mixed

    scene.show_form("pial")
    generator = np.random.default_rng(1)
    a, b = (generator.integers(0, 256, (11, 4)).astype(np.uint8) for _ in range(2))
    a[:, 3] = b[:, 3] = 255
    shown = []
    for colors in (a, b, ((a.astype(int) + b) // 2).astype(np.uint8)):
        scene.paint(colors)
        shown.append(scene.screenshot((320, 180)))
    difference = np.abs(_mixed(shown[0], shown[1], 0.5).astype(int) - shown[2])
    assert np.percentile(difference, 99) <= 2  # specular light saturates on a few pixels


def test_a_turn_shows_every_side_and_comes_round(scene, scan, tmp_path):
    scene.show_form("pial")
    scene.view("lateral_left")
    camera = scene.plotter.camera.GetPosition()
    path = save_movie(
        scene,
        scan,
        tmp_path / "turn.mp4",
        kind="turntable",
        size=(320, 180),
        fps=8,
        seconds=1,
        header=False,
        color_bar=False,
    )
    _, frames = decoded(path)
    assert len(frames) == 8
    steps = [np.abs(a - b).mean() for a, b in zip(frames, np.roll(frames, -1, axis=0), strict=True)]
    assert min(steps) > 2  # it moves all the time, also from the last frame to the first
    assert scene.plotter.camera.GetPosition() == camera
    assert scene.stage.preset == "lateral_left"

    scene.plotter.camera.Azimuth(0.001)  # no preset any more: the sides of the movie are its own poses
    position, middle, up = turntable_pose(scene.stage.framing, np.array([-1.0, 0, 0]), np.array([0, 0, 1.0]), 320 / 180)
    for number in (0, 4):
        at, focus, upward = turned((position, middle, up), 45.0 * number)
        scene.plotter.camera.SetPosition(*at)
        scene.plotter.camera.SetFocalPoint(*focus)
        scene.plotter.camera.SetViewUp(*upward)
        from nmri3d.scene.colors import display_range, scan_color_map
        from nmri3d.scene.painting import paint_scan

        paint_scan(scene, scan, 2, display_range(scan), scan_color_map(scan))
        scene.render_window.SetSize(320, 180)
        assert np.abs(frames[number] - scene.screenshot((320, 180)).astype(np.int16)).mean() < 2.5
    scene.view("lateral_left")


def test_a_turn_keeps_all_in_the_picture_and_fills_it():
    points = np.random.default_rng(0).normal(size=(400, 3)) * [70, 90, 50] + [3, -20, 10]
    for aspect in (0.6, 1.0, 2.0):
        pose = turntable_pose(points, np.array([-1.0, 0.2, 0.1]), np.array([0, 0, 1.0]), aspect)
        reach = []
        for angle in range(0, 360, 3):
            position, middle, up = turned(pose, angle)
            forward = (middle - position) / np.linalg.norm(middle - position)
            right = np.cross(forward, up) / np.linalg.norm(np.cross(forward, up))
            upward = np.cross(right, forward)
            depth = (points - position) @ forward
            tangent = np.tan(np.radians(VIEW_ANGLE / 2))
            reach.append(
                max(
                    np.abs((points - position) @ right / (depth * tangent * aspect)).max(),
                    np.abs((points - position) @ upward / (depth * tangent)).max(),
                )
            )
        assert max(reach) <= 1 / 1.05
        assert max(reach) > 0.9
    assert np.allclose(turned(pose, 360)[0], pose[0])


def test_a_morph_goes_there_and_back_and_leaves_the_scene_as_it_was(scene, scan, tmp_path):
    scene.show_form("white")
    scene.view("dorsal")
    path = save_movie(
        scene,
        scan,
        tmp_path / "m.mp4",
        kind="morph",
        forms=("pial", "inflated"),
        size=(320, 180),
        fps=11,
        seconds=1,
        header=False,
        color_bar=False,
    )
    _, frames = decoded(path)
    assert len(frames) == 11
    assert np.abs(frames[0] - frames[-1]).mean() < 1.5
    brain = [(frame.max(axis=-1) > 40).mean() for frame in frames]
    assert np.argmax(brain) == 5  # the inflated one is larger, and the camera stands still
    assert brain[0] < 0.8 * brain[5]
    assert scene.surface == "white"
    assert scene.stage.preset == "dorsal"
    with pytest.raises(InputError, match="flat"):
        save_movie(scene, scan, tmp_path / "f.mp4", kind="morph", forms=("pial", "flat"), size=(320, 180))
    assert not (tmp_path / "f.mp4").exists()
    scene.show_form("pial")


def color_tables(content: bytes) -> tuple[bool, int, int]:
    """Of a GIF: whether it has a global color table, how many pictures, and how many of them bring a table of their own."""
    place = 13 + (3 << ((content[10] & 7) + 1) if content[10] & 0x80 else 0)
    pictures = own = 0
    while content[place] != 0x3B:
        if content[place] == 0x21:
            place += 2
        else:
            assert content[place] == 0x2C
            flags = content[place + 9]
            pictures, own = pictures + 1, own + (flags >> 7)
            place += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        while content[place]:
            place += 1 + content[place]
        place += 1
    return bool(content[10] & 0x80), pictures, own


def test_a_gif_has_one_palette_for_all_frames_and_repeats(scene, scan, figures, tmp_path):
    path = save_movie(scene, scan, tmp_path / "play.gif", size=SIZE, fps=5, hold=0.6)
    has_global, pictures, own = color_tables(path.read_bytes())
    assert has_global
    assert own == 0
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in path.read_bytes()  # for ever
    with Image.open(path) as movie:
        assert movie.size == SIZE
        assert movie.n_frames == pictures
        movie.seek(0)
        first = np.asarray(movie.convert("RGB")).astype(np.int16)
        movie.seek(movie.n_frames - 1)
        last = np.asarray(movie.convert("RGB")).astype(np.int16)
    assert np.abs(first - figures[0]).mean() < 5
    assert np.abs(last - figures[2]).mean() < 5


def test_webm_and_what_the_file_says_of_itself(scene, scan, tmp_path):
    path = save_movie(scene, scan, tmp_path / "play.webm", size=(160, 90), fps=4)
    facts, frames = decoded(path)
    assert facts["codec"] == "vp9"
    assert len(frames) == 10
    assert b"tiny-model" in path.read_bytes()
    assert b"The capital of" in path.read_bytes()


def test_progress_is_told_and_what_it_raises_leaves_the_old_file_whole(scene, scan, tmp_path):
    told = []
    path = save_movie(
        scene, scan, tmp_path / "a.mp4", size=(160, 90), fps=4, progress=lambda share, what: told.append((share, what))
    )
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert (0.99 * 3 / 10, "frame 4 of 10") in told
    before = path.read_bytes()

    def cancel(share, what):
        if share > 0.5:
            raise Cancelled("no more")

    for name in ("a.mp4", "b.gif"):
        with pytest.raises(Cancelled):
            save_movie(scene, scan, tmp_path / name, size=(160, 90), fps=4, progress=cancel)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == before


def test_an_encoder_that_fails_or_is_missing_is_told_in_words(scene, scan, tmp_path, monkeypatch):
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho 'no room left' >&2\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with pytest.raises(MachineError, match="no room left"):
        save_movie(scene, scan, tmp_path / "a.mp4", size=(160, 90), fps=4)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    with pytest.raises(MachineError, match="IMAGEIO_FFMPEG_EXE"):
        save_movie(scene, scan, tmp_path / "a.mp4", size=(160, 90), fps=4)
    assert [file.name for file in tmp_path.iterdir()] == ["ffmpeg"]


def test_refusals(scene, scan, dti, tmp_path):
    other = make_scan(
        values=np.ones((3, 1)),
        components=dti.components.__class__(kind=["embed"], layer=[-1], index=[-1], n_params=[1]),
    )
    for given, name, options, error, words in [
        (scan, "a.avi", {}, InputError, "a.mp4"),
        (scan, "a.mp4", {"kind": "spin"}, InputError, "turntable"),
        (scan, "a.mp4", {"size": (641, 360)}, InputError, "640 x 360"),
        (scan, "a.mp4", {"size": (0, 360)}, InputError, "size"),
        (scan, "a.mp4", {"fps": float("nan")}, InputError, "frames a second"),
        (scan, "a.gif", {"fps": 90}, InputError, "frames a second"),
        (scan, "a.mp4", {"seconds": -1}, InputError, "seconds"),
        (scan, "a.mp4", {"seconds": 3, "hold": 1}, InputError, "one of them"),
        (scan, "a.mp4", {"kind": "morph", "hold": 1}, InputError, "takes seconds"),
        (scan, "a.mp4", {"kind": "morph", "forms": ("pial", "cube")}, InputError, "cube"),
        (dti, "a.mp4", {}, InputError, "one step only"),
        (other, "a.mp4", {}, AlignmentError, "other components"),
    ]:
        with pytest.raises(error, match=words):
            save_movie(scene, given, tmp_path / name, **options)
    long = make_scan(tuple("x" * 601))
    with pytest.raises(InputError, match="more than 36,000"):
        save_movie(scene, long, tmp_path / "a.mp4", hold=2.0, size=(160, 90))
    assert list(tmp_path.iterdir()) == []


def test_tubes_turn_in_glass(scene, dti, tmp_path):
    scene.show_form("pial")
    scene.view("dorsal")
    path = save_movie(scene, dti, tmp_path / "t.mp4", kind="turntable", size=(160, 90), fps=3, seconds=1)
    assert len(decoded(path)[1]) == 3
    assert len(scene.tracts.shown) == 6
    scene.show_tracts(None)

"""`nmri3d movie` and `nmri3d export`: files, progress and exit codes."""

import numpy as np
import pytest

import nmri3d
from tests.cli.test_cli import PROMPT, folder, run

__all__ = ["folder", "run"]


def test_movie_plays_the_prompt(run, folder, tmp_path):
    import imageio_ffmpeg

    target = tmp_path / "films" / "play.mp4"
    options = ("--mode", "fMRI", "--size", "160x90", "--fps", "4", "--hold", "0.5")
    code, out, err = run("movie", PROMPT, "-m", folder, "-o", str(target), *options)
    assert code == 0
    assert out.strip() == str(target)
    assert "frame" in err
    frames = imageio_ffmpeg.read_frames(str(target))
    assert next(frames)["size"] == (160, 90)
    pictures = [np.frombuffer(frame, np.uint8).astype(int) for frame in frames]
    n_tokens = len(nmri3d.scan(nmri3d.load(folder), "fMRI", PROMPT).tokens)
    assert len(pictures) == 4 * (0.5 * n_tokens + 1)
    assert np.abs(pictures[0] - pictures[-1]).mean() > 1


def test_a_scan_of_one_step_turns(run, folder, tmp_path):
    code, _, err = run(
        "movie", "-m", folder, "-o", str(tmp_path / "t1.gif"), "--size", "80x45", "--seconds", "0.4", "--fps", "5"
    )
    assert code == 0, err
    assert (tmp_path / "t1.gif").read_bytes()[:6] == b"GIF89a"


@pytest.mark.parametrize(("name", "start"), [("b.glb", b"glTF"), ("b.html", b"<!DOCTYPE html>"), ("b.vtm", b"<?xml")])
def test_export_writes_each_format(run, folder, tmp_path, name, start):
    code, out, _ = run("export", PROMPT, "-m", folder, "-o", str(tmp_path / name), "--surface", "inflated")
    assert code == 0
    assert out.strip() == str(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("movie", PROMPT, "-o", "a.avi"), "a.mp4"),
        (("movie", PROMPT, "-o", "a.mp4", "--size", "wide"), "1920x1080"),
        (("movie", PROMPT, "-o", "a.mp4", "--mode", "T1"), "takes no prompt"),
        (("movie", "-o", "a.mp4", "--mode", "fMRI"), "needs a prompt"),
        (("export", PROMPT, "-o", "a.stl"), ".glb, .html or .vtm"),
    ],
)
def test_bad_usage_is_told_before_a_model_is_loaded(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments, "-m", str(tmp_path / "no-such-model"))
    assert code == 2
    assert words in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_kind_fails_with_the_kinds_and_leaves_no_file(run, folder, tmp_path):
    code, _, err = run("movie", PROMPT, "-m", folder, "-o", str(tmp_path / "a.mp4"), "--kind", "spin")
    assert code == 2
    assert "turntable" in err
    assert list(tmp_path.iterdir()) == []

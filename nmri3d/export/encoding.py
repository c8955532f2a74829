"""Frames to a movie file, by the ffmpeg that the package imageio-ffmpeg brings along.

Convention. MP4 is H.264 in yuv420p, which everything plays; WebM is VP9; both in BT.709 colors and limited range, and tagged
so. A GIF has one palette for all frames, fitted to the whole movie, so that it does not flicker: its frames are kept
in a lossless file until the last one is known. The environment variable IMAGEIO_FFMPEG_EXE names another ffmpeg.

Left out: what the frames show (movie.py), sound.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from nmri3d.errors import MachineError
from nmri3d.files import written_whole

FORMATS = {".mp4": "mp4", ".webm": "webm", ".gif": "gif"}
"""Suffixes that can be written, and ffmpeg's names of their containers."""

_TO_YUV = [
    "-vf",
    "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p",
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
]
_LOSSLESS = ["-c:v", "libx264rgb", "-qp", "0", "-preset", "ultrafast"]
_CODECS = {
    ".mp4": [*_TO_YUV, "-c:v", "libx264", "-preset", "medium", "-crf", "17", "-movflags", "+faststart"],
    ".webm": [*_TO_YUV, "-c:v", "libvpx-vp9", "-b:v", "0", "-crf", "26", "-cpu-used", "4", "-row-mt", "1"],
}
_ONE_PALETTE = (
    "[0:v]split[a][b];[a]palettegen=stats_mode=full[palette];"
    "[b][palette]paletteuse=dither=bayer:bayer_scale=4:diff_mode=rectangle"
)


def write_movie(
    frames: Iterable[np.ndarray], path: Path, *, size: tuple[int, int], fps: float, facts: Mapping[str, str]
) -> None:
    """Encode frames, uint8 [height, width, 3] each, into `path`, whole or not at all; the suffix chooses the format.

    facts: written into the file as its metadata. Whatever `frames` raises ends the encoder and leaves no file.
    Raises MachineError if the encoder is missing or fails.
    """
    suffix = path.suffix.lower()
    described = [text for name, value in facts.items() for text in ("-metadata", f"{name}={_argument(value)}")]
    with written_whole(path) as file:
        target = ["-f", FORMATS[suffix], file.name]
        if suffix != ".gif":
            _encode(frames, [*_CODECS[suffix], *described, *target], size, fps)
            return
        with tempfile.TemporaryDirectory() as folder:
            kept = str(Path(folder) / "frames.mkv")
            _encode(frames, [*_LOSSLESS, kept], size, fps)
            _run([*_ffmpeg(), "-i", kept, "-filter_complex", _ONE_PALETTE, "-loop", "0", *described, *target])


def _argument(text: str) -> str:
    """A text as a program takes it: without NUL, which would end it, and in under 128 kB, the most that Linux hands over."""
    return text.replace("\0", "␀")[:30_000]


def _ffmpeg() -> list[str]:
    import imageio_ffmpeg

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        program = None
    if program is None or shutil.which(program) is None:
        raise MachineError(
            "there is no ffmpeg to write movies with; reinstall imageio-ffmpeg, or name one in IMAGEIO_FFMPEG_EXE"
        )
    return [program, "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]


def _encode(frames: Iterable[np.ndarray], output: list[str], size: tuple[int, int], fps: float) -> None:
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", f"{fps:g}", "-i", "pipe:0"]
    with tempfile.TemporaryFile() as complaints:
        encoder = subprocess.Popen(
            [*_ffmpeg(), *raw, *output], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints
        )
        assert encoder.stdin is not None
        try:
            for frame in frames:
                try:
                    encoder.stdin.write(np.ascontiguousarray(frame).data)
                except OSError:  # it has ended; why stands in its complaints
                    break
            with contextlib.suppress(OSError):
                encoder.stdin.close()
            encoder.wait()
        except BaseException:
            encoder.kill()
            encoder.wait()
            raise
        if encoder.returncode != 0:
            complaints.seek(0)
            _failed(complaints.read())


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        _failed(done.stderr)


def _failed(complaints: bytes) -> None:
    said = complaints.decode(errors="replace").strip().splitlines()
    raise MachineError(
        f"ffmpeg could not write the movie ({said[-1] if said else 'it said nothing'}); "
        "try another format (.mp4, .webm, .gif) or see whether the disk is full"
    )

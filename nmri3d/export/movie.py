"""A scan as a movie: its tokens played through, the brain turned once, or the surface unfolding
and folding again.

Convention. Every frame is the figure that a screenshot would be (image.py): brain, header, color bar, prompt.
tokens: token i has the seconds from i * hold on; its colors come in over the first FADE of them, mixed with those before.
turntable: one turn about the vertical axis at constant speed, from where the camera stands, at the distance from which
the brain always fits; the last frame is one step before the first, so that it loops. morph: from one surface to the
other and back, slow at both ends, under a camera that stands still.
A frame is mixed from two finished pictures while the camera stands still: light falls on mixed colors as on the two, so the
mixture is the picture of the mixed colors, within a rounding step. The lettering is drawn anew only where it changes.
The scene is put back as it was: camera, surface, window.

Left out: encoding (encoding.py), sound.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.errors import AlignmentError, InputError
from nmri3d.export.camera_path import Pose, turned, turntable_pose
from nmri3d.export.encoding import FORMATS, write_movie
from nmri3d.export.facts import model_name
from nmri3d.export.image import ScanFigure, checked_step
from nmri3d.results import Scan
from nmri3d.scene.colors import ColorMap, DisplayRange, display_range, scan_color_map

if TYPE_CHECKING:
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.tracts import TractStyle

KINDS = ("tokens", "turntable", "morph")
HOLD, FADE = 0.5, 0.3
"""Seconds of a token, and of its coming in; as the page plays them."""
LAST = 1.0
"""Seconds for which the last token stays longer."""
TURN_SECONDS, MORPH_SECONDS = 8.0, 6.0
PAUSE = 0.12
"""Share of a morph's time for which it rests at each of the two surfaces."""
SIZE, GIF_SIZE = (1280, 720), (800, 450)
FPS, GIF_FPS = 30.0, 15.0
MOST_FRAMES = 36_000
"""Twenty minutes at 30 frames a second; more is a mistake."""

Progress = Callable[[float, str], None]


def save_movie(
    scene: BrainScene,
    scan: Scan,
    path: str | os.PathLike[str],
    *,
    kind: str = "tokens",
    step: int = -1,
    fps: float | None = None,
    seconds: float | None = None,
    hold: float | None = None,
    size: tuple[int, int] | None = None,
    forms: tuple[str, str] = ("pial", "inflated"),
    color_bar: bool = True,
    header: bool = True,
    display: DisplayRange | None = None,
    colors: ColorMap | None = None,
    tracts: TractStyle | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a movie as MP4, WebM or GIF by the path's suffix, whole or not at all; returns its path.

    kind: one of KINDS. step: the step that a turntable or a morph shows. fps: frames a second (30; 15 for a GIF).
    seconds: length of the whole movie; hold: seconds a token, in its place. size: (width, height) in pixels, even for MP4
    and WebM (1280 x 720; 800 x 450 for a GIF). forms: from which surface or layout of
    balls a morph goes, and to which. display, colors, tracts:
    as in image.save_image. progress: told of the share that is done; whatever it raises ends the work.

    Raises InputError for what cannot be asked, AlignmentError for a scan of other components, MachineError if the
    encoder fails.
    """
    target = movie_path(path)
    gif = target.suffix.lower() == ".gif"
    if kind not in KINDS:
        raise InputError(f"there is no movie of kind {kind!r}; choose one of {', '.join(KINDS)}")
    if scan.components != scene.atlas.components:
        raise AlignmentError("this scan is of other components than the brain; build the brain from the scan's model")
    step = checked_step(scan, step)
    if kind == "tokens" and scan.n_steps < 2:
        raise InputError(
            f"this {scan.mode} scan has one step only and nothing to play through; "
            "choose the kind turntable or morph, or a scan of a longer prompt"
        )
    fps = _checked("frames a second", fps if fps is not None else GIF_FPS if gif else FPS, 1.0, 50.0 if gif else 120.0)
    width, height = _checked_size(size or (GIF_SIZE if gif else SIZE), even=not gif)
    if seconds is not None and hold is not None:
        raise InputError("seconds is the length of the whole movie and hold that of one token; give one of them")
    if hold is not None and kind != "tokens":
        raise InputError(f"hold is the time of one token; a movie of kind {kind} takes seconds")
    if seconds is not None:
        seconds = _checked("seconds", seconds, 0.1, MOST_FRAMES / fps)
    if hold is not None:
        hold = _checked("seconds a token", hold, 0.02, 60.0)

    looks = _Looks(display or display_range(scan), colors or scan_color_map(scan), tracts, color_bar, header)
    with _standing(scene):
        studio = _Studio(scene, scan, (width, height), looks)
        if kind == "tokens":
            count, frames = studio.play_tokens(fps, hold, seconds)
        elif kind == "turntable":
            count, frames = studio.turn(step, fps, seconds or TURN_SECONDS)
        else:
            count, frames = studio.unfold(step, fps, seconds or MORPH_SECONDS, forms)
        if count > MOST_FRAMES:
            raise InputError(
                f"this movie would have {count:,} frames, more than {MOST_FRAMES:,}; "
                "play fewer tokens, or give a shorter hold or fewer frames a second"
            )
        shown = _reporting(frames, count, progress)
        write_movie(shown, target, size=(width, height), fps=fps, facts=_facts(scan, kind))
    if progress is not None:
        progress(1.0, "written")
    return target


def movie_path(path: str | os.PathLike[str]) -> Path:
    """The path with a suffix that can be written, .mp4 where it has none. Raises InputError for any other."""
    target = Path(path)
    if target.suffix.lower() in FORMATS:
        return target
    if target.suffix == "":
        return target.with_suffix(".mp4")
    raise InputError(
        f"movies are written as .mp4, .webm or .gif, not as {target.suffix}; name the file {target.stem}.mp4"
    )


@dataclass(frozen=True)
class _Looks:
    """How the scan is painted, and what stands around the brain."""

    display: DisplayRange
    colors: ColorMap
    tracts: TractStyle | None
    color_bar: bool
    header: bool


class _Studio:
    """Takes the pictures: paints the scene, and keeps the lettering as long as it says the same."""

    def __init__(self, scene: BrainScene, scan: Scan, size: tuple[int, int], looks: _Looks) -> None:
        self._scene, self._scan, self._size, self._looks = scene, scan, size, looks
        self._painted = -1
        self._said: tuple[Any, ...] = ()
        self._lettering = np.zeros((0, 0, 3), dtype=np.uint8)
        self._paint(0)
        # where the brain stands is the same for every step: measure it once, and give the window that size
        self._box = self._figure(0).lay_out(color_bar=looks.color_bar, header=looks.header)
        self._aspect = self._box[2] / self._box[3]
        preset = scene.stage.preset
        scene.render_window.SetSize(self._box[2], self._box[3])
        if preset is not None:
            scene.stage.fit(preset)

    def play_tokens(self, fps: float, hold: float | None, seconds: float | None) -> tuple[int, Iterator[np.ndarray]]:
        """Number of frames, and the frames, of the play-through."""
        n = self._scan.n_steps
        last = LAST
        if seconds is not None:
            last = min(LAST, seconds / (n + 1))
            hold = (seconds - last) / n
        hold = hold or HOLD
        fade = min(FADE, FADE / HOLD * hold)
        count = max(1, round((n * hold + last) * fps))

        def frames() -> Iterator[np.ndarray]:
            at, before, now = 0, self._take(0), self._take(0)
            for number in range(count):
                time = number / fps
                step = min(n - 1, int(time / hold + 1e-9))
                while at < step:
                    at, before, now = at + 1, now, self._take(at + 1)
                share = 1.0 if step == 0 else min(1.0, (time - step * hold) / fade)
                yield now if share >= 1.0 else _mixed(before, now, share)

        return count, frames()

    def turn(self, step: int, fps: float, seconds: float) -> tuple[int, Iterator[np.ndarray]]:
        """Number of frames, and the frames, of one turn."""
        count = max(2, round(seconds * fps))
        self._paint(step)
        position, middle, up = _pose(self._scene)
        direction = position - middle
        start = turntable_pose(self._scene.stage.framing, direction, _upright(direction, up), self._aspect)

        def frames() -> Iterator[np.ndarray]:
            for number in range(count):
                _stand(self._scene, turned(start, 360.0 * number / count))
                yield self._take(step)

        return count, frames()

    def unfold(self, step: int, fps: float, seconds: float, forms: tuple[str, str]) -> tuple[int, Iterator[np.ndarray]]:
        """Number of frames, and the frames, of a morph there and back."""
        count = max(2, round(seconds * fps))
        scene, (a, b) = self._scene, forms
        self._paint(step)
        position, middle, up = _pose(scene)
        framing = []
        for name in (a, b):
            scene.morph(a, b, 0.0 if name == a else 1.0)
            framing.append(scene.stage.framing)
        start = _standing_pose(np.concatenate(framing), position - middle, up, self._aspect)

        def frames() -> Iterator[np.ndarray]:
            for number in range(count):
                scene.morph(a, b, _there_and_back(number / (count - 1)))
                _stand(scene, start)  # a preset view follows the shape; the movie's camera does not
                yield self._take(step)

        return count, frames()

    def _paint(self, step: int) -> None:
        from nmri3d.scene.painting import paint_scan

        if step != self._painted:
            looks = self._looks
            paint_scan(self._scene, self._scan, step, looks.display, looks.colors, tracts=looks.tracts)
            self._painted = step

    def _figure(self, step: int) -> ScanFigure:
        return ScanFigure(
            self._scene, self._scan, step, self._size, 100, False, self._looks.display, self._looks.colors
        )

    def _take(self, step: int) -> np.ndarray:
        """The finished picture of a step as the scene stands, uint8 [height, width, 3]."""
        self._paint(step)
        left, bottom, width, height = self._box
        scene = self._scene
        fov = tuple(round(side) for side in scene.field_of_view((width, height)))
        says = (step, scene.surface, tuple(scene.orientation_letters().values()), fov)
        if says != self._said:
            figure = self._figure(step)
            figure.lay_out(color_bar=self._looks.color_bar, header=self._looks.header)
            self._lettering, self._said = figure.lettering(), says
        frame = self._lettering.copy()
        top = self._size[1] - bottom - height
        frame[top : top + height, left : left + width] = scene.screenshot((width, height))
        return frame


@contextmanager
def _standing(scene: BrainScene) -> Iterator[None]:
    """Put camera, surface and window back afterwards."""
    window = scene.render_window
    preset, pose, surface, size = scene.stage.preset, scene.stage.pose, scene.surface, tuple(window.GetSize())
    try:
        yield
    finally:
        window.SetSize(*size)
        if surface is not None and scene.surface != surface:
            scene.show_form(surface)
        if preset is not None:
            scene.stage.fit(preset)
        else:
            scene.stage.stand(pose)


def _pose(scene: BrainScene) -> Pose:
    camera = scene.plotter.camera
    return np.array(camera.GetPosition()), np.array(camera.GetFocalPoint()), np.array(camera.GetViewUp())


def _stand(scene: BrainScene, pose: Pose) -> None:
    from nmri3d.scene.camera import VIEW_ANGLE

    scene.stage.stand((*(tuple(part) for part in pose), (VIEW_ANGLE,)))


def _upright(direction: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The camera's up without its tilt to the side, so that the axis of the turn stands upright in the picture."""
    forward = direction / np.linalg.norm(direction)
    vertical = np.array([0.0, 0.0, 1.0])
    upright = vertical - (vertical @ forward) * forward
    if np.linalg.norm(upright) < 0.1:  # seen from above or below, the brain turns in the picture's plane
        return up
    result: np.ndarray = upright / np.linalg.norm(upright)
    return result


def _standing_pose(points: np.ndarray, direction: np.ndarray, up: np.ndarray, aspect: float) -> Pose:
    from nmri3d.scene.camera import fit

    focal_point, position = fit(points.astype(np.float64), direction, up, aspect=aspect)
    return position, focal_point, up


def _there_and_back(time: float) -> float:
    """Place of a morph, 0..1, at a share of its time: rests, goes, rests, comes back; slow at both ends."""
    way = 1.0 - abs(2.0 * time - 1.0)
    going = min(1.0, max(0.0, (way - PAUSE) / (1.0 - 2 * PAUSE)))
    return going * going * (3.0 - 2.0 * going)


def _mixed(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    weight = round(share * 256)
    mixed = a.astype(np.uint16) * (256 - weight) + b.astype(np.uint16) * weight + 128
    result: np.ndarray = (mixed >> 8).astype(np.uint8)
    return result


def _reporting(frames: Iterator[np.ndarray], count: int, progress: Progress | None) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames):
        if progress is not None:
            progress(0.99 * number / count, f"frame {number + 1} of {count}")
        yield frame


def _checked(what: str, value: float, low: float, high: float) -> float:
    if isinstance(value, bool) or not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"{what} must lie between {low:g} and {high:g}, got {value!r}")
    return float(value)


def _checked_size(size: tuple[int, int], *, even: bool) -> tuple[int, int]:
    from nmri3d.scene.stage import checked_size

    width, height = checked_size(size)
    if even and (width % 2 or height % 2):
        raise InputError(
            f"the sides of an MP4 or WebM movie are even numbers of pixels; "
            f"take {width - width % 2} x {height - height % 2} in place of {width} x {height}"
        )
    if min(width, height) < 16:
        raise InputError(f"a movie has at least 16 pixels a side, got {width} x {height}")
    return width, height


def _facts(scan: Scan, kind: str) -> dict[str, str]:
    provenance = scan.provenance
    comment = f"{kind}; weights {provenance.fingerprint}; {scan.units}"
    if provenance.prompt:
        comment += f"; prompt: {provenance.prompt}"
    return {"title": f"{scan.mode} of {model_name(provenance.model_id)}", "artist": "nmri3d", "comment": comment}

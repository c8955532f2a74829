"""The stage: render window, lights and camera of a scene, and the pictures that are taken of it.

Convention. Points are mm in RAS; pixels count from the top left corner of the picture. A camera that still stands where
a preset put it is fitted anew when the picture's shape changes; a camera that was turned by hand keeps showing at
least what it showed.

Left out: what stands on the stage (brain.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyvista
from vtkmodules.vtkCommonCore import vtkLogger
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

from nmri3d.errors import InputError, MachineError
from nmri3d.scene.camera import VIEW_ANGLE, VIEWS, fit, orientation_letters

CameraState = tuple[tuple[float, ...], ...]

LONGEST_SIDE = 16384
"""Longest side of a picture in pixels: what Mesa and common graphics cards hold in one frame buffer."""
_LIGHTS = (  # position in camera coordinates, intensity
    ((-0.35, 0.55, 1.0), 0.67),  # key
    ((0.9, 0.1, 0.75), 0.39),  # fill
    ((0.1, -0.9, 0.5), 0.26),  # from below
)


class Stage:
    """A render window with three lights fixed to the camera; a face turned to the viewer gets a sum of 1 from them.

    plotter, render_window   PyVista's plotter and VTK's window; close() frees both
    framing                  float64 [n, 3], the points that a preset view fits into the picture; set by the owner
    supersample              draw pictures at twice their size and average: smooth edges where translucent surfaces
                             switch VTK's own smoothing off; set by the owner
    """

    def __init__(self, *, off_screen: bool, background: str) -> None:
        self.plotter = _quiet_plotter(off_screen)
        self._background = pyvista.Color(background).float_rgb
        self.plotter.renderer.SetBackground(self._background)
        window: Any = self.plotter.render_window
        self.render_window = window
        self.render_window.SetAlphaBitPlanes(True)
        self.plotter.enable_anti_aliasing("msaa", multi_samples=8)
        for position, intensity in _LIGHTS:
            light = pyvista.Light(position=position, intensity=intensity, light_type="camera light")
            self.plotter.add_light(light)
        self.framing = np.zeros((1, 3))
        self.supersample = False
        self._preset: tuple[str, CameraState] | None = None
        self._closed = False

    def fit(self, preset: str, size: tuple[int, int] | None = None) -> None:
        """Stand the camera at a preset of camera.VIEWS, at the distance that fits `framing` into the picture."""
        side, up = VIEWS[preset].side, VIEWS[preset].up
        focal_point, position = fit(
            self.framing, np.array(side), np.array(up), aspect=_aspect(size or self.render_window.GetSize())
        )
        camera = self.plotter.camera
        camera.SetViewAngle(VIEW_ANGLE)
        camera.SetFocalPoint(*focal_point)
        camera.SetPosition(*position)
        camera.SetViewUp(*up)
        self.plotter.camera_set = True
        self.plotter.renderer.ResetCameraClippingRange()
        self._preset = (preset, self._camera_state())

    @property
    def preset(self) -> str | None:
        """The preset at which the camera still stands, None if it has been moved since."""
        return self._preset[0] if self._preset is not None and self._preset[1] == self._camera_state() else None

    @property
    def pose(self) -> CameraState:
        """Where the camera stands: position, focal point, up, and the angle of view in degrees."""
        return self._camera_state()

    def stand(self, pose: CameraState) -> None:
        """Stand the camera at a pose."""
        position, focal_point, view_up, (angle,) = pose
        camera = self.plotter.camera
        camera.SetPosition(*position)
        camera.SetFocalPoint(*focal_point)
        camera.SetViewUp(*view_up)
        camera.SetViewAngle(angle)
        self.plotter.renderer.ResetCameraClippingRange()

    def orientation_letters(self) -> dict[str, str]:
        """Letters at the picture's edges for the current camera."""
        camera = self.plotter.camera
        return orientation_letters(
            np.array(camera.GetPosition()), np.array(camera.GetFocalPoint()), np.array(camera.GetViewUp())
        )

    def ray(self, x: float, y: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Where the line of sight through a pixel enters and leaves the scene, float64 [3] each; None off the window."""
        width, height = self.render_window.GetSize()
        if not (0 <= x < width and 0 <= y < height):
            return None
        renderer = self.plotter.renderer
        renderer.ResetCameraClippingRange()
        ends = []
        for depth in (0.0, 1.0):
            renderer.SetDisplayPoint(x + 0.5, height - y - 0.5, depth)
            renderer.DisplayToWorld()
            world = np.array(renderer.GetWorldPoint())
            ends.append(world[:3] / world[3])
        return ends[0], ends[1]

    def field_of_view(self, size: tuple[int, int] | None = None) -> tuple[float, float]:
        """Width and height in mm that a picture of this size shows, measured at the camera's focal point."""
        with self._framed(size):
            camera = self.plotter.camera
            height = 2 * camera.GetDistance() * math.tan(math.radians(camera.GetViewAngle() / 2))
            return height * _aspect(self.render_window.GetSize()), height

    def screenshot(self, size: tuple[int, int] | None, transparent: bool) -> np.ndarray:
        """A picture, uint8 [height, width, 3], or [..., 4] with straight alpha; window and camera stay as they were."""
        if not self.supersample:
            with self._framed(size):
                return _straight(self._grab(transparent), transparent)
        width, height = checked_size(size or self.render_window.GetSize())
        if 2 * max(width, height) > LONGEST_SIDE:  # so large a picture has no visible steps
            with self._framed((width, height)):
                return _straight(self._grab(transparent), transparent)
        with self._framed((2 * width, 2 * height)), self._without_multisampling():
            large = self._grab(transparent).reshape(height, 2, width, 2, 4).astype(np.uint16)
        return _straight(((large.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8), transparent)

    def close(self) -> None:
        """Free window and plotter; safe to call twice."""
        if not self._closed:
            self._closed = True
            self.plotter.close()
            self.render_window.Finalize()

    @contextmanager
    def _framed(self, size: tuple[int, int] | None) -> Iterator[None]:
        """The window at another size, the camera fitted to it; both are put back afterwards."""
        before = tuple(self.render_window.GetSize())
        size = checked_size(size or before)
        camera = self.plotter.camera
        state = self.pose
        preset = self.preset
        try:
            self.render_window.SetSize(*size)
            if preset is not None:
                self.fit(preset, size)
            elif _aspect(size) < _aspect(before):  # keep the width of what is shown, too
                tangent = math.tan(math.radians(state[3][0] / 2)) * _aspect(before) / _aspect(size)
                camera.SetViewAngle(math.degrees(2 * math.atan(tangent)))
            yield
        finally:
            self.render_window.SetSize(*before)
            self.stand(state)
            if preset is not None:
                self._preset = (preset, self._camera_state())

    @contextmanager
    def _without_multisampling(self) -> Iterator[None]:
        """Averaging four pixels is smooth enough, and samples inside of each would double the cost of a picture."""
        samples = self.render_window.GetMultiSamples()
        self.render_window.SetMultiSamples(0)
        try:
            yield
        finally:
            self.render_window.SetMultiSamples(samples)

    def _grab(self, transparent: bool) -> np.ndarray:
        """The window as it is, uint8 [height, width, 4]; `transparent`: colors come multiplied by their alpha."""
        renderer = self.plotter.renderer
        renderer.ResetCameraClippingRange()
        try:
            if transparent:  # on black, the picture comes out with its alpha already multiplied in
                renderer.SetBackground(0.0, 0.0, 0.0)
                renderer.SetBackgroundAlpha(0.0)
            self.render_window.Render()
            grab = vtkWindowToImageFilter()
            grab.SetInput(self.render_window)
            grab.ReadFrontBufferOff()
            grab.ShouldRerenderOff()
            grab.SetInputBufferTypeToRGBA()
            grab.Update()
        finally:
            renderer.SetBackground(self._background)
            renderer.SetBackgroundAlpha(1.0)
        image = pyvista.wrap(grab.GetOutput())
        width, height, _ = image.dimensions
        if image.active_scalars is None or width * height == 0:
            raise MachineError("the renderer gave no picture; install a software OpenGL (libegl1 on Debian)")
        return np.ascontiguousarray(image.active_scalars.reshape(height, width, 4)[::-1])

    def _camera_state(self) -> CameraState:
        camera = self.plotter.camera
        return (camera.GetPosition(), camera.GetFocalPoint(), camera.GetViewUp(), (camera.GetViewAngle(),))


def checked_size(size: tuple[int, ...]) -> tuple[int, int]:
    """A picture's size as whole numbers. Raises InputError for one that cannot be rendered."""
    if len(size) != 2 or any(int(side) != side or not 1 <= side <= LONGEST_SIDE for side in size):
        raise InputError(f"a picture's size is (width, height) in whole pixels, 1 to {LONGEST_SIDE} each; got {size}")
    return int(size[0]), int(size[1])


def _straight(pixels: np.ndarray, transparent: bool) -> np.ndarray:
    """Pixels [..., 4] multiplied by their alpha to straight alpha; or without the channel, [..., 3]."""
    if not transparent:
        return np.ascontiguousarray(pixels[..., :3])
    soft = (pixels[..., 3] > 0) & (pixels[..., 3] < 255)
    color = pixels[soft].astype(np.float64)
    pixels[soft, :3] = np.minimum(np.floor(color[:, :3] * 255 / color[:, 3:] + 0.5), 255).astype(np.uint8)
    return pixels


def _aspect(size: tuple[int, ...]) -> float:
    return size[0] / max(1, size[1])


def _quiet_plotter(off_screen: bool) -> pyvista.Plotter:
    """A plotter, without VTK's warning on standard error that a server has no X display (it then takes EGL)."""
    verbosity = vtkLogger.GetCurrentVerbosityCutoff()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
    try:
        return pyvista.Plotter(off_screen=off_screen, lighting="none", window_size=[1280, 720])
    finally:
        vtkLogger.SetStderrVerbosity(verbosity)

"""Slices and the volume on the page: what the browser draws is what the library draws, and painting costs no traffic."""

from __future__ import annotations

import asyncio
import io
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from nmri3d.app.hidden_volume import HIDDEN, add_hidden_volume
from nmri3d.app.parts.volume import VOXEL, VolumePart, volume_payload
from nmri3d.app.pictures import Pictures, read_wish
from nmri3d.atlas.volume import LabelVolume, component_points, label_volume
from nmri3d.errors import InputError
from nmri3d.scans import scan as measure
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.colors import component_colors, display_range, scan_color_map, strengths
from nmri3d.scene.slices import CONVENTION, PLANES, point_in_slice, slice_image, slice_labels
from nmri3d.scene.volume import SAMPLE_DISTANCE
from tests.app.conftest import PROMPT, by, opened, scan, serving
from tests.app.test_page import frame, picture, quiet, still

VOLUME_SHOWN = "nmri3d.labels.current() && nmri3d.painter.layers.some((layer) => layer.still)"

PIXELS = """(name) => {
  const volume = nmri3d.labels.current();
  const slice = nmri3d.slices.cutSlice(volume, volume.slices.planes[name]);
  return Array.from(nmri3d.slices.pixels(slice, nmri3d.slices.shownColors(), volume.slices).data);
}"""

VOXELS = """(step) => {
  const layer = nmri3d.painter.layers.find((one) => one.still);
  const bytes = layer.scalars.getData();
  const { cortex } = layer.volume;
  const found = [];
  for (let at = 0; at < cortex.length; at += step)
    found.push(cortex[at], ...bytes.subarray(cortex[at] * 4, cortex[at] * 4 + 4));
  return { found, count: cortex.length, total: bytes.length, sum: bytes.reduce((sum, one) => sum + one, 0) };
}"""


@pytest.fixture(scope="module")
def volume(atlas: Any) -> LabelVolume:
    return label_volume(atlas, VOXEL)


@pytest.fixture(scope="module")
def fmri(service: Any) -> Any:
    return measure(service.backend, "fMRI", PROMPT)


@pytest.fixture
def scanned(page: Any) -> Any:
    """The page with an fMRI scan of PROMPT."""
    scan(page)
    return page


@pytest.fixture
def sliced(scanned: Any) -> Any:
    scanned.click(by("slices"))
    scanned.wait_for_selector(by("slice-axial"))
    still(scanned)
    return scanned


@pytest.fixture
def voxels(scanned: Any) -> Any:
    scanned.click(by("volume"))
    scanned.wait_for_function(VOLUME_SHOWN)
    still(scanned)
    scanned.wait_for_function("nmri3d.painter.layers.find((one) => one.still).table")
    return scanned


def point(page: Any) -> list[float]:
    found: list[float] = page.evaluate("[...nmri3d.slices.state.point]")
    return found


def go_to(page: Any, place: Any) -> None:
    page.evaluate(f"nmri3d.slices.state.point = {[float(mm) for mm in place]}")
    still(page)


def place_of(page: Any, name: str, volume: LabelVolume, mm: Any) -> tuple[float, float]:
    """Where a point in mm is on the screen, in the slice that is shown."""
    plane = PLANES[name]
    index = volume.index_of(np.asarray(mm, dtype=float))
    box = page.locator(by(f"slice-{name}")).bounding_box()
    shape = volume.shape
    across = (shape[plane.across] - index[plane.across] - 0.5) / shape[plane.across]
    down = (shape[plane.down] - index[plane.down] - 0.5) / shape[plane.down]
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


# -- slices -------------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_slices_are_those_of_the_library(sliced: Any, volume: LabelVolume, fmri: Any) -> None:
    display = display_range(fmri)
    for place in ((-32.0, -20.0, 14.0), (40.0, 12.0, -8.0)):
        go_to(sliced, place)
        for step in (0, fmri.n_steps - 1):
            sliced.click(by(f"token-{step}"))
            colors = component_colors(fmri.values[step], display, scan_color_map(fmri))
            for name, plane in PLANES.items():
                expected = slice_image(volume, name, place[plane.cut], colors)
                found = np.reshape(sliced.evaluate(PIXELS, name), expected.shape)
                # Half-way between two colors of the table, float32 in the browser may round to the other one.
                differ = (found != expected).any(axis=-1)
                assert differ.sum() < 0.02 * (expected[..., 3] > 0).sum()
                np.testing.assert_array_equal(found[..., 3], expected[..., 3])
    sliced.locator(by("threshold")).fill("1")
    below = slice_image(volume, "axial", -8.0, np.zeros((len(fmri.components), 4), dtype=np.uint8))
    found = np.reshape(sliced.evaluate(PIXELS, "axial"), below.shape)
    assert (found == below).all(axis=-1).mean() > 0.95


@pytest.mark.browser
def test_what_is_on_the_screen_is_the_slice(sliced: Any, volume: LabelVolume, fmri: Any) -> None:
    from PIL import Image

    colors = component_colors(fmri.values[-1], display_range(fmri), scan_color_map(fmri))
    place = point(sliced)
    shot = sliced.locator(by("slice-coronal")).screenshot()
    shown = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    expected = slice_image(volume, "coronal", place[1], colors)
    height, width = shown.shape[:2]
    rows = ((np.arange(height) + 0.5) * expected.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * expected.shape[1] / width).astype(int)
    drawn = expected[rows][:, columns]
    seen = drawn[..., 3] > 0
    alike = (np.abs(shown - drawn[..., :3]).max(axis=-1) < 12)[seen]
    assert alike.mean() > 0.9  # the rest is crosshair, and voxels that are cut by a pixel
    letters = {side: sliced.inner_text(f".slice.coronal .edge.{side}") for side in ("left", "right", "top", "bottom")}
    assert letters == {"left": "R", "right": "L", "top": "S", "bottom": "I"}
    assert CONVENTION.split(":")[0].upper() in sliced.inner_text(by("slices-convention"))
    assert "left on the right" in sliced.inner_text(by("slices-convention"))


@pytest.mark.browser
def test_a_click_on_a_slice_moves_there_and_selects(sliced: Any, volume: LabelVolume, atlas: Any) -> None:
    row = atlas.components.row("blocks.1.mlp")
    center = component_points(atlas)[row].astype(float)
    go_to(sliced, center)
    labels, _ = slice_labels(volume, "axial", center[2])
    found = np.argwhere(labels == row)
    down, across = found[len(found) // 3]
    target = point_in_slice(volume, "axial", center, across + 0.5, down + 0.5)
    sliced.mouse.click(*place_of(sliced, "axial", volume, target))
    sliced.wait_for_function(f"nmri3d.store.selected === {row}")
    still(sliced)
    np.testing.assert_allclose(point(sliced), target, atol=0.51)  # where it was clicked, not the component's center
    assert sliced.inner_text(".slices-facts b") == "blocks.1.mlp"
    empty = volume.point_of(np.array([2, 2, volume.index_of(center)[2]]))
    sliced.mouse.click(*place_of(sliced, "axial", volume, empty))
    still(sliced)
    assert sliced.evaluate("nmri3d.store.selected") == row  # nothing is there
    np.testing.assert_allclose(point(sliced)[:2], empty[:2], atol=0.51)


@pytest.mark.browser
def test_a_click_on_the_brain_moves_the_crosshair(sliced: Any, atlas: Any) -> None:
    sliced.select_option(by("view-menu"), "lateral_left")
    still(sliced)
    box = frame(sliced)
    sliced.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    sliced.wait_for_function("nmri3d.store.selected >= 0")
    still(sliced)
    row = sliced.evaluate("nmri3d.store.selected")
    np.testing.assert_allclose(point(sliced), component_points(atlas)[row], atol=1e-3)
    outlined = sliced.evaluate(
        """() => {
          const canvas = document.querySelector('[data-testid="slice-axial"]');
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let count = 0;
          for (let at = 0; at < data.length; at += 4) count += data[at] === 0 && data[at + 1] === 255 && data[at + 2] === 170;
          return count;
        }"""
    )
    assert outlined > 10


@pytest.mark.browser
def test_wheel_and_keys_step_slices_and_not_tokens(sliced: Any) -> None:
    before, token = point(sliced), sliced.evaluate("nmri3d.currentStep()")
    sliced.focus(by("slice-sagittal"))
    for key, moved in (("ArrowUp", 1), ("ArrowLeft", 0), ("PageUp", 10), ("ArrowDown", 9), ("ArrowRight", 10)):
        sliced.keyboard.press(key)
        assert point(sliced) == [before[0] + moved, before[1], before[2]]
    assert sliced.evaluate("nmri3d.currentStep()") == token
    sliced.locator(by("slice-axial")).hover()
    sliced.mouse.wheel(0, -120)
    sliced.wait_for_function(f"nmri3d.slices.state.point[2] === {before[2] + 1}")
    slider = sliced.locator(by("slice-axial"))
    assert slider.get_attribute("aria-valuenow") == f"{before[2] + 1:.0f}"
    for _ in range(3):
        sliced.evaluate("nmri3d.slices.state.point = [0, 0, 1000]")
        sliced.focus(by("slice-axial"))
        sliced.keyboard.press("ArrowUp")
    assert point(sliced)[2] == float(slider.get_attribute("aria-valuemax"))  # it stops at the last one


@pytest.mark.browser
def test_slices_and_volume_repaint_without_traffic(voxels: Any, settled: Any, fmri: Any) -> None:
    page = voxels
    page.click(by("slices"))
    page.wait_for_selector(by("slice-axial"))
    settled(page)
    page.traffic.clear()
    for step in range(fmri.n_steps):
        page.click(by(f"token-{step}"))
    page.locator(by("threshold")).fill("0.4")
    page.focus(by("slice-axial"))
    page.keyboard.press("PageUp")
    page.select_option(by("view-menu"), "dorsal")
    page.click(by("volume"))
    page.click(by("slices"))
    page.click(by("volume"))
    page.click(by("slices"))
    still(page)
    settled(page)
    assert page.traffic.n_bytes == 0


@pytest.mark.browser
@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)])
def test_the_brain_keeps_half_of_the_canvas(browser: Any, server: Any, size: tuple[int, int]) -> None:
    page = opened(browser, server.address, size)
    page.click(by("slices"))
    page.wait_for_selector(by("slice-axial"))
    still(page)
    canvas = page.locator(".canvas").bounding_box()
    brain = frame(page)
    assert brain["width"] >= 0.5 * canvas["width"]
    boxes = [page.locator(by(f"slice-{name}")).bounding_box() for name in PLANES]
    boxes.append(page.locator(".slices-facts").bounding_box())
    for number, box in enumerate(boxes):
        assert box["x"] >= brain["x"] + brain["width"]
        assert box["x"] + box["width"] <= canvas["x"] + canvas["width"] + 1
        assert canvas["y"] - 1 <= box["y"] <= box["y"] + box["height"] <= canvas["y"] + canvas["height"] + 1
        for other in boxes[:number]:
            apart = (
                box["x"] >= other["x"] + other["width"]
                or other["x"] >= box["x"] + box["width"]
                or box["y"] >= other["y"] + other["height"]
                or other["y"] >= box["y"] + box["height"]
            )
            assert apart
    scale = page.evaluate("nmri3d.slices.state.scale")
    bar = page.locator(".scale-bar i").bounding_box()
    assert bar["width"] == pytest.approx(50 * scale, abs=1)
    assert boxes[0]["width"] == pytest.approx(scale * page.evaluate("nmri3d.labels.current().shape[0]"), abs=1)
    page.close()


# -- the volume ---------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_browser_writes_the_bytes_that_the_server_writes(
    voxels: Any, atlas: Any, volume: LabelVolume, fmri: Any
) -> None:
    row = int(atlas.components.row("blocks.0.mlp"))
    voxels.evaluate(f"nmri3d.select({row})")
    still(voxels)
    found = voxels.evaluate(VOXELS, 53)
    assert found["count"] == (volume.labels >= 0).sum()
    assert found["total"] == 4 * volume.labels.size
    display = display_range(fmri)
    with BrainScene(atlas) as scene:
        actor = scene.show_volume(volume)
        assert actor is not None
        scene.select(row)
        values = fmri.values[-1]
        actor.paint(component_colors(values, display, scan_color_map(fmri)), strengths(values, display))
        expected = actor._rgba.astype(int)
    sample = np.reshape(found["found"], (-1, 5))
    np.testing.assert_allclose(sample[:, 1:], expected[sample[:, 0]], atol=2)
    assert (sample[:, 1:] == expected[sample[:, 0]]).mean() > 0.97
    assert found["sum"] == pytest.approx(expected.sum(), rel=0.005)
    assert (sample[:, 1:4] == (0, 255, 170)).all(axis=1).any()  # the selection's border


def _painted(fmri: Any) -> tuple[np.ndarray, np.ndarray]:
    display = display_range(fmri)
    return component_colors(fmri.values[-1], display, scan_color_map(fmri)), strengths(fmri.values[-1], display)


@pytest.mark.browser
def test_browser_and_server_draw_the_same_volume(voxels: Any, atlas: Any, volume: LabelVolume, fmri: Any) -> None:
    quiet(voxels)
    voxels.select_option(by("view-menu"), "lateral_left")
    still(voxels)
    voxels.wait_for_timeout(1500)
    shown = picture(voxels).astype(float)
    pose = voxels.evaluate("nmri3d.painter.camera.get('position', 'focalPoint', 'viewUp', 'viewAngle')")
    with BrainScene(atlas) as scene:
        actor = scene.show_volume(volume)
        assert actor is not None
        actor.paint(*_painted(fmri))
        camera = scene.plotter.camera
        camera.position, camera.focal_point, camera.up = pose["position"], pose["focalPoint"], pose["viewUp"]
        camera.view_angle = pose["viewAngle"]
        scene.render_window.SetSize(shown.shape[1], shown.shape[0])
        drawn = scene.screenshot().astype(float)
        places = [(0.42, 0.4), (0.5, 0.5), (0.58, 0.45), (0.36, 0.5), (0.66, 0.52), (0.5, 0.3), (0.02, 0.02)]
        height, width = shown.shape[:2]
        server = [scene.pick(x * width, y * height) for x, y in places]
    assert np.abs(shown - drawn).mean() < 4
    lit = drawn.max(axis=-1) > 40
    assert lit.mean() > 0.15
    assert np.corrcoef(shown[lit].ravel(), drawn[lit].ravel())[0, 1] > 0.97
    box = frame(voxels)
    browser = [
        voxels.evaluate(
            "([clientX, clientY]) => nmri3d.painter.pick({ clientX, clientY }).row",
            [box["x"] + x * box["width"], box["y"] + y * box["height"]],
        )
        for x, y in places
    ]
    assert browser == [-1 if row is None else row for row in server]
    assert len(set(browser)) > 2


@pytest.mark.browser
def test_the_volume_takes_the_place_of_the_surface_and_gives_it_back(voxels: Any) -> None:
    visible = """() => {
      const { painter } = nmri3d;
      return [painter.actor, painter.marks.borders].map((actor) => actor.getVisibility());
    }"""
    pose = "nmri3d.painter.camera.get('position', 'focalPoint')"
    assert voxels.evaluate(visible) == [False, False]
    assert voxels.locator(by("toggle-borders")).is_disabled()
    before = voxels.evaluate(pose)
    voxels.click(by("volume"))
    still(voxels)
    assert voxels.evaluate(visible) == [True, True]
    assert voxels.evaluate(pose) == before
    assert not voxels.evaluate(VOLUME_SHOWN)
    quiet(voxels)
    surface = picture(voxels)
    voxels.click(by("volume"))
    voxels.wait_for_function(VOLUME_SHOWN)
    voxels.select_option(by("surface-menu"), "inflated")  # another surface ends it
    voxels.wait_for_function(f"!({VOLUME_SHOWN})")
    still(voxels)
    assert voxels.evaluate(visible) == [True, True]
    assert voxels.get_attribute(by("volume"), "aria-pressed") == "false"
    voxels.click(by("volume"))  # and it comes back as pial
    voxels.wait_for_function(VOLUME_SHOWN)
    assert voxels.input_value(by("surface-menu")) == "pial"
    voxels.click(by("volume"))
    still(voxels)
    voxels.wait_for_timeout(300)
    np.testing.assert_allclose(picture(voxels).astype(int).mean(), surface.astype(int).mean(), atol=3)


@pytest.mark.browser
def test_a_hidden_half_is_not_drawn(voxels: Any, atlas: Any) -> None:
    quiet(voxels)
    voxels.select_option(by("view-menu"), "dorsal")
    still(voxels)
    voxels.wait_for_timeout(1500)
    both = (picture(voxels).max(axis=-1) > 40).mean()
    voxels.evaluate("nmri3d.painter.showHemispheres('left')")
    voxels.evaluate("nmri3d.painter.requestDraw()")
    still(voxels)
    voxels.wait_for_timeout(1500)
    shown = picture(voxels).max(axis=-1) > 40
    width = shown.shape[1]
    assert 0.3 * both < shown.mean() < 0.7 * both
    assert shown[:, int(0.55 * width) :].mean() < 0.02  # seen from above, left is on the left


@pytest.mark.browser
def test_with_remote_rendering_there_are_slices_and_no_volume(browser: Any, service: Any) -> None:
    with serving(service, render="remote") as server:
        page = opened(browser, server.address)
        scan(page)
        assert page.locator(by("volume")).count() == 0
        page.click(by("slices"))
        page.wait_for_selector(by("slice-axial"))
        page.wait_for_timeout(300)
        colored = page.evaluate(PIXELS, "axial")
        assert max(colored) == 255
        page.close()


@pytest.mark.browser
def test_the_volume_waits_for_labels_that_the_slices_already_asked_for(
    scanned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(atlas: Any, voxel: float) -> LabelVolume:
        time.sleep(3)
        return label_volume(atlas, voxel)

    monkeypatch.setattr("nmri3d.app.parts.volume.label_volume", slow)
    scanned.click(by("slices"))
    scanned.click(by("volume"))
    scanned.wait_for_function(VOLUME_SHOWN)
    scanned.wait_for_selector(by("slice-axial"))


@pytest.mark.browser
def test_keys_open_slices_and_volume(scanned: Any) -> None:
    assert scanned.locator(by("slice-axial")).count() == 0
    scanned.evaluate("document.activeElement.blur()")  # else it is typed into the prompt
    scanned.keyboard.press("s")
    scanned.wait_for_selector(by("slice-axial"))
    scanned.keyboard.press("v")
    scanned.wait_for_function(VOLUME_SHOWN)
    scanned.keyboard.press("v")
    scanned.keyboard.press("s")
    scanned.wait_for_function(f"!({VOLUME_SHOWN})")
    assert scanned.locator(by("slice-axial")).count() == 0


# -- the server's side --------------------------------------------------------------------------------------------------


def test_the_payload_holds_the_volume(atlas: Any, volume: LabelVolume) -> None:
    payload = volume_payload(atlas, volume)
    x, y, z = payload["shape"]
    codes = np.frombuffer(zlib.decompress(payload["codes"]), dtype="<u2").reshape(z, y, x).transpose(2, 1, 0)
    np.testing.assert_array_equal(
        codes.astype(int) - 2, np.where(volume.labels >= 0, volume.labels, volume.tissue / 2 - 2)
    )
    np.testing.assert_array_equal(payload["origin"], volume.affine[:3, 3])
    assert len(payload["codes"]) < 300_000
    assert sum(len(part) for part in payload.values() if isinstance(part, bytes)) < 320_000
    assert len(payload["points"]) == 12 * len(atlas.components)


def test_a_volume_of_a_brain_that_is_gone_is_refused(atlas: Any) -> None:
    class Brain:
        epoch = 3

    class Visit:
        brain: Any = Brain()
        places: list[str] = []  # noqa: RUF012

        async def supervise(self, work: Any, place: str) -> Any:
            try:
                return await work
            except InputError as error:
                self.places.append(f"{place}: {error}")

    visit = Visit()
    ask = VolumePart(visit).handlers()["label_volume"]  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as thread:  # this one may be Playwright's
        for wrong in (2, "3", None, 3.5):
            assert thread.submit(asyncio.run, ask(wrong)).result() is None
        visit.brain = None
        assert thread.submit(asyncio.run, ask(3)).result() is None
    assert len(visit.places) == 5
    assert "no longer shown" in visit.places[0]


def test_a_picture_to_keep_shows_the_volume(
    atlas: Any, volume: LabelVolume, fmri: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.setattr("nmri3d.app.pictures.SIZE", (640, 360))
    message = {
        "step": fmri.n_steps - 1,
        "form": ["pial", "pial", 0],
        "view": "lateral_left",
        "palette": "standard",
        "threshold": 0,
        "range": None,
        "camera": {"position": [-600, -20, 15], "focalPoint": [0, -20, 15], "viewUp": [0, 0, 1], "viewAngle": 20},
        "aspect": 1.78,
    }
    pictures = Pictures(atlas)
    shown = []
    for voxels in (True, False, True):
        wish = read_wish({**message, "volume": voxels}, fmri, -1, None)
        with ThreadPoolExecutor(1) as thread:  # as on the page: every picture from a thread of its own
            png = thread.submit(pictures.draw, fmri, wish).result()
        shown.append(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int))
    pictures.close()
    jitter = np.abs(shown[0] - shown[2]).mean()  # of the rays
    assert jitter < 0.5
    assert np.abs(shown[0] - shown[1]).mean() > 4 * max(jitter, 0.3)
    lit = shown[0].max(axis=-1) > 60
    assert 0.05 < lit.mean() < 0.7


@pytest.fixture
def sent(atlas: Any) -> Iterator[Any]:
    """What trame-vtk sends of a prop."""
    from trame_vtk.modules.vtk.serializers import SynchronizationContext, initialize_serializers, serialize

    initialize_serializers()
    with BrainScene(atlas) as scene:

        def send(prop: Any) -> Any:
            return serialize(None, prop, "a prop", SynchronizationContext(), 1)

        yield scene, send


def test_the_hidden_volume_is_sent_whole_and_invisible(sent: Any, volume: LabelVolume) -> None:
    from trame_vtk.modules.vtk.serializers import initialize_serializers

    scene, send = sent
    hidden = add_hidden_volume(scene)
    initialize_serializers()  # as the next visitor's connection does
    message = send(hidden)
    assert hidden.GetObjectName() == HIDDEN
    assert message["type"] == "vtkVolume"
    assert message["properties"]["visibility"] == 0
    assert {call[0] for call in message["calls"]} == {"setMapper", "setProperty"}
    mapper = next(part for part in message["dependencies"] if part["type"] == "vtkVolumeMapper")
    assert mapper["properties"]["sampleDistance"] == pytest.approx(SAMPLE_DISTANCE)
    assert mapper["dependencies"][0]["type"] == "vtkImageData"
    assert send(scene.show_volume(volume).actor)["properties"]["visibility"] == 1  # any other is sent as ever

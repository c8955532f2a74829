"""The self-contained page, in a browser without a network."""

import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from nmri3d.errors import InputError
from nmri3d.export.web_page import save_web_page
from nmri3d.results import Provenance
from nmri3d.scene.colors import display_range, scan_color_map
from nmri3d.scene.painting import paint_scan
from tests.app.conftest import ARGUMENTS
from tests.export.conftest import make_scan

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SIZE = (960, 540)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (apt install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def opened(browser):
    """Opens a file without a network; what its scripts complain about, and every further request, fails the test."""
    contexts, complaints = [], []

    def open_page(path):
        context = browser.new_context(viewport={"width": SIZE[0], "height": SIZE[1]}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("request", lambda asked: complaints.append(asked.url) if asked.url != path.as_uri() else None)
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(path.as_uri())
        page.wait_for_selector('.nmri-view[data-drawn="true"]', timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def saved(scene, scan, path, step=0):
    display, colors = display_range(scan), scan_color_map(scan)
    paint_scan(scene, scan, step, display, colors)
    return save_web_page(scene, path, scan, step, display, colors)


def canvas(page) -> np.ndarray:
    page.wait_for_timeout(500)  # a cross-fade takes 0.3 s
    text = page.evaluate("document.querySelector('.nmri-canvas').toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def stand_off_preset(scene) -> None:
    """The page then takes the exact pose, and shows what the server's picture shows."""
    scene.show_form("pial")
    scene.show_hemispheres("both")
    scene.render_window.SetSize(*SIZE)
    scene.view("anterior")
    scene.plotter.camera.Azimuth(-50)
    scene.plotter.camera.Elevation(20)
    scene.plotter.renderer.ResetCameraClippingRange()


@pytest.mark.browser
@pytest.mark.parametrize("which", ["solid", "glass"])
def test_the_page_draws_what_the_server_draws(scene, scan, dti, tmp_path, opened, which):
    stand_off_preset(scene)
    scene.show_borders(True)
    page = opened(saved(scene, scan if which == "solid" else dti, tmp_path / "brain.html"))
    expected = scene.screenshot(SIZE).astype(int)
    shown = canvas(page)
    assert shown.shape == expected.shape
    difference = np.abs(shown - expected).max(axis=-1)
    brain = expected.max(axis=-1) > 40
    assert brain.mean() > 0.15
    assert np.median(difference[brain]) <= 2
    assert (difference > 30).mean() < 0.02  # edges
    scene.show_borders(False)
    scene.show_tracts(None)


@pytest.mark.browser
def test_it_steps_turns_and_names_what_is_under_the_mouse(scene, scan, tmp_path, opened):
    stand_off_preset(scene)
    page = opened(saved(scene, scan, tmp_path / "brain.html"))
    first = canvas(page)
    page.click('[data-testid="token-2"]')
    second = canvas(page)
    assert page.evaluate("document.querySelector('.nmri-view').dataset.step") == "2"
    paint_scan(scene, scan, 2, display_range(scan), scan_color_map(scan))
    expected = scene.screenshot(SIZE).astype(int)
    brain = expected.max(axis=-1) > 40
    assert np.median(np.abs(second - expected).max(axis=-1)[brain]) <= 2
    assert np.median(np.abs(first - expected).max(axis=-1)[brain]) > 8

    named = 0
    for x, y in ((300, 250), (380, 300), (600, 280), (660, 240), (430, 200), (20, 500)):
        page.mouse.move(x, y)
        row = scene.pick(x, y)
        if row is None:
            assert page.locator(".nmri-tip").is_hidden()
            continue
        text = page.locator(".nmri-tip").inner_text().split()
        assert text[0] == scan.components.ids[row]
        assert float(text[1]) == pytest.approx(float(scan.values[2, row]), rel=1e-4)
        named += 1
    assert named >= 3

    letters = page.locator(".nmri-right").inner_text()
    page.mouse.move(480, 270)
    page.mouse.down()
    page.mouse.move(800, 270, steps=4)
    page.mouse.up()
    turned = canvas(page)
    assert (np.abs(turned - second).max(axis=-1) > 20).mean() > 0.1
    assert page.locator(".nmri-right").inner_text() != letters


@pytest.mark.browser
def test_what_was_typed_is_shown_and_never_run(scene, tmp_path, opened):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    scan = make_scan(("a", evil), provenance=Provenance(evil, "0" * 64, prompt=evil))
    page = opened(saved(scene, scan, tmp_path / "evil.html"))
    assert evil in page.locator(".nmri-header").inner_text()
    assert page.locator('[data-testid="token-1"]').inner_text().replace("·", " ") == evil
    assert evil in page.title()


@pytest.mark.browser
def test_a_brain_without_a_scan_is_grey(scene, atlas, tmp_path, opened):
    stand_off_preset(scene)
    scene.show_tracts(None)
    scene.paint(np.zeros((len(atlas.components), 4), np.uint8))
    page = opened(save_web_page(scene, tmp_path / "grey.html"))
    picture = canvas(page)
    assert (picture.max(axis=-1) > 40).mean() > 0.1
    assert (np.ptp(picture, axis=-1) < 20).all()


def test_only_html_is_written(scene, scan, tmp_path):
    with pytest.raises(InputError, match=r"a\.html"):
        save_web_page(scene, tmp_path / "a.pdf")
    text = saved(scene, scan, tmp_path / "a.html").read_text()
    assert "{{" not in text
    assert "http://" not in text
    assert "https://" not in text

"""Surfaces, layouts and what moves by itself, in a real browser: what is drawn, what is picked, what is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nmri3d.app.payloads import scan_payload
from nmri3d.scans import scan as measure
from tests.app.conftest import PROMPT, by, opened, scan
from tests.app.test_page import picture, quiet, still
from tests.app.test_tracts_page import TAKE, plain

pytestmark = pytest.mark.browser

SURFACES = ("pial", "white", "inflated", "sphere", "flat")
BALLS = ("stack", "radial", "network")

# Paints each component in a color that spells its row, unlit and unshaded; then reads pixels and picks at them.
# Returns [row picked, row painted] of pixels whose surroundings have one color.
PICKS = """() => {
  const { painter } = nmri3d;
  const { geometry } = painter;
  const count = geometry.ids.length;
  const texture = { ...geometry.texture };
  const colors = new Uint8Array(count * 4);
  for (let row = 0; row < count; row += 1)
    colors.set([40 + 12 * (row % 17), 40 + 12 * (Math.floor(row / 17) % 17), 40 + 12 * Math.floor(row / 289), 255], row * 4);
  Object.assign(geometry.texture, { sulcus_shade: 1 });
  const property = painter.actor.getProperty();
  const lit = property.getLighting();
  property.setLighting(false);
  painter.setBorders(false);
  painter.pulsing = false;
  painter.paint({ colors, strengths: new Float32Array(count), glass: null }, { fade: false, pulsing: false });
  painter.draw(performance.now());
  const canvas = painter.view.openglRenderWindow.getCanvas();
  const copy = document.createElement("canvas");
  Object.assign(copy, { width: canvas.width, height: canvas.height });
  const context = copy.getContext("2d");
  context.drawImage(canvas, 0, 0);
  const pixels = context.getImageData(0, 0, copy.width, copy.height).data;
  const box = canvas.getBoundingClientRect();
  const spell = (x, y) => Array.from(pixels.subarray((y * copy.width + x) * 4, (y * copy.width + x) * 4 + 3));
  const read = ([r, g, b]) => {
    const parts = [r, g, b].map((one) => (one - 40) / 12);
    return parts.every((one) => Number.isInteger(one) && one >= 0 && one < 17) ? parts[0] + 17 * parts[1] + 289 * parts[2] : -1;
  };
  const found = [];
  for (let y = 12; y < copy.height - 12; y += 9)
    for (let x = 12; x < copy.width - 12; x += 9) {
      const here = spell(x, y).join();
      const around = [[-4, 0], [4, 0], [0, -4], [0, 4], [-3, -3], [3, 3], [-3, 3], [3, -3]];
      if (read(spell(x, y)) < 0 || !around.every(([dx, dy]) => spell(x + dx, y + dy).join() === here)) continue;
      const clientX = box.left + ((x + 0.5) * box.width) / copy.width;
      const clientY = box.top + ((y + 0.5) * box.height) / copy.height;
      found.push([painter.pick({ clientX, clientY }).row, read(spell(x, y))]);
    }
  Object.assign(geometry.texture, texture);
  property.setLighting(lit);
  return found;
}"""


def show(page: Any, name: str) -> None:
    page.select_option(by("surface-menu" if name in SURFACES else "layout-menu"), name)
    page.wait_for_function(f"nmri3d.painter && nmri3d.painter.form.name === '{name}'")
    still(page)


def components(page: Any) -> int:
    count: int = page.evaluate("nmri3d.geometry().ids.length")
    return count


def seen_component(page: Any) -> int:
    """Row of a component that can be seen: the first that is hit, from the middle outwards."""
    box = page.locator(by("brain-view")).bounding_box()
    for share in (0.5, 0.55, 0.6, 0.45, 0.65, 0.4):
        near = {"clientX": box["x"] + share * box["width"], "clientY": box["y"] + 0.5 * box["height"]}
        row: int = page.evaluate("(near) => nmri3d.painter.pick(near).row", near)
        if row >= 0:
            return row
    raise AssertionError("no component lies under any of these points")


def check_picks(page: Any, least: int = 60) -> None:
    found = np.array(page.evaluate(PICKS))
    assert len(found) > least
    assert len(np.unique(found[:, 1])) > components(page) / 5
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


@pytest.fixture
def calm_page(browser: Any, server: Any) -> Iterator[Any]:
    """A page on which nothing moves by itself."""
    visitor = opened(browser, server.address)
    visitor.evaluate("nmri3d.motion.setReduced(true)")
    yield visitor
    complaints = visitor.complaints
    visitor.close()
    assert complaints == []


@pytest.fixture
def traced(page: Any, service: Any) -> Any:
    """The page with a DTI scan, its tab open."""
    page.evaluate(TAKE, ["DTI", plain(scan_payload(measure(service.backend, "DTI", PROMPT, effect="zero")))])
    page.click(by("tab-DTI"))
    page.wait_for_function("nmri3d.painter.tracts.path")
    still(page)
    return page


def test_a_pick_is_the_component_that_is_painted_there_on_every_form(calm_page: Any) -> None:
    for name in (*SURFACES, *BALLS):
        show(calm_page, name)
        check_picks(calm_page)


def test_a_pick_is_the_component_that_is_painted_there_after_a_morph_and_on_the_way(page: Any) -> None:
    show(page, "inflated")
    check_picks(page)
    page.evaluate("nmri3d.shape.setShare(0.37)")
    page.wait_for_function("nmri3d.painter.drawnFrom !== nmri3d.painter.form")
    check_picks(page)
    assert page.inner_text(".look .morph").split() == ["pial", "inflated"]
    page.select_option(by("view-menu"), "medial_right")
    still(page)
    check_picks(page)
    show(page, "stack")  # balls show both hemispheres, whatever the view
    assert page.evaluate("nmri3d.painter.hemispheres") == "both"
    check_picks(page)


def test_a_form_is_sent_once_and_a_morph_sends_nothing(page: Any, settled: Any) -> None:
    settled(page)
    page.traffic.clear()
    show(page, "white")
    settled(page)
    vertices = page.evaluate("nmri3d.geometry().vertexOfSplit.length")
    assert 18 * vertices < page.traffic.n_bytes < 18 * vertices + 28 * components(page) + 4000
    for name in BALLS[:2]:
        page.traffic.clear()
        show(page, name)
        settled(page)
        least = 16 * components(page) + (6 * vertices if name == BALLS[0] else 0)
        assert least < page.traffic.n_bytes < least + 28 * components(page) + 4000
    page.traffic.clear()
    for name in ("pial", "white", *BALLS[:2], "pial"):
        show(page, name)
    for share in (0.2, 0.5, 0.9):
        page.evaluate(f"nmri3d.shape.setShare({share})")
    still(page)
    settled(page)
    assert page.traffic.n_bytes == 0


def test_the_flat_surface_shows_parcels_only_and_is_seen_from_above(page: Any) -> None:
    page.evaluate("nmri3d.setView('posterior')")
    show(page, "flat")
    page.wait_for_selector(".bridge", state="detached")
    drawn = page.evaluate(
        "[nmri3d.painter.faces.length / 4, nmri3d.geometry().faceComponent.filter((row) => row >= 0).length]"
    )
    assert drawn[0] == drawn[1]
    position, target = page.evaluate("[nmri3d.painter.stand.pose.position, nmri3d.painter.stand.pose.focalPoint]")
    np.testing.assert_allclose(np.subtract(position, target)[:2], 0, atol=1e-6)
    assert page.evaluate("Object.values(nmri3d.store.letters).join('')") == ""
    assert page.inner_text(".halves").split() == ["LEFT", "RIGHT"]
    assert page.locator(by("morph")).count() == 0  # it cannot be folded
    show(page, "pial")
    assert page.evaluate("Object.values(nmri3d.store.letters).join('').length") == 4
    away = page.evaluate("nmri3d.painter.stand.pose.position[1]")
    assert away < -200  # back at the view from behind


@pytest.mark.parametrize("calm", [False, True])
def test_another_layout_keeps_selection_scan_and_camera(page: Any, settled: Any, calm: bool) -> None:
    page.evaluate(f"nmri3d.motion.setReduced({str(calm).lower()})")
    scan(page)
    row = page.evaluate("nmri3d.geometry().rowOfId.get('blocks.1.mlp')")
    page.evaluate(f"nmri3d.select({row})")
    page.wait_for_selector(by("selected-id"))
    page.evaluate(
        "nmri3d.painter.stand.place({ position: [-700, 300, 200], focalPoint: [0, -20, 10], viewUp: [0, 0, 1] })"
    )
    page.evaluate("nmri3d.view.touched = true")
    before = page.evaluate("Array.from(nmri3d.geometry().faceComponent)")
    page.evaluate(
        "window.seen = []; window.setInterval(() => nmri3d.painter && window.seen.push(nmri3d.painter.form.name), 15)"
    )
    page.select_option(by("layout-menu"), "umap")
    page.wait_for_function("nmri3d.store.layout === 'umap' && nmri3d.store.painted && nmri3d.painter")
    page.wait_for_function("nmri3d.painter.form.name === 'pial'")
    still(page)
    assert ("flight" in page.evaluate("window.seen")) == (not calm)
    assert page.evaluate("nmri3d.geometry().layout") == "umap"
    assert page.evaluate("Array.from(nmri3d.geometry().faceComponent)") != before
    assert page.inner_text(by("selected-id")) == "blocks.1.mlp"
    assert page.evaluate("nmri3d.painter.selected") == row
    assert page.locator(".chip").count() > 3
    assert page.evaluate("nmri3d.painter.target.colors.some((value) => value > 0)")
    np.testing.assert_allclose(page.evaluate("nmri3d.painter.stand.pose.position"), [-700, 300, 200], atol=1e-3)
    page.wait_for_selector(".bridge", state="detached")
    page.evaluate("nmri3d.select(-1)")
    check_picks(page)
    page.select_option(by("layout-menu"), "anatomical")
    page.wait_for_function("nmri3d.store.layout === 'anatomical' && nmri3d.store.painted")
    settled(page)
    assert page.evaluate("Array.from(nmri3d.geometry().faceComponent)") == before
    assert page.locator(".log .error").count() == 0


def test_a_layout_can_be_cancelled_and_the_menus_go_back(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(service: Any, choice: Any, progress: Any) -> None:
        for step in range(1000):
            progress(step / 1000, f"step {step}")
            time.sleep(0.02)

    monkeypatch.setattr("nmri3d.app.brain.build_atlas", slow)
    page.select_option(by("layout-menu"), "spectral")
    page.wait_for_selector(by("progress"))
    assert page.is_disabled(by("layout-menu"))
    page.click(by("cancel-button"))
    page.wait_for_selector(by("job"), state="detached")
    page.wait_for_function("document.querySelector('[data-testid=layout-menu]').value === 'anatomical'")
    assert page.evaluate("nmri3d.painter.form.name") == "pial"


def test_the_layout_panel_names_its_figures(page: Any) -> None:
    page.click(by("tool-layout"))
    rows = page.locator(f"{by('layout-figures')} tbody tr:not(.what)")
    assert rows.count() >= 6
    for at in range(rows.count()):
        assert page.locator(f"{by('layout-figures')} tr.what").nth(at).inner_text().endswith(".")
    figures = page.locator(by("layout-figures"))
    before = figures.inner_text()
    page.select_option(by("area-menu"), "equal")
    page.wait_for_function("nmri3d.geometry().area === 'equal' && nmri3d.store.painted")
    page.select_option(by("layout-menu"), "spectral")
    page.wait_for_function("nmri3d.geometry().layout === 'spectral' && nmri3d.store.painted")
    assert page.evaluate("nmri3d.geometry().area") == "equal"
    assert page.inner_text(by("layout-what")).startswith("spectral from the weights")
    assert figures.inner_text() != before
    assert page.input_value(by("area-menu")) == "equal"


# -- what moves by itself ------------------------------------------------------------------------------------------------


def test_reduced_motion_follows_the_system_and_is_remembered(browser: Any, server: Any) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(server.address)
    page.wait_for_selector('[data-testid="brain-view"][data-painted="true"]')
    assert page.is_checked(by("reduce-motion"))
    assert page.evaluate("document.documentElement.classList.contains('calm')")
    page.select_option(by("surface-menu"), "inflated")
    page.wait_for_function("nmri3d.painter.form.name === 'inflated'")
    assert not page.evaluate("nmri3d.painter.moving")
    page.uncheck(by("reduce-motion"))
    page.reload()
    page.wait_for_selector('[data-testid="brain-view"][data-painted="true"]')
    assert not page.is_checked(by("reduce-motion"))
    page.check(by("reduce-motion"))  # what the system wishes is not kept as a choice
    assert page.evaluate("localStorage.getItem('nmri3d.motion')") is None
    context.close()


def test_the_selection_sends_rings_and_nothing_without_motion(page: Any) -> None:
    show(page, "inflated")
    quiet(page)
    rings = "nmri3d.painter.layers.find((layer) => layer.constructor.name === 'Rings')"
    assert not page.evaluate(f"{rings}.ready")  # no shader is compiled before something is selected
    page.evaluate(f"nmri3d.select({seen_component(page)})")
    page.wait_for_function(f"{rings}.phase >= 0 && (window.phases ||= new Set()).add({rings}.phase).size > 2")
    center = page.evaluate(f"{rings}.center")
    assert np.isfinite(center).all()
    ringed = [picture(page).astype(int) for _ in range(3)]
    page.evaluate("nmri3d.motion.setReduced(true); nmri3d.painter.requestDraw()")
    page.wait_for_function(f"{rings}.phase === -1")
    still(page)
    calm = picture(page)
    assert max((shot[..., 1] - calm[..., 1]).max() for shot in ringed) > 30  # they are green
    page.wait_for_timeout(500)
    np.testing.assert_array_equal(picture(page), calm)


def test_a_perturbation_sweeps_the_canvas_and_flashes_what_changed(page: Any) -> None:
    scan(page)
    page.evaluate(
        """window.sweeps = 0; window.flashed = null;
        new MutationObserver(() => document.querySelector('.rescan') && (window.sweeps += 1))
          .observe(document.querySelector('.canvas'), { childList: true });
        const { flash } = nmri3d.painter;
        nmri3d.painter.flash = function flashAndNote(shares) { window.flashed = Array.from(shares); flash.call(this, shares); };
        null"""
    )
    page.evaluate("nmri3d.select(nmri3d.geometry().rowOfId.get('blocks.0.mlp'))")
    page.wait_for_selector(by("selected-id"))
    page.click(by("perturb-zero"))
    page.wait_for_function("window.sweeps > 0 && window.flashed")
    shares = np.array(page.evaluate("window.flashed"))
    assert shares.max() == 1
    assert 0 < (shares > 0).sum() <= 12
    page.wait_for_selector(".rescan", state="detached")
    page.evaluate("nmri3d.motion.setReduced(true); window.sweeps = 0")
    page.click(by("perturb-invert"))
    page.wait_for_function("document.querySelectorAll('.edit').length === 2")
    page.wait_for_timeout(400)
    assert page.evaluate("window.sweeps") == 0


def test_brightness_runs_along_the_tubes_and_sends_no_geometry(traced: Any) -> None:
    tracts = "nmri3d.painter.tracts"
    stamp = f"{tracts}.actor.getMapper().getInputData().getMTime()"
    freeze = f"""(shift) => {{
      {tracts}.onPaint = () => {{ {tracts}.shift = shift; }};
      nmri3d.painter.draw(performance.now());
    }}"""
    quiet(traced)
    traced.evaluate(f"nmri3d.painter.pulsing = false; window.before = {stamp}; {tracts}.place()")
    shots = []
    for shift in (0, 13, 0):
        traced.evaluate(freeze, shift)
        traced.wait_for_timeout(300)
        shots.append(picture(traced).astype(int))
    assert np.abs(shots[1] - shots[0]).mean() > 0.2
    np.testing.assert_array_equal(shots[2], shots[0])
    assert traced.evaluate(f"{stamp} === window.before")
    traced.click(by("toggle-flow"))
    assert not traced.evaluate(f"{tracts}.flowing")
    for at, shift in enumerate((0, 13)):
        traced.evaluate(freeze, shift)
        traced.wait_for_timeout(300)
        shots[at] = picture(traced).astype(int)
    np.testing.assert_array_equal(shots[1], shots[0])


def test_what_flows_starts_at_the_source(traced: Any) -> None:
    along = traced.evaluate(
        """(() => { const { tracts } = nmri3d.painter; const { points, samples } = tracts.path;
        const values = Array.from(tracts.along.getData()); const each = values.length / tracts.path.shown.length;
        return [values.slice(0, each - 2).filter((_, at) => at % 8 === 0), Array.from(points.subarray(0, samples * 3))]; })()"""
    )
    way, points = np.array(along[0]), np.array(along[1]).reshape(-1, 3)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    np.testing.assert_allclose(np.diff(way), steps, rtol=1e-4, atol=1e-4)  # mm from the source on


# -- keys ----------------------------------------------------------------------------------------------------------------


def test_keys_do_what_their_list_says(page: Any) -> None:
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.wait_for_selector(by("keys"))
    assert page.locator(f"{by('keys')} dt").count() == page.evaluate("nmri3d.keys.length")
    assert page.evaluate("new Set(nmri3d.keys.map(([key]) => key)).size === nmri3d.keys.length")
    page.keyboard.press("Escape")
    page.wait_for_selector(by("keys"), state="detached")
    page.evaluate("document.activeElement.blur()")
    for key, truth in (
        ("3", "nmri3d.painter.form.name === 'inflated'"),
        ("y", "nmri3d.painter.form.name === 'stack'"),
        ("1", "nmri3d.painter.form.name === 'pial'"),
        ("b", "!nmri3d.store.borders && !nmri3d.painter.marks.borders.getVisibility()"),
        ("g", "nmri3d.isGlass() && nmri3d.painter.target.glass !== null"),
        ("n", "nmri3d.store.view === 'lateral_left'"),
        ("m", "nmri3d.motion.reduced()"),
    ):
        page.keyboard.press(key)
        page.wait_for_function(truth)
    page.keyboard.press("m")
    page.fill(by("prompt-input"), "")
    page.type(by("prompt-input"), "b5")
    assert page.input_value(by("prompt-input")) == "b5"
    assert page.evaluate("nmri3d.painter.form.name") == "pial"


def test_the_toggles_are_reached_by_tab_and_tell_their_state(page: Any) -> None:
    for name in ("toggle-borders", "toggle-glass"):
        before = page.get_attribute(by(name), "aria-pressed")
        page.focus(by(name))
        page.keyboard.press("Enter")
        assert page.get_attribute(by(name), "aria-pressed") != before
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, select, input')].filter((one) => {
          const label = one.closest('label') || (one.id && document.querySelector(`label[for="${one.id}"]`));
          return !(one.getAttribute('aria-label') || one.innerText.trim() || (label && label.innerText.trim()) || one.title);
        }).map((one) => one.outerHTML.slice(0, 90))"""
    )
    assert unnamed == []

"""The neuron level in a real browser: its texture is the server's, a pixel's neuron is the one that lies there."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from nmri3d.atlas.neurons import NeuronAtlas
from nmri3d.scans import scan_neurons
from nmri3d.scene.colors import color_map, display_range
from nmri3d.scene.mesh import split_along_borders
from nmri3d.scene.neuron_texture import fold_image, neuron_image
from tests.app.conftest import PROMPT, by, scan
from tests.app.test_page import frame, still

pytestmark = pytest.mark.browser

LAYER = "nmri3d.painter.layers.find((one) => one.chart !== undefined && one.neuronAt)"
TEXELS = f"""() => {{
  const {{ texels, chart }} = {LAYER};
  let text = "";
  for (const byte of texels) text += String.fromCharCode(byte);
  return [chart.width, chart.height, btoa(text)];
}}"""


def show_neurons(page: Any) -> None:
    page.click(by("toggle-neurons"))
    page.wait_for_selector('[data-testid="neuron-level"][data-shown="true"]')
    page.wait_for_function(f"{LAYER}.shown && !{LAYER}.stale")
    still(page)


def texture(page: Any) -> np.ndarray:
    """The browser's texture, uint8 [h, w, 4]."""
    width, height, text = page.evaluate(TEXELS)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)


@pytest.fixture(scope="module")
def neurons(service: Any, atlas: Any) -> NeuronAtlas:
    backend = service.require_backend()
    return NeuronAtlas.build(atlas, backend.neurons, backend.neuron_features, identity=backend.info.fingerprint)


def expected(
    atlas: Any, neurons: NeuronAtlas, values: np.ndarray, shown: Any, palette: str, least: float = 0.0
) -> np.ndarray:
    """The texture by the rules in words: a byte a neuron, the color table at that byte's place, the threshold."""
    place = np.floor(shown.fraction(values) * 254 + 0.5) / 254
    strength = np.abs(2 * place - 1) if shown.scale == "symmetric" else place
    colors = np.zeros((len(values), 4), dtype=np.uint8)
    colors[:, :3] = color_map(palette).colors(place)
    colors[:, 3] = np.where((least > 0) & (strength < least), 0, 255)
    return neuron_image(colors, neurons.image, fold_image(atlas, neurons))


def test_the_texture_is_the_servers(page: Any, same_model: Any, atlas: Any, neurons: NeuronAtlas) -> None:
    scan(page)
    show_neurons(page)
    found = scan_neurons(same_model, "fMRI", PROMPT)
    shown = display_range(found)
    theirs = texture(page).astype(int)
    ours = expected(atlas, neurons, found.values[-1], shown, "DTI").astype(int)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() <= 1  # rounding of halves
    page.evaluate("nmri3d.setThreshold(0.5)")
    page.wait_for_function(f"{LAYER}.paint.threshold === 0.5 && !{LAYER}.stale")
    ours = expected(atlas, neurons, found.values[-1], shown, "DTI", 0.5).astype(int)
    assert np.abs(texture(page).astype(int) - ours).max() <= 1
    assert (texture(page) != theirs).any()
    page.evaluate("nmri3d.setThreshold(0)")


def test_a_step_costs_a_byte_a_neuron_once(page: Any, service: Any, settled: Any) -> None:
    scan(page)
    show_neurons(page)
    settled(page)
    page.traffic.clear()
    page.click(by("token-0"))
    page.wait_for_function(f"{LAYER}.paint.codes && nmri3d.store.step === 0 && !nmri3d.neurons.state.busy")
    settled(page)
    assert 0 < page.traffic.n_bytes <= len(service.require_backend().neurons) + 2000
    page.traffic.clear()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.evaluate("nmri3d.setThreshold(0.3)")
    page.select_option(by("palette-menu"), "colorblind") if page.query_selector(by("palette-menu")) else None
    page.evaluate("nmri3d.setThreshold(0)")
    settled(page)
    first = page.traffic.n_bytes
    page.traffic.clear()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    settled(page)
    assert page.traffic.n_bytes == 0  # steps 0 and 1 are kept now
    assert first <= len(service.require_backend().neurons) + 2000  # step 1


def neuron_pixels(page: Any, atlas: Any, neurons: NeuronAtlas) -> list[tuple[float, float, int]]:
    """Places on the page at the middle of large faces turned to the camera, and the neuron row there, by the atlas."""
    split = split_along_borders(atlas.faces, atlas.face_component)
    own = np.flatnonzero(np.isin(atlas.face_component, neurons.component))
    corners = atlas.surfaces["pial"][atlas.faces[own]]
    middle = corners.mean(axis=1)
    coordinates = neurons.texture_coordinates(atlas, split.vertex, split.component)[split.faces[own]].mean(axis=1)
    height, width = neurons.image.shape
    row = neurons.image[(coordinates[:, 1] * height).astype(int), (coordinates[:, 0] * width).astype(int)]
    # seen from the right: the farthest to the right in a small window has nothing before it
    found = []
    for y, z in ((0, 10), (-30, 20), (20, 0), (-50, 0), (-20, 40)):
        near = np.flatnonzero(np.hypot(middle[:, 1] - y, middle[:, 2] - z) < 4)
        if not len(near):
            continue
        best = near[np.argmax(middle[near, 0])]
        place = page.evaluate(
            """([x, y, z]) => {
              const { view, renderer } = nmri3d.painter;
              const at = view.openglRenderWindow.worldToDisplay(x, y, z, renderer);
              const [w, h] = view.openglRenderWindow.getSize();
              return [at[0] / w, 1 - at[1] / h];
            }""",
            middle[best].tolist(),
        )
        found.append((place[0], place[1], int(row[best])))
    return found


def test_the_pointer_names_the_neuron_and_its_raw_value(
    page: Any, service: Any, atlas: Any, neurons: NeuronAtlas
) -> None:
    backend = service.require_backend()
    scan(page)
    show_neurons(page)
    page.select_option(by("view-menu"), "lateral_right")
    still(page)
    values = scan_neurons(backend, "fMRI", PROMPT).values[-1]
    box = frame(page)
    for x, y, row in neuron_pixels(page, atlas, neurons):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.wait_for_selector(by("neuron-value"))
        page.wait_for_function("!document.querySelector('[data-testid=neuron-value]').innerText.startsWith('…')")
        said = page.inner_text(by("tooltip")).splitlines()
        assert said[0] == backend.neurons.ids[row]
        assert float(said[2].split()[0].replace(",", "")) == pytest.approx(float(values[row]), rel=2e-3)
        page.mouse.move(5, 5)
        page.wait_for_selector(by("tooltip"), state="detached")
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.wait_for_selector(by("selected-id"))
    mlp, index = backend.neurons.ids[row].rsplit(".neuron_", 1)
    assert page.inner_text(by("selected-id")) == mlp
    assert page.inner_text(by("edited-neuron")) == f"edits neuron {index} alone"
    page.wait_for_function(f"{LAYER}.paint.marked === {row} && !{LAYER}.stale")
    ringed = (texture(page) == (0, 255, 170, 255)).all(axis=2)
    assert ringed.sum() > 6
    assert not (neurons.image[ringed] == row).any()


def test_neurons_follow_the_surface_and_the_hemisphere(page: Any) -> None:
    show_neurons(page)
    agree = f"""() => {{
      const layer = {LAYER};
      const {{ points }} = nmri3d.painter;
      const own = layer.mesh.getPoints().getData();
      return layer.chart.vertices.every((vertex, at) => [0, 1, 2].every((k) => own[at * 3 + k] === points[vertex * 3 + k]));
    }}"""
    assert page.evaluate(agree)
    before = page.evaluate(f"Array.from({LAYER}.mesh.getPoints().getData().slice(0, 30))")
    page.select_option(by("surface-menu"), "inflated")
    page.wait_for_function("nmri3d.painter.surface === 'inflated' && nmri3d.painter.atRest")
    still(page)
    assert page.evaluate(agree)
    assert page.evaluate(f"Array.from({LAYER}.mesh.getPoints().getData().slice(0, 30))") != before
    page.select_option(by("view-menu"), "medial_left")
    still(page)
    assert not page.evaluate(f"{LAYER}.actor.getVisibility()")
    page.select_option(by("view-menu"), "overview")
    still(page)
    assert page.evaluate(f"{LAYER}.actor.getVisibility()")


def test_the_cortex_leaves_its_faces_and_takes_them_back(page: Any) -> None:
    faces = "nmri3d.painter.faces.length / 4"
    whole = page.evaluate(faces)
    show_neurons(page)
    drawn = page.evaluate(f"[{faces}, {LAYER}.faceNumbers.length]")
    assert sum(drawn) == whole
    assert drawn[1] > 0
    page.click(by("toggle-neurons"))
    page.wait_for_function(f"!{LAYER}.shown")
    assert page.evaluate(faces) == whole
    assert not page.evaluate(f"{LAYER}.actor.getVisibility()")


def test_modes_without_neurons_say_so_and_show_parcels(page: Any) -> None:
    scan(page)
    show_neurons(page)
    for mode, words in (("DTI", "paths between whole components"), ("FLAIR", "after a whole sub-layer")):
        page.click(by(f"tab-{mode}"))
        page.wait_for_selector(by("neuron-words"))
        assert words in page.inner_text(by("neuron-words"))
        assert not page.evaluate(f"{LAYER}.shown")
    page.click(by("tab-T1"))
    page.wait_for_selector('[data-testid="neuron-level"][data-shown="true"]')
    assert "parameters" in page.inner_text(by("neuron-level"))
    page.click(by("tab-fMRI"))
    page.wait_for_function("nmri3d.neurons.state.bar && nmri3d.neurons.state.bar.units.startsWith('activation')")


def test_a_locked_range_holds_for_neurons_too(page: Any) -> None:
    scan(page)
    show_neurons(page)
    bar = page.evaluate("[nmri3d.neurons.state.bar.vmin, nmri3d.neurons.state.bar.vmax]")
    page.check(by("range-lock"))
    scan(page, "to be or not to be")
    page.wait_for_function(
        "nmri3d.scan().prompt.startsWith('to be') && !nmri3d.neurons.state.busy && nmri3d.neurons.state.bar"
    )
    assert page.evaluate("[nmri3d.neurons.state.bar.vmin, nmri3d.neurons.state.bar.vmax]") == bar
    page.uncheck(by("range-lock"))
    page.wait_for_function(f"nmri3d.neurons.state.bar && nmri3d.neurons.state.bar.vmax !== {bar[1]}")


def test_coming_close_shows_neurons_and_going_away_hides_them(page: Any) -> None:
    assert not page.evaluate("nmri3d.store.neurons")
    page.select_option(by("view-menu"), "lateral_right")
    still(page)
    page.evaluate("nmri3d.painter.camera.dolly(3)")
    page.wait_for_selector('[data-testid="neuron-level"][data-shown="true"]')
    page.evaluate("nmri3d.painter.camera.dolly(1 / 3)")
    page.wait_for_function(f"!nmri3d.store.neurons && !{LAYER}.shown")
    # what a person chooses holds near and far
    page.evaluate("nmri3d.painter.camera.dolly(3)")
    page.wait_for_function("nmri3d.store.neurons")
    page.click(by("toggle-neurons"))
    page.evaluate("nmri3d.painter.camera.dolly(1 / 3)")
    page.evaluate("nmri3d.painter.camera.dolly(3)")
    still(page)
    assert not page.evaluate("nmri3d.store.neurons")

"""The page in a real browser, on a tiny real model."""

from __future__ import annotations

import gc
import io
import weakref
from typing import Any

import numpy as np
import pytest

from nmri3d.errors import InputError
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.colors import color_map, component_colors, display_range
from nmri3d.service import Service
from tests.app.conftest import PROMPT, by, opened, scan, serving
from tests.app.known_view import KnownView
from tests.models.tiny import tiny_checkpoint_folder

pytestmark = pytest.mark.browser


def quiet(page: Any) -> None:
    """No pulse, no overlay: what is left is the brain alone."""
    page.add_style_tag(content=".scan-lines, .vignette, .canvas-overlay, .brain-overlay { opacity: 0 }")
    page.evaluate("window.nmri3d.store.pulse = false")
    still(page)


def still(page: Any) -> None:
    """Wait until fades, turns and morphs have ended and are on the screen."""
    page.wait_for_function("!nmri3d.painter || !nmri3d.painter.moving")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait_for_timeout(150)


def picture(page: Any) -> np.ndarray:
    """The canvas as uint8 [height, width, 3]."""
    from PIL import Image

    shot = page.locator(by("brain-view")).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def frame(page: Any) -> dict[str, float]:
    box: dict[str, float] = page.locator(by("brain-view")).bounding_box()
    return box


def known_view(page: Any, atlas: Any, surface: str = "pial") -> KnownView:
    page.select_option(by("view-menu"), "lateral_left")
    still(page)
    box = frame(page)
    return KnownView(atlas, surface, "lateral_left", box["width"], box["height"])


def pressed(page: Any, atlas: Any) -> tuple[int, int, dict[str, float], list[float]]:
    """Press on the brain in a known view: x and y in the frame, the frame, and where the camera stands."""
    x, y, _ = known_view(page, atlas).pixels_inside()[0]
    box = frame(page)
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.down()
    return x, y, box, page.evaluate("Array.from(nmri3d.painter.camera.getPosition())")


def click_brain(page: Any, x: float, y: float) -> None:
    box = frame(page)
    page.mouse.click(box["x"] + x + 0.5, box["y"] + y + 0.5)


# -- the first look -----------------------------------------------------------------------------------------------------


def test_the_first_thing_seen_is_a_painted_brain(page: Any) -> None:
    quiet(page)
    colors = picture(page).reshape(-1, 3).astype(int)
    drawn = colors[colors.max(axis=1) > 40]
    assert len(drawn) > 0.15 * len(colors)
    assert page.get_attribute(by("tab-T1"), "aria-selected") == "true"
    assert "Model Resonance Imaging" in page.inner_text(by("dicom-header"))
    assert "parameters" in page.inner_text(by("color-bar"))
    assert "components" in page.inner_text(by("log-panel"))


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (2560, 1440)])
def test_nothing_overlaps_or_scrolls(browser: Any, server: Any, size: tuple[int, int]) -> None:
    page = opened(browser, server.address, size)
    scan(page)
    page.keyboard.press("Escape")
    boxes = {
        name: page.locator(name).bounding_box()
        for name in (
            ".top-bar",
            ".mode-tabs",
            ".canvas",
            ".prompt-bar",
            ".tools",
            ".stimulation",
            ".comparison",
            ".log",
        )
    }
    for name, box in boxes.items():
        assert min(box["x"], box["y"]) >= 0, name
        assert box["x"] + box["width"] <= size[0] + 0.5, name
        assert box["y"] + box["height"] <= size[1] + 0.5, name
    names = list(boxes)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            one, other = boxes[a], boxes[b]
            apart = (
                one["x"] + one["width"] <= other["x"] + 0.5
                or other["x"] + other["width"] <= one["x"] + 0.5
                or one["y"] + one["height"] <= other["y"] + 0.5
                or other["y"] + other["height"] <= one["y"] + 0.5
            )
            assert apart, f"{a} overlaps {b}"
    for tab in ("T2", "fMRI"):  # those with the most tools
        page.click(by(f"tab-{tab}"))
        page.wait_for_function(f"nmri3d.store.mode === '{tab}' && nmri3d.scan()")
        row = page.locator(".mode-tabs")
        assert row.evaluate("(row) => row.scrollWidth - row.clientWidth") <= 0
        assert row.locator(".spacer").bounding_box()["width"] > 0
    overflow = page.evaluate("document.documentElement.scrollHeight - window.innerHeight")
    assert overflow <= 0
    page.close()


# -- scanning and stepping ----------------------------------------------------------------------------------------------


def test_a_scan_changes_the_picture_and_shows_tokens_and_prediction(page: Any, service: Any) -> None:
    quiet(page)
    before = picture(page)
    scan(page)
    quiet(page)
    assert np.abs(picture(page).astype(int) - before).mean() > 2
    tokens = service.scan("fMRI", PROMPT).tokens
    assert page.locator(".chip").count() == len(tokens)
    assert page.inner_text(by("token-0")).startswith("BOS")
    best = service.predict(PROMPT)[0]
    first = page.locator(f"{by('predictions')} li").first.inner_text()
    assert f"{best.probability:.3f}" in first
    assert "Scan complete" in page.inner_text(by("log-panel"))


def test_stepping_playing_and_looking_send_nothing(page: Any, settled: Any) -> None:
    scan(page)
    quiet(page)
    page.select_option(by("surface-menu"), "inflated")  # a surface is fetched when it is first wanted
    page.wait_for_function("nmri3d.painter.form.name === 'inflated'")
    page.select_option(by("surface-menu"), "pial")
    still(page)
    settled(page)
    page.traffic.clear()
    last = page.locator(".chip").count() - 1

    shown = picture(page)
    page.keyboard.press("Tab")  # out of the prompt
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute(by(f"token-{last - 1}"), "aria-current") == "step"
    still(page)
    stepped = picture(page)
    assert np.abs(stepped.astype(int) - shown).mean() > 0.3
    page.click(by(f"token-{last}"))
    still(page)
    assert np.abs(picture(page).astype(int) - shown).mean() < 0.05

    page.click(by("token-prev"))
    page.click(by("token-next"))
    page.click(by("token-0"))
    page.click(by("token-play"))
    page.wait_for_selector(by("token-2") + '[aria-current="step"]')
    page.click(by("pause-button"))
    page.evaluate("nmri3d.setThreshold(0.5)")
    page.check(by("range-lock"))
    page.select_option(by("surface-menu"), "inflated")
    page.select_option(by("view-menu"), "dorsal")
    page.mouse.move(500, 300)
    page.mouse.move(480, 320)
    page.wait_for_timeout(1200)
    assert page.traffic.n_bytes == 0


def test_arrow_keys_in_the_prompt_move_the_caret_only(page: Any) -> None:
    scan(page)
    last = page.locator(".chip").count() - 1
    page.focus(by("prompt-input"))
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute(by(f"token-{last}"), "aria-current") == "step"


def test_a_finished_scan_is_shown_again_without_a_measurement(page: Any, service: Any, settled: Any) -> None:
    scan(page)
    page.click(by("tab-T2"))
    page.wait_for_function("nmri3d.data.scans.T2")
    quiet(page)
    t2 = picture(page)
    settled(page)
    asked = len(service.asked)
    page.traffic.clear()
    page.click(by("tab-fMRI"))
    still(page)
    fmri = picture(page)
    page.click(by("tab-T2"))
    still(page)
    assert np.abs(picture(page).astype(int) - t2).mean() < 0.05
    assert np.abs(fmri.astype(int) - t2).mean() > 2
    assert len(service.asked) == asked
    assert page.traffic.n_bytes < 2000


def test_the_aggregation_changes_the_unit(page: Any) -> None:
    scan(page)
    page.select_option(by("aggregation-menu"), "max")
    page.wait_for_function("document.querySelector('.color-bar figcaption').innerText.includes('largest')")


def test_a_locked_range_stays_for_the_next_scan(page: Any) -> None:
    scan(page)
    limits = page.evaluate("[nmri3d.range().vmin, nmri3d.range().vmax]")
    page.check(by("range-lock"))
    page.fill(by("prompt-input"), "a quick brown fox")
    page.click(by("scan-button"))
    page.wait_for_function("nmri3d.scan() && nmri3d.scan().prompt === 'a quick brown fox'")
    assert page.evaluate("[nmri3d.range().vmin, nmri3d.range().vmax]") == limits
    assert page.evaluate("[nmri3d.scan().range.vmin, nmri3d.scan().range.vmax]") != limits


def test_the_threshold_leaves_weak_components_grey(page: Any) -> None:
    scan(page)
    quiet(page)
    page.evaluate("nmri3d.setThreshold(1)")
    still(page)
    colors = picture(page).reshape(-1, 3).astype(int)
    drawn = colors[colors.max(axis=1) > 60]
    grey = np.ptp(drawn, axis=1) < 25
    assert grey.mean() > 0.6


# -- what lies where ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surface", ["pial", "inflated"])
def test_a_click_selects_the_parcel_that_lies_there(page: Any, atlas: Any, surface: str) -> None:
    page.select_option(by("surface-menu"), surface)
    still(page)
    view = known_view(page, atlas, surface)
    targets = view.pixels_inside()
    assert len({row for _, _, row in targets}) >= 3
    for x, y, row in targets[:6]:
        page.keyboard.press("Escape")
        click_brain(page, x, y)
        page.wait_for_selector(f"{by('selected-id')}:text-is('{atlas.components.ids[row]}')")


def test_the_tooltip_tells_the_raw_value(page: Any, atlas: Any, service: Any) -> None:
    view = known_view(page, atlas)
    x, y, row = view.pixels_inside()[0]
    box = frame(page)
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.wait_for_selector(by("tooltip"))
    text = page.inner_text(by("tooltip"))
    assert atlas.components.ids[row] in text
    assert f"{int(atlas.components.n_params[row]):,} parameters" in text


def test_pixels_inside_a_parcel_have_its_color(page: Any, atlas: Any, service: Any) -> None:
    scan(page)
    view = known_view(page, atlas)
    quiet(page)
    measured = service.scan("fMRI", PROMPT)
    wanted = component_colors(measured.values[-1], display_range(measured), color_map("fMRI"))[:, :3].astype(float)
    shown = picture(page).astype(float)
    compared = set()
    for x, y, row in view.pixels_inside():
        pixel = shown[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
        if pixel.sum() < 120:  # in deep shadow there is no color to compare
            continue
        compared.add(row)
        assert np.abs(pixel / pixel.sum() - wanted[row] / wanted[row].sum()).max() < 0.05, atlas.components.ids[row]
    assert len(compared) >= 4


def test_background_and_medial_wall_select_nothing(page: Any, atlas: Any) -> None:
    view = known_view(page, atlas)
    assert view.row_at(4, 4) == -2
    click_brain(page, 4, 4)
    page.wait_for_timeout(300)
    assert page.locator(by("selected-id")).count() == 0


def test_a_drag_turns_and_does_not_select_and_escape_clears(page: Any, atlas: Any) -> None:
    x, y, box, position = pressed(page, atlas)
    page.mouse.move(box["x"] + x + 240, box["y"] + y + 10, steps=8)
    page.mouse.up()
    page.wait_for_function(
        "(from) => Math.hypot(...nmri3d.painter.camera.getPosition().map((x, axis) => x - from[axis])) > 20",
        arg=position,
    )
    assert page.evaluate("nmri3d.store.selected") == -1

    page.click(by("view-reset"))
    still(page)
    back = page.evaluate("Array.from(nmri3d.painter.camera.getPosition())")
    assert back == pytest.approx(position)
    click_brain(page, x, y)
    page.wait_for_selector(by("selected-id"))
    page.keyboard.press("Escape")
    page.wait_for_selector(by("selected-id"), state="detached")


def test_a_drag_takes_over_from_a_turn_under_way(page: Any, atlas: Any) -> None:
    view = known_view(page, atlas)
    x, y, _ = view.pixels_inside()[0]
    box = frame(page)
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.evaluate(
        """() => {
          const { stand } = nmri3d.painter;
          stand.setView("lateral_right", true);
          window.goal = stand.turn.goal.position;
        }"""
    )
    page.mouse.down()
    page.mouse.move(box["x"] + x + 40, box["y"] + y, steps=4)
    page.mouse.up()
    assert page.evaluate("nmri3d.painter.stand.turn") is None
    still(page)
    assert page.evaluate("Math.hypot(...nmri3d.painter.camera.getPosition().map((x, axis) => x - goal[axis]))") > 20


def test_a_drag_in_a_single_move_turns(page: Any, atlas: Any) -> None:
    """As the browser tells it where pictures take long: moves that come while it draws are one."""
    x, y, box, position = pressed(page, atlas)
    page.wait_for_timeout(400)  # vtk.js takes what follows for the start of a move
    page.mouse.move(box["x"] + x + 120, box["y"] + y)
    page.mouse.up()
    still(page)
    turned = page.evaluate("Array.from(nmri3d.painter.camera.getPosition())")
    assert np.linalg.norm(np.subtract(turned, position)) > 20


def test_the_panel_follows_the_mode(page: Any, atlas: Any, service: Any) -> None:
    row = atlas.components.row("blocks.1.mlp")
    page.evaluate(f"nmri3d.select({row})")
    page.wait_for_selector(by("selected-id"))
    assert "W_in" in page.inner_text(by("stimulation-panel"))
    page.click(by("tab-T2"))
    page.wait_for_selector(by("histogram"))
    deviation = float(service.scan("T2").details["std"][row])
    assert f"{deviation:.4g}"[:5] in page.inner_text(by("selected-value"))
    scan(page)
    assert page.locator(f"{by('step-bars')} button").count() == page.locator(".chip").count()
    page.click(by("top-neurons"))
    page.wait_for_selector(f"{by('neurons')} li:nth-child(3)")
    position = page.locator(".chip").count() - 1
    strongest = service.top_neurons(PROMPT, 1, position)[0]
    assert f"neuron {strongest.index}" in page.inner_text(by("neurons"))


def test_a_bar_of_the_layer_summary_selects_and_turns_the_brain_to_it(page: Any, atlas: Any) -> None:
    page.select_option(by("view-menu"), "lateral_left")  # MLPs lie on the other side
    still(page)
    page.click(f"{by('layer-summary')} .layer:nth-child(2) .bar.right")
    page.wait_for_selector(f"{by('selected-id')}:text-is('blocks.0.mlp')")
    still(page)
    row = atlas.components.row("blocks.0.mlp")
    assert page.evaluate("nmri3d.store.view") != "lateral_left"
    assert page.evaluate(f"nmri3d.painter.viewOf({row})") == ""  # it is in sight now
    shown = picture(page).reshape(-1, 3).astype(int)
    glow = (shown[:, 1] > 200) & (shown[:, 0] < 120)
    assert glow.sum() > 100


# -- pictures, colors, statistics ---------------------------------------------------------------------------------------


def saved_picture(page: Any) -> tuple[str, np.ndarray]:
    """File name and pixels, [height, width, 3], of the file that the button saves."""
    from PIL import Image

    with page.expect_download() as download:
        page.click(by("picture-button"))
    with Image.open(download.value.path()) as image:
        assert image.format == "PNG"
        return download.value.suggested_filename, np.asarray(image.convert("RGB")).astype(int)


def test_the_picture_button_saves_what_is_shown(page: Any) -> None:
    scan(page)
    page.click(by("token-2"))
    still(page)
    name, first = saved_picture(page)
    assert name == "nmri3d-fMRI-token2.png"
    assert first.shape == (1080, 1920, 3)
    brain = first[250:850, 400:1400]
    assert (np.ptp(brain, axis=2) > 60).mean() > 0.25  # colored, not the background
    page.wait_for_function("document.querySelector('[data-testid=log-panel]').innerText.includes('Picture saved')")
    assert page.is_enabled(by("picture-button"))
    assert page.locator(by("picture-error")).count() == 0

    shown = picture(page)
    box = frame(page)
    page.mouse.move(box["x"] + 400, box["y"] + 250)
    page.mouse.down()
    page.mouse.move(box["x"] + 560, box["y"] + 300, steps=6)
    page.mouse.up()
    still(page)
    assert np.abs(picture(page).astype(int) - shown).mean() > 2
    _, turned = saved_picture(page)
    assert np.abs(turned - first)[250:850, 400:1400].mean() > 5


@pytest.mark.parametrize("form", ["pial", "flat", "sphere", "radial", "on the way"])
def test_the_picture_has_the_outline_and_the_colors_of_the_page(page: Any, form: str) -> None:
    scan(page)
    page.select_option(by("palette-menu"), "colorblind")
    page.select_option(by("view-menu"), "lateral_left")
    if form == "on the way":
        page.evaluate("nmri3d.shape.setShare(0.6)")
        page.wait_for_function("nmri3d.painter.drawnFrom !== nmri3d.painter.form")
    elif form != "pial":
        page.select_option(by("layout-menu" if form == "radial" else "surface-menu"), form)
        page.wait_for_function(f"nmri3d.painter.form.name === '{form}'")
    quiet(page)
    on_page = picture(page).astype(int)
    page.wait_for_function("!document.querySelector('[data-testid=picture-button]').disabled")
    _, saved = saved_picture(page)

    def brain_alone(image: np.ndarray) -> np.ndarray:
        drawn = image.max(axis=2) > 45
        rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
        return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    one, other = brain_alone(on_page), brain_alone(saved[185:965, 60:1600])
    assert one.shape[1] / one.shape[0] == pytest.approx(other.shape[1] / other.shape[0], rel=0.02)
    rows, columns = np.linspace(0.2, 0.8, 25), np.linspace(0.2, 0.8, 25)
    samples = [
        image[(rows * (image.shape[0] - 1)).astype(int)[:, None], (columns * (image.shape[1] - 1)).astype(int)]
        for image in (one, other)
    ]
    hue = [sample / np.maximum(1, sample.sum(axis=2, keepdims=True)) for sample in samples]
    same = np.abs(hue[0] - hue[1]).max(axis=2) < 0.06
    assert same.mean() > 0.85  # a sample may fall on the other side of a border


def test_a_picture_that_cannot_be_is_refused_in_words_beside_the_button(page: Any) -> None:
    assert page.evaluate("nmri3d.trigger('picture', 'fMRI', {})") is None
    page.wait_for_selector(by("picture-error"))
    assert "scan first" in page.inner_text(by("picture-error"))
    page.click(f"{by('picture-error')} button")
    page.wait_for_selector(by("picture-error"), state="detached")
    page.click(by("tab-fMRI"))
    assert page.is_disabled(by("picture-button"))  # nothing is painted


def test_palettes_switch_in_the_browser_alone(page: Any, atlas: Any, service: Any, settled: Any) -> None:
    scan(page)
    view = known_view(page, atlas)
    quiet(page)
    settled(page)
    page.traffic.clear()
    measured = service.scan("fMRI", PROMPT)
    background = "getComputedStyle(document.querySelector('.color-bar .bar')).backgroundImage"
    before = page.evaluate(background)
    for variant in ("colorblind", "standard"):
        page.select_option(by("palette-menu"), variant)
        still(page)
        table = color_map("fMRI", "colorblind" if variant == "colorblind" else "standard")
        gradient = page.evaluate(background)
        for end in (0, -1):
            assert f"rgb({', '.join(map(str, table.table[end].tolist()))})" in gradient
        wanted = component_colors(measured.values[-1], display_range(measured), table)[:, :3].astype(float)
        shown = picture(page).astype(float)
        compared = 0
        for x, y, row in view.pixels_inside():
            pixel = shown[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
            if pixel.sum() >= 120:
                compared += 1
                assert np.abs(pixel / pixel.sum() - wanted[row] / wanted[row].sum()).max() < 0.05
        assert compared >= 4
    assert gradient == before
    assert page.traffic.n_bytes == 0


def test_every_statistic_of_t2_is_painted_without_another_scan(page: Any, service: Any, settled: Any) -> None:
    page.click(by("tab-T2"))
    page.wait_for_function("nmri3d.data.scans.T2")
    settled(page)
    details = service.scan("T2").details
    asked = len(service.asked)
    offered = page.eval_on_selector_all(f"{by('statistic-menu')} option", "all => all.map((one) => one.value)")
    assert offered == ["std", "mean", "max", "l2", "kurtosis", "outlier_share", "ov_norm", "qk_norm"]
    page.check(by("range-lock"))
    units = {page.evaluate("nmri3d.scan().units")}
    for name in [*offered[1:], "std"]:
        page.traffic.clear()
        before = page.evaluate("nmri3d.store.revision")
        page.select_option(by("statistic-menu"), name)
        page.wait_for_function(f"nmri3d.store.revision > {before}")
        settled(page)
        assert page.input_value(by("statistic-menu")) == name
        values = np.array(page.evaluate("Array.from(nmri3d.values(), String)"), dtype=np.float32)
        np.testing.assert_array_equal(values, details[name])
        assert sum(page.traffic.received) < 4 * values.size + 3000
        unit, signed = page.evaluate("[nmri3d.scan().units, nmri3d.scan().range.scale === 'symmetric']")
        assert signed == (name == "mean")
        units.add(unit)
        # a locked range belongs to one quantity
        assert page.evaluate("nmri3d.range() === nmri3d.scan().range") == (name != "std")
    assert len(units) == len(offered)
    assert len(service.asked) == asked


# -- what can go wrong --------------------------------------------------------------------------------------------------


def test_an_empty_prompt_gets_the_sentence_of_the_model(page: Any, service: Any) -> None:
    with pytest.raises(InputError) as refused:
        service.scan("fMRI", "")
    page.click(by("scan-button"))
    page.wait_for_selector(by("prompt-error"))
    assert page.inner_text(by("prompt-error")) == str(refused.value)
    scan(page)
    assert page.locator(by("prompt-error")).count() == 0


def test_a_scan_can_be_cancelled(page: Any, service: Any) -> None:
    service.slow = True
    try:
        page.click(by("tab-T2"))
        page.click(by("cancel-button"))
        page.wait_for_selector(by("job"), state="detached")
    finally:
        service.slow = False
    assert "cancelled" in page.inner_text(by("log-panel"))
    assert page.evaluate("'T2' in nmri3d.data.scans") is False
    page.click(by("tab-T1"))
    page.click(by("tab-T2"))
    page.wait_for_function("nmri3d.data.scans.T2")


def test_nonsense_from_a_browser_is_refused(page: Any, settled: Any) -> None:
    for name, arguments in (
        ("select", [10**9]),
        ("select", ["0"]),
        ("select", [None]),
        ("open_mode", ["../../etc"]),
        ("top_neurons", [0, -1]),
        ("aggregate", ["raw; rm"]),
        ("scan", [{"a": 1}]),
        ("load_model", [["x"]]),
        ("statistic", ["median"]),
        ("picture", ["T1", {"step": 0}]),
        ("scan", []),
        ("scan", ["a", "T9"]),
        ("paint", ["nothing"]),
        ("open_tool", ["../x"]),
        ("remove_edit", [7]),
        ("undo_edit", []),
        ("attention", [10**6, 0]),
        ("verify_edge", [0, 1, "q"]),
        ("estimate", ["everything", "a", {}]),
        ("perturb", [{"row": "0", "kind": "zero"}]),
        ("generate", ["a", 10**9]),
        ("trace", ["a", {"method": "magic"}, False]),
        ("sweep", ["a", None, False]),
        ("own_effect", [-1]),
        ("layout", [{"layout": "brodmann", "features": "weights", "area": "equal"}]),
        ("layout", ["umap"]),
        ("form", ["cube", 1]),
        ("moran", []),
    ):
        page.evaluate("([name, args]) => window.trame.trigger(name, args)", [name, arguments])
    settled(page)
    assert page.locator(".log .error").count() >= 28
    scan(page)


def test_an_unknown_model_is_refused_beside_the_menu_and_the_old_one_stays(page: Any) -> None:
    page.select_option(by("model-menu"), "*")
    page.fill(by("model-text"), "/nowhere/at/all")
    page.click(by("model-load"))
    page.wait_for_selector(by("model-error"))
    assert "/nowhere/at/all" in page.inner_text(by("model-error"))
    scan(page)


@pytest.mark.parametrize("mode", ["DTI", "FLAIR"])
def test_a_scan_that_needs_a_prompt_invites_to_one_and_paints_nothing_before(page: Any, mode: str) -> None:
    page.click(by(f"tab-{mode}"))
    assert "press SCAN" in page.inner_text(by(f"{mode.lower()}-invitation"))
    quiet(page)
    colors = picture(page).reshape(-1, 3).astype(int)
    drawn = colors[colors.max(axis=1) > 60]
    assert (np.ptp(drawn, axis=1) < 25).mean() > 0.95


def test_reset_stops_clears_and_turns_back(page: Any) -> None:
    scan(page)
    page.select_option(by("view-menu"), "dorsal")
    page.evaluate("nmri3d.select(0); nmri3d.setThreshold(0.4)")
    page.click(by("token-play"))
    page.click(by("reset-button"))
    state = page.evaluate(
        "(({playing, threshold, selected, view}) => ({playing, threshold, selected, view}))(nmri3d.store)"
    )
    assert state == {"playing": False, "threshold": 0, "selected": -1, "view": "overview"}


# -- remote rendering ---------------------------------------------------------------------------------------------------


def test_the_server_can_draw_instead(browser: Any, service: Any, atlas: Any) -> None:
    with serving(service, render="remote") as running:
        page = opened(browser, running.address)
        page.wait_for_timeout(1500)
        scan(page)
        page.wait_for_timeout(1500)
        last = picture(page)
        assert (last.max(axis=2) > 40).mean() > 0.15
        page.select_option(by("palette-menu"), "colorblind")
        page.wait_for_timeout(1500)
        assert np.abs(picture(page).astype(int) - last).mean() > 0.5
        last = picture(page)
        page.click(by("token-0"))
        page.wait_for_timeout(1500)
        assert np.abs(picture(page).astype(int) - last).mean() > 0.5
        _, saved = saved_picture(page)
        page.select_option(by("view-menu"), "lateral_left")
        assert np.abs(saved_picture(page)[1] - saved).mean() > 2
        for menu, name in (("surface-menu", "flat"), ("layout-menu", "stack"), ("surface-menu", "pial")):
            last = picture(page)
            page.select_option(by(menu), name)
            page.wait_for_timeout(2500)
            assert np.abs(picture(page).astype(int) - last).mean() > 2, name
            assert ("A" in page.inner_text(".brain-overlay")) == (name == "pial")
        for toggle in ("toggle-borders", "toggle-glass"):
            last = picture(page)
            page.click(by(toggle))
            page.wait_for_timeout(1500)
            assert np.abs(picture(page).astype(int) - last).mean() > 0.1, toggle
        box = frame(page)
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector(by("selected-id"))
        chosen = page.inner_text(by("selected-id"))
        assert chosen in atlas.components.ids
        page.select_option(by("layout-menu"), "umap")
        page.wait_for_function("nmri3d.store.layout === 'umap' && nmri3d.store.painted")
        assert page.inner_text(by("selected-id")) == chosen
        assert page.complaints == []
        page.close()


# -- another model, leaving ---------------------------------------------------------------------------------------------


def test_another_model_gets_a_brain_of_its_own_and_the_old_scene_is_freed(
    browser: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path / "cache"))
    scenes: list[weakref.ref[BrainScene]] = []
    build = BrainScene.__init__

    def noted(scene: BrainScene, *arguments: Any, **options: Any) -> None:
        scenes.append(weakref.ref(scene))
        build(scene, *arguments, **options)

    monkeypatch.setattr(BrainScene, "__init__", noted)
    first = tiny_checkpoint_folder("llama", tmp_path / "first")
    second = tiny_checkpoint_folder("gpt2", tmp_path / "second")
    service = Service()
    service.load(str(first))
    with serving(service) as running:
        page = opened(browser, running.address)
        scan(page)
        page.select_option(by("model-menu"), "*")
        page.fill(by("model-text"), str(second))
        page.click(by("model-load"))
        page.wait_for_function("nmri3d.store.epoch > 1 && nmri3d.store.painted")
        assert page.evaluate("nmri3d.geometry().n_params") == service.require_backend().components.n_params.tolist()
        assert page.locator(".chip").count() == 0  # the prompt was the old model's
        scan(page)
        assert page.locator(".chip").count() == len(service.scan("fMRI", PROMPT).tokens)
        page.evaluate("nmri3d.select(1)")
        page.wait_for_selector(f"{by('selected-id')}:text-is('{service.require_backend().components.ids[1]}')")
        assert page.complaints == []
        page.close()
    service.close()
    gc.collect()
    assert len(scenes) == 2
    assert [scene() for scene in scenes] == [None, None]

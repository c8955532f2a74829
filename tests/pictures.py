"""`python -m tests.pictures`: make the README's pictures anew, with the program itself and the default model."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

import nmri3d
from nmri3d.cli.calibration_pictures import write_pictures
from nmri3d.phantoms.calibrating import calibrate
from nmri3d.phantoms.registry import load_phantom
from tests.app.conftest import ARGUMENTS, CHROMIUM, opened
from tests.benchmarks.starting import served

ASSETS = Path(__file__).parent.parent / "assets"
PROMPT = "The capital of France is"
SIZES = ((1280, 720), (1920, 1080))
IOI = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"


def page_pictures() -> None:
    """The page after an fMRI scan, with a component selected."""
    with sync_playwright() as playwright, served() as (address, _):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for width, height in SIZES:
            page = opened(browser, address, (width, height))
            page.fill('[data-testid="prompt-input"]', PROMPT)
            page.press('[data-testid="prompt-input"]', "Enter")
            page.wait_for_selector('[data-testid="predictions"]')
            box = page.locator('[data-testid="brain-view"]').bounding_box()
            page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
            page.wait_for_selector('[data-testid="perturb-zero"]')
            page.wait_for_timeout(4000)
            page.screenshot(path=ASSETS / f"page-{width}x{height}.png")
            page.close()
        browser.close()


def tracts_page_picture() -> None:
    """The page after a DTI scan against another prompt, with the strongest head selected and its paths listed."""
    with sync_playwright() as playwright, served() as (address, _):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = opened(browser, address, (1920, 1080))
        page.click('[data-testid="tab-DTI"]')
        fields = {"prompt-input": IOI, "corrupt-input": CORRUPT, "target-input": " Mary", "foil-input": " John"}
        for field, text in fields.items():
            page.fill(f'[data-testid="{field}"]', text)
        page.click('[data-testid="scan-button"]')
        page.wait_for_selector('[data-testid="tracts-legend"]', timeout=120_000)
        page.click('[data-testid="tool-paths"]')
        page.wait_for_timeout(6000)
        page.screenshot(path=ASSETS / "page-tracts.png")
        browser.close()


def view_pictures() -> None:
    """The page's other views, each driven as a person would: neurons, slices, volume, linked views, layouts."""
    with sync_playwright() as playwright, served() as (address, _):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = opened(browser, address, (1600, 900))

        def press(name: str) -> None:
            page.click(f'[data-testid="{name}"]')

        def scan(prompt: str) -> None:
            page.fill('[data-testid="prompt-input"]', prompt)
            page.press('[data-testid="prompt-input"]', "Enter")
            page.wait_for_function("p => { const s = nmri3d.scan(); return s && s.prompt === p }", arg=prompt)

        def save(name: str, seconds: float = 4) -> None:
            page.wait_for_function("!nmri3d.painter || !nmri3d.painter.moving", timeout=120_000)
            page.wait_for_timeout(1000 * seconds)
            page.screenshot(path=ASSETS / f"page-{name}.png")

        scan(PROMPT)
        press("slices")
        page.wait_for_selector('[data-testid="slice-axial"]')
        box = page.locator('[data-testid="brain-view"]').bounding_box()
        page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
        save("slices", 8)
        press("volume")
        page.wait_for_function("nmri3d.painter.layers.some((layer) => layer.still)")
        save("volume", 12)
        press("volume")
        press("slices")
        page.keyboard.press("Escape")
        page.select_option('[data-testid="view-menu"]', "lateral_right")
        press("toggle-neurons")
        page.wait_for_selector('[data-testid="neuron-level"][data-shown="true"]', timeout=300_000)
        save("neurons", 20)
        press("toggle-neurons")
        page.select_option('[data-testid="view-menu"]', "overview")
        page.select_option('[data-testid="surface-menu"]', "flat")
        save("flat")
        page.select_option('[data-testid="surface-menu"]', "pial")
        page.select_option('[data-testid="layout-menu"]', "network")
        save("network", 6)
        page.select_option('[data-testid="layout-menu"]', "umap")
        page.wait_for_function("nmri3d.data.geometry && nmri3d.data.geometry.layout === 'umap'", timeout=300_000)
        press("tool-layout")
        save("umap", 8)
        press("pin")
        scan("The capital of Italy is")
        save("linked", 6)
        browser.close()


def replay_picture() -> None:
    """A recorded session in replay: a scan, an edit, a note and a view, and the timeline below."""
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.environ["NMRI3D_SESSIONS"] = folder  # for the server
        with served() as (address, _):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = opened(browser, address, (1600, 900))
            page.click('[data-testid="record-button"]')
            page.fill('[data-testid="prompt-input"]', PROMPT)
            page.press('[data-testid="prompt-input"]', "Enter")
            page.wait_for_selector('[data-testid="predictions"]')
            page.wait_for_timeout(3000)
            page.evaluate("nmri3d.select(nmri3d.geometry().rowOfId.get('blocks.23.attn.head_3'))")
            page.click('[data-testid="perturb-zero"]')
            page.wait_for_selector('[data-testid="edits"]')
            page.select_option('[data-testid="view-menu"]', "lateral_left")
            page.wait_for_timeout(4000)
            page.fill('[data-testid="note-input"]', "Without this head the answer hardly changes, and later layers do.")
            page.press('[data-testid="note-input"]', "Enter")
            page.wait_for_timeout(1000)
            page.click('[data-testid="record-button"]')
            page.click('[data-testid="sessions-button"]')
            page.click('[data-testid="session-replay"]')
            page.wait_for_selector('[data-testid="replay-panel"]')
            page.keyboard.press("End")
            page.wait_for_selector('[data-testid="replay-note"]')
            page.wait_for_timeout(4000)
            page.screenshot(path=ASSETS / "page-replay.png")
            browser.close()


def phantom_pictures() -> None:
    """The page on a phantom, stepped and with a part selected; and a truth that a scan finds, beside it."""
    with sync_playwright() as playwright, served("--model", "phantom:cerebellum") as (address, _):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = opened(browser, address, (1600, 900))
        page.select_option('[data-testid="examples-menu"]', index=1)
        page.click('[data-testid="scan-button"]')
        page.wait_for_selector('[data-testid="predictions"]')
        page.locator('[data-testid="leaders"] button').first.click()
        page.wait_for_selector('[data-testid="perturb-zero"]')
        page.wait_for_timeout(4000)
        page.screenshot(path=ASSETS / "page-phantom.png")
        browser.close()
    with closing(load_phantom("cerebellum")) as backend, TemporaryDirectory() as folder:
        first = write_pictures(calibrate("cerebellum"), backend, Path(folder))[0]
        shutil.copy(first, ASSETS / "calibration.png")


def form_pictures() -> None:
    """What the same parcels look like on every surface and in every layout, in one figure."""
    import numpy as np
    from matplotlib.image import imsave

    from nmri3d.atlas import NODE_LAYOUTS, node_layout

    model = nmri3d.load()
    scan = nmri3d.scan(model, "fMRI", PROMPT)
    rows = []
    with nmri3d.Brain(model) as brain:
        for name in NODE_LAYOUTS:
            brain.scene.add_nodes(node_layout(name, brain.atlas.components, model.layout_features()))
        brain.show(scan, token=4)
        for names in (("pial", "inflated", "sphere", "flat"), ("white", *NODE_LAYOUTS)):
            row = []
            for name in names:
                brain.show_form(name)
                brain.view("dorsal" if name == "flat" else "lateral_left")
                if name in NODE_LAYOUTS:
                    brain.scene.plotter.camera.Elevation(28)
                row.append(brain.scene.screenshot((480, 400)))
            rows.append(np.concatenate(row, axis=1))
    imsave(ASSETS / "forms.png", np.concatenate(rows))


def beside_picture() -> None:
    """Before, after and the change, from Python."""
    model = nmri3d.load()
    comparison = nmri3d.perturb(model, PROMPT, [nmri3d.Edit("blocks.23.attn.head_3", "zero")])
    brains = [nmri3d.Brain(model).show(comparison.scan(what)) for what in ("before", "after", "change")]
    titles = ["before", "after blocks.23.attn.head_3 = 0", "change"]
    nmri3d.side_by_side(brains, ASSETS / "side-by-side.png", titles=titles, size=(1920, 640))
    for brain in brains:
        brain.close()


def brain_picture() -> None:
    """The figure of the library, as in the README's example."""
    model = nmri3d.load()
    scan = nmri3d.scan(model, "fMRI", PROMPT)
    with nmri3d.Brain(model, surface="inflated") as brain:
        brain.show(scan, token=4).view("lateral_left").screenshot(ASSETS / "brain.png", size=(1600, 900), dpi=100)


if __name__ == "__main__":
    ASSETS.mkdir(exist_ok=True)
    brain_picture()
    form_pictures()
    beside_picture()
    page_pictures()
    tracts_page_picture()
    view_pictures()
    replay_picture()
    phantom_pictures()

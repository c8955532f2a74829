"""`python -m tests.pictures`: make the README's pictures anew, with the program itself and the default model."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import sync_playwright

import nmri3d
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


def brain_picture() -> None:
    """The figure of the library, as in the README's example."""
    model = nmri3d.load()
    scan = nmri3d.scan(model, "fMRI", PROMPT)
    with nmri3d.Brain(model, surface="inflated") as brain:
        brain.show(scan, token=4).view("lateral_left").screenshot(ASSETS / "brain.png", size=(1600, 900), dpi=100)


if __name__ == "__main__":
    ASSETS.mkdir(exist_ok=True)
    brain_picture()
    page_pictures()
    tracts_page_picture()

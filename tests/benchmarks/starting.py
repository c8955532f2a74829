"""From the command to a painted page, and what a person waits for there, in headless Chromium with software WebGL.

The start is that of a second time: weights and atlas are in the cache. It is set against the time that importing torch,
transformers and VTK alone takes in a process of its own, the two in turn.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.app.conftest import ARGUMENTS, CHROMIUM, opened
from tests.benchmarks.timing import Figure, seconds

IMPORTS = "import torch, transformers, vtk"
SWITCH = """mode => new Promise(done => {
  const painter = window.nmri3d.painter, clicked = performance.now();
  let begun = 0;
  const look = () => {
    if (!begun && painter.lastDraw > clicked) begun = performance.now() - clicked;
    if (begun && painter.drawn) done([performance.now() - clicked, begun]);
    else requestAnimationFrame(look);
  };
  document.querySelector(`[data-testid=tab-${mode}]`).click();
  requestAnimationFrame(look);
})"""
# clicks a tab; gives milliseconds until the first new picture is drawn, and until its drawing was begun
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
PROMPTS = ("The capital of France is", "The capital of Italy is", "Water boils at a temperature of")


def page() -> Iterator[Figure]:
    """Start, prompt to painted scan, mode switch and stepping."""
    if CHROMIUM is None:
        yield Figure("page", "no Chromium on this machine")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        starts, imports = [], []
        for _ in range(3):
            imports.append(seconds(lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True)))
            with served() as (address, started):
                visitor = opened(browser, address)
                starts.append(time.perf_counter() - started)
                visitor.close()
        start, alone = statistics.median(starts), statistics.median(imports)
        bound = f"at most 2 x imports + 3 = {2 * alone + 3:.1f}"
        yield Figure("second start to a painted page, seconds (imports alone)", f"{start:.1f}  ({alone:.1f})", bound)
        with served() as (address, _):
            yield from _waiting(opened(browser, address))
        browser.close()


def _waiting(visitor: Any) -> Iterator[Figure]:
    """What a person waits for on an open page: from the key or the click until the new picture has been drawn."""
    times = []
    for prompt in PROMPTS:
        before = visitor.evaluate("window.nmri3d.store.revision")
        visitor.fill('[data-testid="prompt-input"]', prompt)
        started = time.perf_counter()
        visitor.press('[data-testid="prompt-input"]', "Enter")
        visitor.wait_for_function("before => window.nmri3d.store.revision > before", arg=before)
        visitor.evaluate(DRAWN)
        times.append(time.perf_counter() - started)
        visitor.wait_for_selector('[data-testid="predictions"]')
        visitor.wait_for_timeout(1000)
    yield Figure("prompt to painted scan, seconds, median of 3", f"{statistics.median(times):.2f}", "under 2")
    switches = []
    for mode in ("T1", "fMRI", "T1", "fMRI", "T1"):
        switches.append(visitor.evaluate(SWITCH, mode))
        visitor.wait_for_timeout(1500)
    drawn, begun = (statistics.median(times) / 1000 for times in zip(*switches, strict=True))
    yield Figure("mode switch, click until new colors go to WebGL, seconds", f"{begun:.2f}", "under 0.3")
    yield Figure("mode switch, click until software WebGL has drawn them", f"{drawn:.2f}", "under 0.3 with a GPU")
    visitor.click('[data-testid="tab-fMRI"]')
    visitor.wait_for_timeout(2000)
    visitor.traffic.clear()
    for _ in range(4):
        visitor.keyboard.press("ArrowLeft")
        visitor.wait_for_timeout(300)
    yield Figure("stepping four tokens, bytes between server and page", f"{visitor.traffic.n_bytes}", "0")


@contextmanager
def served(*options: str) -> Iterator[tuple[str, float]]:
    """`nmri3d serve` as a process of its own; yields the address and when the process was started."""
    started = time.perf_counter()
    command = [sys.executable, "-c", "from nmri3d.cli import main; main()", "serve", "--no-open", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield next(found.group() for line in process.stdout if (found := re.search(r"http://\S+", line))), started
    finally:
        process.terminate()
        process.wait(30)

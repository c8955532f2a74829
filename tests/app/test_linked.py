"""Brains side by side in Chromium: pins, edits, another mesh, one camera."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nmri3d.atlas import Atlas
from tests.app.conftest import by, scan
from tests.app.known_view import KnownView
from tests.app.test_page import click_brain, frame, picture, quiet, still

pytestmark = pytest.mark.browser

OTHER = "The capital of Italy is"
VIEWS = "window.nmri3d.painter.linked.views"


def linked(page: Any, count: int) -> None:
    page.wait_for_function(f"n => window.nmri3d.painter.linked && {VIEWS}.length === n", arg=count)
    still(page)


def test_a_pin_stands_beside_what_is_shown_and_their_difference(page: Any, atlas: Atlas, service: Any) -> None:
    scan(page)
    page.select_option(by("view-menu"), "lateral_left")
    page.click(by("pin"))
    linked(page, 3)  # itself, at first
    page.fill(by("prompt-input"), OTHER)
    page.press(by("prompt-input"), "Enter")
    page.wait_for_function("p => window.nmri3d.scan().prompt === p", arg=OTHER)
    linked(page, 3)
    quiet(page)
    first, second = (service.scan("fMRI", prompt).values for prompt in ("The capital of France is", OTHER))
    texts = page.locator(by("linked-views")).inner_text()
    assert "PINNED" in texts
    assert "NOW − PINNED" in texts
    assert "The capital of France is" in texts
    assert OTHER in texts

    box = frame(page)
    width = box["width"] / 3
    known = KnownView(atlas, "pial", "lateral_left", width, box["height"])
    inside = known.pixels_inside(most=8, clearance=5)
    assert len({row for _, _, row in inside}) >= 3
    shown = picture(page).astype(float)
    for at in range(3):
        colors = np.array(page.evaluate(f"at => Array.from({VIEWS}[at].target.colors)", at), dtype=float).reshape(-1, 4)
        for x, y, row in inside:
            seen, wanted = shown[round(y), round(at * width + x), :3], colors[row, :3]
            if wanted.max() < 70:  # too dark to have a hue
                assert seen.max() < 90
                continue
            assert seen @ wanted > 0.98 * np.linalg.norm(seen) * np.linalg.norm(wanted), (at, atlas.components.ids[row])
    x, y, row = inside[0]
    for at in range(3):
        page.mouse.move(box["x"] + at * width + x, box["y"] + y)
        tip = page.locator(by("linked-tooltip"))
        tip.filter(has_text=atlas.components.ids[row]).wait_for()
        lines = tip.inner_text()
        for value in (first[-1, row], second[-1, row]):
            assert page.evaluate("v => window.nmri3d.format(v)", float(value)) in lines
        page.mouse.move(box["x"] + 2, box["y"] + 2)
        page.wait_for_selector(by("linked-tooltip"), state="detached")
    click_brain(page, width + x, y)
    page.wait_for_selector(f"{by('selected-id')}:text-is('{atlas.components.ids[row]}')")


def test_one_camera_turns_all_views_and_costs_no_traffic(page: Any, settled: Any) -> None:
    scan(page)
    page.click(by("pin"))
    linked(page, 3)
    settled(page)
    page.traffic.clear()
    box = frame(page)
    before = picture(page)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 + 10, steps=4)
    page.mouse.up()
    still(page)
    after = picture(page)
    third = before.shape[1] // 3
    for at in range(2):  # the difference of a scan and itself is one color
        part = slice(at * third, (at + 1) * third)
        assert (np.abs(after[:, part].astype(int) - before[:, part]).max(axis=-1) > 30).mean() > 0.05
    left, middle = after[80:-140, 4 : third - 4], after[80:-140, third + 4 : 2 * third - 4]
    same = np.abs(left.astype(int) - middle).max(axis=-1) < 40
    assert same.mean() > 0.97, "the same scan looks the same in both views"
    settled(page)
    assert page.traffic.n_bytes < 3000


def test_pins_are_taken_away_and_one_brain_is_left(page: Any) -> None:
    scan(page)
    for _ in range(4):  # three at most: the oldest gives way
        page.click(by("pin"))
    linked(page, 4)
    page.click(by("unpin-0"))
    linked(page, 3)
    page.click(by("link-pins"))
    page.wait_for_function("() => !window.nmri3d.painter.linked")
    page.wait_for_selector(by("linked-views"), state="detached")
    assert page.evaluate("window.nmri3d.painter.renderer.getViewport().join()") == "0,0,1,1"
    page.click(by("link-pins"))
    linked(page, 3)


def test_edits_stand_before_after_and_change(page: Any, atlas: Atlas) -> None:
    scan(page)
    page.evaluate("row => window.nmri3d.select(row)", int(atlas.components.rows("mlp")[0]))
    page.click(by("perturb-zero"))
    page.wait_for_selector(by("link-edits"))
    page.click(by("link-edits"))
    linked(page, 3)
    titles = page.locator(".linked-view header b").all_inner_texts()
    assert [title.upper() for title in titles] == ["BEFORE THE EDITS", "AFTER THE EDITS", "CHANGE BY THE EDITS"]
    ranges = page.evaluate(f"{VIEWS}.map(view => [view.range.vmin, view.range.vmax])")
    assert ranges[0] == ranges[1]
    assert ranges[2][0] == -ranges[2][1]


def test_a_pin_of_another_mesh_is_drawn_by_its_own(page: Any, atlas: Atlas) -> None:
    scan(page)
    page.select_option(by("view-menu"), "lateral_left")
    page.click(by("pin"))
    linked(page, 3)
    page.select_option(by("layout-menu"), "spectral")
    page.wait_for_function(f"() => window.nmri3d.painter && window.nmri3d.painter.linked && {VIEWS}[0].other === true")
    page.wait_for_function("() => window.nmri3d.data.geometry.layout === 'spectral'")
    still(page)
    quiet(page)
    count = page.evaluate(f"{VIEWS}.length")
    box = frame(page)
    width = box["width"] / count
    known = KnownView(atlas, "pial", "lateral_left", width, box["height"])
    colors = np.array(page.evaluate(f"Array.from({VIEWS}[0].target.colors)"), dtype=float).reshape(-1, 4)
    shown = picture(page).astype(float)
    for x, y, row in known.pixels_inside(most=6, clearance=5):
        seen, wanted = shown[round(y), round(x), :3], colors[row, :3]
        if wanted.max() >= 70:
            assert seen @ wanted > 0.98 * np.linalg.norm(seen) * np.linalg.norm(wanted)
        page.mouse.move(box["x"] + x, box["y"] + y)
        page.locator(by("linked-tooltip")).filter(has_text=atlas.components.ids[row]).wait_for()

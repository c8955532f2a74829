"""The cerebellum and the hippocampi on the page, in a real browser: where they are, what a click selects, their colors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nmri3d.atlas import Atlas
from nmri3d.models.backend import Backend
from nmri3d.phantoms.backend import open_module
from nmri3d.phantoms.cerebellum.config import Config
from nmri3d.phantoms.cerebellum.model import Cerebellum
from nmri3d.scene.colors import component_colors, display_range, scan_color_map
from nmri3d.service import Service
from tests.app.conftest import by, opened, scan, serving
from tests.app.known_view import KnownView
from tests.app.test_page import click_brain, frame, picture, quiet, still

pytestmark = pytest.mark.browser

PROMPT = "reach to 30 10 0 20 5 bias 4 -3 5 3 -4 noise 0.3 trials 2 steps 6"


def small_cerebellum() -> Backend:
    """The phantom with few cells, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Cerebellum(Config(phases=2, places=12, granules=8, purkinje_copies=1, nucleus_copies=1))
    return open_module("cerebellum", network)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NMRI3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        shared = Service(loader=lambda name, **_: small_cerebellum())
        shared.load("phantom:cerebellum")
        yield shared
        shared.close()


@pytest.fixture(scope="module")
def atlas(service: Service) -> Atlas:
    return Atlas.build(service.require_backend())


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with serving(service) as server:
        yield server.address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    visitor = opened(browser, address)
    yield visitor
    complaints = visitor.complaints
    visitor.close()
    assert complaints == []


def from_below(page: Any, atlas: Atlas) -> KnownView:
    """The cerebellum alone, to a camera under the brain, which sees it before all else."""
    page.select_option(by("view-menu"), "ventral")
    still(page)
    cerebellum, box = slice(atlas.bodies[0].first_face, atlas.bodies[1].first_face), frame(page)
    alone = replace(atlas, faces=atlas.faces[cerebellum], face_component=atlas.face_component[cerebellum])
    return KnownView(alone, "pial", "ventral", box["width"], box["height"])


def test_bodies_are_drawn_whole_where_the_atlas_has_them(page: Any, atlas: Atlas) -> None:
    found = page.evaluate("""(() => {
        const layer = nmri3d.painter.layers.find((one) => one.numbers);
        const { vertexOfSplit } = nmri3d.painter.geometry;
        return [layer.numbers, layer.vertices.map((vertex) => vertexOfSplit[vertex]),
                Array.from(layer.mesh.getPoints().getData()), layer.actor.getVisibility()];
    })()""")
    numbers, vertices, points, visible = found
    assert visible
    assert [body.name for body in atlas.bodies] == ["cerebellum", "hippocampus left", "hippocampus right"]
    assert numbers == list(range(atlas.bodies[0].first_face, len(atlas.faces)))
    assert np.abs(np.reshape(points, (-1, 3)) - atlas.vertices[vertices]).max() < 1e-3
    assert set(vertices) == set(range(atlas.bodies[0].first_vertex, len(atlas.vertices)))


def test_a_click_on_the_cerebellum_selects_the_cells_that_lie_there(page: Any, atlas: Atlas) -> None:
    targets = from_below(page, atlas).pixels_inside()
    assert len({row for _, _, row in targets}) >= 4
    for x, y, row in targets[:6]:
        page.keyboard.press("Escape")
        click_brain(page, x, y)
        page.wait_for_selector(f"{by('selected-id')}:text-is('{atlas.components.ids[row]}')")
        assert "cerebellum" in page.inner_text(by("stimulation-panel"))


def test_the_cerebellum_has_the_colors_of_the_step_that_is_shown(page: Any, atlas: Atlas, service: Service) -> None:
    scan(page, PROMPT)
    targets = from_below(page, atlas).pixels_inside()
    quiet(page)
    measured = service.scan("fMRI", PROMPT)
    shown_range, table = display_range(measured), scan_color_map(measured)
    seen, rows = [], [row for _, _, row in targets]
    for step in (4, 11):
        page.click(by(f"token-{step}"))
        still(page)
        wanted = component_colors(measured.values[step], shown_range, table)[rows, :3].astype(float)
        shown = picture(page).astype(float)
        pixels = np.array([shown[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1)) for x, y, _ in targets])
        apart = np.abs(pixels / pixels.sum(axis=1, keepdims=True) - wanted / wanted.sum(axis=1, keepdims=True))
        assert apart.max() < 0.06, atlas.components.ids[rows[int(apart.max(axis=1).argmax())]]
        seen.append(pixels)
    changed = np.abs(np.diff(measured.values[[4, 11]], axis=0)[0, rows]) > 0.1 * shown_range.vmax
    assert changed.any()
    assert np.abs(seen[0] - seen[1]).max(axis=1)[changed].min() > 10

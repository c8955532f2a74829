"""Tracts on the page: the browser's tubes are the server's, and what a person does with them costs no traffic."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nmri3d.app.brain import PageBrain
from nmri3d.app.payloads import scan_payload
from nmri3d.app.trame_link import new_server
from nmri3d.errors import InputError
from nmri3d.scans import scan
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.tracts import (
    TractStyle,
    chosen_edges,
    drawable,
    reference_score,
    sign_colors,
    tract_frame,
    tract_paths,
    tube_colors,
    tube_radius,
)
from nmri3d.scene.tubes import tube_mesh
from tests.app.conftest import PROMPT
from tests.app.test_page import by, frame, picture, quiet, still

TAKE = """([mode, payload]) => {
  const open = (value) => {
    if (Array.isArray(value)) return value.map(open);
    if (!value || typeof value !== "object") return value;
    if ("bytes" in value) return Uint8Array.from(atob(value.bytes), (letter) => letter.charCodeAt(0));
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, open(part)]));
  };
  nmri3d.takeScan(mode, open(payload));
}"""

MESH = """() => {
  nmri3d.painter.tracts.place(); // tubes are made just before a picture
  const data = nmri3d.painter.tracts.actor.getMapper().getInputData();
  const arrays = [data.getPoints(), data.getPointData().getNormals(), data.getPointData().getScalars(), data.getPolys()];
  return arrays.map((array) => Array.from(array.getData()));
}"""


def plain(value: Any) -> Any:
    """A payload as JSON can carry it."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def dti(service: Any) -> Any:
    measured = scan(service.backend, "DTI", PROMPT, effect="zero")
    assert len(drawable(measured.tracts, measured.components)) > 20
    return measured


@pytest.fixture
def traced(page: Any, dti: Any) -> Any:
    """The page with a DTI scan, its tab open."""
    page.evaluate(TAKE, ["DTI", plain(scan_payload(dti))])
    page.click(by("tab-DTI"))
    page.wait_for_function("nmri3d.painter.tracts.path")
    still(page)
    return page


@pytest.mark.browser
@pytest.mark.parametrize(("surface", "colors"), [("pial", "sign"), ("inflated", "direction")])
def test_the_browser_makes_the_tubes_that_the_server_makes(
    traced: Any, dti: Any, atlas: Any, surface: str, colors: Any
) -> None:
    traced.select_option(by("surface-menu"), surface)
    traced.click(by(f"tract-colors-{colors}"))
    still(traced)
    edges = drawable(dti.tracts, dti.components)
    shown = chosen_edges(edges)
    assert traced.evaluate("Array.from(nmri3d.painter.tracts.path.shown)") == shown.tolist()
    score = edges.score[shown]
    paths, tangents = tract_paths(tract_frame(atlas, surface), edges.source[shown], edges.target[shown])
    radius = tube_radius(score, reference_score(edges))
    expected = tube_mesh(paths, tangents, radius, tube_colors(score, tangents, TractStyle(colors=colors)))
    points, normals, shades, faces = traced.evaluate(MESH)
    np.testing.assert_allclose(np.reshape(points, (-1, 3)), expected.points, atol=2e-3)
    np.testing.assert_allclose(np.reshape(shades, (-1, 3)), expected.colors, atol=1)
    triangles = np.reshape(faces, (-1, 4))
    assert (triangles[:, 0] == 3).all()
    corners = np.reshape(points, (-1, 3))[triangles[:, 1:]]
    there = {tuple(sorted(row)) for row in triangles[:, 1:].tolist()}
    assert there == {tuple(sorted(row)) for row in expected.triangles.tolist()}
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = np.einsum("ij,ij->i", outward, np.reshape(normals, (-1, 3))[triangles[:, 1]])
    assert (facing > -1e-3).all()


@pytest.mark.browser
def test_tubes_are_seen_in_glass_and_gone_with_the_tab(traced: Any) -> None:
    quiet(traced)
    shown = picture(traced).astype(float)
    for color in sign_colors():
        chroma, wanted = shown - shown.mean(axis=2, keepdims=True), color - color.mean()
        length = np.linalg.norm(chroma, axis=2)
        alike = (chroma @ wanted > 0.93 * length * np.linalg.norm(wanted)) & (length > 25)
        assert alike.mean() > 0.001
    traced.click(by("tab-T1"))
    still(traced)
    assert not traced.evaluate("nmri3d.painter.tracts.actor.getVisibility()")
    solid = picture(traced)
    spread = solid.max(axis=2).astype(int) - solid.min(axis=2)
    assert (spread > 60).mean() < 0.001  # T1 is grey


@pytest.mark.browser
def test_choosing_tubes_costs_no_traffic(traced: Any, dti: Any, settled: Any) -> None:
    edges = drawable(dti.tracts, dti.components)
    settled(traced)
    traced.traffic.clear()
    shown = "Array.from(nmri3d.painter.tracts.path ? nmri3d.painter.tracts.path.shown : [])"
    for share in (0.05, 0.3, 1.0):
        traced.evaluate(f"nmri3d.tracts.setShare({share})")
        traced.wait_for_timeout(50)
        assert traced.evaluate(shown) == chosen_edges(edges, share).tolist()
    traced.locator(by("tract-share")).fill("0")
    traced.wait_for_timeout(50)
    assert traced.evaluate(shown) == []
    assert traced.inner_text(by("tract-count")).startswith(f"0 of {edges.count:,} measured edges")
    traced.evaluate("nmri3d.tracts.setShare(null)")
    traced.click(by("tract-colors-direction"))
    settled(traced)
    assert traced.traffic.n_bytes == 0


@pytest.mark.browser
def test_a_selected_component_keeps_its_own_tubes(traced: Any, dti: Any) -> None:
    edges = drawable(dti.tracts, dti.components)
    row = int(edges.source[3])
    traced.evaluate(f"nmri3d.select({row})")
    still(traced)
    assert traced.evaluate("Array.from(nmri3d.painter.tracts.path.shown)") == chosen_edges(edges, row=row).tolist()
    touching = traced.evaluate(f"nmri3d.tracts.touching({row}).map((edge) => edge.index)")
    assert touching == np.flatnonzero((edges.source == row) | (edges.target == row)).tolist()


@pytest.mark.browser
def test_a_tube_tells_its_edge_and_a_click_selects_it(traced: Any, dti: Any) -> None:
    edges, ids = drawable(dti.tracts, dti.components), dti.components.ids
    box = frame(traced)
    place = traced.evaluate(
        """({x, y, width, height}) => {
          for (let v = 0.1; v < 0.9; v += 0.01) for (let u = 0.2; u < 0.7; u += 0.01) {
            const [clientX, clientY] = [x + u * width, y + v * height];
            const { edge } = nmri3d.painter.pick({ clientX, clientY });
            if (edge >= 0) return [clientX, clientY, edge];
          }
        }""",
        box,
    )
    x, y, edge = place
    traced.mouse.move(x, y)
    tooltip = traced.wait_for_selector(by("tooltip")).inner_text()
    assert ids[edges.source[edge]] in tooltip
    assert f"→ {ids[edges.target[edge]]}" in tooltip
    assert ("supports" if edges.score[edge] > 0 else "opposes") in tooltip
    traced.mouse.click(x, y)
    chosen = traced.wait_for_selector(by("tract-selected")).inner_text()
    assert f"{ids[edges.source[edge]]} → {ids[edges.target[edge]]}" in chosen.replace("\n", " ")
    state = traced.evaluate("({...nmri3d.store.edge})")
    assert state == {
        "source": int(edges.source[edge]),
        "target": int(edges.target[edge]),
        "slot": str(edges.slot[edge]),
    }
    assert traced.evaluate("nmri3d.store.selected") == -1
    still(traced)
    _, _, shades, _ = traced.evaluate(MESH)
    tubes = np.reshape(shades, (len(chosen_edges(edges)), -1, 3)).max(axis=(1, 2))
    assert tubes.argmax() == edge
    assert (np.delete(tubes, edge) < 0.5 * tubes[edge]).all()


@pytest.mark.browser
def test_a_locked_range_locks_the_widths(traced: Any, dti: Any) -> None:
    reference = reference_score(drawable(dti.tracts, dti.components))
    traced.evaluate("nmri3d.setLocked(true)")
    stronger = scan_payload(dti)
    stronger["tracts"] = {**stronger["tracts"], "reference": 10 * reference}
    traced.evaluate(TAKE, ["DTI", plain(stronger)])
    assert traced.evaluate("nmri3d.tracts.reference()") == pytest.approx(reference)
    traced.evaluate("nmri3d.setLocked(false)")
    assert traced.evaluate("nmri3d.tracts.reference()") == pytest.approx(10 * reference)


# -- remote rendering ---------------------------------------------------------------------------------------------------


@pytest.fixture
def remote_brain(atlas: Any) -> Iterator[PageBrain]:
    brain = PageBrain(new_server("tracts-test"), BrainScene(atlas), 1, remote=True)
    yield brain
    brain.close()


def test_the_server_draws_the_same_tubes(remote_brain: PageBrain, dti: Any) -> None:
    edges = drawable(dti.tracts, dti.components)
    tracts = remote_brain.scene.tracts
    remote_brain.keep(dti)
    assert tracts.edges is None  # another tab is open
    remote_brain.show("DTI")
    np.testing.assert_array_equal(tracts.shown, chosen_edges(edges))
    assert remote_brain.scene.is_glass
    remote_brain.look_at_tracts(0.2, "direction", 1)
    np.testing.assert_array_equal(tracts.shown, chosen_edges(edges, 0.2))
    assert (tracts.style.colors, tracts._marked) == ("direction", 1)
    remote_brain.color("colorblind")
    assert tracts.style.variant == "colorblind"
    assert tracts.style.share == 0.2
    remote_brain.look_at_tracts(None, "sign", -1)
    assert tracts._marked is None
    remote_brain.look(0.0, True)
    assert tracts.style.reference == pytest.approx(reference_score(edges))
    remote_brain.look(0.0, False)
    assert tracts.style.reference is None
    remote_brain.select(int(edges.source[0]))
    np.testing.assert_array_equal(tracts.shown, chosen_edges(edges, row=int(edges.source[0])))
    remote_brain.show("T1")
    assert tracts.edges is None
    assert not remote_brain.scene.is_glass


def test_the_server_picks_tubes_before_the_cortex(remote_brain: PageBrain, dti: Any) -> None:
    remote_brain.keep(dti)
    remote_brain.show("DTI")
    found = [remote_brain.pick(x / 40, y / 40) for x in range(8, 33) for y in range(8, 33)]
    assert any(place["edge"] >= 0 for place in found)
    assert any(place["row"] >= 0 for place in found)
    assert all(min(place.values()) == -1 for place in found)
    assert remote_brain.pick(0.0, 0.0) == {"row": -1, "edge": -1}


@pytest.mark.parametrize("wrong", [(2, "sign", -1), ("all", "sign", -1), (None, "rainbow", -1), (None, "sign", 10**6)])
def test_what_a_browser_asks_of_tubes_is_checked(remote_brain: PageBrain, dti: Any, wrong: tuple[Any, ...]) -> None:
    remote_brain.keep(dti)
    remote_brain.show("DTI")
    with pytest.raises(InputError):
        remote_brain.look_at_tracts(*wrong)

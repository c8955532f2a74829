"""What is sent to the browser: exact bytes, and few of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest

from nmri3d.app.brain import PageBrain
from nmri3d.app.facts import component_facts, model_facts
from nmri3d.app.layouts import LayoutChoice, parcel_balls, read_choice
from nmri3d.app.payloads import geometry_payload, palettes_payload, scan_payload, tracts_payload
from nmri3d.atlas import SURFACES
from nmri3d.atlas.nodes import NODE_LAYOUTS
from nmri3d.errors import InputError
from nmri3d.scans import scan
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.colors import color_map, display_range
from nmri3d.scene.mesh import split_along_borders
from nmri3d.scene.texture import texture_layout
from nmri3d.scene.tracts import drawable, tract_frame
from tests.app.conftest import PROMPT
from tests.scene.small_tracts import random_tracts


@pytest.mark.parametrize(("mode", "prompt"), [("T1", None), ("T2", None), ("fMRI", "a"), ("fMRI", PROMPT)])
def test_a_scan_costs_four_bytes_a_component_a_step_and_little_more(service, mode, prompt):
    measured = scan(service.backend, mode, prompt)
    payload = scan_payload(measured)
    values = np.frombuffer(payload["values"], dtype="<f4").reshape(measured.values.shape)
    np.testing.assert_array_equal(values, measured.values.astype(np.float32))
    assert len(msgpack.packb(payload)) <= measured.values.size * 4 + 2000
    assert len(payload["special"]) == len(payload["tokens"]) == len(measured.tokens)
    shown = display_range(measured)
    assert (payload["range"]["vmin"], payload["range"]["vmax"]) == (shown.vmin, shown.vmax)


@pytest.fixture
def measured_tracts(service):
    """A DTI scan to send: only where its numbers go matters here, not what they are."""
    measured = scan(service.backend, "fMRI", "a")
    tracts = random_tracts(measured.components, 3000)
    values = np.random.default_rng(0).normal(size=(1, len(measured.components))).astype(np.float32)
    return replace(measured, mode="DTI", values=values, tokens=(), signed=True, details={}, tracts=tracts)


def test_tracts_cost_thirteen_bytes_each_and_come_back_whole(measured_tracts):
    sent = tracts_payload(measured_tracts)
    edges = drawable(measured_tracts.tracts, measured_tracts.components)
    np.testing.assert_array_equal(np.frombuffer(sent["source"], "<i4"), edges.source)
    np.testing.assert_array_equal(np.frombuffer(sent["target"], "<i4"), edges.target)
    np.testing.assert_array_equal(np.frombuffer(sent["score"], "<f4"), edges.score)
    assert [sent["slots"][slot] for slot in sent["slot"]] == edges.slot.tolist()
    assert (sent["total"], sent["count"]) == (measured_tracts.tracts.total, 9000)
    assert sent["reference"] == np.abs(edges.score).max()
    assert len(edges) == 2000
    assert len(msgpack.packb(sent)) < 13 * 2000 + 8000
    payload = scan_payload(measured_tracts)
    assert payload["tracts"] == sent
    assert payload["range"]["tract_reference"] == sent["reference"]
    without = scan_payload(replace(measured_tracts, tracts=None))
    assert without["tracts"] is None
    assert without["range"]["tract_reference"] is None


def test_edges_without_a_place_are_counted_and_not_sent(measured_tracts):
    kinds = measured_tracts.components.kind
    biased = replace(measured_tracts.tracts, source=np.full(3000, np.flatnonzero(kinds == "mlp")[0], np.int32))
    sent = tracts_payload(replace(measured_tracts, tracts=biased))
    assert sent["without_place"] == 0
    from nmri3d.components import ComponentTable

    table = ComponentTable(["embed", "head", "attn_bias", "mlp"], [-1, 0, 0, 0], [-1, 0, -1, -1], [1, 1, 1, 1])
    few = random_tracts(ComponentTable(["embed", "head", "mlp"], [-1, 0, 0], [-1, 0, -1], [1, 1, 1]), 5)
    few = replace(few, source=np.int32([2, 0, 2, 1, 1]), target=np.int32([3, 1, 3, 3, 3]))
    sent = tracts_payload(replace(measured_tracts, components=table, values=np.ones((1, 4)), tracts=few))
    assert sent["without_place"] == 2
    assert np.frombuffer(sent["source"], "<i4").tolist() == [0, 1, 1]


def sent_frame(payload):
    return {part: np.frombuffer(payload[part], "<f4").reshape(-1, 3) for part in ("anchor", "inward", "core", "gate")}


def test_palettes_are_the_color_maps():
    payload = palettes_payload()
    assert set(payload) == {"standard", "colorblind"}
    for variant, tables in payload.items():
        assert set(tables) == {"T1", "T2", "fMRI", "DTI", "FLAIR"}
        for mode, table in tables.items():
            wanted = color_map(mode, variant).table
            np.testing.assert_array_equal(np.frombuffer(table, np.uint8).reshape(256, 3), wanted)


def test_geometry_is_the_atlas(atlas):
    split = split_along_borders(atlas.faces, atlas.face_component)
    choice = LayoutChoice("anatomical", "weights", "equal")
    payload = geometry_payload(atlas, texture_layout(len(atlas.components)), split.vertex, choice, epoch=3)
    assert payload["ids"] == list(atlas.components.ids)
    assert payload["n_params"] == atlas.components.n_params.tolist()
    assert (payload["epoch"], payload["again"]) == (3, False)
    assert (payload["layout"], payload["features"], payload["area"]) == ("anatomical", "weights", "equal")
    np.testing.assert_array_equal(np.frombuffer(payload["face_component"], "<i4"), atlas.face_component)
    np.testing.assert_array_equal(np.frombuffer(payload["border_edges"], "<i4").reshape(-1, 2), atlas.border_edges())
    assert payload["n_vertices"] == len(atlas.vertices)
    frame = tract_frame(atlas, payload["surface"])
    np.testing.assert_array_equal(np.frombuffer(payload["tracts"]["side"], "i1"), frame.side)
    for part, array in sent_frame(payload["tracts"]["frame"]).items():
        np.testing.assert_array_equal(array, getattr(frame, part))
    # the drawn mesh, put together as the browser does it, is the cortex again
    corners = split.vertex[split.faces]
    np.testing.assert_array_equal(corners, atlas.faces)


@pytest.mark.parametrize("name", [*SURFACES, *NODE_LAYOUTS])
def test_a_form_is_sent_as_the_scene_draws_it(service, atlas, name):
    backend = service.backend
    with BrainScene(atlas) as scene:
        brain = SimpleNamespace(scene=scene, atlas=atlas, choice=LayoutChoice(), _nodes={})
        PageBrain.prepare(brain, name, backend, lambda share, what: None)
        payload = PageBrain.form_payload(brain, name)
        directions = np.frombuffer(PageBrain.directions(brain), "<i2").reshape(-1, 3) / 32767
        form = scene.form_of(name)
        component = scene.component_of_split
    assert payload["name"] == name
    if name in NODE_LAYOUTS:
        center = np.frombuffer(payload["center"], "<f4").reshape(-1, 3)
        radius = np.frombuffer(payload["radius"], "<f4")
        assert len(payload["center"]) + len(payload["radius"]) == 16 * len(atlas.components)
        there = (component >= 0) & (radius[component] > 0)
        ball = center[component[there]] + radius[component[there], None] * directions[there]
        assert np.abs(ball - form.points[there]).max() < 1e-3 * np.nanmax(radius)
        assert payload["kind"] == "nodes"
    else:
        np.testing.assert_array_equal(np.frombuffer(payload["points"], "<f4").reshape(-1, 3), form.points)
        sent = np.frombuffer(payload["normals"], "<i2").reshape(-1, 3) / 32767
        assert np.abs(sent - form.normals).max() < 1e-4
        assert len(msgpack.packb(payload)) < 18 * len(form.points) + 28 * len(atlas.components) + 300
        assert payload["kind"] == ("flat" if name == "flat" else "surface")
    for part, array in sent_frame(payload["frame"]).items():
        np.testing.assert_array_equal(array, getattr(form.frame, part))


def test_balls_of_parcels_lie_where_the_parcels_are(atlas):
    center, radius = parcel_balls(atlas, "pial")
    there = atlas.area > 0
    np.testing.assert_array_equal(np.isfinite(radius), there)
    np.testing.assert_allclose(3 * 4 * np.pi * radius[there] ** 2, atlas.area[there], rtol=1e-5)
    row = int(np.flatnonzero(there)[0])
    corners = atlas.vertices[atlas.faces[atlas.face_component == row]]
    assert (corners.min(axis=(0, 1)) <= center[row]).all()
    assert (center[row] <= corners.max(axis=(0, 1))).all()


@pytest.mark.parametrize(
    "wrong", [None, {}, {"layout": "umap"}, {"layout": "stack", "features": "weights", "area": "equal"}]
)
def test_a_layout_that_is_not_on_offer_is_refused(wrong):
    with pytest.raises(InputError):
        read_choice(wrong)


def test_the_statistics_on_offer_are_those_of_t2():
    from nmri3d.app.facts import STATISTICS
    from nmri3d.scans import t2

    assert [name for name, _ in STATISTICS] == list(t2.STATISTICS)


def test_facts_are_those_of_the_weights(service):
    backend = service.backend
    t2 = scan(backend, "T2")
    for component in ("embed", "blocks.1.attn.head_2", "blocks.2.mlp", "unembed"):
        row = backend.components.row(component)
        facts = component_facts(backend, row, t2)
        shown = dict(facts["T1"])
        assert facts["id"] == component
        assert shown["parameters"] == f"{backend.components.n_params[row]:,}"
        for name, matrix in backend.weights(row).items():
            assert shown[name] == " × ".join(f"{size:,}" for size in matrix.shape)
        weights = np.concatenate([matrix.numpy().ravel() for matrix in backend.weights(row).values()])
        histogram = facts["histogram"]
        assert sum(histogram["counts"]) == weights.size
        assert histogram["high"] == pytest.approx(np.abs(weights).max(), rel=1e-5)
        assert histogram["outlier"] == pytest.approx(6 * weights.std(), rel=1e-4)
    assert component_facts(backend, 0, None)["T2"] == []


def test_the_model_is_described_by_its_own_figures(service):
    info = service.backend.info
    facts = model_facts(service.backend)
    rows = dict(facts["rows"])
    assert facts["parameters"] == f"{info.n_params:,} parameters"
    assert rows["hidden size"] == str(info.d_model)
    assert rows["architecture"] == info.architecture

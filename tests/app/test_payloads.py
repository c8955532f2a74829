"""What is sent to the browser: exact bytes, and few of them."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import numpy as np
import pytest

from nmri3d.app.facts import component_facts, model_facts
from nmri3d.app.payloads import (
    SURFACES,
    geometry_payload,
    palettes_payload,
    scan_payload,
    tract_frames_payload,
    tracts_payload,
)
from nmri3d.scans import scan
from nmri3d.scene.colors import color_map, display_range
from nmri3d.scene.mesh import split_along_borders, vertex_normals
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


def test_frames_of_tracts_are_those_of_the_surfaces(atlas):
    sent = tract_frames_payload(atlas)
    for name in SURFACES:
        frame = tract_frame(atlas, name)
        np.testing.assert_array_equal(np.frombuffer(sent["side"], "i1"), frame.side)
        for part in ("anchor", "inward", "core", "gate"):
            array = np.frombuffer(sent["frames"][name][part], "<f4").reshape(-1, 3)
            np.testing.assert_array_equal(array, getattr(frame, part))


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
    normals = {name: vertex_normals(atlas.surfaces[name], atlas.faces) for name in SURFACES}
    payload = geometry_payload(atlas, texture_layout(len(atlas.components)), split.vertex, normals, epoch=3)
    assert payload["ids"] == list(atlas.components.ids)
    assert payload["n_params"] == atlas.components.n_params.tolist()
    np.testing.assert_array_equal(np.frombuffer(payload["face_component"], "<i4"), atlas.face_component)
    np.testing.assert_array_equal(np.frombuffer(payload["border_edges"], "<i4").reshape(-1, 2), atlas.border_edges())
    for name in SURFACES:
        points = np.frombuffer(payload["surfaces"][name], "<f4").reshape(-1, 3)
        np.testing.assert_array_equal(points, atlas.surfaces[name])
        sent = np.frombuffer(payload["normals"][name], "<i2").reshape(-1, 3) / 32767
        assert np.abs(sent - normals[name]).max() < 1e-4
    # the drawn mesh, put together as the browser does it, is the cortex again
    corners = split.vertex[split.faces]
    np.testing.assert_array_equal(corners, atlas.faces)


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

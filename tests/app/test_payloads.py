"""What is sent to the browser: exact bytes, and few of them."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest

from nmri3d.app.facts import component_facts, model_facts
from nmri3d.app.payloads import SURFACES, geometry_payload, palettes_payload, scan_payload
from nmri3d.scans import scan
from nmri3d.scene.colors import color_map, display_range
from nmri3d.scene.mesh import split_along_borders, vertex_normals
from nmri3d.scene.texture import texture_layout
from tests.app.conftest import PROMPT


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

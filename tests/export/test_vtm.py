"""VTK multi-block files, read back exactly."""

import json

import numpy as np
import pytest

from nmri3d.errors import InputError
from nmri3d.export.vtm import save_vtm
from nmri3d.results.tracts import SLOTS
from nmri3d.scene.tracts import drawable, tract_frame, tract_paths
from tests.export.conftest import make_scan
from tests.scene.small_tracts import small_tracts


def read(path):
    import pyvista

    return pyvista.read(path)


def test_the_cortex_and_all_values_are_read_back_exactly(scene, atlas, tmp_path):
    values = np.random.default_rng(3).normal(size=(3, 11)).astype(np.float32)
    values[1, 4] = np.nan
    scan = make_scan(values=values)
    scene.show_form("inflated")
    path = save_vtm(scene, tmp_path / "sub" / "brain.vtm", scan)
    assert sorted(file.name for file in path.parent.iterdir()) == ["brain", "brain.vtm"]
    cortex = read(path)["cortex"]
    np.testing.assert_array_equal(cortex.points, atlas.surfaces["inflated"])
    np.testing.assert_array_equal(cortex.regular_faces, atlas.faces)
    np.testing.assert_array_equal(cortex.cell_data["component"], atlas.face_component)
    np.testing.assert_array_equal(cortex.point_data["surface_pial"], atlas.surfaces["pial"])
    np.testing.assert_array_equal(cortex.point_data["sulcal_depth"], atlas.sulcal_depth)
    stored = cortex.cell_data["values"]
    assert stored.dtype == np.float32
    there = atlas.face_component >= 0
    np.testing.assert_array_equal(stored[there], values.T[atlas.face_component[there]])
    assert np.isnan(stored[~there]).all()
    assert list(cortex.field_data["component_id"]) == list(scan.components.ids)
    np.testing.assert_array_equal(cortex.field_data["n_params"], scan.components.n_params)
    assert list(cortex.field_data["tokens"]) == list(scan.tokens)
    assert list(cortex.field_data["units"]) == ["L2 norm"]
    assert json.loads(cortex.field_data["provenance"][0])["fingerprint"] == scan.provenance.fingerprint
    scene.show_form("pial")


def test_counts_stay_whole_numbers(scene, atlas, tmp_path):
    counts = np.array([[2**53 + 1, *range(1, 11)]], dtype=np.int64)
    scan = make_scan((), mode="T1", values=counts, units="parameters")
    stored = read(save_vtm(scene, tmp_path / "t1.vtm", scan))["cortex"].cell_data["values"]
    assert stored.dtype == np.int64
    there = atlas.face_component >= 0
    np.testing.assert_array_equal(stored[there], counts[0][atlas.face_component[there]])
    assert (stored[~there] == -1).all()


def test_tracts_are_lines_with_scores(scene, atlas, dti, tmp_path):
    scene.show_form("pial")
    lines = read(save_vtm(scene, tmp_path / "dti.vtm", dti))["tracts"]
    edges = drawable(small_tracts(), atlas.components)
    paths, _ = tract_paths(tract_frame(atlas, "pial"), edges.source, edges.target)
    assert lines.n_cells == len(edges) == 6  # one of the seven ends at a bias, which has no place
    np.testing.assert_array_equal(lines.cell_data["score"], edges.score)
    np.testing.assert_array_equal(lines.cell_data["source"], edges.source)
    np.testing.assert_array_equal(lines.cell_data["target"], edges.target)
    assert [SLOTS[code] for code in lines.cell_data["slot"]] == edges.slot.tolist()
    np.testing.assert_array_equal(lines.points.reshape(paths.shape), paths)
    for number in range(6):
        np.testing.assert_array_equal(lines.get_cell(number).points.astype(np.float32), paths[number])
    assert lines.field_data["total"][0] == 8.0
    assert lines.field_data["count"][0] == 90


def test_an_older_pair_is_replaced_and_another_suffix_refused(scene, scan, dti, tmp_path):
    save_vtm(scene, tmp_path / "a.vtm", dti)
    save_vtm(scene, tmp_path / "a.vtm", scan)
    blocks = read(tmp_path / "a.vtm")
    assert blocks.keys() == ["cortex"]
    assert len(list((tmp_path / "a").iterdir())) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "a.vtm"]
    with pytest.raises(InputError, match=r"b\.vtm"):
        save_vtm(scene, tmp_path / "b.vtk", scan)


def test_half_way_between_two_surfaces_is_refused(scene, scan, tmp_path):
    scene.morph("pial", "inflated", 0.5)
    with pytest.raises(InputError, match="half-way"):
        save_vtm(scene, tmp_path / "a.vtm", scan)
    assert list(tmp_path.iterdir()) == []
    scene.show_form("pial")

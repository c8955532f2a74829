"""The cortex: sizes, orientation, medial wall, subdivision."""

from __future__ import annotations

import numpy as np
import pytest

from nmri3d.atlas import RESOLUTIONS, SURFACES, cortex
from nmri3d.atlas.subdivision import face_edges, loop_matrix, subdivide
from nmri3d.errors import InputError
from tests.atlas.naive import edge_uses, icosahedron, pieces_by_component


def signed_volume(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (points[faces[:, k]].astype(float) for k in range(3))
    return float(np.einsum("fk,fk->f", np.cross(a, b), c).sum() / 6)


@pytest.mark.parametrize(
    ("name", "n_vertices"), [("fsaverage5", 10_242), ("fsaverage6", 40_962), ("fsaverage7", 163_842)]
)
def test_sizes_orientation_and_order(name, n_vertices):
    whole = cortex(name)
    for side, hemisphere in (("left", whole.left), ("right", whole.right)):
        assert hemisphere.side == side
        assert hemisphere.faces.shape == (2 * (n_vertices - 2), 3)
        assert hemisphere.faces.dtype == np.int32
        assert np.allclose(np.linalg.norm(hemisphere.direction, axis=1), 1)
        for surface in SURFACES:
            points = hemisphere.surfaces[surface]
            assert points.shape == (n_vertices, 3)
            assert points.dtype == np.float32
            if surface != "flat":
                assert signed_volume(points - points.mean(axis=0), hemisphere.faces) > 1e5, "faces look inward"
            assert (points[:, 0].mean() < 0) == (side == "left")
        assert 0.03 < hemisphere.medial_wall.mean() < 0.12


@pytest.mark.parametrize("name", ["fsaverage5", "fsaverage6", "fsaverage7"])
def test_the_flat_surface_lies_open_to_the_viewer_and_has_no_medial_wall(name):
    whole = cortex(name)
    for hemisphere in (whole.left, whole.right):
        points, kept = hemisphere.surfaces["flat"], hemisphere.faces[hemisphere.flat_faces]
        a, b, c = np.moveaxis(points[kept].astype(float), 1, 0)
        assert (points[:, 2] == 0).all()
        assert (np.cross(b - a, c - a)[:, 2] > 0).mean() > 0.999, "faces are folded over"
        assert 0.85 < hemisphere.flat_faces.mean() < 0.95
        # what is left has one outer rim and no hole: Euler characteristic 1
        used = np.unique(kept)
        edges = np.unique(np.sort(np.concatenate([kept[:, [0, 1]], kept[:, [1, 2]], kept[:, [2, 0]]]), axis=1), axis=0)
        assert len(used) - len(edges) + len(kept) == 1
        # superior is up, and the frontal pole lies on the outside
        pial = hemisphere.surfaces["pial"][used].astype(float)
        assert np.corrcoef(points[used, 1], pial[:, 2])[0, 1] > 0.5
        outward = points[used, 0] * (-1 if hemisphere.side == "left" else 1)
        assert np.corrcoef(outward, pial[:, 1])[0, 1] > 0.9
    left, right = whole.left, whole.right
    gap = right.surfaces["flat"][right.faces[right.flat_faces], 0].min()
    assert gap - left.surfaces["flat"][left.faces[left.flat_faces], 0].max() == pytest.approx(14.0, abs=1e-3)


def test_finer_meshes_have_the_same_shape():
    coarse, fine = cortex("fsaverage5"), cortex("fsaverage6")
    for side in ("left", "right"):
        a, b = getattr(coarse, side), getattr(fine, side)
        n = len(a.sulcal_depth)
        for surface in ("pial", "white", "inflated"):
            assert np.linalg.norm(a.surfaces[surface] - b.surfaces[surface][:n], axis=1).mean() < 1.0
        assert np.corrcoef(a.sulcal_depth, b.sulcal_depth[:n])[0, 1] > 0.95
        assert np.all(np.einsum("vk,vk->v", a.direction, b.direction[:n]) > 0.9995)


def test_pial_is_what_nilearn_publishes():
    from nilearn.datasets import load_fsaverage

    published = load_fsaverage("fsaverage5")
    for side in ("left", "right"):
        hemisphere = getattr(cortex("fsaverage5"), side)
        for ours, theirs in (("pial", "pial"), ("white", "white_matter")):
            assert np.array_equal(hemisphere.surfaces[ours], published[theirs].parts[side].coordinates)
        assert np.array_equal(hemisphere.faces, published["pial"].parts[side].faces)


def test_the_medial_wall_is_medial_and_one_patch_without_the_slits_of_the_flat_surface():
    for side, outward in (("left", -1), ("right", 1)):
        hemisphere = getattr(cortex("fsaverage5"), side)
        wall = hemisphere.medial_wall
        x = outward * hemisphere.surfaces["inflated"][:, 0]
        assert x[wall].max() < np.median(x)
        inside = wall[hemisphere.faces].all(axis=1)
        assert pieces_by_component(hemisphere.faces, inside.astype(int)) == {0: 1, 1: 1}
        # A slit would reach far: the wall stays within 50 degrees of its middle.
        middle = hemisphere.direction[wall].mean(axis=0)
        assert (hemisphere.direction[wall] @ middle / np.linalg.norm(middle)).min() > np.cos(np.radians(50))


def test_unknown_resolution_lists_the_known_ones():
    with pytest.raises(InputError, match="fsaverage5, fsaverage6, fsaverage7"):
        cortex("fsaverage4")
    assert list(RESOLUTIONS) == ["fsaverage5", "fsaverage6", "fsaverage7"]


def test_loop_subdivision_against_its_definition():
    points, faces = icosahedron()
    refined, finer = loop_matrix(faces, 12) @ points, subdivide(faces)
    assert finer.shape == (80, 3)
    assert all((b, a) in edge_uses(finer) for a, b in edge_uses(finer))
    assert signed_volume(refined, finer) > 0
    edges, _ = face_edges(faces, 12)
    assert len(edges) == 30
    # An old vertex, by hand: five neighbors, Warren's weight 3/40 each.
    near = [int(b if a == 0 else a) for a, b in edges.tolist() if 0 in (a, b)]
    assert refined[0] == pytest.approx((1 - 5 * 3 / 40) * points[0] + 3 / 40 * points[near].sum(axis=0))
    # An edge vertex, by hand: 3/8 of its ends, 1/8 of the two corners opposite.
    a, b = edges[7].tolist()
    opposite = [v for face in faces.tolist() if a in face and b in face for v in face if v not in (a, b)]
    assert len(opposite) == 2
    expected = 3 / 8 * (points[a] + points[b]) + 1 / 8 * points[opposite].sum(axis=0)
    assert refined[12 + 7] == pytest.approx(expected)


def test_subdivision_keeps_a_constant():
    _, faces = icosahedron()
    assert np.allclose(loop_matrix(faces, 12) @ np.ones(12), 1)

"""Scan conversion against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nmri3d.atlas import voxels
from nmri3d.atlas.voxels import inside_tetrahedra, inside_winding, through_triangles
from tests.scene.small_atlas import icosphere

SHAPE = (9, 8, 7)
CENTERS = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
places = st.floats(-2, 10, allow_nan=False, width=32)


def heights(corners, points):
    """float64 [n, 4]: height of points over each face of a tetrahedron, as a share of the height of the fourth corner."""
    result = []
    for corner in range(4):
        a, b, c = np.delete(corners, corner, axis=0)
        normal = np.cross(b - a, c - a)
        result.append((points - a) @ normal / ((corners[corner] - a) @ normal))
    return np.stack(result, axis=1)


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.float64, (2, 4, 3), elements=places))
def test_centers_in_tetrahedra_are_those_within_all_four_faces(points):
    voxel, tetrahedron, value = inside_tetrahedra(points, np.tile([0.0, 1.0, 2.0, 3.0], (2, 1)), SHAPE)
    for number in np.flatnonzero(np.abs(np.linalg.det(points[:, :3] - points[:, 3:])) > 1e-2):
        mine = voxel[tetrahedron == number]
        assert len(set(mine.tolist())) == len(mine)
        share = heights(points[number], CENTERS)
        clear = np.abs(share).min(axis=1) > 1e-5  # not on a face
        inside = (share > 0).all(axis=1)
        found = np.zeros(len(CENTERS), dtype=bool)
        found[mine] = True
        np.testing.assert_array_equal(found[clear], inside[clear])
        np.testing.assert_allclose(value[tetrahedron == number], share[mine] @ [0, 1, 2, 3], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float64, (3, 3), elements=places))
def test_a_triangle_passes_through_every_voxel_that_holds_a_point_of_it(points):
    voxel, triangle, _ = through_triangles(points[None], SHAPE)
    assert len(set(voxel.tolist())) == len(voxel)
    assert (triangle == 0).all()
    shares = np.random.default_rng(0).dirichlet([0.6, 0.6, 0.6], 4000)
    index = np.floor(shares @ points + 0.5).astype(int)
    known = ((index >= 0) & (index < SHAPE)).all(axis=1)
    flat = np.ravel_multi_index(index[known].T, SHAPE)
    assert set(flat.tolist()) <= set(voxel.tolist())


def test_a_triangle_does_not_pass_through_what_is_only_in_its_box():
    points = np.array([[[0.0, 0, 0], [6, 0, 0], [0, 6, 0]]])
    voxel, _, distance = through_triangles(points, SHAPE)
    expected = [np.ravel_multi_index((i, j, 0), SHAPE) for i in range(7) for j in range(7) if i + j <= 7]
    assert sorted(voxel.tolist()) == expected  # those beyond the long side by one corner are touched
    middle = np.array(np.unravel_index(voxel, SHAPE)).T - [2, 2, 0]
    np.testing.assert_allclose(distance, np.linalg.norm(middle, axis=1))


def test_triangles_are_looked_for_among_some_voxels():
    points = np.random.default_rng(5).uniform(0, 7, (20, 3, 3))
    among = np.random.default_rng(6).random(len(CENTERS)) < 0.3
    every, some = through_triangles(points, SHAPE), through_triangles(points, SHAPE, among)
    for whole, part in zip(every, some, strict=True):
        np.testing.assert_array_equal(part, whole[among[every[0]]])


@pytest.mark.parametrize("center", [(3.1, 3.6, 3.2), (3.0, 3.0, 3.0)])
def test_what_a_sphere_winds_around(center):
    points, faces = icosphere(4)
    inside = inside_winding(2.6 * points + center, faces, SHAPE).ravel()
    away = np.linalg.norm(CENTERS - center, axis=1)
    clear = np.abs(away - 2.6) > 0.03
    assert (inside == (away < 2.6))[clear].all()
    assert 50 < inside.sum() < 100
    turned = inside_winding(2.6 * points + center, faces[:, ::-1], SHAPE)
    assert not turned.any()  # inside out


def test_a_surface_that_sticks_out_of_the_image_is_cut_off():
    points, faces = icosphere(3)
    inside = inside_winding(20 * points + [4, 4, 23], faces, SHAPE)  # the image lies in the lower half of the ball
    away = np.linalg.norm(CENTERS - [4, 4, 23], axis=1).reshape(SHAPE)
    clear = np.abs(away - 20) > 0.4
    assert (inside == (away < 20))[clear].all()
    assert inside.any()
    assert not inside.all()


def test_small_chunks_give_the_same(monkeypatch):
    points = np.random.default_rng(3).uniform(0, 8, (40, 4, 3))
    whole = inside_tetrahedra(points, np.eye(4), SHAPE), through_triangles(points[:, :3], SHAPE)
    monkeypatch.setattr(voxels, "_CHUNK", 50)
    parts = inside_tetrahedra(points, np.eye(4), SHAPE), through_triangles(points[:, :3], SHAPE)
    for a, b in zip([*whole[0], *whole[1]], [*parts[0], *parts[1]], strict=True):
        np.testing.assert_array_equal(a, b)

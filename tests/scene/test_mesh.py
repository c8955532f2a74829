"""Split mesh, normals, paths and ribbons: pure arrays, no drawing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.scene.mesh import polylines, ribbon, ribbon_path, split_along_borders, vertex_normals
from tests.scene.small_atlas import icosphere, small_atlas


def test_split_faces_have_one_component_and_stay_where_they_were():
    atlas = small_atlas(2)
    split = split_along_borders(atlas.faces, atlas.face_component)
    np.testing.assert_array_equal(split.vertex[split.faces], atlas.faces)
    np.testing.assert_array_equal(split.component[split.faces], np.tile(atlas.face_component[:, None], 3))
    pairs = {(int(v), int(c)) for face, c in zip(atlas.faces, atlas.face_component, strict=True) for v in face}
    assert len(split.vertex) == len(pairs)


def test_nothing_is_split_where_there_is_no_border():
    points, faces = icosphere(1)
    split = split_along_borders(faces, np.zeros(len(faces), dtype=np.int32))
    assert len(split.vertex) == len(points)


@pytest.mark.parametrize("turned", [False, True])
def test_normals_of_a_sphere_point_outwards(turned):
    points, faces = icosphere(3)
    normals = vertex_normals(3 * points, faces[:, ::-1] if turned else faces)
    assert np.einsum("ij,ij->i", normals, points).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


@given(st.sets(st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda e: e[0] < e[1]), max_size=30))
@settings(deadline=None)
def test_paths_use_every_edge_once_and_run_between_junctions(edges):
    array = np.array(sorted(edges), dtype=np.int32).reshape(-1, 2)
    degree = np.bincount(array.ravel(), minlength=13)
    found = []
    for path in polylines(array):
        found += [tuple(sorted(pair)) for pair in zip(path[:-1].tolist(), path[1:].tolist(), strict=True)]
        assert all(degree[v] == 2 for v in path[1:-1])
    assert sorted(found) == sorted(edges)


def test_a_loop_closes():
    (path,) = polylines(np.array([[0, 1], [1, 2], [2, 3], [3, 0]]))
    assert path[0] == path[-1]
    assert len(path) == 5


def test_a_ribbon_on_a_plane_has_its_width_and_height():
    points = np.array([[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]], dtype=np.float32)
    normals = np.tile(np.float32([0, 0, 1]), (4, 1))
    (loop,) = polylines(np.array([[0, 1], [1, 2], [2, 3], [3, 0]]))
    vertices, triangles = ribbon(ribbon_path([loop]), points, normals, half_width=0.5, lift=0.2)
    assert triangles.shape == (8, 3)
    np.testing.assert_allclose(vertices[:, 2], 0.2, atol=1e-6)
    # mitred at right angles: the sides are squares of side 9 and 11
    corners = np.unique(np.abs(vertices[:, :2] - 5).round(4))
    np.testing.assert_allclose(corners, [4.5, 5.5], atol=0.01)
    area = np.linalg.norm(
        np.cross(
            vertices[triangles[:, 1]] - vertices[triangles[:, 0]], vertices[triangles[:, 2]] - vertices[triangles[:, 0]]
        ),
        axis=1,
    )
    assert area.sum() / 2 == pytest.approx(11**2 - 9**2, rel=0.02)


def test_a_sharp_bend_throws_no_spike():
    points = np.array([[0, 0, 0], [10, 0, 0], [0, 0.1, 0]], dtype=np.float32)
    normals = np.tile(np.float32([0, 0, 1]), (3, 1))
    vertices, _ = ribbon(ribbon_path([np.array([0, 1, 2])]), points, normals, half_width=1.0, lift=0.0)
    assert np.linalg.norm(vertices - points[[0, 0, 1, 1, 2, 2]], axis=1).max() < 1.5


def test_several_paths_are_not_joined():
    points = np.array([[0, 0, 0], [1, 0, 0], [50, 0, 0], [51, 0, 0]], dtype=np.float32)
    normals = np.tile(np.float32([0, 0, 1]), (4, 1))
    path = ribbon_path([np.array([0, 1]), np.array([2, 3])])
    vertices, triangles = ribbon(path, points, normals, half_width=0.1, lift=0.0)
    spans = np.ptp(vertices[triangles][:, :, 0], axis=1)
    assert len(triangles) == 4
    assert spans.max() < 1.01
    assert len(ribbon_path([]).vertex) == 0

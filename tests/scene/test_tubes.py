"""Triangles around paths: closed, turned outwards, as thick as asked; and which tube a line of sight meets."""

import numpy as np
import pytest

from nmri3d.scene.tracts import SAMPLES, tract_frame, tract_paths
from nmri3d.scene.tubes import POINTS_EACH, SIDES, TRIANGLES_EACH, nearest_tube, tube_mesh


@pytest.fixture(scope="module")
def paths(atlas):
    return tract_paths(tract_frame(atlas, "pial"), np.array([1, 2, 1, 3]), np.array([4, 5, 8, 6]))


RADIUS = np.array([0.4, 1.0, 2.0, 0.7])


def mesh_of(paths):
    points, tangents = paths
    colors = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None, None], points.shape)
    return tube_mesh(points, tangents, RADIUS, colors)


def test_every_tube_is_a_closed_surface_turned_outwards(paths):
    mesh = mesh_of(paths)
    assert mesh.points.shape == mesh.normals.shape == mesh.colors.shape == (4 * POINTS_EACH, 3)
    assert mesh.triangles.shape == (4 * TRIANGLES_EACH, 3)
    assert np.isfinite(mesh.points).all()
    edges = mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    there, back = ({tuple(edge) for edge in side.tolist()} for side in (edges, edges[:, ::-1]))
    assert there == back  # each edge is shared by two triangles that wind alike
    assert len(there) == len(edges)
    corners = mesh.points[mesh.triangles].astype(float)
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    points, _ = paths
    for tube in range(4):
        own = slice(tube * TRIANGLES_EACH, (tube + 1) * TRIANGLES_EACH)
        assert (mesh.triangles[own] // POINTS_EACH == tube).all()  # an edge and its tube have one number
        assert (mesh.colors[mesh.triangles[own]] == tube).all()
        length = np.linalg.norm(np.diff(points[tube], axis=0), axis=1).sum()
        octagon = SIDES / 2 * np.sin(2 * np.pi / SIDES) * RADIUS[tube] ** 2
        assert volume[own].sum() == pytest.approx(octagon * length, rel=0.03)


def test_tubes_have_their_radius_all_along_and_do_not_twist(paths):
    mesh, (points, tangents) = mesh_of(paths), paths
    rings = mesh.points.reshape(4, POINTS_EACH, 3)[:, : SAMPLES * SIDES].reshape(4, SAMPLES, SIDES, 3)
    arms = rings - points[:, :, None]
    np.testing.assert_allclose(
        np.linalg.norm(arms, axis=3), np.broadcast_to(RADIUS[:, None, None], (4, SAMPLES, SIDES)), rtol=1e-3
    )
    np.testing.assert_allclose(np.einsum("escx,esx->esc", arms, tangents), 0, atol=1e-3)
    normals = mesh.normals.reshape(4, POINTS_EACH, 3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=2), 1, atol=1e-5)
    turn = np.einsum("escx,escx->esc", arms[:, 1:], arms[:, :-1]) / RADIUS[:, None, None] ** 2
    bend = np.einsum("esx,esx->es", tangents[:, 1:], tangents[:, :-1])
    assert (turn > bend[..., None] - 0.02).all()  # a ring turns no further than the path bends


def test_a_path_without_length_makes_no_nan():
    points = np.zeros((1, SAMPLES, 3))
    mesh = tube_mesh(points, np.zeros_like(points), np.ones(1), np.zeros((1, SAMPLES, 3), np.uint8))
    assert np.isfinite(mesh.points).all()
    assert np.isfinite(mesh.normals).all()


def straight(x: float, y: float) -> np.ndarray:
    line = np.zeros((SAMPLES, 3))
    line[:, 0], line[:, 1], line[:, 2] = x, y, np.linspace(-10, 10, SAMPLES)
    return line


def test_the_first_tube_on_a_line_of_sight_is_met():
    paths = np.stack([straight(30, 0), straight(10, 0), straight(20, 5)])
    radius = np.array([2.0, 1.0, 1.0])

    def look(y: float, slack: float = 0.0) -> int:
        return nearest_tube(paths, radius, np.array([-50.0, y, 3.0]), np.array([200.0, y, 3.0]), slack)

    assert look(0.0) == 1  # the nearer one of two
    assert look(1.5) == 0  # beside the thin near one, through the thick far one
    assert look(5.9) == 2
    assert look(7.0) == -1
    assert look(7.0, slack=1.5) == 2
    assert look(1.2, slack=5.0) == 0  # a tube that is hit goes before one that is only near
    assert look(-20.0, slack=5.0) == -1


def test_what_lies_behind_the_eye_or_is_not_there_is_not_met():
    paths = straight(-10, 0)[None]
    assert nearest_tube(paths, np.ones(1), np.zeros(3), np.array([9.0, 0, 0]), 1.0) == -1
    assert nearest_tube(paths[:0], np.ones(0), np.zeros(3), np.array([9.0, 0, 0]), 1.0) == -1
    # nor what lies beyond its ends
    assert nearest_tube(paths, np.ones(1), np.array([-30.0, 0, 14]), np.array([9.0, 0, 14]), 1.0) == -1

"""Border roughness: straight borders are smooth, saw-toothed ones are not, whatever the mesh."""

from __future__ import annotations

import numpy as np
import pytest

from nmri3d.atlas.borders import border_roughness
from nmri3d.atlas.cutting import cut_at_level
from tests.atlas.test_cells import sphere


def test_a_cut_border_is_smooth_and_one_along_whole_faces_is_not():
    points, faces = sphere(5)
    # a tilted plane, so that no border runs along the edges of the mesh by chance
    level = points @ np.array([0.36, 0.48, 0.8]) - 0.2
    cut = cut_at_level(faces, level)
    smooth = border_roughness(cut.interpolate(points), cut.faces, cut.label)
    whole_faces = (level[faces].mean(axis=1) > 0).astype(int)
    jagged = border_roughness(points, faces, whole_faces)
    assert 1 <= smooth < 1.03
    assert jagged > 1.15


def test_teeth_are_measured_as_long_as_they_are():
    """A strip of squares, each cut in two, with a border of teeth of 45 degrees: smoothed it is straight."""
    n = 60
    x, y = np.meshgrid(np.arange(n + 1.0), np.arange(3.0), indexing="ij")
    points = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
    corner = np.arange(x.size).reshape(x.shape)
    faces, label = [], []
    for i in range(n):
        rises = i % 2 == 0
        a, b, c, d = corner[i, 0], corner[i + 1, 0], corner[i + 1, 1], corner[i, 1]
        faces += [(a, b, c), (a, c, d)] if rises else [(a, b, d), (b, c, d)]
        label += [0, 1]
        a, b, c, d = corner[i, 1], corner[i + 1, 1], corner[i + 1, 2], corner[i, 2]
        faces += [(a, b, c), (a, c, d)]
        label += [1, 1]
    faces, label = np.array(faces), np.array(label)
    # Closed into a box whose other sides have no label, so that every edge has two faces.
    box = np.concatenate([points, points + np.array([0, 0, 1.0])])
    walls = rim(faces, len(points))
    closed = np.concatenate([faces, faces[:, ::-1] + len(points), walls])
    bare = np.full(len(faces) + len(walls), -1)
    found = border_roughness(box, closed, np.concatenate([label, bare]))
    assert found == pytest.approx(np.sqrt(2), rel=0.06)


def outline(faces: np.ndarray) -> list[tuple[int, int]]:
    directed = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    return sorted(edge for edge in directed if edge[::-1] not in directed)


def rim(faces: np.ndarray, n: int) -> np.ndarray:
    """Walls from the outline of a sheet to its copy, n vertices further."""
    return np.array([face for a, b in outline(faces) for face in ((b, a, a + n), (b, a + n, b + n))])


def test_one_parcel_has_no_border():
    points, faces = sphere(2)
    assert np.isnan(border_roughness(points, faces, np.zeros(len(faces), int)))

"""The label volume, on two hollow spheres whose every voxel is known, and on the cortex."""

from dataclasses import replace

import numpy as np
import pytest

from nmri3d.atlas import storage
from nmri3d.atlas.volume import CORTEX, OUTSIDE, WHITE_MATTER, component_points, label_volume
from nmri3d.errors import InputError
from tests.scene.small_atlas import BIAS, GEOMETRY, LEFT_CAP, RIGHT_CAP, small_atlas

PIAL, WHITE = GEOMETRY["pial"][0], GEOMETRY["white"][0]
SHIFT = GEOMETRY["pial"][1]


@pytest.fixture(scope="module")
def atlas():
    return small_atlas()


@pytest.fixture(scope="module")
def volume(atlas):
    return label_volume(atlas, 1.0, cache=False)


def centers(volume):
    index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
    return volume.point_of(index)


def from_middle(points):
    """Vectors [..., 3] from the middle of the sphere on whose side a point lies."""
    return points - np.where(points[..., :1] < 0, -SHIFT, SHIFT) * np.array([1.0, 0, 0])


def points_of_faces(points, faces, count, rng):
    """Random points [count, 3] on faces by area, and their faces."""
    corners = points[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = rng.choice(len(faces), count, p=area / area.sum())
    return np.einsum("nk,nkd->nd", rng.dirichlet([1, 1, 1], count), corners[face]), face


def test_tissue_is_that_of_the_two_shells(volume):
    away = np.linalg.norm(from_middle(centers(volume)), axis=-1)
    wall = np.abs(from_middle(centers(volume))[..., 0]) > 0.8 * np.maximum(away, 1)  # caps: one of them is wall
    clear = np.abs(away - WHITE).clip(0, np.abs(away - PIAL)) > 0.15  # facets of the spheres
    expected = np.where(away < WHITE, WHITE_MATTER, np.where(away < PIAL, CORTEX, OUTSIDE))
    assert (volume.tissue == expected)[clear & ~wall].all()
    assert (volume.tissue[away < WHITE - 0.2] == WHITE_MATTER).all()
    assert (volume.tissue[away > PIAL + 0.9] == OUTSIDE).all()
    np.testing.assert_array_equal(volume.tissue == CORTEX, volume.labels >= 0)


def test_labels_are_those_of_the_parcels_they_lie_in(atlas, volume):
    rng = np.random.default_rng(0)
    half_way = (atlas.surfaces["white"] + atlas.surfaces["pial"]) / 2
    placed = atlas.face_component >= 0
    points, face = points_of_faces(half_way, atlas.faces[placed], 20_000, rng)
    center = volume.point_of(volume.index_of(points))
    direction = from_middle(center)
    x = direction[:, 0] / np.linalg.norm(direction, axis=1)
    left = center[:, 0] < 0
    label = volume.component_at(points)
    assert (label >= 0).all()
    assert (label == atlas.face_component[placed][face]).mean() > 0.97  # the others lie on borders
    assert (label[left & (x < -0.87)] == LEFT_CAP).all()
    assert (label[~left & (x > 0.87)] == RIGHT_CAP).all()
    assert not np.isin(label, [BIAS]).any()


def test_the_medial_wall_is_no_cortex(atlas, volume):
    points = centers(volume)
    direction = from_middle(points)
    away = np.linalg.norm(direction, axis=-1)
    x = direction[..., 0] / np.maximum(away, 1)
    medial = np.where(points[..., 0] < 0, x > 0.88, x < -0.88)
    assert (volume.tissue[medial & (away > WHITE + 0.2)] == OUTSIDE).all()
    assert medial[away < PIAL].sum() > 1000


@pytest.mark.parametrize(("thickness", "voxel"), [(5.0, 1.0), (5.0, 4.0), (0.3, 1.0), (0.02, 2.0)])
def test_the_ribbon_has_no_holes_however_thin(atlas, thickness, voxel):
    directions = from_middle(atlas.surfaces["pial"].astype(np.float64))
    white = atlas.surfaces["pial"] - thickness * directions / PIAL
    thin = replace(atlas, surfaces={**atlas.surfaces, "white": white.astype(np.float32)})
    volume = label_volume(thin, voxel, cache=False)
    half_way = (thin.surfaces["white"] + thin.surfaces["pial"]) / 2
    points, _ = points_of_faces(half_way, atlas.faces[atlas.face_component >= 0], 50_000, np.random.default_rng(1))
    assert (volume.component_at(points) >= 0).all()


def test_volumes_are_those_of_the_prisms(atlas, volume):
    share = np.array([(atlas.face_component[part] >= 0).mean() for part in (slice(atlas.n_left_faces), slice(None))])
    shell = 4 / 3 * np.pi * (PIAL**3 - WHITE**3)
    assert (volume.labels >= 0).sum() == pytest.approx(2 * share.mean() * shell, rel=0.02)
    finer = label_volume(atlas, 0.8, cache=False)
    assert (finer.labels >= 0).sum() * 0.8**3 == pytest.approx((volume.labels >= 0).sum(), rel=0.01)
    assert ((finer.tissue == WHITE_MATTER).sum() * 0.8**3) == pytest.approx(
        (volume.tissue == WHITE_MATTER).sum(), rel=0.01
    )


def test_indices_and_millimeters(volume):
    assert volume.voxel == 1.0
    np.testing.assert_array_equal(volume.affine[:3, :3], np.eye(3))
    np.testing.assert_array_equal(volume.point_of(volume.index_of(np.zeros(3))), np.zeros(3))  # 0 mm is a center
    index = np.array([[3, 5, 7], [0, 0, 0]])
    np.testing.assert_array_equal(volume.index_of(volume.point_of(index) + 0.49), index)
    assert volume.component_at(np.array([-SHIFT - PIAL + 2, 0, 0])) == LEFT_CAP  # x grows to the right
    assert volume.component_at(np.array([SHIFT + PIAL - 2, 0, 0])) == RIGHT_CAP
    assert volume.component_at(np.array([1e6, 0, 0])) == -1
    assert volume.component_at(np.zeros((2, 4, 3))).shape == (2, 4)
    for axis in range(3):  # one empty voxel all around
        for end in (0, -1):
            assert not np.take(volume.tissue, end, axis=axis).any()


def test_the_middle_of_a_component_is_in_it(atlas, volume):
    points = component_points(atlas)
    placed = np.unique(atlas.face_component[atlas.face_component >= 0])
    np.testing.assert_array_equal(volume.component_at(points[placed]), placed)
    assert np.isnan(points[BIAS]).all()


@pytest.mark.parametrize("voxel", [0.1, 20.0, -1.0, float("nan"), "1"])
def test_a_voxel_size_that_cannot_be_is_refused(atlas, voxel):
    with pytest.raises(InputError, match="a voxel measures"):
        label_volume(atlas, voxel)


def test_it_is_kept_on_disk_and_a_damaged_file_is_made_anew(atlas, tmp_path, monkeypatch):
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path))
    first = label_volume(atlas, 4.0)
    (path,) = storage.cache_folder().glob("volume-*.npz")
    stamp = path.stat().st_mtime_ns
    again = label_volume(atlas, 4.0)
    assert path.stat().st_mtime_ns == stamp
    for name in ("labels", "tissue", "affine"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
        assert not getattr(again, name).flags.writeable
    path.write_bytes(path.read_bytes()[:-200])
    np.testing.assert_array_equal(label_volume(atlas, 4.0).labels, first.labels)
    assert len(path.read_bytes()) > 200
    other = replace(atlas, face_component=np.where(atlas.face_component == LEFT_CAP, 2, atlas.face_component))
    assert not (label_volume(other, 4.0).labels == LEFT_CAP).any()
    assert len(list(storage.cache_folder().glob("volume-*.npz"))) == 2

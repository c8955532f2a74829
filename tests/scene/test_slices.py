"""Slices: which way they lie, and whose color each pixel has."""

import numpy as np
import pytest

from nmri3d.atlas.volume import CORTEX, OUTSIDE, WHITE_MATTER, LabelVolume, component_points, label_volume
from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.slices import (
    CONVENTION,
    GLOW,
    PLANES,
    UNPAINTED,
    WHITE,
    place_in_slice,
    point_in_slice,
    slice_image,
    slice_labels,
    slice_rules,
    three_slices,
)
from tests.scene.small_atlas import LEFT_CAP, RIGHT_CAP

LETTERS = {"x": ("L", "R"), "y": ("P", "A"), "z": ("I", "S")}


@pytest.fixture(scope="module")
def volume(atlas):
    return label_volume(atlas, 1.0, cache=False)


@pytest.fixture(scope="module")
def colors(atlas):
    n = len(atlas.components)
    rgba = np.random.default_rng(0).integers(80, 255, (n, 4)).astype(np.uint8)
    rgba[:, 3] = 255
    rgba[2, 3] = 0  # one component is unpainted
    return rgba


def marked(x: int, y: int, z: int) -> LabelVolume:
    """Five voxels a side, component 0 in one of them; the middle is at 0 mm."""
    labels = np.full((5, 5, 5), -1, dtype=np.int32)
    labels[x, y, z] = 0
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -4
    return LabelVolume(labels, np.where(labels >= 0, CORTEX, OUTSIDE).astype(np.uint8), affine)


@pytest.mark.parametrize("axis", PLANES)
def test_the_letters_name_the_sides_on_which_things_are(axis):
    plane = PLANES[axis]
    left, right, top, bottom = plane.letters
    for along, name in enumerate("xyz"):
        for end, letter in zip((0, 4), LETTERS[name], strict=True):
            place = [2, 2, 2]
            place[along] = end
            labels, _ = slice_labels(marked(*place), axis, 0.0)
            if along == plane.cut:
                assert (labels == -1).all()
                continue
            ((row, column),) = np.argwhere(labels == 0)
            side = {(0, 2): top, (4, 2): bottom, (2, 0): left, (2, 4): right}[(row, column)]
            assert side == letter


def test_the_convention_is_radiological():
    assert PLANES["axial"].letters[:2] == PLANES["coronal"].letters[:2] == ("R", "L")
    assert PLANES["sagittal"].letters[0] == "A"
    assert "left is on the right" in CONVENTION
    assert slice_rules()["planes"]["axial"]["letters"] == ["R", "L", "A", "P"]


@pytest.mark.parametrize("axis", PLANES)
def test_a_slice_lies_at_its_millimeter(axis, volume):
    cut = PLANES[axis].cut
    for mm in (-30.0, 0.0, 12.4, 12.6):
        labels, tissue = slice_labels(volume, axis, mm)
        index = int(np.floor(mm - volume.affine[cut, 3] + 0.5))
        assert sorted(labels.ravel()) == sorted(np.take(volume.labels, index, axis=cut).ravel())
        np.testing.assert_array_equal(tissue == CORTEX, labels >= 0)
    empty, outside = slice_labels(volume, axis, 1e4)
    assert empty.shape == labels.shape
    assert (empty == -1).all()
    assert not outside.any()


@pytest.mark.parametrize("axis", PLANES)
def test_every_pixel_has_its_components_color(axis, volume, colors):
    mm = 40.0 if axis == "sagittal" else 3.0
    labels, tissue = slice_labels(volume, axis, mm)
    image = slice_image(volume, axis, mm, colors)
    expected = np.zeros((*labels.shape, 4), dtype=np.uint8)
    for (row, column), label in np.ndenumerate(labels):
        if label >= 0:
            expected[row, column] = (*(UNPAINTED if label == 2 else colors[label, :3]), 255)
        elif tissue[row, column] == WHITE_MATTER:
            expected[row, column] = (*WHITE, 255)
    np.testing.assert_array_equal(image, expected)
    assert len(np.unique(labels)) > 2
    enlarged = slice_image(volume, axis, mm, colors, zoom=3)
    np.testing.assert_array_equal(enlarged[1::3, 1::3], image)
    assert enlarged.shape[:2] == (3 * image.shape[0], 3 * image.shape[1])


@pytest.mark.parametrize("zoom", [1, 4])
def test_the_outline_lies_around_the_component_and_not_on_it(volume, colors, zoom):
    plain = slice_image(volume, "axial", 0.0, colors, zoom=zoom)
    image = slice_image(volume, "axial", 0.0, colors, zoom=zoom, selected=LEFT_CAP)
    inside = (slice_labels(volume, "axial", 0.0)[0] == LEFT_CAP).repeat(zoom, axis=0).repeat(zoom, axis=1)
    glow = (image[..., :3] == GLOW).all(axis=-1)
    assert inside.sum() > 50 * zoom**2
    assert not (glow & inside).any()
    np.testing.assert_array_equal(image[~glow], plain[~glow])
    reach = max(1, round(zoom / 3))
    rows, columns = np.nonzero(glow)
    for row, column in zip(rows, columns, strict=True):
        near = inside[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        assert near.any()
    beside = np.zeros_like(inside)
    beside[1:] |= inside[:-1]
    beside[:-1] |= inside[1:]
    assert glow[beside & ~inside].all()


@pytest.mark.parametrize("axis", PLANES)
def test_places_and_points_are_inverse(axis, volume):
    rng = np.random.default_rng(0)
    for point in rng.uniform(-40, 40, (20, 3)):
        column, row = place_in_slice(volume, axis, point)
        np.testing.assert_allclose(point_in_slice(volume, axis, point, column, row), point, atol=1e-9)
        labels, _ = slice_labels(volume, axis, point[PLANES[axis].cut])
        assert labels[int(row), int(column)] == volume.component_at(point)


def test_three_slices_meet_in_their_point(atlas, volume, colors):
    point = component_points(atlas)[RIGHT_CAP].astype(float)
    zoom = 2
    figure = three_slices(volume, tuple(point), colors, zoom=zoom, crosshair=False)
    crossed = three_slices(volume, tuple(point), colors, zoom=zoom)
    assert figure.pixels.shape == crossed.pixels.shape
    changed = (figure.pixels != crossed.pixels).any(axis=-1)
    margin, left = 6 * zoom, 6 * zoom
    for axis in PLANES:
        tall, wide = (size * zoom for size in slice_labels(volume, axis, 0.0)[0].shape)
        top = margin + (figure.pixels.shape[0] - 2 * margin - 12 * zoom - tall) // 2
        part = changed[top : top + tall, left : left + wide]
        column, row = (int(value) for value in place_in_slice(volume, axis, point) * zoom)
        assert part[row, :].all()
        assert part[:, column].all()
        assert part.sum() == tall + wide - 1
        np.testing.assert_array_equal(figure.pixels[top + row, left + column], colors[RIGHT_CAP, :3])
        left += wide + margin
    texts = [text for text, *_ in figure.texts]
    assert texts[:4] == ["R", "L", "A", "P"]
    assert f"axial z = {point[2]:.0f} mm" in texts
    assert {"50 mm", CONVENTION} <= set(texts)
    bar = (figure.pixels == (195, 208, 221)).all(axis=-1)
    assert bar.any(axis=0).sum() == 50 * zoom  # 1 mm voxels


def test_what_cannot_be_drawn_is_refused(volume, colors):
    with pytest.raises(InputError, match="no slice 'oblique'"):
        slice_image(volume, "oblique", 0.0, colors)
    with pytest.raises(InputError, match="number of mm"):
        slice_image(volume, "axial", float("nan"), colors)
    with pytest.raises(InputError, match="enlarged"):
        slice_image(volume, "axial", 0.0, colors, zoom=0)
    with pytest.raises(AlignmentError, match="of more components"):
        slice_image(volume, "axial", 0.0, colors[:3])
    with pytest.raises(AlignmentError, match="uint8"):
        slice_image(volume, "axial", 0.0, colors.astype(float))
    with pytest.raises(InputError, match="three numbers"):
        three_slices(volume, (0.0, 1.0), colors)  # type: ignore[arg-type]

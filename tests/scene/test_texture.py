"""The texture: its formula by a naive loop, and what a sampler sees at a vertex' coordinates."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.texture import (
    GLASS_GYRUS,
    GLASS_LEAST,
    GLASS_MOST,
    GLASS_SULCUS,
    MAX_WIDTH,
    SULCUS_SHADE,
    UNDERLAY_GYRUS,
    UNDERLAY_SULCUS,
    fold_of_sulcal_depth,
    texture_image,
    texture_layout,
)


def random_colors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(n, 4), dtype=np.uint8)


def sample(image: np.ndarray, u: float, v: float) -> np.ndarray:
    """Bilinear sample with clamped edges, as a graphics card takes it."""
    height, width, _ = image.shape
    x, y = u * width - 0.5, v * height - 0.5
    x0, y0 = math.floor(x), math.floor(y)
    total = np.zeros(image.shape[2])
    for i, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
        for j, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
            total += wx * wy * image[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
    return total


@pytest.mark.parametrize("n", [0, 1, 302, MAX_WIDTH - 1, MAX_WIDTH, 9001])
def test_image_follows_the_written_formula(n):
    colors, layout = random_colors(n), texture_layout(n)
    image = texture_image(colors)
    assert image.shape == (layout.height, layout.width, 4)
    assert (image[..., 3] == 255).all()
    for slot in {0, n // 2, n - 1, n} - {-1}:
        red, green, blue, alpha = (int(c) for c in colors[slot]) if slot < n else (0, 0, 0, 0)
        band, column = slot // layout.width, slot % layout.width
        for row, under, shade in ((2 * band, UNDERLAY_SULCUS, SULCUS_SHADE), (2 * band + 1, UNDERLAY_GYRUS, 1.0)):
            expected = [
                math.floor(u * (1 - alpha / 255) + c * (alpha / 255) * shade + 0.5)
                for u, c in zip(under, (red, green, blue), strict=True)
            ]
            np.testing.assert_allclose(image[row, column, :3].astype(int), expected, atol=1)


@pytest.mark.parametrize("n", [1, 302, 9001])
def test_glass_follows_the_written_formula(n):
    colors, layout = random_colors(n), texture_layout(n)
    strength = np.random.default_rng(1).uniform(0, 1, n)
    image = texture_image(colors, layout, strength)
    for slot in {0, n // 2, n - 1, n}:
        red, green, blue, alpha = (int(c) for c in colors[slot]) if slot < n else (0, 0, 0, 0)
        weight = (strength[slot] if slot < n else 0) * alpha / 255
        band, column = slot // layout.width, slot % layout.width
        for row, clear, shade in ((2 * band, GLASS_SULCUS, SULCUS_SHADE), (2 * band + 1, GLASS_GYRUS, 1.0)):
            expected = [g * (1 - weight) + c * shade * weight for g, c in zip(clear, (red, green, blue), strict=True)]
            expected.append(255 * (GLASS_LEAST + (GLASS_MOST - GLASS_LEAST) * weight))
            np.testing.assert_allclose(image[row, column].astype(int), np.floor(np.add(expected, 0.5)), atol=1)


def test_glass_is_clear_where_nothing_is_painted_and_colored_where_a_value_is_strong():
    colors = np.tile(np.uint8([250, 10, 10, 255]), (3, 1))
    colors[2, 3] = 0
    image = texture_image(colors, glass=np.array([1.0, 0.0, 1.0]))
    assert image[1, 0].tolist()[:3] == [250, 10, 10]
    for slot in (1, 2, 3):  # weak, hidden, the wall
        assert image[1, slot].tolist()[:3] == list(GLASS_GYRUS)
        assert image[1, slot, 3] < image[1, 0, 3] < 255
    np.testing.assert_array_equal(texture_image(colors, glass=np.array([1, np.nan, 1])), image)


@given(st.integers(0, 9000), st.integers(-1, 8999), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_vertex_sees_only_its_own_two_texels(n, row, fold):
    row = min(row, n - 1)
    colors, layout = random_colors(n, seed=n), texture_layout(n)
    image = texture_image(colors, layout)
    u, v = layout.texture_coordinates(np.array([row]), np.array([fold]))[0]
    slot = n if row < 0 else row
    band, column = slot // layout.width, slot % layout.width
    expected = (1 - fold) * image[2 * band, column].astype(float) + fold * image[2 * band + 1, column]
    # float32 coordinates may lean on a neighbor by a few thousandths of its difference, which is under one level of 255
    np.testing.assert_allclose(sample(image, float(u), float(v)), expected, atol=0.75)


def test_unpainted_components_and_the_wall_show_the_underlay():
    colors = random_colors(5)
    colors[2, 3] = 0
    image = texture_image(colors)
    for slot in (2, 5):
        assert image[0, slot].tolist() == [*UNDERLAY_SULCUS, 255]
        assert image[1, slot].tolist() == [*UNDERLAY_GYRUS, 255]


def test_wrong_colors_are_refused():
    for wrong in (np.zeros((3, 3), np.uint8), np.zeros((3, 4)), np.zeros(4, np.uint8)):
        with pytest.raises(AlignmentError):
            texture_image(wrong)
    with pytest.raises(AlignmentError, match="3 colors"):
        texture_image(random_colors(3), texture_layout(4))
    with pytest.raises(AlignmentError, match="one strength a component"):
        texture_image(random_colors(3), glass=np.zeros(2))
    with pytest.raises(InputError):
        texture_layout(-1)
    with pytest.raises(InputError, match="do not fit"):
        texture_layout(10**8)


def test_fold_goes_from_deep_to_high():
    fold = fold_of_sulcal_depth(np.array([-5.0, -0.1, 0.0, 0.1, 5.0]))
    assert fold[0] > 0.99
    assert fold[-1] < 0.01
    assert fold[2] == pytest.approx(0.5)
    assert np.all(np.diff(fold) < 0)
    np.testing.assert_allclose(fold_of_sulcal_depth(np.zeros(3)), 0.5)

"""The figures of quality against known shapes and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.atlas.cutting import cut_at_level
from nmri3d.atlas.quality import (
    count_pieces,
    isoperimetric_quotient,
    neighborhood_preservation,
    spearman,
    sphere_centers,
)
from tests.atlas.naive import pieces_by_component
from tests.atlas.test_cells import sphere


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-1e3, 1e3)), min_size=3, max_size=40))
def test_spearman_is_scipys(pairs):
    from scipy import stats

    first, second = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert np.isnan(spearman(first, second))
    else:
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-9)


def test_a_cap_is_round_and_a_zone_is_not():
    points, faces = sphere(5)
    # A cap is a disk on the sphere: 1. The zone |z| < h: area 4 pi h, two circles of radius sqrt(1 - h^2).
    height = 0.2
    zone = 4 * np.pi * height * (4 * np.pi - 4 * np.pi * height) / (4 * np.pi * np.sqrt(1 - height**2)) ** 2
    for level, expected in ((points[:, 2] - 0.5, 1.0), (height - np.abs(points[:, 2]), zone)):
        cut = cut_at_level(faces, level)
        found = isoperimetric_quotient(cut.interpolate(points), cut.faces, cut.label, 3)
        assert found[1] == pytest.approx(expected, rel=0.01)
        assert np.isnan(found[2])


def test_pieces_agree_with_a_flood_fill():
    points, faces = sphere(3)
    component = np.random.default_rng(0).integers(-1, 4, len(faces))
    expected = pieces_by_component(faces, component)
    assert count_pieces(faces, component, 5).tolist() == [expected.get(k, 0) for k in range(5)]
    assert len(points)


def test_center_of_a_cap():
    points, faces = sphere(4)
    component = (points[faces].mean(axis=1)[:, 0] > 0.8).astype(int)
    assert sphere_centers(points, faces, component, 2)[1] == pytest.approx([1, 0, 0], abs=0.02)


def naive_trustworthiness(values: np.ndarray, centers: np.ndarray, k: int) -> float:
    n = len(values)
    total = 0
    for i in range(n):
        by_feature = sorted((j for j in range(n) if j != i), key=lambda j: np.sum((values[i] - values[j]) ** 2))
        by_place = sorted(
            (j for j in range(n) if j != i), key=lambda j: np.arccos(np.clip(centers[i] @ centers[j], -1, 1))
        )
        total += sum(max(by_feature.index(j) + 1 - k, 0) for j in by_place[:k])
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * total


def test_trustworthiness_by_its_definition():
    random = np.random.default_rng(0)
    values = random.normal(size=(40, 3))
    centers = random.normal(size=(40, 3))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    found, _ = neighborhood_preservation(values, centers, np.ones(40, bool), np.arange(40))
    assert found == pytest.approx(naive_trustworthiness(values, centers, 10))


def test_overlap_is_one_for_the_same_neighborhoods_and_zero_by_chance():
    random = np.random.default_rng(1)
    centers = random.normal(size=(400, 3))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    everyone = np.arange(400)
    same = neighborhood_preservation(centers, centers, np.ones(400, bool), everyone)
    assert same == pytest.approx((1, 1))
    chance = neighborhood_preservation(centers[random.permutation(400)], centers, np.ones(400, bool), everyone)
    assert abs(chance[1]) < 0.02
    assert chance[0] == pytest.approx(0.5, abs=0.03)


def test_neighbors_are_not_sought_across_hemispheres():
    random = np.random.default_rng(2)
    centers = np.tile(random.normal(size=(30, 3)), (2, 1))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    on_left = np.arange(60) < 30
    # Features that separate the hemispheres: each place's twin on the other side is no neighbor in features.
    values = np.column_stack([centers, 100.0 * on_left])
    assert neighborhood_preservation(values, centers, on_left, np.arange(60)) == pytest.approx((1, 1))
    assert neighborhood_preservation(values, centers, np.ones(60, bool), np.arange(60))[1] < 0.7

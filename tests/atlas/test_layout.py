"""Hemispheres, shares, order: what is decided before any cell is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.atlas.arrangement import exchange_places, similarity
from nmri3d.atlas.layout import Placement, share_out, shares_above
from nmri3d.atlas.quality import neighborhood_preservation, spearman
from nmri3d.atlas.structures import checked_structures, house
from nmri3d.components import PLACELESS_KINDS
from tests.atlas.tables import Shape, table


def sides_of(components, features, area="parameters"):
    housing = house(components, checked_structures(components, None), features, area)
    assert not housing.bodies
    return housing.left, housing.right


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=60), st.floats(0, 1))
def test_shares_sum_to_one_and_keep_the_least(weights, part):
    least = part / len(weights)
    share = shares_above(np.array(weights), least)
    assert share.sum() == pytest.approx(1)
    assert share.min() >= least * (1 - 1e-9)
    order = np.argsort(weights, kind="stable")
    assert (np.diff(share[order]) > -1e-9).all(), "a greater weight got a smaller share"


def test_shares_above_the_least_keep_their_ratio():
    share = shares_above(np.array([1.0, 300.0, 600.0]), 0.01)
    assert share[0] == pytest.approx(0.01)
    assert share[2] / share[1] == pytest.approx(2)


@settings(deadline=None)
@given(
    st.integers(1, 6),
    st.integers(0, 6),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(("parameters", "equal")),
)
def test_every_component_with_a_place_is_placed_once(n_layers, n_heads, mlp, embed, bias, area):
    components = table(n_layers, n_heads, mlp=mlp, embed=embed or not (mlp or n_heads), bias=bias)
    if n_heads * n_layers + mlp * n_layers + embed < 2 or not (n_heads or mlp):
        return
    sides = sides_of(components, Shape(components).layout_features(), area)
    halves = [share_out(rows, components, area, 1e-3) for rows in sides]
    rows = np.concatenate([half.rows for half in halves])
    assert sorted(rows.tolist()) == np.flatnonzero(~np.isin(components.kind, list(PLACELESS_KINDS))).tolist()
    for half in halves:
        assert half.share.sum() == pytest.approx(1)
        assert (half.share > 0).all()
        assert (np.diff(half.depth) >= 0).all()
        assert half.share_when_even.sum() == pytest.approx(1)
        inner = half.pole == 0
        if inner.any():
            assert half.share[~inner] == pytest.approx(0.04)
    both = components.rows("head").size and components.rows("mlp").size
    if both:
        assert set(halves[0].rows) == set(components.rows("head"))


def test_without_mlps_each_layer_is_halved_by_similarity():
    components = table(3, 6, mlp=False)
    features = np.zeros((len(components), 2), np.float32)
    features[components.index % 2 == 1] = (3.0, 1.0)
    inner = [rows[components.kind[rows] == "head"] for rows in sides_of(components, features)]
    parity = [set((components.index[rows] % 2).tolist()) for rows in inner]
    assert parity in ([{0}, {1}], [{1}, {0}])


def ring_of_places(n: int) -> np.ndarray:
    """n unit vectors in one ring around the y axis, at the same depth."""
    angle = 2 * np.pi * np.arange(n) / n
    seeds = np.column_stack([np.cos(angle), np.zeros(n), np.sin(angle)])
    return seeds / np.linalg.norm(seeds, axis=1, keepdims=True)


def test_exchange_brings_clusters_together_within_a_layer():
    n = 24
    features = np.repeat(np.eye(4), n // 4, axis=0) * 5 + np.random.default_rng(0).normal(scale=0.1, size=(n, 4))
    shuffled = np.random.default_rng(1).permutation(n)
    placement = Placement(np.arange(n), np.zeros(n), np.full(n, 1 / n), np.zeros(n, int))
    seeds = ring_of_places(n)
    seat = exchange_places(seeds, placement, similarity(features[shuffled]))
    assert sorted(seat.tolist()) == list(range(n))

    def same_cluster_neighbors(seat):
        cluster = np.empty(n, int)
        cluster[seat] = shuffled // (n // 4)
        return (cluster == np.roll(cluster, 1)).sum()

    assert same_cluster_neighbors(np.arange(n)) < 12
    assert same_cluster_neighbors(seat) >= 18  # 20 is perfect: four clusters, four borders


def test_exchange_puts_depth_right():
    n = 30
    seeds = np.random.default_rng(2).normal(size=(n, 3))
    seeds /= np.linalg.norm(seeds, axis=1, keepdims=True)
    placement = Placement(np.arange(n), np.arange(n, dtype=float), np.full(n, 1 / n), np.zeros(n, int))
    seat = exchange_places(seeds, placement, similarity(np.zeros((n, 1))))
    assert spearman(np.arange(n), seeds[seat, 1]) > 0.97


def test_exchange_keeps_poles_and_unlike_shares():
    n = 12
    seeds = ring_of_places(n)
    pole = np.zeros(n, int)
    pole[[0, -1]] = (-1, 1)
    share = np.where(np.arange(n) < 6, 1.0, 3.0)
    placement = Placement(np.arange(n), np.zeros(n), share / share.sum(), pole)
    features = np.random.default_rng(3).normal(size=(n, 3))
    seat = exchange_places(seeds, placement, similarity(features), same_share=1.1)
    assert seat[0] == 0
    assert seat[-1] == n - 1
    assert set(seat[1:6]) == set(range(1, 6))
    assert not np.array_equal(seat, np.arange(n)), "nothing was exchanged: the case shows nothing"


def test_exchange_in_windows_is_as_good_as_at_once(monkeypatch):
    """Many components are exchanged window by window; on a size where both ways run they must come out alike."""
    from nmri3d.atlas import arrangement

    n = 160
    random = np.random.default_rng(4)
    seeds = random.normal(size=(n, 3))
    seeds /= np.linalg.norm(seeds, axis=1, keepdims=True)
    features = random.normal(size=(8, 4))[random.integers(0, 8, n)] * 3 + random.normal(scale=0.3, size=(n, 4))
    placement = Placement(np.arange(n), np.arange(n) // 16 * 1.0, np.full(n, 1 / n), np.zeros(n, int))

    def overlap(seat):
        return neighborhood_preservation(features, seeds[seat], np.ones(n, bool), np.arange(n))[1]

    at_once = overlap(exchange_places(seeds, placement, similarity(features)))
    monkeypatch.setattr(arrangement, "_WINDOW", 60)
    in_windows = overlap(exchange_places(seeds, placement, similarity(features)))
    assert at_once > overlap(np.arange(n)) + 0.1
    assert in_windows > 0.75 * at_once


def test_similarity_is_one_for_equals_and_falls_with_distance():
    values = np.random.default_rng(0).normal(size=(30, 3))
    values[1] = values[0]
    found = similarity(values)
    assert found[0, 1] == pytest.approx(1)
    assert np.allclose(found, found.T, atol=1e-6)
    distance = np.linalg.norm(values[5] - values, axis=1)
    assert found[5, np.argmin(distance + 9 * (distance == 0))] > found[5, np.argmax(distance)]

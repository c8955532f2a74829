"""The graph of neighbors, the embeddings on the sphere, and their way onto two hemispheres."""

from __future__ import annotations

import numpy as np
import pytest

from nmri3d.atlas import build, embedding
from nmri3d.atlas.embedding import N_NEIGHBORS, embed, neighbor_graph, squared_distances
from nmri3d.atlas.hemispheres import halve, seats
from nmri3d.atlas.quality import neighborhood_preservation, spearman

LAYOUTS = ("umap", "spectral")


def clusters(n_each: int = 25, n_clusters: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features in clusters, and the cluster of each."""
    random = np.random.default_rng(seed)
    member = np.repeat(np.arange(n_clusters), n_each)
    return random.normal(scale=3, size=(n_clusters, 8))[member] + random.normal(size=(len(member), 8)), member


def test_squared_distances_by_their_definition():
    values = np.random.default_rng(0).normal(size=(12, 5)) + 1e4
    expected = ((values[:, None] - values) ** 2).sum(axis=-1)
    assert np.allclose(squared_distances(values), expected, atol=1e-6)


def test_graph_is_the_fuzzy_union_of_calibrated_neighborhoods():
    features, _ = clusters()
    graph = neighbor_graph(features)
    assert np.allclose(graph, graph.T)
    assert not np.diag(graph).any()
    distance = np.sqrt(((features[:, None] - features) ** 2).sum(axis=-1))
    np.fill_diagonal(distance, np.inf)
    directed = np.zeros_like(distance)
    for row, beyond in enumerate(distance):
        near = np.argsort(beyond)[:N_NEIGHBORS]
        low, high = 1e-6, 1e6  # plain bisection for sigma
        for _ in range(200):
            sigma = np.sqrt(low * high)
            total = np.exp(-(beyond[near] - beyond[near[0]]) / sigma).sum()
            low, high = (low, sigma) if total > np.log2(N_NEIGHBORS + 1) else (sigma, high)
        directed[row, near] = np.exp(-(beyond[near] - beyond[near[0]]) / sigma)
    assert np.allclose(graph, directed + directed.T - directed * directed.T, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_neighbors_in_feature_space_lie_close_on_the_sphere(layout):
    features, member = clusters()
    points = embed(layout, neighbor_graph(features), 0)
    assert np.allclose(np.linalg.norm(points, axis=1), 1)
    everywhere = np.arange(len(points))
    trust, overlap = neighborhood_preservation(features, points, np.ones(len(points), bool), everywhere)
    shuffled = np.random.default_rng(0).permutation(len(points))
    chance, _ = neighborhood_preservation(features, points[shuffled], np.ones(len(points), bool), everywhere)
    assert trust > 0.85
    assert abs(chance - 0.5) < 0.08
    assert overlap > 0.25
    nearest = np.argsort(-points @ points.T, axis=1)[:, 1:6]
    assert (member[nearest] == member[:, None]).mean() > 0.75  # by chance 0.16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_graph_and_seed_same_places(layout):
    graph = neighbor_graph(clusters()[0])
    assert np.array_equal(embed(layout, graph, 3), embed(layout, graph, 3))


def test_slowest_are_those_of_the_whole_spectrum(monkeypatch):
    """Against all eigenvectors of the random walk, which is not symmetric, of a graph in two pieces; and no more are made."""
    n = 150
    monkeypatch.setattr(np.linalg, "eigh", None)
    features = np.random.default_rng(2).normal(size=(n, 4)) + 100 * (np.arange(n) % 2)[:, None]
    linked = neighbor_graph(features) + 1e-4 / n
    values, vectors = np.linalg.eig(linked / linked.sum(axis=1, keepdims=True))
    slow = vectors.real[:, np.argsort(-values.real)[1:4]]
    slow = (slow - slow.mean(axis=0)) / slow.std(axis=0)
    found = embedding._slowest(neighbor_graph(features))
    assert np.allclose(np.abs((found * slow).mean(axis=0)), 1, atol=1e-6)
    assert np.allclose(found, slow * np.sign((found * slow).sum(axis=0)), atol=1e-5)


def test_umap_in_blocks_is_umap_at_once(monkeypatch):
    graph = neighbor_graph(clusters()[0])
    monkeypatch.setattr(embedding, "_BLOCK", 1 << 30)
    whole = embed("umap", graph, 0)
    monkeypatch.setattr(embedding, "_BLOCK", 7 * len(graph))
    assert np.abs(embed("umap", graph, 0) - whole).max() < 1e-3


def test_umap_starts_from_its_seed():
    graph = neighbor_graph(clusters()[0])
    assert not np.allclose(embed("umap", graph, 0), embed("umap", graph, 1), atol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_a_few_components_and_equal_features_have_places(layout, n):
    for features in (np.zeros((n, 3)), np.eye(n), np.random.default_rng(0).normal(size=(n, 2))):
        points = embed(layout, neighbor_graph(features), 0)
        assert points.shape == (n, 3)
        assert np.allclose(np.linalg.norm(points, axis=1), 1)


def test_umap_step_lowers_the_loss_that_it_states():
    """Attraction and expected repulsion written out pair by pair: the embedding beats its own start by far."""
    features, _ = clusters(12, 4)
    graph = neighbor_graph(features)
    k = len(graph)
    radius = embedding.RADIUS * np.sqrt(k)
    degree = graph.sum(axis=1)

    def loss(points):
        total = 0.0
        for i in range(k):
            for j in range(k):
                if i != j:
                    square = radius**2 * ((points[i] - points[j]) ** 2).sum()
                    near = 1 / (1 + embedding._CURVE_A * square**embedding._CURVE_B)
                    repel = embedding._NEGATIVES * (degree[i] + degree[j]) / (2 * k)
                    total -= graph[i, j] * np.log(near) + repel * np.log(max(1 - near, 1e-4))
        return total

    start = embedding._unit(embedding._slowest(graph))
    assert loss(embed("umap", graph, 0)) < 0.7 * loss(start)


def test_halves_have_their_share_and_cut_little():
    graph = neighbor_graph(clusters(20, 6)[0])
    points = embed("umap", graph, 0)
    weight = np.random.default_rng(1).uniform(0.5, 1.5, len(points))
    found = halve(points, weight, graph, np.arange(len(points)) * 1.0, 0.5)
    assert weight[found.on_left].sum() / weight.sum() == pytest.approx(0.5, abs=weight.max() / weight.sum())
    parted = graph[found.on_left][:, ~found.on_left].sum()
    random = np.random.default_rng(2)
    by_chance = []
    for _ in range(20):
        order = random.permutation(len(points))
        side = found.on_left[order]
        by_chance.append(graph[side][:, ~side].sum())
    assert parted < 0.2 * min(by_chance)
    for side in (found.on_left, ~found.on_left):
        n = side.sum()
        assert np.sort(found.radius[side]) == pytest.approx(np.sqrt((np.arange(n) + 0.5) / n))


def test_depth_runs_forward_and_parted_neighbors_face_each_other():
    """On a sphere with depth along one axis: depth correlates with the front on both halves, and the rim is shared."""
    random = np.random.default_rng(3)
    points = random.normal(size=(200, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    graph = neighbor_graph(points)
    found = halve(points, np.ones(200), graph, points[:, 0], 0.5)
    front = found.radius * np.cos(found.azimuth)
    assert spearman(points[:, 0], front) > 0.7
    first, second = np.nonzero(np.triu(graph) > 0.5)
    across = found.on_left[first] != found.on_left[second]
    assert across.sum() > 5
    place = np.column_stack([front, found.radius * np.sin(found.azimuth)])
    gap = np.linalg.norm(place[first] - place[second], axis=1)
    assert np.median(gap[across]) < 0.35, "what the cut parts does not face its neighbor"


@pytest.mark.parametrize("side", [0, 1])
def test_seats_are_spread_and_follow_the_disk(side):
    base = build._bases("fsaverage5")[side]
    random = np.random.default_rng(0)
    n = 80
    radius, azimuth = np.sqrt(random.random(n)), random.uniform(0, 2 * np.pi, n)
    found = seats(base.domain, base.wall_center, radius, azimuth)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    distance = np.linalg.norm(found[:, None] - found, axis=-1) + 9 * np.eye(n)
    assert distance.min() > 0.3 * np.sqrt(base.domain.size.sum() / n)
    assert spearman(radius, found @ (-base.wall_center / np.linalg.norm(base.wall_center))) < -0.9
    assert spearman(radius * np.cos(azimuth), found[:, 1]) > 0.8
    assert spearman(radius * np.sin(azimuth), found[:, 2]) > 0.8

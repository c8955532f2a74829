"""Cutting, power diagrams, transport: against definitions and finite differences, on small spheres."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.atlas.cutting import cut_at_level, cut_mesh, split_at, triangle_areas
from nmri3d.atlas.pieces import forbid_fragments, whole_cells
from nmri3d.atlas.power import Domain, cut_cells, measure, nearest_cell, vertex_pieces
from nmri3d.atlas.subdivision import face_edges, subdivide
from nmri3d.atlas.transport import fit_offsets, growth, relax
from tests.atlas.naive import edge_uses, icosahedron, pieces_by_component


def sphere(level: int) -> tuple[np.ndarray, np.ndarray]:
    """An icosphere: unit points and faces."""
    from nmri3d.atlas.subdivision import loop_matrix

    points, faces = icosahedron()
    for _ in range(level):
        points, faces = loop_matrix(faces, len(points)) @ points, subdivide(faces)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points, faces


@pytest.fixture(scope="module")
def ball():
    points, faces = sphere(4)
    size = triangle_areas(points, faces)
    density = 1.5 + points[faces].mean(axis=1)[:, 1]
    return Domain(points, faces, size * density, size)


def some_seeds(n: int, seed: int = 0) -> np.ndarray:
    seeds = np.random.default_rng(seed).normal(size=(n, 3))
    return seeds / np.linalg.norm(seeds, axis=1, keepdims=True)


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_any_labeling_cuts_into_a_closed_mesh_of_the_same_area(seed, n_labels):
    points, faces = sphere(1)
    random = np.random.default_rng(seed)
    label = random.integers(0, n_labels, len(points))
    towards = random.random((len(points), len(points)))

    cut = cut_mesh(
        faces,
        label,
        lambda a, b: towards[a, b],
        lambda corners: random.dirichlet((2, 2, 2), len(corners)),
    )
    new = cut.interpolate(points)
    uses = edge_uses(cut.faces)
    assert set(uses.values()) == {1}
    assert all((b, a) in uses for a, b in uses)
    assert triangle_areas(new, cut.faces).sum() == pytest.approx(triangle_areas(points, faces).sum())
    assert np.allclose(cut.weights.sum(axis=1), 1)
    # A label's faces hang together as its vertices do.
    pieces = vertex_pieces(face_edges(faces, len(points))[0], label)
    expected = {int(k): len(np.unique(pieces[label == k])) for k in np.unique(label)}
    assert pieces_by_component(cut.faces, cut.label) == expected
    # Each cut face lies in the face it came from, and is turned the same way.
    normal = np.cross(*(new[cut.faces[:, k]] - new[cut.faces[:, 0]] for k in (1, 2)))
    source = np.cross(*(points[faces[cut.source, k]] - points[faces[cut.source, 0]] for k in (1, 2)))
    assert (np.einsum("fk,fk->f", normal, source) > 0).all()


def test_level_is_cut_where_it_is_zero():
    points, faces = sphere(3)
    cut = cut_at_level(faces, points[:, 2] - 0.2)
    new = cut.interpolate(points)
    assert (cut.label[new[cut.faces][:, :, 2].min(axis=1) > 0.25] == 1).all()
    assert (cut.label[new[cut.faces][:, :, 2].max(axis=1) < 0.15] == 0).all()
    assert np.abs(new[len(points) :, 2] - 0.2).max() < 0.01  # where a crossing was held clear of a vertex
    assert np.median(np.abs(new[len(points) :, 2] - 0.2)) < 1e-9


def test_split_beside_a_cut_leaves_no_gap():
    faces = np.array([(0, 1, 2), (2, 1, 3)])
    halved = split_at(faces, np.array([(1, 2)]), np.array([9]), 4)
    uses = edge_uses(halved)
    assert len(halved) == 4
    assert (1, 2) not in uses
    assert (2, 1) not in uses
    assert (1, 9) in uses
    assert (9, 1) in uses
    thrice = split_at(faces, np.array([(0, 1), (1, 2), (2, 0)]), np.array([7, 8, 9]), 4)
    assert len(thrice) == 6
    assert {(0, 7), (7, 1), (1, 8), (8, 2), (2, 9), (9, 0), (2, 8), (8, 1)} <= set(edge_uses(thrice))
    assert np.array_equal(split_at(faces, np.zeros((0, 2), int), np.zeros(0, int), 4), faces)


@pytest.mark.parametrize("n_cells", [30, 450])
def test_nearest_cell_by_its_definition(ball, n_cells):
    """Both ways of searching, dense and by tree, against power distances."""
    seeds = some_seeds(n_cells)
    offsets = np.random.default_rng(1).normal(scale=0.01, size=n_cells)
    distance = ((ball.points[:, None] - seeds) ** 2).sum(axis=2) - 2 * offsets
    label = nearest_cell(ball, seeds, offsets)
    mine = np.take_along_axis(distance, label[:, None], axis=1)[:, 0]
    assert np.allclose(mine, distance.min(axis=1), atol=1e-6)


def test_masses_are_those_of_the_cut_mesh(ball):
    seeds, offsets = some_seeds(12), np.random.default_rng(2).normal(scale=0.02, size=12)
    found = measure(ball, seeds, offsets)
    cut = cut_cells(ball, seeds, offsets, found.label)
    density = (ball.mass / ball.size)[cut.source]
    area = triangle_areas(cut.interpolate(ball.points), cut.faces) * density
    assert found.mass == pytest.approx(np.bincount(cut.label, area, 12), rel=1e-9)
    assert found.mass.sum() == pytest.approx(ball.mass.sum())


def test_masses_approach_those_of_many_random_points(ball):
    seeds, offsets = some_seeds(8), np.random.default_rng(3).normal(scale=0.05, size=8)
    points = some_seeds(200_000, seed=9)
    label = np.argmax(points @ seeds.T + offsets, axis=1)
    expected = np.bincount(label, 1.5 + points[:, 1], 8)
    found = measure(ball, seeds, offsets).mass
    assert found / found.sum() == pytest.approx(expected / expected.sum(), rel=0.03)


def test_laplacian_is_the_derivative_of_the_masses(ball):
    seeds, offsets = some_seeds(10), np.zeros(10)
    found = measure(ball, seeds, offsets)
    jacobian = np.empty((10, 10))
    step = 1e-6
    for cell in range(10):
        change = np.eye(10)[cell] * step
        # With the labels kept: a vertex that changes hands is a jump, not a derivative.
        ahead = measure(ball, seeds, offsets + change, found.label).mass
        behind = measure(ball, seeds, offsets - change, found.label).mass
        jacobian[:, cell] = (ahead - behind) / (2 * step)
    exact = found.laplacian.toarray()
    assert np.allclose(exact, exact.T)
    assert np.abs(exact.sum(axis=1)).max() < 1e-9
    # Crossings that are held clear of a vertex do not move; elsewhere the two agree.
    assert np.linalg.norm(jacobian - exact) < 0.12 * np.linalg.norm(exact)


@given(st.integers(0, 1000), st.floats(1.0, 12.0))
@settings(max_examples=12, deadline=None)
def test_offsets_give_the_masses_asked_for(ball, seed, spread):
    n = 20
    share = np.exp(np.random.default_rng(seed).uniform(0, np.log(spread), n))
    target = share / share.sum() * ball.mass.sum()
    seeds, offsets = some_seeds(n, seed), np.zeros(n)
    start = np.full(n, target.mean())
    goals = [start] * 4 + growth(start, target) + [target] * 2
    seeds, offsets = relax(ball, seeds, offsets, goals, fixed=np.zeros(n, dtype=bool))
    _, found = fit_offsets(ball, seeds, offsets, target)
    assert found.mass == pytest.approx(target, rel=2e-3)


def test_relaxing_makes_cells_rounder_and_leaves_fixed_seeds(ball):
    from nmri3d.atlas.quality import isoperimetric_quotient

    n = 40
    target = np.full(n, ball.mass.sum() / n)
    seeds = some_seeds(n, 4)
    fixed = np.arange(n) == 0

    def roundness(seeds, offsets):
        offsets, found = fit_offsets(ball, seeds, offsets, target)
        cut = cut_cells(ball, seeds, offsets, found.label)
        return np.median(isoperimetric_quotient(cut.interpolate(ball.points), cut.faces, cut.label, n))

    before = roundness(seeds, np.zeros(n))
    moved, offsets = relax(ball, seeds, np.zeros(n), [target] * 15, fixed=fixed)
    assert roundness(moved, offsets) > before + 0.05
    assert moved[0] == pytest.approx(seeds[0], abs=1e-12)
    assert np.abs(moved[1:] - seeds[1:]).max() > 0.01


def test_growth_ends_at_its_goal_in_small_steps():
    start, stop = np.full(3, 2.0), np.array([0.1, 1.9, 4.0])
    path = growth(start, stop)
    assert path[-1] == pytest.approx(stop)
    ratio = np.array(path)[1:] / np.array(path)[:-1]
    assert np.abs(np.log(ratio)).max() < np.log(1.9)
    assert all(masses.sum() == pytest.approx(6.0) for masses in path)
    assert growth(start, start) == []


@pytest.fixture(scope="module")
def trenched(ball):
    """A ring-shaped domain that a broad trench leaves open at one place only, and seeds of which one spans the trench."""
    center = ball.points[ball.faces].mean(axis=1)
    ring = np.abs(center[:, 0]) < 0.97
    # Remove a broad trench so that the strip that remains is open at one place only.
    ring &= ~((np.abs(center[:, 2]) < 0.25) & (center[:, 1] > 0))
    used, local = np.unique(ball.faces[ring], return_inverse=True)
    domain = Domain(ball.points[used], local.reshape(-1, 3).astype(np.int32), ball.mass[ring], ball.size[ring])
    # The first cell stands over the trench, a little nearer to one bank, and reaches both.
    seeds = np.array([(0.0, 0.995, 0.1), (0.9, -0.3, 0.0), (-0.9, -0.3, 0.0), (0.0, -1.0, 0.0)])
    return domain, seeds / np.linalg.norm(seeds, axis=1, keepdims=True)


def test_a_cell_cut_in_two_keeps_its_larger_piece(trenched):
    domain, seeds = trenched
    plain = nearest_cell(domain, seeds, np.zeros(4))
    assert len(np.unique(vertex_pieces(domain.edges, plain))) > 4, "the case shows nothing: no cell is cut in two"
    whole = whole_cells(domain, seeds, np.zeros(4))
    pieces = vertex_pieces(domain.edges, whole)
    assert len(np.unique(pieces)) == len(np.unique(whole)) == 4
    changed = whole != plain
    assert 0 < changed.sum() < (plain == 0).sum() / 2
    # Only what was cut off has changed hands, each point to the best of the cells that its neighbors belong to.
    value = domain.points @ seeds.T
    around = [set(domain.edges[(domain.edges == point).any(axis=1)].ravel()) for point in np.flatnonzero(changed)]
    for point, near in zip(np.flatnonzero(changed), around, strict=True):
        assert whole[point] in {whole[other] for other in near - {point}}
    rim = [point for point, near in zip(np.flatnonzero(changed), around, strict=True) if (~changed[list(near)]).any()]
    for point in rim:
        near = [other for other in set(domain.edges[(domain.edges == point).any(axis=1)].ravel()) if not changed[other]]
        assert whole[point] == max({whole[other] for other in near}, key=lambda cell: value[point, cell])


def test_masses_are_met_by_whole_cells(trenched):
    domain, seeds = trenched
    target = domain.mass.sum() * np.array([0.3, 0.25, 0.25, 0.2])
    _, found = fit_offsets(domain, seeds, np.zeros(4), target, whole=True)
    assert found.mass == pytest.approx(target, rel=2e-3)
    assert len(np.unique(vertex_pieces(domain.edges, found.label))) == 4
    moved, offsets = relax(domain, seeds, np.zeros(4), [target] * 6, fixed=np.zeros(4, dtype=bool), whole=True)
    assert len(np.unique(vertex_pieces(domain.edges, whole_cells(domain, moved, offsets)))) == 4


def test_forbidden_fragments_go_to_other_cells(trenched):
    domain, seeds = trenched
    label = nearest_cell(domain, seeds, np.zeros(4))
    repaired = forbid_fragments(domain, label)
    assert repaired is not None
    again = nearest_cell(repaired, seeds, np.zeros(4))
    assert len(np.unique(vertex_pieces(repaired.edges, again))) == 4
    assert forbid_fragments(repaired, again) is None
    assert domain.forbidden == ()

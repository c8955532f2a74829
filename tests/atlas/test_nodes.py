"""Layouts of balls, and parcels that curl up into them."""

import numpy as np
import pytest

from nmri3d.atlas.nodes import NODE_LAYOUTS, SMALLEST, ball_directions, node_layout
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.scene.mesh import split_along_borders
from tests.atlas.tables import Shape, table


def built(name, components, seed=0):
    return node_layout(name, components, Shape(components).layout_features(), seed)


@pytest.mark.parametrize("name", NODE_LAYOUTS)
@pytest.mark.parametrize("components", [table(30, 9), table(12, 12, bias=True), table(1, 2), table(28, 24)])
def test_every_component_with_a_place_has_a_ball_and_no_two_touch(name, components):
    nodes = built(name, components)
    placed = np.isfinite(nodes.radius)
    assert np.flatnonzero(placed).tolist() == sorted(components.cortical.tolist())
    assert np.isfinite(nodes.center[placed]).all()
    assert np.isnan(nodes.center[~placed]).all()
    center, radius = nodes.center[placed].astype(float), nodes.radius[placed].astype(float)
    gap = np.linalg.norm(center[:, None] - center, axis=-1) - radius[:, None] - radius
    np.fill_diagonal(gap, np.inf)
    assert gap.min() > 0
    assert np.ptp(center, axis=0).max() < 260
    assert np.allclose((center.min(axis=0) + center.max(axis=0)) / 2, 0, atol=1e-3)


@pytest.mark.parametrize("name", NODE_LAYOUTS)
def test_the_same_seed_gives_the_same_layout(name):
    components = table(6, 4)
    first, again = built(name, components), built(name, components)
    assert np.array_equal(first.center, again.center, equal_nan=True)
    if name == "network":
        assert not np.allclose(first.center, built(name, components, seed=1).center, equal_nan=True)


def test_the_stack_goes_down_and_the_rings_go_out_with_depth():
    components = table(10, 6)
    rows = np.concatenate([components.rows("head"), components.rows("mlp")])
    layer = components.layer[rows]
    stack, radial = built("stack", components).center, built("radial", components).center
    assert np.corrcoef(stack[rows, 2], layer)[0, 1] < -0.999
    assert stack[components.row("embed"), 2] > stack[rows, 2].max()
    assert stack[components.row("unembed"), 2] < stack[rows, 2].min()
    middle = radial[components.row("embed"), :2]
    out = np.linalg.norm(radial[rows, :2] - middle, axis=1)
    assert np.corrcoef(out**2, layer)[0, 1] > 0.999


def test_what_is_alike_lies_together_in_the_network():
    components = table(8, 8, mlp=False, embed=False)
    group = np.arange(len(components)) % 4
    features = np.eye(4)[group] + np.random.default_rng(0).normal(0, 0.01, (len(components), 4))
    center = node_layout("network", components, features).center
    distance = np.linalg.norm(center[:, None] - center, axis=-1)
    same = group[:, None] == group
    np.fill_diagonal(same, False)
    assert distance[same].mean() < 0.7 * distance[~same & ~np.eye(len(group), dtype=bool)].mean()


def test_larger_components_have_larger_balls_down_to_a_limit():
    components = table(6, 4)
    nodes = built("stack", components)
    radius, n_params = nodes.radius.astype(float), components.n_params.astype(float)
    heads = components.rows("head")
    assert radius.max() == radius[np.argmax(n_params)]
    assert (radius[heads] >= 0.5 * SMALLEST * radius.max()).all()


def test_unknown_names_and_empty_models_are_refused():
    with pytest.raises(InputError, match="stack, radial, network"):
        built("cube", table(2, 2))
    with pytest.raises(InputError, match="no component"):
        node_layout("stack", ComponentTable(["attn_bias"], [0], [-1], [3]), np.zeros((1, 2)))


def test_a_parcel_covers_its_whole_ball_once(default_atlas):
    atlas = default_atlas
    split = split_along_borders(atlas.faces, atlas.face_component)
    balls = ball_directions(atlas.surfaces["sphere"], atlas.n_left_vertices, split.vertex, split.component, split.faces)
    inside = split.component >= 0
    assert np.allclose(np.linalg.norm(balls[inside], axis=1), 1, atol=1e-5)
    assert (balls[~inside] == 0).all()
    corners = balls[split.faces[atlas.face_component >= 0]].astype(float)
    turned = np.einsum("fk,fk->f", np.cross(corners[:, 0], corners[:, 1]), corners[:, 2])
    row = atlas.face_component[atlas.face_component >= 0]
    # signed volume of the closed polyhedron: near that of the ball, so it is covered once, and seen from outside
    volume = np.bincount(row, turned / 6, len(atlas.components))[atlas.components.cortical]
    assert np.median(volume) > 0.7 * 4 / 3 * np.pi
    assert np.quantile(volume, 0.02) > 0.3 * 4 / 3 * np.pi  # beside the slits a parcel is no disk
    assert volume.max() < 1.001 * 4 / 3 * np.pi

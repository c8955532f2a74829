"""The cerebellum and the hippocampi: their shapes, and who lies on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.atlas import Atlas, cortex, label_volume
from nmri3d.atlas.blocks import best_cells, make_blocks
from nmri3d.atlas.bodies import BODIES, body
from nmri3d.atlas.nodes import NODE_LAYOUTS, node_layout
from nmri3d.atlas.structures import checked_structures, house
from nmri3d.atlas.volume import CORTEX, component_points
from nmri3d.atlas.voxels import inside_winding
from nmri3d.errors import InputError
from tests.atlas.naive import pieces_by_component
from tests.atlas.networks import brain_of_three, network


@pytest.fixture(scope="module")
def atlas():
    return Atlas.build(brain_of_three(), cache=False)


def edges_of(faces):
    pairs = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.unique(pairs, axis=0, return_counts=True)


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_one_closed_surface_of_a_ball_and_faces_outwards(name):
    shape = body(name)
    edges, count = edges_of(shape.faces)
    assert (count == 2).all()
    assert len(shape.points) - len(edges) + len(shape.faces) == 2  # Euler's number of a ball
    for points in (shape.points, shape.smooth):
        a, b, c = (points[shape.faces[:, corner]] for corner in range(3))
        assert np.einsum("fi,fi->", a, np.cross(b, c)) > 0
        assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 0
    assert shape.depth.min() >= 0


def test_the_cerebellum_has_its_size_lies_below_the_occipital_lobes_and_touches_no_cortex():
    points = body("cerebellum").points
    size = points.max(axis=0) - points.min(axis=0)
    assert np.all((size > (90, 45, 40)) & (size < (115, 65, 60)))  # mm; Schmahmann et al. 1999
    assert abs(points[:, 0].mean()) < 1
    low = np.array([-80, -115, -70])
    voxel = np.round(points - low).astype(int)
    for side in (cortex().left, cortex().right):
        inside = inside_winding(side.surfaces["pial"].astype(float) - low, side.faces, (165, 195, 155))
        assert not inside[tuple(voxel.T)].any()
        occipital = side.surfaces["pial"][:, 1] < -80
        assert points[:, 2].mean() < side.surfaces["pial"][occipital, 2].mean() - 15


def test_folia_run_across_and_not_along():
    """A step back to front over the surface changes the depth of a furrow more than a step sideways does."""
    shape = body("cerebellum")
    edges, _ = edges_of(shape.faces)
    way = np.abs(shape.smooth[edges[:, 0]] - shape.smooth[edges[:, 1]])
    change = np.abs(shape.depth[edges[:, 0]] - shape.depth[edges[:, 1]]) / np.linalg.norm(way, axis=1)
    behind = shape.smooth[edges].mean(axis=1)[:, 1] < -70
    sideways = way[:, 0] > 0.9 * np.linalg.norm(way, axis=1)
    assert np.median(change[behind & ~sideways]) > 1.5 * np.median(change[behind & sideways])


def test_the_hippocampi_mirror_each_other_inside_the_temporal_lobes():
    left, right = body("hippocampus left"), body("hippocampus right")
    assert np.allclose(left.points * (-1, 1, 1), right.points)
    size = right.points.max(axis=0) - right.points.min(axis=0)
    assert 38 < size[1] < 50
    for one, side in ((left, cortex().left), (right, cortex().right)):
        pial = side.surfaces["pial"]
        temporal = pial[(pial[:, 1] > -40) & (pial[:, 1] < 0) & (np.abs(pial[:, 0]) > 15)]
        assert np.abs(one.points[:, 0]).max() < np.abs(temporal[:, 0]).max() - 15
        assert one.points[:, 2].min() > temporal[:, 2].min() + 10


def test_each_component_has_one_connected_parcel_on_the_part_that_it_names(atlas):
    structures = np.array(brain_of_three().structures)
    pieces = pieces_by_component(atlas.faces, atlas.face_component)
    assert [pieces[row] for row in range(len(structures))] == [1] * len(structures)
    starts = [*(one.first_face for one in atlas.bodies), len(atlas.faces)]
    assert [one.name for one in atlas.bodies] == list(BODIES)
    on = {
        one.name: set(atlas.face_component[a:b].tolist())
        for one, a, b in zip(atlas.bodies, starts[:-1], starts[1:], strict=True)
    }
    assert (
        set().union(*on.values()) == set(np.flatnonzero(structures != "cortex").tolist()) == set(atlas.body_components)
    )
    assert on["cerebellum"] == set(np.flatnonzero(structures == "cerebellum").tolist())
    assert not on["hippocampus left"] & on["hippocampus right"]
    assert set(atlas.face_component[: starts[0]].tolist()) == {-1, *np.flatnonzero(structures == "cortex").tolist()}


def test_areas_on_a_body_follow_the_parameters(atlas):
    components = brain_of_three().components
    rows = np.flatnonzero(np.array(brain_of_three().structures) == "cerebellum")
    assert atlas.area[rows] == pytest.approx(atlas.target_area[rows], rel=0.02)
    share = atlas.area[rows] / atlas.area[rows].sum()
    assert share == pytest.approx(components.n_params[rows] / components.n_params[rows].sum(), rel=0.02)


def test_depth_runs_from_behind_to_the_front_on_each_part(atlas):
    centers, layer = atlas.centroids(), brain_of_three().components.layer
    structures = np.array(brain_of_three().structures)
    for name in ("cerebellum", "hippocampus"):
        rows = np.flatnonzero(structures == name)
        shallow, deep = (rows[layer[rows] == one] for one in (layer[rows].min(), layer[rows].max()))
        assert centers[deep, 1].mean() > centers[shallow, 1].mean() + 5


def test_bodies_stay_on_every_surface_but_the_flat_one(atlas):
    first = atlas.n_cortex_vertices
    for name in ("inflated", "white", "sphere"):
        assert np.array_equal(atlas.surfaces[name][first:], atlas.surfaces["pial"][first:])
    beside = atlas.surfaces["flat"][first:]
    flat = atlas.surfaces["flat"][
        np.unique(atlas.faces[: atlas.n_cortex_faces][atlas.face_component[: atlas.n_cortex_faces] >= 0])
    ]
    assert beside[:, 2].min() > 0
    assert flat[:, :2].min() < beside[:, :2].min()
    assert flat[:, 0].max() > beside[:, 0].max()


def test_parts_that_nobody_names_are_not_there_and_an_empty_hemisphere_is_bare():
    atlas = Atlas.build(network(("router", 0, 10, 50, "left"), ("module", 1, 10, 90, "left")), cache=False)
    assert atlas.bodies == ()
    assert atlas.n_cortex_faces == len(atlas.faces)
    assert (atlas.face_component[atlas.n_left_faces :] == -1).all()
    assert set(atlas.face_component[: atlas.n_left_faces].tolist()) == set(range(-1, 20))


def test_one_component_of_the_hippocampus_lies_on_the_left_one_alone():
    found = house_of(network(("memory", 0, 1, 5, "hippocampus"), ("unit", 0, 4, 5, "cortex")))
    assert set(found.bodies) == {"hippocampus left"}


def house_of(net, area="parameters"):
    structures = checked_structures(net.components, net.structures)
    return house(net.components, structures, net.layout_features(), area)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(-1, 5),
            st.integers(1, 9),
            st.integers(0, 500),
            st.sampled_from(("cortex", "left", "hippocampus")),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(("parameters", "equal")),
)
def test_everyone_is_housed_once_and_free_ones_even_out(groups, area):
    net = network(*((f"kind_{at}", *group) for at, group in enumerate(groups)), ("unit", 0, 4, 10, "cortex"))
    if set(net.structures) == {"cortex", "left"} and "left" not in net.structures:
        return
    found = house_of(net, area)
    rows = np.concatenate([found.left, found.right, *found.bodies.values()])
    assert sorted(rows.tolist()) == list(range(len(net.components)))
    structures = np.array(net.structures)
    assert not (structures[found.right] == "left").any()
    weight = net.components.n_params if area == "parameters" else np.ones(len(rows))
    free = structures == "cortex"
    bound = weight[structures == "left"].sum()
    # No cleverer sharing evens out more than the largest component, or what is bound to the left already.
    gap = abs(weight[found.left].sum() - weight[found.right].sum())
    n_depths = len(np.unique(net.components.layer[free]))
    assert gap <= max(weight[free].max() * (n_depths + 1), bound)


@pytest.mark.parametrize("layout", ["umap", "spectral"])
def test_a_layout_of_one_sphere_refuses_other_parts_in_words(layout):
    with pytest.raises(InputError, match="cerebellum, hippocampus; use the anatomical layout"):
        Atlas.build(brain_of_three(), layout, cache=False)


def test_unknown_parts_are_refused_in_words():
    with pytest.raises(InputError, match="'spleen'"):
        Atlas.build(network(("unit", 0, 4, 1, "spleen")), cache=False)


def test_the_atlas_is_kept_whole_with_its_bodies(atlas, tmp_path):
    again = Atlas.load(atlas.save(tmp_path / "brain.npz"))
    assert again.bodies == atlas.bodies
    assert np.array_equal(again.body_inner, atlas.body_inner)
    assert np.array_equal(again.face_side, atlas.face_side)


def test_voxels_of_bodies_lie_in_them_and_no_other_voxel_does(atlas):
    volume = label_volume(atlas, 2.0, cache=False)
    rows = set(np.unique(volume.labels).tolist()) - {-1}
    assert rows == set(range(len(atlas.components)))
    starts = [*(one.first_face for one in atlas.bodies), len(atlas.faces)]
    for one, first, after in zip(atlas.bodies, starts[:-1], starts[1:], strict=True):
        shape = body(one.name)
        inside = inside_winding((shape.points - volume.affine[:3, 3]) / 2.0, shape.faces, volume.shape)
        own = np.isin(volume.labels, np.unique(atlas.face_component[first:after]))
        assert (volume.tissue[own] == CORTEX).all()
        gray = inside & (volume.tissue == CORTEX)
        assert own[gray].mean() > 0.95
        assert gray.sum() > (0.9 if "hippocampus" in one.name else 0.5) * inside.sum()
    points = component_points(atlas)
    assert (volume.component_at(points) == np.arange(len(points))).mean() > 0.8


@pytest.mark.parametrize("name", NODE_LAYOUTS)
def test_no_two_balls_of_any_kind_touch(name):
    net = brain_of_three()
    nodes = node_layout(name, net.components, net.layout_features())
    assert np.isfinite(nodes.radius).all()
    distance = np.linalg.norm(nodes.center[:, None] - nodes.center, axis=-1) + 1e9 * np.eye(len(nodes.radius))
    assert (distance >= nodes.radius[:, None] + nodes.radius).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 600), st.sampled_from((0.0, 1e-3, 0.3)))
def test_cells_by_blocks_are_those_by_comparing_all(seed, n_cells, spread):
    random = np.random.default_rng(seed)
    points, seeds = random.normal(size=(2500, 3)), random.normal(size=(n_cells, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    offsets = spread * random.normal(size=n_cells)
    value = points @ seeds.T + offsets
    found = best_cells(make_blocks(points), len(points), seeds, offsets)
    assert value[np.arange(len(points)), found] == pytest.approx(value.max(axis=1), abs=1e-12)

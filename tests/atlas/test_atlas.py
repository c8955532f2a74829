"""What holds for every atlas: coverage, areas, connectivity, watertightness, order; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from nmri3d.atlas import Atlas, cortex
from nmri3d.atlas.cutting import CLEARANCE, triangle_areas
from nmri3d.atlas.quality import neighborhood_preservation, sphere_centers
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from tests.atlas.naive import area_by_component, edge_uses, pieces_by_component
from tests.atlas.tables import Shape, table


def test_every_component_with_a_place_has_one_connected_parcel_of_its_area(any_atlas):
    atlas = any_atlas
    placed = atlas.components.cortical
    area = area_by_component(atlas.vertices, atlas.faces, atlas.face_component)
    pieces = pieces_by_component(atlas.faces, atlas.face_component)
    assert sorted(component for component in area if component >= 0) == placed.tolist()
    for row in placed.tolist():
        assert pieces[row] == 1, atlas.components.ids[row]
        assert area[row] == pytest.approx(atlas.target_area[row], rel=0.002), atlas.components.ids[row]
        assert area[row] == pytest.approx(atlas.area[row], rel=1e-4)
    without = np.setdiff1d(np.arange(len(atlas.components)), placed)
    assert not atlas.target_area[without].any()
    assert not atlas.area[without].any()


@pytest.mark.parametrize("name", ["smollm2 30x9", "finer mesh"])
def test_the_medial_wall_is_one_patch_a_hemisphere_and_nothing_else_is_bare(atlases, name):
    atlas = atlases(name)
    for faces in (slice(None, atlas.n_left_faces), slice(atlas.n_left_faces, None)):
        bare = atlas.face_component[faces] < 0
        assert pieces_by_component(atlas.faces[faces], -1 * bare)[-1] == 1
        area = triangle_areas(atlas.vertices, atlas.faces[faces])
        assert 0.02 < area[bare].sum() / area.sum() < 0.12


def test_the_cut_mesh_is_closed_and_keeps_the_surface(any_atlas):
    atlas = any_atlas
    uses = edge_uses(atlas.faces)
    assert set(uses.values()) == {1}, "a directed edge occurs twice"
    assert all((b, a) in uses for a, b in uses), "an edge has one face only"
    n_vertices, n_edges, n_faces = len(atlas.vertices), len(uses) // 2, len(atlas.faces)
    assert n_vertices - n_edges + n_faces == 4, "two closed surfaces without handles"
    assert np.array_equal(np.unique(atlas.faces), np.arange(n_vertices)), "a vertex belongs to no face"
    assert (atlas.faces[: atlas.n_left_faces] < atlas.n_left_vertices).all()
    assert (atlas.faces[atlas.n_left_faces :] >= atlas.n_left_vertices).all()


def test_cutting_moves_nothing(default_atlas):
    whole = cortex("fsaverage5")
    first = {"left": 0, "right": default_atlas.n_left_vertices}
    for side, start in first.items():
        hemisphere = getattr(whole, side)
        n = len(hemisphere.sulcal_depth)
        for name, points in default_atlas.surfaces.items():
            assert np.array_equal(points[start : start + n], hemisphere.surfaces[name])
        assert np.array_equal(default_atlas.sulcal_depth[start : start + n], hemisphere.sulcal_depth)
        assert np.array_equal(default_atlas.curvature[start : start + n], hemisphere.curvature)
    for name in default_atlas.surfaces:
        cut = triangle_areas(default_atlas.surfaces[name], default_atlas.faces).sum()
        uncut = sum(triangle_areas(half.surfaces[name], half.faces).sum() for half in (whole.left, whole.right))
        assert cut == pytest.approx(uncut, rel=1e-4)


def test_no_face_is_without_area(any_atlas):
    uncut = 4 * np.pi * 100**2 / 20_480 / (4 if any_atlas.n_left_vertices > 40_000 else 1)
    area = triangle_areas(any_atlas.surfaces["sphere"], any_atlas.faces)
    # Where a border meets that of the medial wall, a face may have been cut twice in its corner.
    assert area.min() > 0.5 * CLEARANCE**4 * uncut
    assert np.quantile(area, 0.01) > CLEARANCE**2 * uncut
    assert triangle_areas(any_atlas.vertices, any_atlas.faces).min() > 0


def test_areas_are_shares_of_the_hemisphere(any_atlas):
    area = triangle_areas(any_atlas.vertices, any_atlas.faces)
    parts = (slice(None, any_atlas.n_left_faces), slice(any_atlas.n_left_faces, None))
    rows = [np.unique(any_atlas.face_component[part]) for part in parts]
    assert not (set(rows[0]) & set(rows[1])) - {-1}, "a parcel lies on both hemispheres"
    for part, mine in zip(parts, rows, strict=True):
        covered = area[part][any_atlas.face_component[part] >= 0].sum()
        assert any_atlas.target_area[mine[mine >= 0]].sum() == pytest.approx(covered, rel=1e-4)


def test_default_model_meets_the_targets_of_quality(default_atlas):
    quality = default_atlas.quality
    assert quality["area_error_max"] < 0.01
    assert quality["connected_share"] == 1
    assert quality["n_missing"] == 0
    assert quality["n_parcels"] == 302
    assert quality["faces_min"] >= 20
    assert quality["isoperimetric_median"] >= 0.8
    assert quality["isoperimetric_min"] >= 0.25  # beside the slits of the flat surface
    for side in ("", "_left", "_right"):
        assert quality[f"depth_spearman{side}"] >= 0.95
    assert abs(quality["depth_spearman_random"]) < 0.2
    assert quality["trustworthiness"] > quality["trustworthiness_random"] + 0.1
    assert quality["knn_overlap"] > quality["knn_overlap_random"] + 0.1
    assert abs(quality["knn_overlap_random"]) < 0.08


def test_round_parcels_whatever_the_sizes(any_atlas):
    # The slits of the flat surface count as borders, which with a handful of parcels is most of what there is.
    assert any_atlas.quality["isoperimetric_median"] >= (0.5 if any_atlas.quality["n_parcels"] > 10 else 0.4)
    assert any_atlas.quality["border_roughness"] <= 1.05
    assert any_atlas.quality["faces_min"] >= 20


def test_heads_left_mlps_right_embedding_behind_unembedding_in_front(default_atlas):
    atlas = default_atlas
    left = set(np.unique(atlas.face_component[: atlas.n_left_faces])) - {-1}
    assert left == set(atlas.components.rows("head").tolist())
    y = atlas.centroids("pial")[:, 1]
    mlps = y[atlas.components.rows("mlp")]
    assert y[atlas.components.row("embed")] < mlps.min()
    assert y[atlas.components.row("unembed")] > mlps.max()
    right = np.concatenate([atlas.components.rows("mlp"), atlas.components.rows("unembed")])
    hemisphere = atlas.target_area[right].sum() + atlas.target_area[atlas.components.row("embed")]
    assert atlas.target_area[atlas.components.row("embed")] == pytest.approx(0.04 * hemisphere)
    assert (atlas.surfaces["pial"][: atlas.n_left_vertices, 0].mean()) < 0


def test_hemispheres_do_not_touch_when_inflated(default_atlas):
    for name in ("inflated", "sphere"):
        x = default_atlas.surfaces[name][:, 0]
        assert x[default_atlas.n_left_vertices :].min() - x[: default_atlas.n_left_vertices].max() > 5


def test_similar_heads_lie_together_and_shuffled_features_do_not():
    """The same features on shuffled rows must lose what the order had, and change the atlas."""
    components = table(8, 8)

    class Shuffled(Shape):
        def layout_features(self):
            features = super().layout_features()
            return features[np.random.default_rng(5).permutation(len(features))]

    honest, shuffled = Atlas.build(Shape(components), cache=False), Atlas.build(Shuffled(components), cache=False)
    assert not np.array_equal(honest.face_component, shuffled.face_component)
    features = Shape(components).layout_features().astype(float)
    rows = components.cortical
    on_left = np.isin(rows, components.rows("head"))
    found = []
    for atlas in (honest, shuffled):
        direction = atlas.surfaces["sphere"].astype(float)
        for part in (slice(None, atlas.n_left_vertices), slice(atlas.n_left_vertices, None)):
            direction[part] -= (direction[part].min(axis=0) + direction[part].max(axis=0)) / 2
        centers = sphere_centers(direction / 100, atlas.faces, atlas.face_component, len(components))[rows]
        found.append(neighborhood_preservation(features[rows], centers, on_left, np.arange(len(rows)))[1])
    assert found[0] == pytest.approx(honest.quality["knn_overlap"], abs=0.02)
    assert found[0] > found[1] + 0.1


def test_same_input_same_atlas():
    first, second = (Atlas.build(Shape(table(4, 4)), cache=False) for _ in range(2))
    assert np.array_equal(first.faces, second.faces)
    assert np.array_equal(first.face_component, second.face_component)
    assert np.array_equal(first.vertices, second.vertices)
    assert first.quality == second.quality


def test_equal_area_differs_from_parameters():
    components = table(4, 4, n_params=np.arange(1, 23) * 1000)
    by_size = Atlas.build(Shape(components), cache=False)
    equal = Atlas.build(Shape(components), area="equal", cache=False)
    heads = components.rows("head")
    assert np.ptp(equal.area[heads]) < 0.01 * equal.area[heads].mean()
    share = components.n_params[heads] / components.n_params[heads].sum()
    assert np.allclose(by_size.area[heads] / by_size.area[heads].sum(), share, rtol=0.02)


def test_auto_takes_a_finer_mesh_for_many_components():
    atlas = Atlas.build(Shape(table(10, 64)), cache=False)
    assert len(atlas.vertices) > 2 * 40_962
    assert atlas.quality["faces_min"] >= 20
    assert atlas.quality["connected_share"] == 1
    assert atlas.quality["area_error_max"] < 0.01


def test_borders_and_neighbors_agree_with_a_plain_search(atlases):
    atlas = atlases("two layers")
    owners: dict[tuple[int, int], list[int]] = {}
    for face, component in zip(atlas.faces.tolist(), atlas.face_component.tolist(), strict=True):
        for k in range(3):
            a, b = face[k], face[(k + 1) % 3]
            owners.setdefault((min(a, b), max(a, b)), []).append(component)
    borders = {edge: tuple(sorted(pair)) for edge, pair in owners.items() if pair[0] != pair[1]}
    assert {tuple(sorted(edge)) for edge in atlas.border_edges().tolist()} == set(borders)
    assert {tuple(pair) for pair in atlas.neighbors().tolist()} == {p for p in borders.values() if p[0] >= 0}
    row = atlas.components.row("blocks.0.mlp")
    mine = {edge for edge, pair in borders.items() if row in pair}
    assert {tuple(sorted(edge)) for edge in atlas.border_edges(row).tolist()} == mine


def test_center_vertex_lies_inside_its_parcel(any_atlas):
    atlas = any_atlas
    for row in range(len(atlas.components)):
        vertex = atlas.center_vertex[row]
        around = set(atlas.face_component[(atlas.faces == vertex).any(axis=1)].tolist())
        assert around == {row} if row in atlas.components.cortical else vertex == -1


def test_centroid_is_the_mean_of_the_parcel(atlases):
    atlas = atlases("two layers")
    centroids = atlas.centroids("inflated")
    for row in range(len(atlas.components)):
        points = atlas.surfaces["inflated"][atlas.faces[atlas.face_component == row]].astype(float)
        area = np.linalg.norm(np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]), axis=1)
        assert centroids[row] == pytest.approx((points.mean(axis=1) * area[:, None]).sum(axis=0) / area.sum(), abs=1e-2)


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [("layout", "umbrella", "anatomical"), ("area", "weight", "equal"), ("resolution", "fsaverage4", "fsaverage6")],
)
def test_unknown_names_are_refused_with_the_known_ones(option, value, known):
    with pytest.raises(InputError, match=f"{value}.*{known}"):
        Atlas.build(Shape(table(2, 2)), cache=False, **{option: value})


def test_too_many_components_for_a_mesh_name_the_mesh_that_would_do():
    with pytest.raises(InputError, match=r"fsaverage5 .* use fsaverage6"):
        Atlas.build(Shape(table(40, 40)), resolution="fsaverage5", cache=False)


@pytest.mark.parametrize("components", [table(0, 0), table(1, 1, mlp=False, embed=False)])
def test_too_few_components_are_refused(components):
    with pytest.raises(InputError, match="both hemispheres"):
        Atlas.build(Shape(components), cache=False)


@pytest.mark.parametrize("broken", ["rows", "nan", "flat"])
def test_features_that_do_not_fit_are_refused(broken):
    class Broken(Shape):
        def layout_features(self):
            features = super().layout_features()
            if broken == "nan":
                features[0, 0] = np.nan
            return {"rows": features[:-1], "nan": features, "flat": features[:, 0]}[broken]

    with pytest.raises(InputError, match="layout features"):
        Atlas.build(Broken(table(2, 2)), cache=False)


@pytest.mark.parametrize("call", ["centroids", "border_edges"])
def test_unknown_surface_and_row_are_refused(atlases, call):
    atlas = atlases("two layers")
    with pytest.raises(InputError, match=r"known are|not in the table"):
        atlas.centroids("round") if call == "centroids" else atlas.border_edges(len(atlas.components))


def test_a_model_without_parameter_counts_gets_equal_parcels():
    counted = table(3, 3)
    components = ComponentTable(counted.kind, counted.layer, counted.index, 0 * counted.n_params)
    atlas = Atlas.build(Shape(components), cache=False)
    heads = components.rows("head")
    assert np.ptp(atlas.area[heads]) < 0.01 * atlas.area[heads].mean()

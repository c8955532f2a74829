"""The layouts by one embedding, umap and spectral: what holds for every one, and what the features decide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from nmri3d.atlas import Atlas, describe, spatial_clustering
from nmri3d.atlas.parcels import _features
from nmri3d.atlas.plan import make_plan
from nmri3d.atlas.structures import checked_structures
from nmri3d.components import ComponentTable
from nmri3d.errors import Cancelled, InputError
from tests.atlas.naive import area_by_component, pieces_by_component
from tests.atlas.tables import Shape, table, uneven

CASES = {
    ("umap", "12 x 12"): (table(12, 12), {}),
    ("spectral", "12 x 12"): (table(12, 12), {}),
    ("umap", "sizes differ 20-fold, biases"): (uneven(table(8, 8, bias=True), 20.0), {}),
    ("spectral", "sizes differ 1000-fold"): (uneven(table(8, 6), 1000.0, seed=1), {}),
    ("umap", "two layers"): (table(2, 2), {}),
    ("spectral", "no embedding, equal"): (table(6, 4, embed=False), {"area": "equal"}),
    ("umap", "no heads"): (table(10, 0), {}),
}


@pytest.fixture(scope="module")
def laid_out():
    built: dict[tuple[str, str], Atlas] = {}

    def get(case):
        if case not in built:
            components, options = CASES[case]
            built[case] = Atlas.build(Shape(components), case[0], cache=False, **options)
        return built[case]

    return get


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case))
def test_every_component_has_one_connected_parcel_of_its_area(laid_out, case):
    atlas = laid_out(case)
    area = area_by_component(atlas.vertices, atlas.faces, atlas.face_component)
    pieces = pieces_by_component(atlas.faces, atlas.face_component)
    assert sorted(row for row in area if row >= 0) == atlas.components.cortical.tolist()
    for row in atlas.components.cortical.tolist():
        assert pieces[row] == 1, atlas.components.ids[row]
        assert area[row] == pytest.approx(atlas.target_area[row], rel=0.01), atlas.components.ids[row]
    assert atlas.quality["border_roughness"] < 1.15
    assert atlas.layout == case[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case))
def test_hemispheres_share_the_components_by_area(laid_out, case):
    atlas = laid_out(case)
    components = atlas.components
    left = set(np.unique(atlas.face_component[: atlas.n_left_faces])) - {-1}
    right = set(np.unique(atlas.face_component[atlas.n_left_faces :])) - {-1}
    assert left
    assert right
    assert not left & right
    poles = {*components.rows("embed").tolist(), *components.rows("unembed").tolist()}
    assert poles <= right
    hemisphere = sum(atlas.target_area[row] for row in right)
    for row in poles:
        assert atlas.target_area[row] == pytest.approx(0.04 * hemisphere)
    inner = [row for row in components.cortical.tolist() if row not in poles]
    weight = dict.fromkeys(inner, 1.0)
    if CASES[case][1].get("area") != "equal":
        weight = {row: float(components.n_params[row]) for row in inner}
    share = sum(weight[row] for row in left) / sum(weight.values())
    assert share == pytest.approx(1 / (2 - 0.04 * len(poles)), abs=max(weight.values()) / sum(weight.values()))


@pytest.mark.parametrize("layout", ["umap", "spectral"])
def test_neighborhoods_of_features_survive(laid_out, layout):
    quality = laid_out((layout, "12 x 12")).quality
    assert quality["trustworthiness"] > quality["trustworthiness_random"] + 0.3
    assert quality["knn_share"] > 5 * quality["knn_share_random"]
    assert abs(quality["trustworthiness_random"] - 0.5) < 0.05
    corrected = (quality["trustworthiness"] - 0.5) / (quality["trustworthiness_embedding"] - 0.5)
    assert quality["trustworthiness_corrected"] == pytest.approx(corrected)
    assert quality["isoperimetric_median"] >= 0.5


def test_features_decide_who_lies_with_whom():
    """Two groups that only given features tell apart end on different sides of the brain."""
    components = table(8, 6)
    group = np.random.default_rng(0).integers(0, 2, len(components))
    features = np.random.default_rng(1).normal(scale=0.2, size=(len(components), 5))
    features[:, 0] += 4 * group
    atlas = Atlas.build(Shape(components), "spectral", area="equal", features=features, cache=False)
    left = np.isin(components.cortical, atlas.face_component[: atlas.n_left_faces])
    heads = np.isin(components.cortical, components.rows("head"))
    side = left[heads]
    agreement = (side == group[components.cortical][heads]).mean()
    assert max(agreement, 1 - agreement) > 0.85


def test_activity_by_which_it_was_laid_out_is_clustered_and_shuffled_activity_is_not():
    components = table(10, 8)
    random = np.random.default_rng(0)
    loading = random.normal(size=(4, len(components)))
    seen, unseen = (
        random.normal(size=(400, 4)) @ loading + 0.7 * random.normal(size=(400, len(components))) for _ in range(2)
    )
    features = ((seen - seen.mean(axis=0)) / seen.std(axis=0)).T / 20
    atlas = Atlas.build(Shape(components), "umap", features=features, cache=False)
    assert spatial_clustering(atlas, unseen).z > 3
    shuffled = unseen[:, random.permutation(len(components))]
    assert abs(spatial_clustering(atlas, shuffled).z) < 4
    assert spatial_clustering(atlas, shuffled).index < 0.5 * spatial_clustering(atlas, unseen).index


@pytest.mark.parametrize("layout", ["umap", "spectral"])
def test_same_input_same_atlas(layout):
    first, second = (Atlas.build(Shape(table(4, 6)), layout, cache=False) for _ in range(2))
    assert np.array_equal(first.face_component, second.face_component)
    assert np.array_equal(first.vertices, second.vertices)
    assert first.quality == second.quality


def test_umap_changes_with_its_seed_and_its_features():
    built = [
        Atlas.build(Shape(table(4, 6)), "umap", cache=False),
        Atlas.build(Shape(table(4, 6)), "umap", seed=1, cache=False),
        Atlas.build(Shape(table(4, 6), seed=3), "umap", cache=False),
    ]
    neighbors = [{tuple(pair) for pair in atlas.neighbors().tolist()} for atlas in built]
    assert neighbors[0] != neighbors[1]
    assert neighbors[0] != neighbors[2]


def test_a_plan_keeps_the_embedding_and_anatomical_has_none():
    components = table(4, 4, bias=True)
    features = Shape(components).layout_features()
    cortex = checked_structures(components, None)
    plan = make_plan("umap", components, cortex, features, "equal", 0, lambda share, what: None)
    assert plan.points is not None
    assert np.array_equal(np.flatnonzero(np.isfinite(plan.points).all(axis=1)), components.cortical)
    assert make_plan("anatomical", components, cortex, features, "equal", 0, lambda share, what: None).points is None


@dataclass(frozen=True)
class TwoKindsOfFeatures(Shape):
    """A model that compares across kinds by other features."""

    def circuit_features(self, progress):
        progress(0.5, "comparing")
        return np.arange(len(self.components) * 2, dtype=np.float32).reshape(-1, 2)


def test_features_across_kinds_are_used_where_kinds_are_compared():
    model = TwoKindsOfFeatures(table(2, 2))
    quiet = lambda share, what: None  # noqa: E731
    assert np.array_equal(_features(model, "umap", None, quiet), model.circuit_features(quiet))
    assert np.array_equal(_features(model, "anatomical", None, quiet), model.layout_features())
    given = np.ones((len(model.components), 3))
    assert np.array_equal(_features(model, "umap", given, quiet), given)


def test_progress_rises_to_the_end_and_may_withdraw(tmp_path, monkeypatch):
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path))
    told = []
    Atlas.build(TwoKindsOfFeatures(table(2, 2)), "umap", progress=lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len({what for _, what in told}) > 3

    def withdraw(share, what):
        if share > 0.7:
            raise Cancelled("no more")

    with pytest.raises(Cancelled):
        Atlas.build(TwoKindsOfFeatures(table(2, 2)), "umap", seed=5, progress=withdraw)
    assert len(list((tmp_path / "atlas").iterdir())) == 1


def test_given_features_are_in_the_key_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path))
    model = Shape(table(2, 2))
    given = np.random.default_rng(0).normal(size=(len(model.components), 4))
    for features in (None, given, given + 1e-3 * np.eye(len(given), 4), given):
        Atlas.build(model, features=features)
    assert len(list((tmp_path / "atlas").iterdir())) == 3


@pytest.mark.parametrize(
    "features", [np.ones((3, 2)), np.full((8, 2), np.nan), np.ones(8)], ids=["rows", "nan", "flat"]
)
def test_given_features_that_do_not_fit_are_refused(features):
    with pytest.raises(InputError, match="layout features"):
        Atlas.build(Shape(table(2, 2)), "umap", features=features, cache=False)


@pytest.mark.parametrize("layout", ["umap", "spectral"])
def test_too_few_components_are_refused_and_the_fewest_are_not(layout):
    for components in (table(0, 0), table(1, 1, mlp=False, embed=False)):
        with pytest.raises(InputError, match="both hemispheres"):
            Atlas.build(Shape(components), layout, cache=False)
    assert Atlas.build(Shape(table(1, 1, embed=False)), layout, cache=False).quality["n_parcels"] == 2


def test_a_model_without_parameter_counts_gets_equal_parcels():
    counted = table(3, 3)
    components = ComponentTable(counted.kind, counted.layer, counted.index, 0 * counted.n_params)
    atlas = Atlas.build(Shape(components), "umap", cache=False)
    for side in (slice(None, atlas.n_left_faces), slice(atlas.n_left_faces, None)):
        heads = np.intersect1d(components.rows("head"), atlas.face_component[side])
        assert np.ptp(atlas.area[heads]) < 0.01 * atlas.area[heads].mean()


def test_rows_for_people_name_value_baseline_and_meaning(laid_out):
    atlas = laid_out(("umap", "12 x 12"))
    values = np.random.default_rng(0).normal(size=(3, len(atlas.components)))
    rows = {row.name: row for row in describe(atlas.quality, spatial_clustering(atlas, values))}
    assert rows["trustworthiness"].value == f"{atlas.quality['trustworthiness']:.3f}"
    assert rows["trustworthiness"].baseline == f"{atlas.quality['trustworthiness_random']:.3f}"
    assert rows["area_error_max"].baseline == ""
    assert "z = " in rows["morans_i"].value
    assert all(row.label and row.meaning.endswith(".") for row in rows.values())
    assert "morans_i" not in {row.name for row in describe(atlas.quality)}
    assert not describe({"trustworthiness": float("nan")})

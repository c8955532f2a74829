"""The neuron atlas: cells of equal size, each in one piece and round, the similar side by side, kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.atlas import Atlas
from nmri3d.atlas import neurons as neurons_module
from nmri3d.atlas.neuron_cells import equal_cells, make_connected, neighbor_pairs, pieces_of
from nmri3d.atlas.neuron_charts import filled, make_chart, pack, rasterize, sphere_directions
from nmri3d.atlas.neuron_places import place_neurons
from nmri3d.atlas.neurons import NeuronAtlas, parcels_of
from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError, InputError
from tests.scene.small_atlas import small_atlas

PER_MLP = 60


def neuron_table(layers: tuple[int, ...] = (0, 1), per_mlp: int = PER_MLP) -> ComponentTable:
    n = len(layers) * per_mlp
    return ComponentTable(
        kind=np.full(n, "neuron"),
        layer=np.repeat(layers, per_mlp),
        index=np.tile(np.arange(per_mlp), len(layers)),
        n_params=np.full(n, 3),
    )


def features_of(layer: int) -> np.ndarray:
    return np.random.default_rng(layer).standard_normal((PER_MLP, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return small_atlas()


@pytest.fixture(scope="module")
def neurons(atlas) -> NeuronAtlas:
    return NeuronAtlas.build(atlas, neuron_table(), features_of, cache=False)


# -- cells -------------------------------------------------------------------------------------------------------------


def blob(height: int = 70, width: int = 90) -> np.ndarray:
    """An oval with a deep, narrow notch, as a parcel beside a slit of the flat surface has."""
    row, column = np.mgrid[:height, :width]
    region = ((row - height / 2) / (height / 2 - 2)) ** 2 + ((column - width / 2) / (width / 2 - 2)) ** 2 < 1
    region &= ~((row < height / 2) & (abs(column - width / 2) < 2))
    return region


def moment_ratio(cell: np.ndarray, n: int) -> np.ndarray:
    """Second moment of each cell over that of a disc of its area: 1 for a disc, 1.047 for a square, 1.31 for 2 : 1."""
    row, column = np.nonzero(cell >= 0)
    own = cell[row, column]
    count = np.bincount(own, minlength=n)
    middle = [np.bincount(own, axis, n) / count for axis in (row, column)]
    moment = np.bincount(own, (row - middle[0][own]) ** 2 + (column - middle[1][own]) ** 2, n) / count + 1 / 6
    return moment * 2 * np.pi / count


@pytest.mark.parametrize("n", [1, 2, 37, 160])
def test_cells_are_equal_connected_and_cover_the_region(n):
    region = blob()
    cell = equal_cells(region, n)
    assert ((cell >= 0) == region).all()
    sizes = np.bincount(cell[region], minlength=n)
    assert sizes.max() - sizes.min() <= 1
    assert pieces_of(cell)[1] == n


def test_cells_are_round():
    cell = equal_cells(blob(), 160)
    ratio = moment_ratio(cell, 160)
    assert np.median(ratio) < 1.15
    assert np.percentile(ratio, 95) < 1.35


def test_cells_are_the_same_for_the_same_seed():
    region = blob()
    assert (equal_cells(region, 60, seed=3) == equal_cells(region, 60, seed=3)).all()
    assert (equal_cells(region, 60, seed=3) != equal_cells(region, 60, seed=4)).any()


def test_more_cells_than_texels_are_refused():
    with pytest.raises(InputError, match="4 texels cannot be divided among 5"):
        equal_cells(np.ones((2, 2), dtype=bool), 5)


def test_a_cell_that_is_torn_apart_is_made_whole_and_keeps_its_size():
    cell = np.repeat(np.arange(4), 9).reshape(4, 9).astype(np.int32)  # four rows
    cell[0, 8], cell[3, 8] = 3, 0  # rows 0 and 3 trade their last texels: both are in two pieces
    whole = make_connected(cell, 4)
    assert pieces_of(whole)[1] == 4
    assert (np.bincount(whole.ravel()) == 9).all()


def test_neighbors_touch():
    cell = np.array([[0, 0, 1], [2, -1, 1]])
    assert neighbor_pairs(cell).tolist() == [[0, 1], [0, 2]]


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 14), st.integers(3, 14), st.data())
def test_any_rectangle_divides_evenly(height, width, data):
    n = data.draw(st.integers(1, height * width // 4 + 1))
    cell = equal_cells(np.ones((height, width), dtype=bool), n)
    sizes = np.bincount(cell.ravel(), minlength=n)
    assert sizes.sum() == height * width
    assert sizes.min() >= 1
    assert pieces_of(cell)[1] == n


# -- charts ------------------------------------------------------------------------------------------------------------


def test_a_triangle_fills_the_texels_whose_centers_it_holds():
    triangle, weights = rasterize(np.array([[[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]]), (4, 5))
    inside = triangle >= 0
    row, column = np.nonzero(inside)
    assert inside.sum() == 10
    assert ((column + 0.5) + (row + 0.5) <= 4).all()
    # barycentric coordinates give the place back
    corners = np.array([[0, 0], [4, 0], [0, 4]])
    place = weights[row, column] @ corners
    assert np.allclose(place, np.column_stack([column, row]) + 0.5)


def test_the_projection_keeps_areas(atlas):
    sphere = atlas.surfaces["sphere"][atlas.n_left_vertices :]
    faces = atlas.faces[atlas.face_component == 9] - atlas.n_left_vertices
    directions = sphere_directions(sphere)
    assert np.allclose(np.linalg.norm(directions, axis=1), 1)
    chart = make_chart(directions, faces, 50, 40.0)
    a, b, c = (chart.points[chart.faces[:, corner]] for corner in range(3))
    on_chart = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    a, b, c = (directions[faces[:, corner]] for corner in range(3))
    on_sphere = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    ratio = on_chart / on_sphere
    assert ratio.std() / ratio.mean() < 0.02  # flat triangles against the sphere that they stand for
    assert chart.region.sum() == pytest.approx(50 * 40, rel=0.02)


def test_the_middle_of_a_shifted_sphere_is_found():
    points = np.random.default_rng(0).standard_normal((200, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert np.allclose(sphere_directions(100 * points + [30, -5, 7]), points, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=20))
def test_packed_rectangles_do_not_overlap(shapes):
    corners, (height, width) = pack(shapes)
    taken = np.zeros((height, width), dtype=int)
    for (row, column), (h, w) in zip(corners, shapes, strict=True):
        taken[row : row + h, column : column + w] += 1
    assert taken.max() == 1
    assert taken.sum() == sum(h * w for h, w in shapes)


def test_charts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="do not fit in a picture of 4096"):
        pack([(3000, 3000)] * 3)


def test_the_margin_takes_the_nearest_value():
    image = np.array([[7, -1, -1, -1]])
    assert filled(image, image < 0, reach=2).tolist() == [[7, 7, 7, -1]]


# -- places ------------------------------------------------------------------------------------------------------------


def neighbors_alike(places: np.ndarray, features: np.ndarray) -> float:
    """Mean cosine of neurons and the four nearest to them."""
    from scipy.spatial import cKDTree

    near = cKDTree(places).query(places, 5)[1][:, 1:]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return float(np.einsum("nk,nmk->nm", unit, unit[near]).mean())


def test_similar_neurons_lie_side_by_side():
    generator = np.random.default_rng(0)
    places = np.argwhere(np.ones((20, 20))).astype(np.float32)
    group = generator.permutation(np.repeat(np.arange(8), 50))
    features = np.eye(8, dtype=np.float32)[group] + 0.2 * generator.standard_normal((400, 8)).astype(np.float32)
    at = place_neurons(places, features)
    assert sorted(at.tolist()) == list(range(400))
    assert neighbors_alike(places, features[at]) > 0.6
    assert neighbors_alike(places, features) < 0.2
    assert (place_neurons(places, features) == at).all()


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_few_neurons_have_places_too(n):
    places = np.argwhere(np.ones((n, 1))).astype(np.float32)
    assert sorted(place_neurons(places, np.ones((n, 2), dtype=np.float32)).tolist()) == list(range(n))


# -- the atlas ---------------------------------------------------------------------------------------------------------


def test_every_neuron_has_as_many_texels_within_its_own_parcel(atlas, neurons):
    table = neuron_table()
    count = neurons.texel_count()
    assert len(count) == len(table)
    assert abs(count / count.mean() - 1).max() < 0.05
    # the texel under a point of a parcel is a neuron of that MLP: at the centers of all faces
    height, width = neurons.image.shape
    n = len(atlas.vertices)
    place = dict(zip((neurons.component * n + neurons.vertex).tolist(), neurons.coordinates, strict=True))
    for row, rows in parcels_of(atlas, table).items():
        faces = atlas.faces[atlas.face_component == row]
        middle = np.array([np.mean([place[row * n + vertex] for vertex in face], axis=0) for face in faces.tolist()])
        at = neurons.image[(middle[:, 1] * height).astype(int), (middle[:, 0] * width).astype(int)]
        assert np.isin(at, rows).all()
        assert len(np.unique(at)) > 0.9 * len(rows)


def test_every_cell_is_in_one_piece(neurons):
    cell = np.where(neurons.inside, neurons.image, -1)
    assert pieces_of(cell)[1] == len(neurons.neurons)


def test_quality_is_told(neurons):
    assert neurons.quality["texels"] > 100
    assert neurons.quality["size_error"] < 0.01
    assert neurons.quality["roundness"] > 0.85
    assert neurons.quality["overlap"] > 1.5


def test_texture_coordinates_belong_to_one_atlas(atlas, neurons):
    component = np.repeat(neurons.component[:1], 3)
    coordinates = neurons.texture_coordinates(atlas, neurons.vertex[:3], component)
    assert (coordinates == neurons.coordinates[:3]).all()
    assert (neurons.texture_coordinates(atlas, np.array([0]), np.array([-1])) == 0).all()
    stranger = np.setdiff1d(np.arange(len(atlas.vertices)), neurons.vertex)[:1]
    with pytest.raises(AlignmentError, match="belongs to another atlas"):
        neurons.texture_coordinates(atlas, stranger, component[:1])


def test_a_quantity_of_the_vertices_is_drawn_where_they_are(atlas, neurons):
    values = 50 + atlas.surfaces["sphere"][:, 1].astype(np.float64)  # linear on the sphere, above 0
    picture = neurons.picture(atlas, values)
    height, width = neurons.image.shape
    column, row = (neurons.coordinates * (width, height)).astype(int).T
    inside = neurons.inside[np.minimum(row, height - 1), np.minimum(column, width - 1)]
    drawn = picture[row[inside], column[inside]]
    assert np.abs(drawn - values[neurons.vertex[inside]]).max() < 1.0
    assert (picture[neurons.inside] > 0).all()


def test_it_is_kept_on_disk_and_found_again(atlas, monkeypatch, tmp_path):
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path))
    asked: list[int] = []

    def counted(layer: int) -> np.ndarray:
        asked.append(layer)
        return features_of(layer)

    def build(identity: str | None = "weights") -> NeuronAtlas:
        return NeuronAtlas.build(atlas, neuron_table(), counted, identity=identity)

    first = build()
    assert asked == [0, 1]
    again = build()
    assert asked == [0, 1]
    assert (again.image == first.image).all()
    assert (again.inside == first.inside).all()
    assert again.quality == first.quality
    assert (build("other weights").image == first.image).all()  # same features: same places, another file
    assert len(list(tmp_path.glob("atlas/neurons-*.npz"))) == 2
    build(None)
    build(None)
    assert len(list(tmp_path.glob("atlas/neurons-*.npz"))) == 3


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "format", "rows"])
def test_a_damaged_file_is_built_anew(harm, atlas, neurons, monkeypatch, tmp_path):
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path))

    def build() -> NeuronAtlas:
        return NeuronAtlas.build(atlas, neuron_table(), features_of, identity="weights")

    build()
    [path] = tmp_path.glob("atlas/neurons-*.npz")
    spoil(path, harm)
    assert (build().image == neurons.image).all()


def spoil(path: Path, harm: str) -> None:
    whole = path.read_bytes()
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    if harm == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "text":
        path.write_text("not an archive")
    elif harm == "format":
        meta = json.loads(str(arrays["meta"])) | {"format": "another"}
        np.savez(path, **(arrays | {"meta": np.array(json.dumps(meta))}))
    else:
        np.savez(path, **(arrays | {"image": arrays["image"] + np.int32(1)}))


def test_progress_is_told_and_may_withdraw(atlas):
    told: list[tuple[float, str]] = []
    NeuronAtlas.build(atlas, neuron_table(), features_of, cache=False, progress=lambda *one: told.append(one))
    assert told[0] == (0.0, "neurons of layer 0")
    assert told[-1][0] == 1.0
    assert [share for share, _ in told] == sorted(share for share, _ in told)

    def stop(share: float, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        NeuronAtlas.build(atlas, neuron_table(), features_of, cache=False, progress=stop)


@pytest.mark.parametrize(
    ("table", "features", "sentence"),
    [
        (neuron_table((7,)), features_of, "no MLP whose neurons could be shown"),
        (neuron_table(()), features_of, "no MLP whose neurons could be shown"),
        (neuron_table(), lambda layer: features_of(layer)[:-1], "features of layer 0 have shape"),
        (neuron_table(), lambda layer: np.full((PER_MLP, 2), np.nan, dtype=np.float32), "or hold NaN"),
    ],
)
def test_what_cannot_be_is_refused(
    table: ComponentTable, features: Callable[[int], np.ndarray], sentence: str, atlas: Atlas
):
    with pytest.raises(InputError, match=sentence):
        NeuronAtlas.build(atlas, table, features, cache=False)


def test_too_many_neurons_for_one_picture_are_refused(atlas, monkeypatch):
    assert neurons_module._LARGEST_SUM / neurons_module.LEAST_TEXELS >= 1_000_000
    monkeypatch.setattr(neurons_module, "_LARGEST_SUM", 600)
    with pytest.raises(InputError, match="120 neurons do not fit in one picture, which holds 100"):
        NeuronAtlas.build(atlas, neuron_table(), features_of, cache=False)


def test_a_parcel_that_reaches_around_the_sphere_has_a_chart():
    from tests.scene.small_atlas import icosphere

    points, faces = icosphere(4)
    open_at_x = faces[(points[faces][:, :, 0] < 0.9).all(axis=1)]
    chart = make_chart(points, open_at_x, 100, 30.0)
    assert chart.region.sum() == pytest.approx(3000, rel=0.05)
    a, b, c = (chart.points[chart.faces[:, corner]] for corner in range(3))
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (np.sign(turn) == np.sign(turn[0])).all()  # no triangle is turned over


@pytest.mark.model
def test_neurons_of_the_default_model_lie_beside_their_like(smollm2):
    """Two of its layers, by their real weights: equal cells, and many more shared neighbors than by chance."""
    atlas, whole = Atlas.build(smollm2), smollm2.neurons
    chosen = np.isin(whole.layer, [5, 20])
    table = ComponentTable(*(getattr(whole, name)[chosen] for name in ("kind", "layer", "index", "n_params")))
    found = NeuronAtlas.build(atlas, table, smollm2.neuron_features, cache=False)
    count = found.texel_count()
    assert abs(count / count.mean() - 1).max() < 0.05
    assert found.quality["overlap"] > 8
    assert found.quality["roundness"] > 0.85
    assert pieces_of(np.where(found.inside, found.image, -1))[1] == len(table)

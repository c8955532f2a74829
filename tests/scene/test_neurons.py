"""The neuron level in the server's scene: each neuron shows its color where it lies, on every form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from nmri3d.atlas.neurons import NeuronAtlas, parcels_of
from nmri3d.errors import AlignmentError, InputError
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.neuron_texture import FOLD_LEVELS, fold_image, neuron_image, ring_around
from nmri3d.scene.texture import UNDERLAY_GYRUS, UNDERLAY_SULCUS, fold_of_sulcal_depth, texture_image
from tests.atlas.test_neurons import features_of, neuron_table
from tests.scene.small_atlas import small_atlas

RED = (255, 0, 0, 255)
SIZE = (400, 300)


@pytest.fixture(scope="module")
def neurons(atlas) -> NeuronAtlas:
    return NeuronAtlas.build(atlas, neuron_table(), features_of, cache=False)


@pytest.fixture(scope="module")
def neuron_scene(atlas, neurons) -> Iterator[BrainScene]:
    with BrainScene(atlas) as scene:
        scene.show_neurons(neurons)
        yield scene


@pytest.fixture
def scene(neuron_scene) -> BrainScene:
    neuron_scene.show_surface("pial")
    neuron_scene.view("lateral_right")
    neuron_scene.render_window.SetSize(*SIZE)
    neuron_scene.view("lateral_right")
    neuron_scene.neurons.mark(None)
    neuron_scene.neurons.paint(blank(neuron_scene))
    return neuron_scene


def blank(scene: BrainScene) -> np.ndarray:
    return np.zeros((len(scene.neurons.neurons.neurons), 4), dtype=np.uint8)


def redness(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0].astype(int) - picture[..., 1].astype(int)


def picked(scene: BrainScene, step: int = 20) -> dict[int, list[tuple[int, int]]]:
    """Pixels of a grid at which each neuron is picked."""
    found: dict[int, list[tuple[int, int]]] = {}
    for y in range(step, SIZE[1], step):
        for x in range(step, SIZE[0], step):
            neuron = scene.pick_neuron(x, y)
            if neuron is not None:
                found.setdefault(neuron, []).append((x, y))
    return found


@pytest.mark.parametrize("surface", ["pial", "inflated", "sphere"])
def test_a_pixel_shows_the_neuron_that_is_picked_there(scene, surface):
    scene.show_surface(surface)
    scene.view("lateral_right")
    found = picked(scene)
    assert len(found) > 15
    for neuron, pixels in list(found.items())[::4]:
        colors = blank(scene)
        colors[neuron] = RED
        scene.neurons.paint(colors)
        red = redness(scene.screenshot(SIZE)) > 60
        assert all(red[y - 1 : y + 2, x - 1 : x + 2].any() for x, y in pixels)
        # and nowhere far from its cell: a cell is a sixtieth of a parcel
        assert red.sum() < 0.05 * red.size


def test_picking_names_the_mlp_of_the_neuron(scene, atlas, neurons):
    rows = {row: set(own.tolist()) for row, own in parcels_of(atlas, neurons.neurons).items()}
    for neuron, [(x, y), *_] in picked(scene).items():
        assert neuron in rows[scene.pick(x, y)]


def test_halfway_between_surfaces_picking_still_agrees(scene):
    scene.morph("pial", "inflated", 0.5)
    neuron, [(x, y), *_] = max(picked(scene).items(), key=lambda item: len(item[1]))
    colors = blank(scene)
    colors[neuron] = RED
    scene.neurons.paint(colors)
    assert redness(scene.screenshot(SIZE))[y - 1 : y + 2, x - 1 : x + 2].max() > 60


def test_unpainted_neurons_look_like_unpainted_parcels(scene, atlas, neurons):
    with_neurons = scene.screenshot(SIZE).astype(int)
    scene.show_neurons(None)
    scene.paint(np.zeros((len(atlas.components), 4), dtype=np.uint8))
    parcels = scene.screenshot(SIZE).astype(int)
    scene.show_neurons(neurons)
    difference = np.abs(with_neurons - parcels).max(axis=2)
    assert np.percentile(difference, 99) <= 6  # texels in steps, against a smooth ramp
    assert difference.max() < 40


def test_without_neurons_there_is_none_to_pick(scene, neurons):
    assert scene.pick_neuron(SIZE[0] // 2, SIZE[1] // 2) is not None
    row = scene.pick(SIZE[0] // 2, SIZE[1] // 2)
    scene.show_neurons(None)
    assert scene.neurons is None
    assert scene.pick_neuron(SIZE[0] // 2, SIZE[1] // 2) is None
    assert scene.pick(SIZE[0] // 2, SIZE[1] // 2) == row
    scene.show_neurons(neurons)


def test_a_hidden_hemisphere_hides_its_neurons(scene):
    scene.show_hemispheres("left")
    assert not scene.neurons.actor.visibility
    assert not picked(scene)
    scene.show_hemispheres("both")
    assert scene.neurons.actor.visibility


def test_a_glass_neuron_is_translucent(scene):
    n = len(blank(scene))
    colors = np.tile(np.uint8(RED), (n, 1))
    scene.neurons.paint(colors, np.zeros(n))
    clear = scene.neurons._texels[:, 3]
    assert set(np.unique(clear)) == {0, 33}  # nothing beside the charts, GLASS_LEAST within
    scene.neurons.paint(colors, np.ones(n))
    assert scene.neurons._texels[:, 3].max() == 153
    scene.neurons.paint(colors)
    assert set(np.unique(scene.neurons._texels[:, 3])) == {0, 255}


def test_a_marked_neuron_has_a_ring(scene, neurons):
    neuron = next(iter(picked(scene)))
    colors = blank(scene)
    colors[neuron] = RED
    scene.neurons.paint(colors)
    scene.neurons.mark(neuron)
    texels = scene.neurons._texels.reshape(*neurons.image.shape, 4)
    ring = ring_around(neurons.image, neuron)
    assert ring.sum() >= 8
    assert not (neurons.image[ring] == neuron).any()
    assert (texels[ring] == (0, 255, 170, 255)).all()
    assert (texels[neurons.image == neuron][:, 0] > 200).all()
    with pytest.raises(InputError, match="there is no neuron 120"):
        scene.neurons.mark(120)


def test_the_neurons_of_another_atlas_are_refused(neurons):
    with BrainScene(small_atlas(3)) as other, pytest.raises(AlignmentError, match="belongs to another atlas"):
        other.show_neurons(neurons)


def test_colors_of_another_number_of_neurons_are_refused(scene):
    with pytest.raises(AlignmentError, match="120 neurons need as many colors"):
        scene.neurons.paint(np.zeros((3, 4), dtype=np.uint8))


# -- the texture -------------------------------------------------------------------------------------------------------


def test_the_texture_follows_the_rules_of_the_cortex():
    image = np.array([[0, 1, -1]])
    fold = np.array([[0, FOLD_LEVELS - 1, 0]], dtype=np.uint8)
    colors = np.array([[200, 100, 50, 255], [200, 100, 50, 0]], dtype=np.uint8)
    sulcus, gyrus = texture_image(colors)
    result = neuron_image(colors, image, fold)
    assert result[0, 0].tolist() == sulcus[0].tolist()
    assert result[0, 1].tolist() == gyrus[1].tolist() == [*UNDERLAY_GYRUS, 255]
    assert result[0, 2].tolist() == [0, 0, 0, 0]
    middle = neuron_image(colors, np.array([[1]]), np.array([[16]], dtype=np.uint8))[0, 0, :3]
    share = 16 / (FOLD_LEVELS - 1)
    expected = np.floor(np.array(UNDERLAY_SULCUS) * (1 - share) + np.array(UNDERLAY_GYRUS) * share + 0.5)
    assert middle.tolist() == expected.tolist()


def test_the_fold_is_that_of_the_cortex(atlas, neurons):
    fold = fold_image(atlas, neurons)
    assert fold.max() == FOLD_LEVELS - 1
    assert fold.shape == neurons.image.shape
    height, width = neurons.image.shape
    column, row = np.minimum((neurons.coordinates * (width, height)).astype(int), (width - 1, height - 1)).T
    expected = fold_of_sulcal_depth(atlas.sulcal_depth)[neurons.vertex] * (FOLD_LEVELS - 1)
    assert np.abs(fold[row, column] - expected).mean() < 1.0

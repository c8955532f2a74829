"""Pictures to keep, drawn on the server: what they show, from which threads, and what is refused."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nmri3d.app.pictures import Pictures, PictureWish, is_hidden, read_wish
from nmri3d.atlas.neurons import NeuronAtlas
from nmri3d.atlas.nodes import node_layout
from nmri3d.errors import Cancelled, InputError
from nmri3d.scans import scan, scan_neurons
from nmri3d.scene.brain import BrainScene
from nmri3d.scene.colors import color_map, component_colors, display_range
from nmri3d.scene.painting import NeuronLevel
from tests.app.conftest import PROMPT
from tests.scene.small_tracts import random_tracts

CAMERA = {
    "position": [-700.0, 0.0, 10.0],
    "focalPoint": [0.0, -20.0, 10.0],
    "viewUp": [0.0, 0.0, 1.0],
    "viewAngle": 20.0,
}
MESSAGE: dict[str, Any] = {
    "step": 1,
    "form": ["pial", "pial", 0],
    "glass": False,
    "borders": True,
    "view": "overview",
    "palette": "standard",
    "threshold": 0,
    "range": None,
    "camera": CAMERA,
    "aspect": 1.8,
}


@pytest.fixture(scope="module")
def measured(service: Any) -> Any:
    return scan(service.backend, "fMRI", PROMPT)


@pytest.fixture
def pictures(atlas: Any) -> Any:
    drawn = Pictures(atlas, {"stack": node_layout("stack", atlas.components, np.zeros((len(atlas.components), 1)))})
    yield drawn
    drawn.close()


def wish(measured: Any, selected: int = -1, **changes: Any) -> PictureWish:
    return read_wish({**MESSAGE, **changes}, measured, selected, None)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_every_part_of_a_wish_is_seen_and_the_scene_is_kept(
    pictures: Any, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[BrainScene] = []
    build = BrainScene.__init__
    monkeypatch.setattr(BrainScene, "__init__", lambda self, *a, **k: (built.append(self), build(self, *a, **k))[1])
    monkeypatch.setattr("nmri3d.app.pictures.SIZE", (960, 540))

    def take(selected: int = -1, **changes: Any) -> np.ndarray:
        with ThreadPoolExecutor(1) as thread:  # as on the page: every picture from a thread of its own
            return pixels(thread.submit(pictures.draw, measured, wish(measured, selected, **changes)).result())

    plain = take()
    in_sight = built[0].pick(648, 360)
    assert in_sight is not None
    assert plain.shape == (540, 960, 3)
    changed = {
        "step": take(step=2),
        "surface": take(form=["inflated", "inflated", 0]),
        "morph": take(form=["pial", "sphere", 0.3]),
        "layout of balls": take(form=["pial", "stack", 1]),
        "glass": take(glass=True),
        "borders": take(borders=False),
        "hemispheres": take(view="medial_right"),
        "palette": take(palette="colorblind"),
        "threshold": take(threshold=0.5),
        "range": take(range={"vmin": 1.0, "vmax": 900.0, "scale": "log"}),
        "camera": take(camera={**CAMERA, "position": [-400.0, 500.0, 90.0]}),
        "selection": take(selected=in_sight),
        "angle": take(camera={**CAMERA, "viewAngle": 30.0}),
    }
    for name, other in changed.items():
        assert np.abs(other - plain).mean() > 0.02, name
    np.testing.assert_array_equal(take(), plain)
    assert len(built) == 1


def test_a_picture_shows_the_neurons_that_the_page_shows(
    pictures: Any, measured: Any, service: Any, atlas: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmri3d.app.pictures.SIZE", (960, 540))
    backend = service.require_backend()
    neurons = NeuronAtlas.build(atlas, backend.neurons, backend.neuron_features, identity=backend.info.fingerprint)
    scanned = scan_neurons(backend, "fMRI", PROMPT)
    level = NeuronLevel(neurons, scanned, 1, display_range(scanned), color_map("DTI"))
    asked = wish(measured, neurons=True, view="lateral_right", threshold=0.3)
    assert asked.neurons
    right = {**CAMERA, "position": [700.0, -20.0, 10.0]}
    asked = replace(asked, pose=wish(measured, camera=right).pose)
    with_neurons = pixels(pictures.draw(measured, asked, level))
    texels = pictures._scene.neurons._colors[0]
    hidden = is_hidden(scanned.values[1], level.display, 0.3)
    np.testing.assert_array_equal(texels[:, 3] == 0, hidden)
    np.testing.assert_array_equal(
        texels[~hidden], component_colors(scanned.values[1], level.display, level.colors)[~hidden]
    )
    without = pixels(pictures.draw(measured, replace(asked, neurons=False)))
    assert pictures._scene.neurons is None
    assert (np.abs(with_neurons - without).max(axis=-1) > 30).mean() > 0.03


TRACTS: dict[str, Any] = {"share": None, "colors": "sign", "reference": None, "marked": -1}


@pytest.fixture(scope="module")
def measured_tracts(measured: Any) -> Any:
    """A DTI scan for drawing: only where its numbers lie matters here, not what they are."""
    values = np.random.default_rng(0).normal(size=(1, len(measured.components))).astype(np.float32)
    tracts = random_tracts(measured.components, 30)
    return replace(measured, mode="DTI", values=values, tokens=(), signed=True, details={}, tracts=tracts)


def test_every_wish_about_tracts_is_seen(
    pictures: Any, measured_tracts: Any, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmri3d.app.pictures.SIZE", (480, 270))

    def take(selected: int = -1, palette: str = "standard", **changes: Any) -> np.ndarray:
        tracts = {**TRACTS, **changes}
        return pixels(
            pictures.draw(
                measured_tracts, wish(measured_tracts, selected, step=0, tracts=tracts, palette=palette, glass=True)
            )
        )

    plain = take()
    heart = int(measured_tracts.tracts.source[0])
    changed = {
        "share": take(share=0.1),
        "colors": take(colors="direction"),
        "reference": take(reference=50.0),
        "marked": take(marked=3),
        "palette": take(palette="colorblind"),
        "selection": take(selected=heart),
    }
    for name, other in changed.items():
        assert np.abs(other - plain).mean() > 0.05, name
    np.testing.assert_array_equal(take(), plain)
    pictures.draw(measured, wish(measured))
    assert pictures._scene.tracts.edges is None
    assert not pictures._scene.is_glass


@pytest.mark.parametrize(
    "wrong",
    [{"share": 2}, {"share": "all"}, {"colors": "rainbow"}, {"reference": 0}, {"marked": 30}, {"marked": None}, None],
)
def test_a_wish_about_tracts_that_cannot_be_is_refused(measured_tracts: Any, wrong: Any) -> None:
    tracts = "tubes" if wrong is None else {**TRACTS, **wrong}
    with pytest.raises(InputError):
        wish(measured_tracts, step=0, tracts=tracts)


@pytest.mark.parametrize("wrong", ["pial", ["pial"], ["pial", "cube", 0], ["pial", "sphere", 2], None])
def test_a_form_that_cannot_be_is_refused(measured: Any, wrong: Any) -> None:
    with pytest.raises(InputError):
        wish(measured, form=wrong)


def test_balls_that_were_never_made_are_refused(pictures: Any, measured: Any) -> None:
    with pytest.raises(InputError, match="radial"):
        pictures.draw(measured, wish(measured, form=["radial", "radial", 0]))


def test_what_the_threshold_hides_is_grey_and_the_bar_says_so(pictures: Any, measured: Any) -> None:
    shown = display_range(measured)
    hidden = is_hidden(measured.values[1], shown, 0.5)
    assert 0 < hidden.sum() < len(hidden)
    assert not is_hidden(measured.values[1], shown, 0.0).any()
    place = shown.fraction(measured.values[1])
    assert (place[~hidden] >= 0.5).all()
    np.testing.assert_array_equal(hidden, ~(place >= 0.5))
    pictures.draw(measured, wish(measured, threshold=0.5))
    texels = pictures._scene._cortex._texels.reshape(-1, pictures._scene.layout.width, 4)[1, :, :3]
    colors = component_colors(measured.values[1], shown, color_map("fMRI"))[:, :3]
    for row in range(len(hidden)):
        painted = bool((texels[row] == colors[row]).all())
        assert painted == (not hidden[row]), row


def test_a_closed_page_draws_no_more_and_frees_the_scene(pictures: Any, measured: Any) -> None:
    pictures.draw(measured, wish(measured))
    scene = pictures._scene
    with pictures._lock:  # a picture is under way
        pictures.close()
        assert pictures._scene is scene
    with pytest.raises(Cancelled):
        pictures.draw(measured, wish(measured))
    assert pictures._scene is None
    assert scene.stage._closed


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 99},
        {"view": "inside"},
        {"palette": "rainbow"},
        {"threshold": 2},
        {"range": [1, 2]},
        {"range": {"vmin": 2, "vmax": 1, "scale": "linear"}},
        {"range": {"vmin": 0, "vmax": 1, "scale": "log"}},
        {"camera": None},
        {"camera": {**CAMERA, "position": CAMERA["focalPoint"]}},
        {"camera": {**CAMERA, "viewUp": [1.0, 0.0]}},
        {"camera": {**CAMERA, "viewUp": [0, 0, 0]}},
        {"camera": {**CAMERA, "position": [float("nan"), 0, 0]}},
        {"camera": {**CAMERA, "viewAngle": 0}},
        {"aspect": 1e9},
    ],
)
def test_a_wish_that_cannot_be_is_refused(measured: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        wish(measured, **wrong)


def test_something_that_is_no_wish_is_refused(measured: Any) -> None:
    with pytest.raises(InputError, match="reload"):
        read_wish("everything", measured, -1, None)

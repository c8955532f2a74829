"""What is sent of neurons: ids come back exactly, a step costs a byte a neuron, and what a browser says is checked."""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nmri3d.app.neuron_payload import NO_VALUE, TOP, chart_payload, coded, encoded, step_payload
from nmri3d.app.parts.neurons import NeuronPart, _locked
from nmri3d.atlas import Atlas
from nmri3d.atlas.neurons import NeuronAtlas
from nmri3d.errors import InputError
from nmri3d.scans import scan, scan_neurons
from nmri3d.scene.colors import DisplayRange, display_range
from nmri3d.scene.mesh import split_along_borders
from nmri3d.scene.neuron_texture import fold_image
from tests.app.conftest import PROMPT
from tests.models.backends import tiny_backend


def decoded(codes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The picture of ids, texel by texel, as the module says it."""
    height, width = codes.shape
    image = np.full((height + 1, width + 2), -1)
    left = iter(ids.tolist())
    for row in range(height):
        for column in range(width):
            y, x = row + 1, column + 1
            beside = [(y, x - 1), (y - 1, x), (y - 1, x + 1), (y - 1, x - 1)]
            code = codes[row, column]
            image[y, x] = image[beside[code]] if code < 4 else next(left)
    assert next(left, None) is None
    return image[1:, 1:-1]


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.int32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-1, 4)))
def test_any_picture_of_ids_comes_back(image):
    codes, ids = encoded(image)
    assert (decoded(codes, ids) == image).all()


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_backend("llama")


@pytest.fixture(scope="module")
def atlas(model) -> Atlas:
    return Atlas.build(model, cache=False)


@pytest.fixture(scope="module")
def neurons(model, atlas) -> NeuronAtlas:
    return NeuronAtlas.build(atlas, model.neurons, model.neuron_features, cache=False)


def test_the_chart_says_where_every_neuron_lies(atlas, neurons, model):
    split = split_along_borders(atlas.faces, atlas.face_component)
    payload = chart_payload(atlas, neurons, split.vertex, split.component)
    shape = payload["height"], payload["width"]
    codes = np.frombuffer(zlib.decompress(payload["codes"]), np.uint8).reshape(shape)
    ids = np.frombuffer(zlib.decompress(payload["ids"]), "<i4")
    assert (decoded(codes, ids) == neurons.image).all()
    difference = np.frombuffer(zlib.decompress(payload["fold"]), np.uint8).reshape(shape)
    fold = np.cumsum(difference, axis=1, dtype=np.int64) % 256
    there = neurons.image >= 0
    assert (fold[there] == fold_image(atlas, neurons)[there]).all()
    vertices = np.frombuffer(payload["vertices"], "<i4")
    coordinates = np.frombuffer(payload["coordinates"], "<u2").reshape(-1, 2) / 65535
    exact = neurons.texture_coordinates(atlas, split.vertex[vertices], split.component[vertices])
    assert np.abs(coordinates - exact).max() * max(shape) < 0.05  # texels
    assert set(vertices) == set(np.unique(split.faces[np.isin(atlas.face_component, neurons.component)]))
    for row, first, count in payload["mlps"]:
        assert model.components.ids[row] == f"blocks.{model.neurons.layer[first]}.mlp"
        assert (model.neurons.layer[first : first + count] == model.components.layer[row]).all()


@pytest.mark.parametrize(("mode", "prompt"), [("T1", None), ("T2", None), ("fMRI", PROMPT)])
def test_a_step_costs_a_byte_a_neuron(model, mode, prompt):
    found = scan_neurons(model, mode, prompt)
    shown = display_range(found)
    payload = step_payload(found, -1, shown)
    assert len(msgpack.packb(payload)) <= len(model.neurons) + 2000
    codes = np.frombuffer(payload["codes"], np.uint8)
    assert np.abs(codes / TOP - shown.fraction(found.values[-1])).max() <= 0.5 / TOP + 1e-9
    assert payload["palette"] == ("DTI" if mode == "fMRI" else mode)
    assert (payload["vmin"], payload["vmax"]) == (shown.vmin, shown.vmax)


def test_no_value_has_a_code_of_its_own():
    codes = np.frombuffer(coded(np.array([np.nan, -9.0, 9.0, 0.5]), DisplayRange(0.0, 1.0)), np.uint8)
    assert codes.tolist() == [NO_VALUE, 0, TOP, TOP // 2]


# -- what a browser says -----------------------------------------------------------------------------------------------


class Visitor:
    """What the part asks of a visit, on a model that is there; work is done at once."""

    def __init__(self, model: Any, atlas: Atlas, scans: dict[str, Any]) -> None:
        self.brain = SimpleNamespace(atlas=atlas, epoch=3)
        self.scans = scans
        self._model = model
        self.service = SimpleNamespace(
            scan_neurons=lambda mode, prompt=None, *, progress, **options: scan_neurons(model, mode, prompt, **options)
        )

    def require_backend(self) -> Any:
        return self._model

    def read(self, name: str) -> str:
        return {"statistic": "std"}[name]

    async def run(self, work: Any, name: str) -> Any:
        return work(lambda share, what: None)


@pytest.fixture
def part(model, atlas) -> NeuronPart:
    return NeuronPart(Visitor(model, atlas, {"fMRI": scan(model, "fMRI", PROMPT)}))  # type: ignore[arg-type]


def ask(part: NeuronPart, name: str, *arguments: Any) -> Any:
    found = part.handlers()[name](*arguments)
    if not asyncio.iscoroutine(found):
        return found
    with ThreadPoolExecutor(1) as thread:  # the browser's tests leave a running event loop in this one
        return thread.submit(asyncio.run, found).result()


def test_a_step_is_that_of_the_scanned_prompt(part, model):
    found = scan_neurons(model, "fMRI", PROMPT)
    answer = ask(part, "neuron_step", {"mode": "fMRI", "step": 2, "locked": None})
    assert answer["codes"] == coded(found.values[2], display_range(found))
    assert ask(part, "neuron_value", "fMRI", 2, 7) == {"value": float(found.values[2, 7]), "units": found.units}


def test_a_locked_range_is_kept_while_the_unit_is_the_same(part, model):
    found = scan_neurons(model, "fMRI", PROMPT)
    lock = {"vmin": -2.0, "vmax": 2.0, "scale": "symmetric", "units": found.units}
    answer = ask(part, "neuron_step", {"mode": "fMRI", "step": 1, "locked": lock})
    assert (answer["vmin"], answer["vmax"]) == (-2.0, 2.0)
    assert answer["codes"] == coded(found.values[1], DisplayRange(-2.0, 2.0, "symmetric"))
    other = ask(part, "neuron_step", {"mode": "fMRI", "step": 1, "locked": {**lock, "units": "parameters"}})
    assert other["vmax"] == display_range(found).vmax


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("neuron_step", ({"mode": "DTI", "step": 0},), "no values of single neurons"),
        ("neuron_step", ({"mode": "FLAIR", "step": 0},), "no values of single neurons"),
        ("neuron_step", ({"mode": "fMRI", "step": 99},), "token must be a whole number"),
        ("neuron_step", ({"mode": "fMRI", "step": True},), "token must be a whole number"),
        ("neuron_step", ({"mode": "nothing", "step": 0},), "there is no mode"),
        ("neuron_step", (None,), "named options"),
        ("neuron_value", ("fMRI", 0, 10**9), "neuron must be a whole number"),
        ("neuron_value", ("fMRI", 0, "7"), "neuron must be a whole number"),
        ("neuron_value", (7, 0, 0), "there is no mode"),
    ],
)
def test_what_cannot_be_is_told_in_words(part, name, arguments, sentence):
    assert sentence in ask(part, name, *arguments)["error"]


def test_without_a_scanned_prompt_there_are_no_activations(model, atlas):
    part = NeuronPart(Visitor(model, atlas, {}))  # type: ignore[arg-type]
    assert "press SCAN" in ask(part, "neuron_step", {"mode": "fMRI", "step": 0})["error"]
    assert "codes" in ask(part, "neuron_step", {"mode": "T1", "step": 0})


@pytest.mark.parametrize(
    "lock",
    [
        {"vmin": "0", "vmax": 1.0, "scale": "linear"},
        {"vmin": float("nan"), "vmax": 1.0, "scale": "linear"},
        {"vmin": float("-inf"), "vmax": 1.0, "scale": "linear"},
        {"vmin": 1.0, "vmax": 1.0, "scale": "linear"},
        {"vmin": -1.0, "vmax": 1.0, "scale": "log"},
        {"vmin": 0.0, "vmax": 1.0, "scale": "cubic"},
        {"vmax": 1.0, "scale": "linear"},
        [0, 1],
    ],
)
def test_a_range_that_cannot_be_is_refused(lock):
    given_lock = {**lock, "units": "u"} if isinstance(lock, dict) else lock
    with pytest.raises(InputError):
        _locked(given_lock, "u")


def test_facts_tell_how_wide_neurons_are(part, atlas, model):
    facts = ask(part, "neuron_facts", 3)
    assert facts["count"] == len(model.neurons)
    rows = model.components.rows("mlp")
    least = min(atlas.area[row] / (model.neurons.layer == model.components.layer[row]).sum() for row in rows)
    assert facts["across"] == pytest.approx(np.sqrt(least))
    assert ask(part, "neuron_facts", 2) is None  # a brain that has gone

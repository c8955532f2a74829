"""`nmri3d.Brain`: chaining, its picture in a notebook, refusals."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError, InputError
from nmri3d.jupyter import NOTEBOOK_SIZE, Brain
from nmri3d.scene.colors import DisplayRange
from tests.export.conftest import make_scan


@pytest.fixture(scope="module")
def brain(atlas):
    with Brain(atlas) as brain:
        yield brain


def test_it_is_made_of_a_model_or_an_atlas(atlas, monkeypatch):
    asked = []

    def build(model, layout):
        asked.append((model, layout))
        return atlas

    monkeypatch.setattr("nmri3d.atlas.Atlas.build", build)
    model = SimpleNamespace(components=atlas.components, layout_features=lambda: None)
    with Brain(model, layout="anatomical", surface="inflated") as brain:
        assert brain.atlas is atlas
        assert brain.scene.surface == "inflated"
    assert asked == [(model, "anatomical")]
    with pytest.raises(InputError, match="not of str"):
        Brain("smollm2-135m")


def test_calls_chain_and_the_last_token_is_the_default(brain, scan):
    assert brain.show(scan).view("dorsal").select("blocks.0.attn.head_1").show_surface("pial") is brain
    assert "token 2 ' of'" in repr(brain)
    assert "token 0 'The'" in repr(brain.show(scan, token=0))
    assert "token 1" in repr(brain.show(scan, token=-2))
    assert brain.scene.selected == scan.components.row("blocks.0.attn.head_1")
    brain.select(None)
    assert brain.scene.selected is None


def test_the_chosen_range_and_step_are_what_the_file_shows(brain, scan, tmp_path):
    display = DisplayRange(0.0, 100.0)
    path = brain.show(scan, token=1, display=display).screenshot(
        tmp_path / "a.png", size=(320, 180), surface="inflated", view="posterior"
    )
    with Image.open(path) as image:
        assert image.size == (320, 180)
        assert image.info["nmri3d.step"] == "1"
        assert image.info["nmri3d.display"] == "0.0 to 100.0, linear"
    assert brain.scene.surface == "inflated"
    assert brain.scene.orientation_letters()["left"] == "L"


def test_a_notebook_shows_the_grey_brain_and_then_the_scan(atlas, scan):
    with Brain(atlas) as brain:
        with Image.open(io.BytesIO(brain._repr_png_())) as image:
            grey = np.asarray(image.convert("RGB")).astype(int)
        assert grey.shape == (NOTEBOOK_SIZE[1], NOTEBOOK_SIZE[0], 3)
        assert (np.ptp(grey, axis=-1) < 20).all()
        bundle = brain.show(scan)._repr_mimebundle_(include=None, exclude=None)
        assert bundle["text/plain"] == repr(brain)
        with Image.open(io.BytesIO(bundle["image/png"])) as image:
            assert image.size == NOTEBOOK_SIZE
            assert (np.ptp(np.asarray(image.convert("RGB")).astype(int), axis=-1) > 60).mean() > 0.05


def test_refusals(brain, atlas, scan, tmp_path):
    small = ComponentTable(kind=["embed"], layer=[-1], index=[-1], n_params=[1])
    with pytest.raises(AlignmentError, match="other components"):
        brain.show(make_scan(values=np.ones((3, 1)), components=small))
    with pytest.raises(InputError, match="steps 0 to 2"):
        brain.show(scan, token=3)
    with pytest.raises(InputError, match="no component"):
        brain.select("blocks.9.mlp")
    with Brain(atlas) as fresh, pytest.raises(InputError, match=r"brain\.show"):
        fresh.screenshot(tmp_path / "a.png")

"""`nmri3d.Brain`: chaining, its picture in a notebook, refusals."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import nmri3d
from nmri3d.atlas.nodes import node_layout
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

    def build(model, layout, *, area, features):
        asked.append((model, layout, area, features))
        return atlas

    monkeypatch.setattr("nmri3d.atlas.Atlas.build", build)
    model = SimpleNamespace(components=atlas.components, layout_features=lambda: None)
    with Brain(model, layout="anatomical", surface="inflated") as brain:
        assert brain.atlas is atlas
        assert brain.scene.surface == "inflated"
    assert asked == [(model, "anatomical", "parameters", None)]
    with pytest.raises(InputError, match="network"):
        Brain(model, layout="round")
    with pytest.raises(InputError, match="functional"):
        Brain(model, features="colors")
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


def test_open_loads_by_name_and_scan_shows(atlas, scan, monkeypatch):
    loaded, asked = [], []
    model = SimpleNamespace(components=atlas.components, layout_features=lambda: None)

    def load(name, **options):
        loaded.append((name, options))
        return model

    def run(backend, mode, prompt=None, **options):
        asked.append((backend, mode, prompt, options))
        return scan

    monkeypatch.setattr("nmri3d.models.load", load)
    monkeypatch.setattr("nmri3d.scans.scan", run)
    monkeypatch.setattr("nmri3d.atlas.Atlas.build", lambda *_, **__: atlas)
    with nmri3d.open("tiny", dtype="float32") as brain:
        assert brain.current_scan is None
        assert brain.scan("fMRI", "The capital of", token=1, aggregation="max") is brain
        assert brain.current_scan is scan
        assert "token 1" in repr(brain)
    assert loaded == [("tiny", {"dtype": "float32"})]
    assert asked == [(model, "fMRI", "The capital of", {"aggregation": "max"})]
    with nmri3d.open(model) as brain:
        assert brain.model is model
    with pytest.raises(InputError, match="dtype"):
        nmri3d.open(model, dtype="float32")


def test_a_brain_of_an_atlas_cannot_scan(brain):
    with pytest.raises(InputError, match="no model"):
        brain.scan("fMRI", "x")


def test_movie_and_export_follow_what_is_shown(atlas, scan, tmp_path):
    import pyvista

    with Brain(atlas) as brain:
        with pytest.raises(InputError, match=r"brain\.show"):
            brain.movie(tmp_path / "a.mp4")
        told = []
        brain.show(scan, token=1)
        written = brain.movie(tmp_path / "a", size=(160, 90), fps=4, progress=lambda *state: told.append(state))
        assert written == tmp_path / "a.mp4"
        assert told[-1] == (1.0, "written")
        assert "token 1" in repr(brain)
        before = brain.scene.screenshot((160, 90))
        brain.show(scan, token=1)
        np.testing.assert_array_equal(brain.scene.screenshot((160, 90)), before)  # painted as it was
        for name in ("b.glb", "b.html", "b.vtm"):
            assert brain.export(tmp_path / name).stat().st_size > 200
        np.testing.assert_array_equal(
            pyvista.read(tmp_path / "b.vtm")["cortex"].cell_data["component"], atlas.face_component
        )
        with pytest.raises(InputError, match=r"\.stl"):
            brain.export(tmp_path / "b.stl")


def test_components_can_be_shown_as_balls(atlas, scan, tmp_path):
    import pyvista

    with Brain(atlas, surface="stack") as brain:
        assert brain.scene.surface == "stack"
        brain.show(scan).export(tmp_path / "a.vtm")
        cortex = pyvista.read(tmp_path / "a.vtm")["cortex"]
        np.testing.assert_array_equal(cortex.points, brain.scene.form_of("stack").points)
        rows = atlas.face_component[atlas.face_component >= 0]
        np.testing.assert_array_equal(cortex.cell_data["component"], rows)
        brain.movie(tmp_path / "a.mp4", kind="morph", forms=("pial", "radial"), size=(64, 36), fps=3, seconds=1)
        assert brain.scene.surface == "stack"
        with pytest.raises(InputError, match="features"):
            brain.show_form("network")
        with pytest.raises(InputError, match="cube"):
            brain.show_form("cube")
        with pytest.raises(InputError, match="stack"):
            brain.show_surface("stack")


def test_a_network_follows_the_features_that_the_brain_was_made_with(atlas, monkeypatch):
    n = len(atlas.components)
    alike = {
        name: np.random.default_rng(seed).normal(size=(n, 4)) for seed, name in enumerate(("weights", "functional"))
    }
    monkeypatch.setattr("nmri3d.atlas.Atlas.build", lambda *_, **__: atlas)
    monkeypatch.setattr("nmri3d.template.functional.functional_features", lambda *_: alike["functional"])
    model = SimpleNamespace(components=atlas.components, layout_features=lambda: alike["weights"])
    for source, features in alike.items():
        with Brain(model, layout="network", features=source) as brain:
            expected = node_layout("network", atlas.components, features).center
            np.testing.assert_array_equal(brain.scene.form.nodes.center, expected)

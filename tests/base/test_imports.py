"""What importing costs: each check runs in a fresh process and looks at what was really loaded."""

import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "transformers",
    "transformer_lens",
    "vtkmodules",
    "pyvista",
    "trame",
    "trame_vtk",
    "matplotlib",
    "fastapi",
}


def loaded_by(code: str) -> set[str]:
    """Heavy libraries that a piece of code loads."""
    report = f"{code}\nimport sys; print('LOADED', *({HEAVY!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(run.stdout.rsplit("LOADED", 1)[1].split())


def test_the_check_can_fail():
    assert loaded_by("import fastapi") == {"fastapi"}


@pytest.mark.parametrize(
    "code",
    [
        "import nmri3d",
        "import nmri3d; nmri3d.ComponentTable; nmri3d.Scan; nmri3d.open_scan; nmri3d.Nmri3dError",
        "import nmri3d.models, nmri3d.scans, nmri3d.atlas, nmri3d.scene, nmri3d.export, nmri3d.jupyter, nmri3d.cli",
        "from typer.testing import CliRunner as R; import nmri3d.cli; assert not R().invoke(nmri3d.cli.app, ['-h']).exit_code",
        "from nmri3d.models import catalog; catalog()",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code):
    assert loaded_by(code) == set()


def test_pictures_are_drawn_without_networks():
    code = "import nmri3d.atlas.build, nmri3d.scene.brain, nmri3d.export.image"
    assert not loaded_by(code) & {"torch", "transformers", "transformer_lens", "trame", "fastapi"}


DRAWN = """
import numpy as np
from nmri3d.atlas import Atlas, NODE_LAYOUTS, label_volume, node_layout
from nmri3d.atlas.neurons import NeuronAtlas
from nmri3d.components import ComponentTable
from nmri3d.scene.brain import BrainScene
from tests.atlas.tables import Shape, table
components = table(3, 4)
model = Shape(components)
atlas = Atlas.build(model, "umap", cache=False)
Atlas.build(model, "spectral", cache=False)
nodes = [node_layout(name, components, model.layout_features()) for name in NODE_LAYOUTS]
count = 40
neurons = ComponentTable(["neuron"] * 3 * count, np.repeat([0, 1, 2], count), [*range(count)] * 3, [7] * 3 * count)
random = np.random.default_rng(0)
level = NeuronAtlas.build(atlas, neurons, lambda layer: random.normal(size=(count, 4)).astype("float32"), cache=False)
with BrainScene(atlas, nodes=nodes) as scene:
    scene.view("dorsal")
    for name in scene.forms:
        scene.show_form(name)
        assert scene.screenshot((80, 60)).max() > 60, name
    scene.show_neurons(level)
    scene.screenshot((80, 60))
    scene.show_neurons(None)
    scene.show_volume(label_volume(atlas, 3.0, cache=False))
    scene.screenshot((80, 60))
"""


def test_everything_is_drawn_by_a_plain_script_without_networks_or_web():
    loaded = loaded_by(DRAWN)
    assert loaded & {"vtkmodules", "pyvista"}
    assert not loaded & {"torch", "transformers", "transformer_lens", "trame", "trame_vtk", "fastapi"}


def test_networks_are_scanned_without_pictures():
    code = "import nmri3d.models.transformer_lens, nmri3d.scans.dispatch, nmri3d.service"
    assert not loaded_by(code) & {"vtkmodules", "pyvista", "trame", "trame_vtk", "fastapi"}


def test_every_public_name_is_there_and_listed():
    import nmri3d

    for name in nmri3d.__all__:
        assert getattr(nmri3d, name) is not None
    with pytest.raises(AttributeError):
        _ = nmri3d.no_such_name

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


def test_networks_are_scanned_without_pictures():
    code = "import nmri3d.models.transformer_lens, nmri3d.scans.dispatch, nmri3d.service"
    assert not loaded_by(code) & {"vtkmodules", "pyvista", "trame", "trame_vtk", "fastapi"}


def test_every_public_name_is_there_and_listed():
    import nmri3d

    for name in nmri3d.__all__:
        assert getattr(nmri3d, name) is not None
    with pytest.raises(AttributeError):
        _ = nmri3d.no_such_name

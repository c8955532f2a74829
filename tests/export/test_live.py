"""The live view of a notebook: what is sent when, what comes back, and when a picture stands in for it."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from nmri3d import jupyter_live
from nmri3d.errors import InputError, MachineError
from nmri3d.jupyter import Brain
from nmri3d.scene.colors import component_colors, display_range, scan_color_map
from nmri3d.scene.texture import texture_image

pytest.importorskip("anywidget")

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def brain(atlas):
    with Brain(atlas) as brain:
        yield brain


@pytest.fixture
def sent(brain):
    """Names of the parts that went to the browser since the last look."""
    names = []
    brain.live.observe(lambda change: names.append(change.name))

    def look():
        seen, names[:] = sorted(set(names)), []
        return seen

    look()
    return look


def frames(brain) -> np.ndarray:
    given = brain.live.paint["frames"]
    return np.frombuffer(given["pixels"]["data"], np.uint8).reshape(-1, given["height"], given["width"], 4)


def test_only_what_changed_is_sent(brain, scan, sent):
    brain.show(scan, token=0)
    assert "cortex" not in sent()
    brain.show(scan, token=1)
    assert sent() == ["step"]
    brain.select("blocks.0.attn.head_1")
    assert sent() == ["marks", "row"]
    assert "selection" in [shape["name"] for shape in brain.live.marks["shapes"]]
    brain.show_surface("inflated")
    assert {"cortex", "marks"} <= set(sent())
    points = np.frombuffer(brain.live.cortex["shapes"][0]["points"]["data"], np.float32)
    assert np.abs(points).max() > 100
    brain.view("dorsal")
    assert sent() == ["view"]
    brain.view("dorsal")  # turned in the browser meanwhile
    assert sent() == ["view"]


def test_all_steps_are_there_in_the_colors_of_the_scene(brain, scan):
    brain.show(scan, token=2)
    shown = frames(brain)
    assert len(shown) == 3
    for step in range(3):
        colors = component_colors(scan.values[step], display_range(scan), scan_color_map(scan))
        np.testing.assert_array_equal(shown[step], texture_image(colors, brain.scene.layout))
    assert brain.live.step == 2
    np.testing.assert_array_equal(
        np.frombuffer(brain.live.paint["values"]["data"], np.float32).reshape(3, 11), scan.values
    )


def test_what_is_done_in_the_notebook_is_what_the_brain_then_shows(brain, scan, sent, tmp_path):
    from PIL import Image

    brain.show(scan, token=0)
    sent()
    brain.live.step = 2  # as the browser does
    assert "token 2" in repr(brain)
    assert "paint" not in sent()
    with Image.open(brain.screenshot(tmp_path / "a.png", size=(320, 180))) as image:
        assert image.info["nmri3d.step"] == "2"
    row = scan.components.row("blocks.0.attn.head_1")
    brain.live.row = row
    assert brain.scene.selected == row
    assert "marks" in sent()
    brain.live.row = -1
    assert brain.scene.selected is None
    brain.live.step = 77  # not a step: a browser is not to be trusted
    brain.live.row = 4000
    assert "token 2" in repr(brain)


def test_glass_and_tubes_come_and_go(brain, scan, dti):
    brain.show(dti)
    assert "tracts" in [shape["name"] for shape in brain.live.marks["shapes"]]
    assert brain.live.paint["frames"]["translucent"]
    brain.show(scan)
    assert "tracts" not in [shape["name"] for shape in brain.live.marks["shapes"]]
    assert not brain.live.paint["frames"]["translucent"]


def kernel(monkeypatch, running: bool) -> None:
    shell = SimpleNamespace(kernel=object()) if running else None
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def test_it_is_live_in_a_kernel_and_a_picture_elsewhere(brain, scan, monkeypatch):
    brain.show(scan)
    for setting, running, expected in (
        (None, True, True),
        (None, False, False),
        ("static", True, False),
        ("live", False, True),
        ("auto", True, True),
    ):
        if setting is None:
            monkeypatch.delenv(jupyter_live.SETTING, raising=False)
        else:
            monkeypatch.setenv(jupyter_live.SETTING, setting)
        kernel(monkeypatch, running)
        bundle = brain._repr_mimebundle_()
        assert (WIDGET in bundle) == expected
        assert bundle["image/png"][:4] == b"\x89PNG"  # for what reads the file later
        assert bundle["text/plain"] == repr(brain)
    monkeypatch.setenv(jupyter_live.SETTING, "sometimes")
    with pytest.raises(InputError, match="sometimes"):
        brain._repr_mimebundle_()


def test_without_anywidget_it_is_a_picture_and_live_says_what_is_missing(atlas, scan, monkeypatch):
    monkeypatch.delenv(jupyter_live.SETTING, raising=False)
    kernel(monkeypatch, True)
    monkeypatch.setattr(jupyter_live, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    jupyter_live._widget_class.cache_clear()
    with Brain(atlas) as brain:
        assert WIDGET not in brain.show(scan)._repr_mimebundle_()
        with pytest.raises(MachineError, match=r"nmri3d\[jupyter\]"):
            _ = brain.live
        brain.show(scan, token=0)  # goes on without a live view
    jupyter_live._widget_class.cache_clear()

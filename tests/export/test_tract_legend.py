"""The legend of tracts in a figure, and the figure of a DTI scan."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nmri3d.errors import InputError
from nmri3d.export.image import save_image, shown_tokens
from nmri3d.export.tract_legend import color_keys, count_texts, faithfulness_text
from nmri3d.jupyter import Brain
from nmri3d.results import Scan
from nmri3d.scene.tracts import TractStyle, sign_colors
from tests.export.conftest import make_scan
from tests.scene.small_tracts import small_tracts

PROMPT = ("When", " Mary", " and", " John")


@pytest.fixture
def dti() -> Scan:
    values = np.linspace(-1, 1, 11, dtype=np.float32)[None]
    details = {"prompt_tokens": np.array(PROMPT), "position": np.int64(-1), "faithfulness": np.float64(0.4567)}
    scan = make_scan((), mode="DTI", values=values, units="logit difference", signed=True, details=details)
    provenance = replace(scan.provenance, config={"share": 0.5})
    return replace(scan, tracts=small_tracts(), provenance=provenance)


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def has_color(picture: np.ndarray, color: np.ndarray) -> bool:
    return bool((np.abs(picture - color.astype(int)).max(axis=-1) <= 1).sum() > 20)


def test_the_legend_shows_the_colors_of_the_tubes(scene, dti, tmp_path):
    size = (1280, 720)
    for style in (TractStyle(), TractStyle(variant="colorblind"), TractStyle(colors="direction")):
        picture = pixels(save_image(scene, dti, 0, tmp_path / "a.png", size=size, tracts=style))
        legend = picture[-95:-45]
        for name, color in color_keys(scene.tracts):
            assert has_color(legend, color), (style, name)
    plain = pixels(save_image(scene, replace(dti, tracts=None), 0, tmp_path / "b.png", size=size))
    assert not has_color(plain[-95:-45], sign_colors()[1])
    assert scene.tracts.edges is None  # a scan without tracts takes the tubes of the last one away


def test_counts_tell_what_is_drawn_and_what_is_not(scene, dti):
    scene.show_tracts(dti.tracts, TractStyle(share=0.3))
    assert count_texts(scene.tracts) == ["2 of 90 edges, 38 % of the effect", "1 without a place"]
    scene.show_tracts(small_tracts(total=100.0))
    assert count_texts(scene.tracts)[0] == "6 of 90 edges, 3.9 % of the effect"
    scene.show_tracts(None)
    assert count_texts(scene.tracts) == []


def test_the_faithfulness_is_that_of_the_circuit_that_the_scan_names(dti):
    assert faithfulness_text(dti) == ["circuit of 50 %: faithfulness 0.46"]
    assert faithfulness_text(replace(dti, details={"faithfulness": np.float64(np.nan)})) == []
    assert faithfulness_text(make_scan()) == []


def test_the_measured_position_of_the_prompt_is_marked(dti):
    assert shown_tokens(dti, 0) == (PROMPT, 3)
    assert shown_tokens(replace(dti, details={**dti.details, "position": np.int64(1)}), 0) == (PROMPT, 1)
    assert shown_tokens(make_scan(), 2) == (("The", " capital", " of"), 2)
    assert shown_tokens(make_scan((), details={}), 0) == ((), 0)


def test_a_brain_shows_tracts_and_lets_them_go(atlas, dti, scan, tmp_path):
    with Brain(atlas) as brain:
        brain.show(dti)
        assert len(brain.scene.tracts.shown) == 6
        assert brain.scene.is_glass
        brain.show(dti, tract_share=0.3, tract_colors="direction")
        assert len(brain.scene.tracts.shown) == 2
        brain.screenshot(tmp_path / "a.png", size=(320, 180))
        assert brain.scene.tracts.style.colors == "direction"
        assert len(brain.scene.tracts.shown) == 2
        brain.show(dti).select("blocks.0.mlp")
        assert brain.scene.tracts.shown.tolist() == [2, 3]
        with pytest.raises(InputError, match="between 0 and 1"):
            brain.show(dti, tract_share=2.0)
        brain.show(scan)
        assert brain.scene.tracts.edges is None
        assert not brain.scene.is_glass

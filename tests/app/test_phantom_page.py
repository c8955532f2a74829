"""The page on networks of units, in a real browser: their own steps and outputs, and what they cannot serve, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nmri3d
from nmri3d.models.residual_backend import refusal
from nmri3d.perturbation import Edit
from nmri3d.phantoms.registry import PHANTOMS, shipped_names
from nmri3d.service import Service
from tests.app.conftest import by, opened, serving
from tests.app.test_page import saved_picture
from tests.app.test_sessions_page import newest, record, replay, until
from tests.phantoms.tiny import tiny_phantom

pytestmark = pytest.mark.browser

PROMPT, OTHER = "a b c", "a d c"


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NMRI3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NMRI3D_SESSIONS", str(tmp_path_factory.mktemp("own")))
        yield


@pytest.fixture(scope="module", params=["logits", "signal"])
def copy(request: Any, own_cache: None) -> Any:
    """The network that the page shows, once more."""
    return tiny_phantom(signal=request.param == "signal")


@pytest.fixture(scope="module")
def address(copy: Any) -> Iterator[str]:
    service = Service(loader=lambda name, **_: tiny_phantom(signal=copy.outputs == "signal"))
    service.load("phantom:tiny")
    with serving(service) as server:
        yield server.address
    service.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    visitor = opened(browser, address)
    yield visitor
    complaints = visitor.complaints
    visitor.close()
    assert complaints == []


def scan(page: Any, prompt: str = PROMPT) -> None:
    page.fill(by("prompt-input"), prompt)
    page.press(by("prompt-input"), "Enter")
    page.wait_for_selector(by("token-0"))
    page.wait_for_selector(by("predictions"))


def shown_values(page: Any) -> np.ndarray:
    return np.array(page.evaluate("Array.from(nmri3d.values(), (v) => (Number.isFinite(v) ? v : null))"), dtype=float)


def title(page: Any, name: str) -> str:
    text: str = page.locator(by(name)).evaluate("(node) => node.title || node.closest('label').title")
    return text


def test_what_it_cannot_serve_is_disabled_and_says_why(page: Any, copy: Any) -> None:
    needs = {
        "tool-heads": "attention",
        "tool-trace": "trace",
        "toggle-neurons": "neurons",
        "generate-button": "generation",
    }
    for control, feature in needs.items():
        assert page.is_disabled(by(control)), control
        assert title(page, control) == refusal(copy, feature)
    page.click(by("tool-paths"))
    assert page.is_disabled(by("edges-menu"))
    assert title(page, "edges-menu") == page.inner_text(by("edges-refused")) == refusal(copy, "edges")
    method = page.locator(f'{by("method-menu")} option[value="dla"]')
    assert method.evaluate("(one) => [one.disabled, one.title]") == [True, refusal(copy, "dla")]
    page.click(by("tab-T2"))
    norms = page.locator(f"{by('statistic-menu')} option:disabled")
    assert norms.evaluate_all("(all) => all.map((one) => one.value)") == ["ov_norm", "qk_norm"]
    with pytest.raises(nmri3d.errors.InputError) as refused:
        nmri3d.scan(copy, "T2", statistic="ov_norm")
    assert norms.first.get_attribute("title") == str(refused.value)
    for tool in ("layers", "paths", "lens", "sweep", "layout"):
        assert page.is_enabled(by(f"tool-{tool}"))


def test_the_header_tells_kinds_and_no_residual_stream(page: Any) -> None:
    header = page.inner_text(".dicom.top.right")
    assert "16 components" in header
    assert "8 unit · 3 detector · 2 group · 3 more kinds" in header
    assert "no residual stream" in page.inner_text(by("stimulation-panel"))


def test_an_example_fills_the_prompt(page: Any, copy: Any) -> None:
    assert copy.examples[0] in page.get_attribute(by("prompt-input"), "placeholder")
    options = page.locator(f"{by('examples-menu')} option:not(:disabled)").all_inner_texts()
    assert options == list(copy.examples)
    page.select_option(by("examples-menu"), copy.examples[1])
    assert page.input_value(by("prompt-input")) == copy.examples[1]


def test_steps_have_the_networks_own_name_and_values(page: Any, copy: Any) -> None:
    scan(page)
    local = nmri3d.scan(copy, "fMRI", PROMPT)
    page.keyboard.press("Tab")  # out of the prompt
    page.keyboard.press("ArrowLeft")
    assert "TASK STEP 1 b" in page.inner_text(".dicom.bottom.left").replace("\n", " ")
    assert page.get_attribute(by("token-1"), "title") == 'task step 1: "b"'
    assert title(page, "token-next") == "Next task step (→)"
    assert np.allclose(shown_values(page), local.values[1], equal_nan=True, atol=1e-6)
    assert page.evaluate("nmri3d.scan().palette") == "DTI"  # single units keep their sign
    assert saved_picture(page)[0] == "nmri3d-fMRI-task-step1.png"
    assert "task step" in page.inner_text(by("panel-layers")).lower()
    rows = page.locator(f"{by('levels')} li").all_inner_texts()
    assert [row.split()[0].rstrip("×") for row in rows] == ["encoder", "detector", "pool", "unit", "group", "readout"]
    units = copy.components.rows("unit")
    assert float(rows[3].split()[-1]) == pytest.approx(np.abs(local.values[1, units]).mean(), rel=1e-3)
    first = page.locator(f"{by('leaders')} button").first
    strongest = copy.components.ids[int(np.nanargmax(np.abs(local.values[1])))]
    assert first.inner_text().startswith(strongest)


def test_a_part_is_silenced_compared_and_given_back(page: Any, copy: Any) -> None:
    scan(page)
    page.evaluate("nmri3d.select(nmri3d.geometry().rowOfId.get('unit.2.3'))")
    page.wait_for_selector(f"{by('selected-id')}:text-is('unit.2.3')")
    page.click(by("perturb-zero"))
    page.wait_for_selector(by("edits"))
    local = nmri3d.perturb(copy, PROMPT, Edit("unit.2.3", "zero"))
    signal = copy.outputs == "signal"
    if signal:
        after = [text.removeprefix("→ ") for text in page.locator(f"{by('predictions')} em").all_inner_texts()]
        assert np.array(after, dtype=float) == pytest.approx([one.logit for one in local.after], abs=6e-4)
    else:
        after = page.locator(f"{by('predictions-after')} b").all_inner_texts()
        assert np.array(after, dtype=float) == pytest.approx([one.probability for one in local.after], abs=6e-4)
    assert page.locator(by("kl")).count() == (0 if signal else 1)
    assert np.allclose(shown_values(page), local.change[-1], equal_nan=True, atol=1e-6)
    assert "all task steps" in page.inner_text(by("log-panel"))
    page.click(by("reset-button"))
    page.wait_for_selector(by("edits"), state="detached")
    assert np.allclose(shown_values(page), nmri3d.scan(copy, "fMRI", PROMPT).values[-1], equal_nan=True, atol=1e-6)


def test_the_answer_follows_the_step(page: Any, copy: Any) -> None:
    scan(page)
    outputs = copy.run(copy.stimulus(PROMPT), {}, logits=range(3)).logits.numpy()
    for step in (0, 1, 2):
        page.click(by(f"token-{step}"))
        shown = np.array(page.locator(f"{by('predictions')} b").all_inner_texts(), dtype=float)
        if copy.outputs == "signal":
            assert shown == pytest.approx(outputs[step], abs=6e-4)
        else:
            weights = np.exp(outputs[step] - outputs[step].max())
            assert shown == pytest.approx(np.sort(weights / weights.sum())[::-1], abs=6e-4)


def test_a_part_that_acts_once_is_not_edited_at_a_later_step(page: Any, copy: Any) -> None:
    scan(page)
    page.evaluate("nmri3d.select(nmri3d.geometry().rowOfId.get('pool'))")
    page.wait_for_selector(f"{by('selected-id')}:text-is('pool')")
    assert "hippocampus" in page.inner_text(by("stimulation-panel"))
    page.click(by("perturb-more"))
    assert page.locator(f"{by('edit-positions')} option").nth(1).is_disabled()
    assert page.get_attribute(by("edit-values"), "placeholder") == "4 numbers"
    page.evaluate("nmri3d.store.edit.here = true")  # chosen before, for another part
    page.click(by("perturb-invert"))
    page.wait_for_selector(by("edits"))
    assert page.locator(by("edit-error")).count() == 0


def test_circuit_sweep_and_anomalies_come_without_edges_and_lens(page: Any, copy: Any) -> None:
    scan(page)
    page.click(by("tab-DTI"))
    page.fill(by("corrupt-input"), OTHER)
    target = copy.token_text(4)
    page.fill(by("target-input"), target)
    page.click(by("scan-button"))
    page.wait_for_selector(by("paths-facts"))
    local = nmri3d.scan(copy, "DTI", PROMPT, corrupt=OTHER, target=target)
    assert np.allclose(shown_values(page), local.values[0], equal_nan=True, atol=1e-6)
    facts = page.inner_text(by("paths-facts"))
    assert target in facts
    assert ("logit" in facts) == (copy.outputs == "logits")
    page.click(by("tool-sweep"))
    page.click(by("sweep-button"))
    page.wait_for_selector(by("sweep-ranking"))
    sweep = nmri3d.ablate_all(copy, PROMPT, target=target, effect="zero")
    order = np.argsort(-np.abs(sweep.values), kind="stable")
    ranked = page.locator(f"{by('sweep-ranking')} button").evaluate_all(
        "(all) => all.map((one) => one.title.split(':')[0])"
    )
    assert ranked == [copy.components.ids[row] for row in order]
    page.click(by("tool-lens"))
    page.click(by("tab-FLAIR"))
    page.click(by("scan-button"))
    page.wait_for_selector(by("unlike"))
    flair = nmri3d.scan(copy, "FLAIR", PROMPT)
    assert float(page.inner_text(by("mean-z"))) == pytest.approx(float(flair.details["summary"][-1]), rel=1e-3)
    assert page.inner_text(by("lens-refused")) == refusal(copy, "lens")
    page.click(f"{by('unlike-steps')} button >> nth=0")
    assert np.allclose(shown_values(page), flair.values[0], equal_nan=True, atol=1e-5)


def test_a_replay_speaks_of_the_networks_own_steps(browser: Any, own_cache: None, tmp_path: Path) -> None:
    service = Service(loader=lambda name, **_: tiny_phantom())
    service.load("phantom:tiny")
    with serving(service, sessions=tmp_path) as server:
        page = opened(browser, server.address)
        record(page)
        scan(page)
        page.click(by("token-1"))
        until(lambda: newest(tmp_path).events[-1].data.get("step") == 1)
        record(page, on=False)
        replay(page, newest(tmp_path).id)
        words = page.locator(f"{by('replay-events')} button").evaluate_all("(all) => all.map((one) => one.title)")
        assert words[2] == f"fMRI, 3 task steps: {PROMPT}"
        assert words[-1].startswith("view: fMRI, task step 1, ")
        page.close()
    service.close()


@pytest.mark.parametrize("name", ["cerebellum", "induction"])
def test_a_shipped_phantom_is_chosen_in_the_menu_scanned_stepped_and_perturbed(
    browser: Any, own_cache: None, name: str
) -> None:
    assert name in shipped_names()
    service = Service()
    with serving(service) as server:
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(120_000)
        page.goto(server.address)
        page.wait_for_selector(f'{by("model-menu")} option[value="phantom:{name}"]', state="attached")
        entry = PHANTOMS[name]
        label = page.locator(f'{by("model-menu")} option[value="phantom:{name}"]').inner_text()
        assert label == f"{entry.title}: {entry.about}"
        page.select_option(by("model-menu"), f"phantom:{name}")
        page.wait_for_selector('[data-testid="brain-view"][data-painted="true"]')
        model = service.require_backend()
        page.select_option(by("examples-menu"), model.examples[0])
        page.click(by("scan-button"))
        page.wait_for_selector(by("predictions"))
        local = service.scan("fMRI", model.examples[0])
        page.click(by("token-0"))
        page.keyboard.press("ArrowRight")
        assert np.allclose(shown_values(page), local.values[1], equal_nan=True, atol=1e-5)
        row = int(np.nanargmax(np.abs(local.values[1])))
        page.evaluate(f"nmri3d.select({row})")
        page.wait_for_selector(f"{by('selected-id')}:text-is('{model.components.ids[row]}')")
        page.click(by("perturb-zero"))
        page.wait_for_selector(by("edits"))
        assert np.nanmax(np.abs(shown_values(page))) > 0
        page.click(by("reset-button"))
        page.wait_for_selector(by("edits"), state="detached")
        page.close()
    service.close()

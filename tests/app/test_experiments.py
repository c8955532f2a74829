"""What can be done to a model from the page, in a real browser on a tiny real model: edits, paths, patterns, anomalies, lens,
tracing, sweeps, generation. Figures are held against the same measurement made here, without service and page."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import nmri3d
from nmri3d.scans.generation import Generation
from nmri3d.scans.head_kinds import head_kinds
from nmri3d.scans.logit_lens import logit_lens
from nmri3d.service import Service
from tests.app.conftest import PROMPT, by, opened, scan, serving
from tests.models.tiny import CORPUS, tiny_checkpoint_folder

pytestmark = pytest.mark.browser

HEAD = "blocks.1.attn.head_2"


@pytest.fixture
def model(service: Any, same_model: Any) -> Iterator[Any]:
    """The same model as that behind the page, and the proof that nothing touched the weights of the page's own."""
    backend = service.require_backend()
    before = backend.fingerprint()
    yield same_model
    assert backend.fingerprint() == before == same_model.fingerprint()


def corrupted(model: Any) -> str:
    """A prompt with as many tokens as PROMPT, and other ones."""
    words = sorted({word for line in CORPUS for word in re.findall(r"\w+", line)})
    length = len(model.stimulus(PROMPT))
    texts = (f"The capital of {word} is" for word in words)
    return next(text for text in texts if text != PROMPT and len(model.stimulus(text)) == length)


def select(page: Any, component: str) -> None:
    page.evaluate(f"nmri3d.select(nmri3d.geometry().rowOfId.get('{component}'))")
    page.wait_for_selector(f"{by('selected-id')}:text-is('{component}')")


def figure(page: Any, name: str) -> float:
    """The first number of an element."""
    return numbers(page.inner_text(by(name)))[0]


def numbers(text: str) -> list[float]:
    return [float(one.replace(",", "")) for one in re.findall(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", text)]


def shown_values(page: Any) -> np.ndarray:
    """What is painted now, [components]."""
    return np.array(page.evaluate("Array.from(nmri3d.values(), String)"), dtype=np.float32)


def typed(page: Any, expression: str) -> np.ndarray:
    """A float32 array that came as bytes."""
    return np.array(page.evaluate(f"Array.from(nmri3d.typed(Float32Array, {expression}), String)"), dtype=np.float32)


def state(name: str) -> str:
    return f"window.trame.state.state.{name}"


def compare(page: Any, count: int) -> None:
    """Wait until the comparison of a stack of `count` edits is shown."""
    page.wait_for_function(f"document.querySelectorAll('.edit').length === {count}")
    page.wait_for_selector(by("affected") if count else by("comparison-panel"))


# -- edits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zero", "amplify", "invert", "noise", "ablate"])
def test_a_button_edits_the_selected_component_and_shows_what_changed(page: Any, model: Any, kind: str) -> None:
    scan(page)
    select(page, HEAD)
    page.click(by(f"perturb-{kind}"))
    compare(page, 1)
    wanted = nmri3d.perturb(model, PROMPT, nmri3d.Edit(HEAD, kind))
    assert figure(page, "kl") == pytest.approx(wanted.kl, rel=1e-3, abs=1e-9)
    before, after, change = numbers(page.inner_text(by("logit-diff")))
    assert (before, after) == pytest.approx((wanted.logit_before, wanted.logit_after), abs=2e-3)
    assert change == pytest.approx(wanted.logit_diff, rel=1e-3, abs=1e-9)
    for name, tokens in (("predictions", wanted.before), ("predictions-after", wanted.after)):
        shown = [float(text) for text in page.locator(f"{by(name)} b").all_inner_texts()]
        assert shown == pytest.approx([one.probability for one in tokens[:5]], abs=6e-4)
    page.wait_for_function("nmri3d.scan().units.startsWith('change')")
    np.testing.assert_allclose(shown_values(page), wanted.change[-1], rtol=1e-5, atol=1e-7)
    assert page.evaluate("nmri3d.range().scale") == "symmetric"
    most = wanted.components.ids[wanted.ranked(1)[0]]
    page.click(f"{by('affected')} li:first-child button")
    page.wait_for_selector(f"{by('selected-id')}:text-is('{most}')")
    assert kind in page.inner_text(by("log-panel"))


def test_edits_stack_and_can_be_taken_back_one_by_one(page: Any, model: Any) -> None:
    scan(page)
    select(page, HEAD)
    page.click(by("perturb-more"))
    page.fill(by("edit-factor"), "3")
    page.click(by("token-1"))
    page.select_option(by("edit-positions"), label="the shown token only")
    page.click(by("perturb-amplify"))
    compare(page, 1)
    select(page, "blocks.0.mlp")
    page.select_option(by("edit-positions"), label="all tokens")
    page.click(by("perturb-zero"))
    compare(page, 2)
    first, second = nmri3d.Edit(HEAD, "amplify", factor=3.0, positions=[1]), nmri3d.Edit("blocks.0.mlp", "zero")
    wanted = nmri3d.perturb(model, PROMPT, [first, second])
    assert figure(page, "kl") == pytest.approx(wanted.kl, rel=1e-3)

    clean = service_values(model)
    for name, values in (("before", clean), ("after", wanted.values_after), ("change", wanted.change)):
        page.click(by(f"paint-{name}"))
        page.wait_for_function(f"nmri3d.store.painting === '{name}'")
        np.testing.assert_allclose(
            shown_values(page), values[page.evaluate("nmri3d.currentStep()")], rtol=1e-5, atol=1e-6
        )
    limits = []
    for name in ("before", "after"):
        page.click(by(f"paint-{name}"))
        page.wait_for_function(f"nmri3d.store.painting === '{name}'")
        limits.append(page.evaluate("[nmri3d.range().vmin, nmri3d.range().vmax]"))
    assert limits[0] == limits[1]  # side by side they compare

    page.locator(".edit button").first.click()
    compare(page, 1)
    page.wait_for_function(f"!({state('edit_job')})")
    alone = nmri3d.perturb(model, PROMPT, second)
    assert figure(page, "kl") == pytest.approx(alone.kl, rel=1e-3)
    page.click(by("edit-undo"))
    page.wait_for_selector(by("affected"), state="detached")
    assert page.evaluate("nmri3d.store.painting") == ""
    np.testing.assert_allclose(shown_values(page), clean[page.evaluate("nmri3d.currentStep()")], rtol=1e-5, atol=1e-6)

    page.click(by("perturb-invert"))
    compare(page, 1)
    page.click(by("reset-button"))
    page.wait_for_selector(by("edits"), state="detached")
    assert page.locator(by("affected")).count() == 0


def service_values(model: Any) -> np.ndarray:
    values: np.ndarray = nmri3d.scan(model, "fMRI", PROMPT).values
    return values


def test_a_single_neuron_can_be_set_and_patched(page: Any, model: Any) -> None:
    scan(page)
    select(page, "blocks.1.mlp")
    page.click(by("top-neurons"))
    page.locator(f"{by('neurons')} button").first.click()
    neuron = page.evaluate("nmri3d.store.neuron")
    assert f"neuron {neuron} alone" in page.inner_text(by("edited-neuron"))
    page.click(by("perturb-more"))
    page.fill(by("edit-values"), "5.5")
    page.click(by("perturb-inject"))
    compare(page, 1)
    component = f"blocks.1.mlp.neuron_{neuron}"
    wanted = nmri3d.perturb(model, PROMPT, nmri3d.Edit(component, "inject", values=5.5))
    assert figure(page, "kl") == pytest.approx(wanted.kl, rel=1e-3, abs=1e-9)
    other = corrupted(model)
    page.fill(by("edit-source"), other)
    page.click(by("perturb-patch"))
    compare(page, 2)
    stack = [nmri3d.Edit(component, "inject", values=5.5), nmri3d.Edit(component, "patch", source=other)]
    assert figure(page, "kl") == pytest.approx(nmri3d.perturb(model, PROMPT, stack).kl, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("field", "text", "button", "sentence"),
    [
        ("edit-source", "France", "perturb-patch", "equally many tokens"),
        ("edit-values", "1 2 three", "perturb-inject", "must be numbers"),
        ("edit-values", "1 2 3", "perturb-inject", "numbers"),
        ("edit-factor", "", "perturb-amplify", "factor must be a number"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_beside_it_and_does_not_stack(
    page: Any, field: str, text: str, button: str, sentence: str
) -> None:
    scan(page)
    select(page, HEAD)
    page.click(by("perturb-more"))
    page.fill(by(field), text)
    page.click(by(button))
    page.wait_for_selector(by("edit-error"))
    assert sentence in page.inner_text(by("edit-error"))
    assert page.locator(".edit").count() == 0


def test_without_a_prompt_the_buttons_say_what_is_missing(page: Any) -> None:
    select(page, HEAD)
    for kind in ("zero", "amplify", "invert", "noise", "ablate"):
        assert page.is_disabled(by(f"perturb-{kind}"))
        assert "Scan a prompt first" in page.get_attribute(by(f"perturb-{kind}"), "title")
    select(page, "unembed")
    scan(page)
    assert page.is_disabled(by("perturb-zero"))
    assert "writes nothing" in page.get_attribute(by("perturb-zero"), "title")


def test_a_new_prompt_is_measured_with_the_same_edits(page: Any, model: Any) -> None:
    scan(page)
    select(page, HEAD)
    page.click(by("perturb-zero"))
    compare(page, 1)
    before = page.inner_text(by("kl"))
    page.fill(by("prompt-input"), "a quick brown fox")
    page.press(by("prompt-input"), "Enter")
    page.wait_for_function(f"document.querySelector('{by('kl')}').innerText !== {before!r}")
    wanted = nmri3d.perturb(model, "a quick brown fox", nmri3d.Edit(HEAD, "zero"))
    assert figure(page, "kl") == pytest.approx(wanted.kl, rel=1e-3)
    assert page.locator(".edit").count() == 1


# -- paths --------------------------------------------------------------------------------------------------------------


def scan_paths(page: Any, *, method: str = "exact", corrupt: str = "") -> None:
    page.click(by("tab-DTI"))
    page.select_option(by("method-menu"), method)
    page.fill(by("corrupt-input"), corrupt)
    page.fill(by("prompt-input"), PROMPT)
    page.click(by("scan-button"))
    page.wait_for_selector(by("paths"))
    page.wait_for_selector(by("job"), state="detached")


@pytest.mark.parametrize("method", ["exact", "atp", "dla"])
def test_paths_name_their_method_and_show_what_was_measured(page: Any, model: Any, method: str) -> None:
    other = corrupted(model)
    scan_paths(page, method=method, corrupt=other)
    wanted = nmri3d.scan(model, "DTI", PROMPT, corrupt=other, method=method)
    np.testing.assert_allclose(shown_values(page), wanted.values[0], rtol=1e-4, atol=1e-6)
    words = {"exact": "exact", "atp": "attribution patching (preview)", "dla": "direct logit attribution"}
    facts = page.inner_text(by("paths-facts"))
    assert facts.startswith(words[method])
    target, foil = (model.token_text(int(wanted.details[name])).replace(" ", "·") for name in ("target", "foil"))
    assert target in facts
    assert foil in facts
    if method == "dla":
        total = float(np.nansum(wanted.values))
        assert total == pytest.approx(float(wanted.details["clean_metric"]), abs=1e-4)
    assert f"clean {wanted.details['clean_metric']:.3g}"[:9] in facts
    assert figure(page, "faithfulness") == pytest.approx(float(wanted.details["faithfulness"]), rel=2e-3)
    assert figure(page, "circuit-size") == len(wanted.tracts.pruned(0.5))


def test_edges_are_ranked_selected_and_verified(page: Any, model: Any) -> None:
    other = corrupted(model)
    scan_paths(page, corrupt=other)
    wanted = nmri3d.scan(model, "DTI", PROMPT, corrupt=other).tracts
    scores = [numbers(text)[0] for text in page.locator(f"{by('edges')} button b").all_inner_texts()]
    assert scores == pytest.approx(wanted.score[: len(scores)].tolist(), rel=1e-3, abs=1e-9)
    page.locator(f"{by('edges')} li button").nth(1).click()
    edge = page.evaluate("({...nmri3d.store.edge})")
    assert edge == {"source": int(wanted.source[1]), "target": int(wanted.target[1]), "slot": str(wanted.slot[1])}
    page.click(by("verify-edge"))
    page.wait_for_selector(by("edge-check"))
    names = model.components.ids
    measured = nmri3d.verify_edge(
        model, PROMPT, names[edge["source"]], names[edge["target"]], edge["slot"], corrupt=other
    )
    shown, attributed = numbers(page.inner_text(by("edge-check")))
    assert shown == pytest.approx(measured, rel=1e-3)
    assert attributed == pytest.approx(float(wanted.score[1]), rel=1e-3)

    select(page, HEAD)
    page.check(by("only-touching"))
    touching = wanted.touching(model.components.row(HEAD))
    texts = page.locator(f"{by('edges')} li > button span:first-child").all_inner_texts()
    assert texts
    assert all("L1.H2" in text for text in texts)
    assert len(texts) == min(100, len(touching))


def test_the_metric_can_be_chosen(page: Any, model: Any) -> None:
    scan(page)
    page.click(by("tab-DTI"))
    best = [
        one for one in nmri3d.perturb(model, PROMPT, [], k=40).before if one.token.isascii() and one.token.isalpha()
    ]
    target, foil = best[1], best[0]
    page.fill(by("target-input"), f'"{target.token}"')
    page.fill(by("foil-input"), f'"{foil.token}"')
    page.click(by("token-1"))  # the answer after the second token
    assert page.input_value(by("position-menu")) == "1"
    page.select_option(by("method-menu"), "dla")
    page.click(by("scan-button"))
    page.wait_for_selector(by("paths"))
    wanted = nmri3d.scan(model, "DTI", PROMPT, target=target.token_id, foil=foil.token_id, position=1, method="dla")
    np.testing.assert_allclose(shown_values(page), wanted.values[0], rtol=1e-4, atol=1e-6)


def test_a_corrupted_prompt_of_another_length_is_told_beside_it(page: Any) -> None:
    page.click(by("tab-DTI"))
    page.fill(by("prompt-input"), PROMPT)
    page.fill(by("corrupt-input"), "France")
    page.press(by("corrupt-input"), "Tab")
    page.wait_for_selector(by("corrupt-error"))
    assert "must have equally many" in page.inner_text(by("corrupt-error"))
    page.click(by("scan-button"))
    page.wait_for_selector(by("prompt-error"))
    assert page.locator(by("paths")).count() == 0
    page.fill(by("corrupt-input"), "")
    page.press(by("corrupt-input"), "Tab")
    page.wait_for_selector(by("corrupt-error"), state="detached")


# -- attention, anomalies, lens -----------------------------------------------------------------------------------------


def test_the_attention_of_a_head_can_be_read_by_pointer_and_keys(page: Any, model: Any) -> None:
    scan(page)
    select(page, HEAD)
    page.click(by("tool-heads"))
    page.wait_for_function(f"({state('attention')} || {{}}).layer === 1 && {state('attention')}.head === 2")
    stimulus = model.stimulus(PROMPT)
    pattern = model.attention(stimulus, 1)[2]
    box = page.locator(by("attention-map")).bounding_box()
    size = len(stimulus)
    for query, key in ((size - 1, 0), (2, 1)):
        page.mouse.move(box["x"] + (key + 0.5) / size * box["width"], box["y"] + (query + 0.5) / size * box["height"])
        text = page.inner_text(by("attention-map-readout"))
        assert numbers(text)[-1] == pytest.approx(float(pattern[query, key]), rel=1e-3, abs=1e-6)
        assert stimulus.labels[query].replace(" ", "·") in text
    page.locator(by("attention-map")).focus()
    page.keyboard.press("ArrowRight")
    assert (
        "cannot look ahead" in page.inner_text(by("attention-map-readout")) or page.keyboard.press("ArrowDown") is None
    )
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "cannot look ahead" in page.inner_text(by("attention-map-readout"))
    page.select_option(by("head-layer"), "0")
    page.wait_for_function(f"{state('attention')}.layer === 0")
    np.testing.assert_allclose(
        typed(page, f"{state('attention')}.pattern").reshape(size, size), model.attention(stimulus, 0)[2], rtol=1e-6
    )


def test_heads_of_a_known_kind_are_ranked_and_shown(page: Any, model: Any) -> None:
    scan(page)
    page.click(by("tool-heads"))
    page.click(by("kinds-button"))
    page.wait_for_selector(by("kind-induction"))
    wanted = head_kinds(model)
    for kind in ("previous", "duplicate", "induction"):
        scores = getattr(wanted, kind)
        shown = [float(text) for text in page.locator(f"{by(f'kind-{kind}')} b").all_inner_texts()]
        assert shown == pytest.approx(sorted(scores.tolist(), reverse=True)[: len(shown)], abs=6e-4)
    best = model.components.ids[wanted.rows[int(np.argmax(wanted.induction))]]
    page.locator(f"{by('kind-induction')} button").first.click()
    layer, head = numbers(best.replace("blocks.", "").replace(".attn.head_", " "))
    page.wait_for_function(f"{state('attention')}.layer === {layer:.0f} && {state('attention')}.head === {head:.0f}")


def test_raw_values_are_shown_while_the_template_is_built(
    browser: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path / "cache"))
    service = Service()
    service.load(str(tiny_checkpoint_folder("gpt2", tmp_path / "model")))
    build, seen = service.build_template, threading.Event()

    def slowly(*, progress: Any) -> None:
        while not seen.wait(0.05):
            progress(0.0, "reading the reference text")
        build(progress=progress)

    monkeypatch.setattr(service, "build_template", slowly)
    assert not service.template_ready()
    with serving(service) as running:
        page = opened(browser, running.address)
        page.click(by("tab-FLAIR"))
        scan(page)
        page.wait_for_selector(by("template-progress"))
        assert "Until then raw values" in page.inner_text(by("template-progress"))
        assert "nats" in page.evaluate("nmri3d.scan().units")
        raw = nmri3d.scan(service.require_backend(), "FLAIR", PROMPT, template="off")
        np.testing.assert_allclose(shown_values(page), raw.values[-1], rtol=1e-4, atol=1e-4)
        assert page.locator(by("flair-score")).count() == 0
        seen.set()
        page.wait_for_selector(by("flair-score"))
        assert "percentile" in page.evaluate("nmri3d.scan().units")
        assert service.template_ready()
        assert page.complaints == []
        page.close()
    service.close()


def test_anomalies_are_told_by_layer_and_component(page: Any, model: Any) -> None:
    page.click(by("tab-FLAIR"))
    scan(page)
    page.wait_for_selector(by("flair-score"))
    wanted = nmri3d.scan(model, "FLAIR", PROMPT)
    np.testing.assert_allclose(shown_values(page), wanted.values[-1], rtol=1e-4, atol=1e-3)
    assert figure(page, "flair-score") == pytest.approx(float(wanted.details["summary"][-1]), rel=1e-3)
    assert figure(page, "final-entropy") == pytest.approx(float(wanted.details["final_entropy"][-1]), rel=1e-3)
    page.click(by("token-1"))
    doubt = float(wanted.details["one_minus_max_probability"][1])
    assert figure(page, "one-minus-p") == pytest.approx(doubt, rel=1e-3)
    assert "never “wrong”" in page.inner_text(by("anomaly"))
    box = page.locator(by("profile")).bounding_box()
    rows = wanted.details["kl"].shape[0]
    page.mouse.move(box["x"] + 1.5 / rows * box["width"], box["y"] + box["height"] / 2)
    assert f"KL {wanted.details['kl'][1, 1]:.3g}"[:7] in page.inner_text(by("profile-readout"))

    select(page, HEAD)
    assert "shows its sub-layer's value" in page.inner_text(by("stimulation-panel"))
    page.click(by("own-effect"))
    page.wait_for_selector(by("own-effect-facts"))
    from nmri3d.scans.own_effect import own_effect

    effect = own_effect(model, PROMPT, HEAD)
    assert numbers(page.inner_text(by("own-effect-facts")))[0] == pytest.approx(float(effect.change[1]), rel=1e-3)


def test_the_lens_shows_what_each_layer_would_answer(page: Any, model: Any, service: Any) -> None:
    scan(page)
    page.click(by("tool-lens"))
    page.wait_for_selector(by("lens"))
    table = logit_lens(model, PROMPT)
    last_row, last = len(table.labels) - 1, len(table.tokens) - 1
    for row in (0, last_row):
        cell = page.inner_text(by(f"lens-{row}-{last}"))
        assert cell == table.texts[row, last, 0].replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")
    page.click(by(f"lens-{last_row}-{last}"))
    shown = [float(text) for text in page.locator(f"{by('lens-best')} b:not(.facts b)").all_inner_texts()][-5:]
    answers = [one.probability for one in service.predict(PROMPT)]
    assert shown == pytest.approx(answers, abs=6e-4)  # the last row is the model's own answer
    page.click(by(f"lens-{last_row}-{last - 1}"))
    assert page.get_attribute(by(f"token-{last - 1}"), "aria-current") == "step"


# -- runs ---------------------------------------------------------------------------------------------------------------


def test_a_trace_is_shown_raw_and_its_cells_select(page: Any, model: Any) -> None:
    other = corrupted(model)
    scan(page)
    page.click(by("tool-trace"))
    page.wait_for_selector(f"{by('trace-estimate')}:has-text('needs a corrupted prompt')")
    page.fill(by("corrupt-input"), other)
    page.wait_for_selector(f"{by('trace-estimate')}:has-text('second')")
    page.click(by("trace-button"))
    page.wait_for_selector(by("trace"))
    wanted = nmri3d.trace(model, PROMPT, other)
    np.testing.assert_allclose(
        typed(page, f"{state('trace')}.values").reshape(wanted.values.shape), wanted.values, rtol=1e-4, atol=1e-5
    )
    limit = np.nanmax(np.abs(wanted.values))
    assert numbers(page.inner_text(".heat-scale"))[-1] == pytest.approx(limit, rel=1e-3)  # nothing is clamped
    page.click(by("widen"))
    box = page.locator(by("trace-mlp")).bounding_box()
    rows, columns = wanted.values.shape[1:]

    def at(row: int, column: int) -> tuple[float, float]:
        return box["x"] + (column + 0.5) / columns * box["width"], box["y"] + (row + 0.5) / rows * box["height"]

    page.wait_for_timeout(200)
    box = page.locator(by("trace-mlp")).bounding_box()
    page.mouse.move(*at(1, 2))
    text = page.inner_text(by("trace-mlp-readout"))
    assert numbers(text)[-1] == pytest.approx(float(wanted.values[2, 1, 2]), rel=1e-3, abs=1e-6)
    page.mouse.move(*at(rows - 1, 2))
    assert "no MLP after the last layer" in page.inner_text(by("trace-mlp-readout"))
    page.mouse.click(*at(1, 2))
    page.wait_for_selector(f"{by('selected-id')}:text-is('blocks.1.mlp')")
    assert page.get_attribute(by("token-2"), "aria-current") == "step"


def test_a_run_of_over_a_minute_asks_first(page: Any, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "estimate_trace", lambda *_, **__: 150.0)
    scan(page)
    page.click(by("tool-trace"))
    page.select_option(by("trace-method"), "noise")
    page.fill(by("trace-draws"), "3")
    page.click(by("trace-button"))
    page.wait_for_selector(by("trace-ask"))
    assert "2 min" in page.inner_text(by("trace-ask")) or "3 min" in page.inner_text(by("trace-ask"))
    page.click(by("trace-no"))
    page.wait_for_selector(by("trace-ask"), state="detached")
    assert page.locator(by("trace")).count() == 0
    page.click(by("trace-button"))
    page.click(by("trace-yes"))
    page.wait_for_selector(by("trace"))
    assert "noise on" in page.inner_text(by("trace"))


def test_a_sweep_is_ranked_and_painted(page: Any, model: Any) -> None:
    scan(page)
    page.click(by("tool-sweep"))
    page.click(by("sweep-button"))
    page.wait_for_selector(by("sweep"))
    page.wait_for_function("nmri3d.store.mode === 'DTI' && nmri3d.painted()")
    wanted = nmri3d.ablate_all(model, PROMPT)
    np.testing.assert_allclose(shown_values(page), wanted.values, rtol=1e-3, atol=1e-5)
    row = int(np.nanargmax(np.abs(wanted.values)))
    page.locator(f"{by('sweep-ranking')} button").first.click()
    page.wait_for_selector(f"{by('selected-id')}:text-is('{wanted.components.ids[row]}')")
    assert "SWEEP" in page.inner_text(by("painted"))
    page.click(by("paint-sweep"))
    page.wait_for_function("!nmri3d.painted()")
    assert page.evaluate("nmri3d.scan()") is None  # DTI itself was not scanned


# -- generation ---------------------------------------------------------------------------------------------------------


def test_generated_tokens_come_one_by_one_with_their_scans(page: Any, model: Any) -> None:
    page.fill(by("prompt-input"), PROMPT)
    page.fill(by("generate-count"), "4")
    page.click(by("generate-button"))
    page.wait_for_selector(".chip.generated")
    generation = Generation(model, PROMPT, 4)
    steps = []
    while not generation.done:
        steps.append(generation.step(model))
    page.wait_for_function(f"document.querySelectorAll('.chip.generated').length === {len(steps)}")
    page.wait_for_selector(by("job"), state="detached")
    chips = [text.strip() for text in page.locator(".chip.generated").all_inner_texts()]
    expected = [step.token.token.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥") or "∅" for step in steps]
    assert chips == expected
    np.testing.assert_allclose(shown_values(page), steps[-1].scan.values[-1], rtol=1e-4, atol=1e-6)
    first = len(model.stimulus(PROMPT))
    page.click(by(f"token-{first}"))
    np.testing.assert_allclose(shown_values(page), steps[0].scan.values[-1], rtol=1e-4, atol=1e-6)
    assert "Generated" in page.inner_text(by("log-panel"))


def test_a_generation_can_be_cancelled_and_keeps_what_was_written(
    page: Any, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = service.generate

    def slowly(prompt: str, count: int, on_step: Any, **options: Any) -> Any:
        def wait(step: Any) -> None:
            on_step(step)
            time.sleep(0.4)

        return write(prompt, count, wait, **options)

    monkeypatch.setattr(service, "generate", slowly)
    page.fill(by("prompt-input"), PROMPT)
    page.fill(by("generate-count"), "100")
    page.click(by("generate-button"))
    page.wait_for_selector(".chip.generated")
    assert page.is_visible(by("progress"))  # beside the chips
    page.click(by("cancel-button"))
    page.wait_for_selector(by("job"), state="detached")
    written = page.locator(".chip.generated").count()
    assert 1 <= written < 20
    assert page.evaluate("nmri3d.scan().steps") == page.locator(".chip").count()
    page.wait_for_function(f"{state('prediction')}")  # of the text so far


# -- remote rendering ---------------------------------------------------------------------------------------------------


def test_the_server_paints_what_the_browser_would(browser: Any, service: Any) -> None:
    with serving(service, render="remote") as running:
        page = opened(browser, running.address)
        scan(page)
        page.wait_for_timeout(1500)
        clean = canvas(page)
        select(page, "blocks.1.mlp")
        page.click(by("perturb-zero"))
        compare(page, 1)
        page.wait_for_timeout(1500)
        changed = canvas(page)
        assert np.abs(changed - clean).mean() > 1
        page.click(by("edit-undo"))
        page.wait_for_selector(by("affected"), state="detached")
        page.keyboard.press("Escape")
        page.wait_for_timeout(1500)
        assert np.abs(canvas(page) - clean).mean() < 0.3
        assert page.complaints == []
        page.close()


def canvas(page: Any) -> np.ndarray:
    """The picture as int [height, width, 3], without what lies over it."""
    from PIL import Image

    page.add_style_tag(content=".scan-lines, .vignette, .canvas-overlay, .brain-overlay { opacity: 0 }")
    shot = page.locator(by("brain-view")).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


# -- the column ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)])
def test_every_tool_has_room_and_nothing_overlaps(browser: Any, server: Any, model: Any, size: tuple[int, int]) -> None:
    page = opened(browser, server.address, size)
    scan(page)
    select(page, HEAD)
    page.click(by("perturb-zero"))
    compare(page, 1)
    page.click(by("perturb-more"))
    page.click(by("tab-DTI"))
    for wide in (False, True):
        for tool in ("layers", "paths", "heads", "lens", "trace", "sweep"):
            page.click(by(f"tool-{tool}"))
            page.wait_for_timeout(150)
            boxes = [
                page.locator(name).bounding_box()
                for name in (".tools", ".stimulation", ".comparison", ".prompt-bar", ".canvas", ".log-panel")
            ]
            for box in boxes:
                assert box["x"] + box["width"] <= size[0] + 0.5
                assert box["y"] + box["height"] <= size[1] + 0.5
            tools, stimulation, comparison = boxes[:3]
            assert tools["y"] + tools["height"] <= stimulation["y"] + 0.5
            assert stimulation["y"] + stimulation["height"] <= comparison["y"] + 0.5
            assert tools["height"] >= 180
            across = page.evaluate(
                "[...document.querySelectorAll('.side .panel, .side .tool, .prompt-row')]"
                ".filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.className)"
            )
            assert across == [], (tool, wide)
        page.click(by("widen"))
    page.click(by("fold-stimulation"))
    assert page.locator(".stimulation").bounding_box()["height"] < 40
    assert page.complaints == []
    page.close()


def test_tools_are_reached_by_keys(page: Any) -> None:
    page.locator(by("tool-layers")).focus()
    page.keyboard.press("ArrowRight")
    assert page.get_attribute(by("tool-paths"), "aria-selected") == "true"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute(by("tool-layout"), "aria-selected") == "true"
    unnamed = page.evaluate(
        "[...document.querySelectorAll('.nmri button, .nmri input, .nmri select')].filter((one) => "
        "!one.innerText.trim() && !one.getAttribute('aria-label') && !one.labels?.length).map((one) => one.outerHTML)"
    )
    assert unnamed == []

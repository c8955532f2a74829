"""Tracing, sweeps, edges and looking inside over HTTP, beside the same measurements made here on another copy."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nmri3d
from nmri3d.api.representations import RESULT_FILE
from nmri3d.results import Heatmap, Sweep, open_scan
from nmri3d.scans.head_kinds import head_kinds
from nmri3d.scans.logit_lens import logit_lens
from nmri3d.scans.neurons import top_neurons
from nmri3d.scans.own_effect import own_effect
from nmri3d.template import access, moving_passages, template_of
from tests.api.tiny_app import OTHER, PROMPT, tiny_app
from tests.models.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FILE = {"accept": RESULT_FILE}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with tiny_app(tmp_path_factory.mktemp("measuring")) as app:
        yield app


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache, in which no template is."""
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(access, "_memory", type(access._memory)())


def fetched(tiny, link):
    """The array behind a link, which is as the link says."""
    answer = tiny.client.get(link["data_url"])
    assert answer.status_code == 200, answer.text
    array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert (list(array.shape), array.dtype.name) == (link["shape"], link["dtype"])
    return array


def same(link, array):
    """The numbers in an answer are exactly an array's, null where it has NaN."""
    assert link["shape"] == list(array.shape)
    found = np.array(link["data"], dtype=object)
    assert np.array_equal(found == None, np.isnan(array))  # noqa: E711  (each entry)
    np.testing.assert_array_equal(np.array(link["data"], dtype=float), array)


# -- tracing ---------------------------------------------------------------------------------------------------------------

TRACES = {
    "counterfactual": {"corrupt": OTHER, "target": " is", "foil": 40, "position": -2, "sites": ["mlp", "resid"]},
    "window": {"corrupt": OTHER, "window": 2, "layers": [0, -1], "positions": [4, -1]},
    "noise": {"draws": 3, "seed": 5, "marked": [2], "sites": ["attn"]},
}


@pytest.mark.parametrize("options", TRACES.values(), ids=TRACES)
def test_a_trace_is_the_local_one(tiny, options):
    local = nmri3d.trace(tiny.copy, PROMPT, **options)
    answer = tiny.client.post("/api/measure/trace", json={"clean": PROMPT, **options}, headers=FILE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, RESULT_FILE)
    remote = Heatmap.open(answer.content)
    np.testing.assert_array_equal(remote.values, local.values)
    np.testing.assert_array_equal(remote.stderr, local.stderr)
    for name in ("sites", "tokens", "corrupt_tokens", "clean_metric", "target", "foil", "marked", "method", "note"):
        assert getattr(remote, name) == getattr(local, name), name
    assert remote.provenance.config == json.loads(json.dumps(local.provenance.config))

    body = tiny.ok("POST", "/api/measure/trace", {"clean": PROMPT, **options})
    same(body["values"], local.values)
    same(body["stderr"], local.stderr)
    np.testing.assert_array_equal(fetched(tiny, body["values"]), local.values)
    assert body["values"]["dims"] == ["site", "layer", "position"]
    assert (body["target"]["text"], body["target"]["id"]) == local.target
    assert (body["marked"], body["clean_metric"]) == (list(local.marked), local.clean_metric)


def test_a_blank_trace_says_why(tiny):
    body = tiny.ok("POST", "/api/measure/trace", {"clean": PROMPT, "draws": 1, "marked": [2]})
    assert np.isnan(np.array(body["values"]["data"], dtype=float)).all()
    assert "use more draws" in body["note"]


REFUSED_TRACES = {
    "lengths": ({"corrupt": "Rome"}, "equally many tokens"),
    "same token": ({"target": " is", "foil": " is"}, "are the same token"),
    "token": ({"target": "no single token"}, "tokens ("),
    "position": ({"position": 99}, "outside the prompt"),
    "layer": ({"layers": [4]}, "outside the rows"),
    "window": ({"corrupt": OTHER, "window": 4}, "from 1 to 3"),
    "method": ({"method": "counterfactual"}, "needs a corrupted prompt"),
    "draws": ({"draws": 0}, "draws: "),
    "boolean": ({"window": True}, "window: "),
    "text for a number": ({"seed": "3"}, "seed: "),
    "site": ({"sites": ["head"]}, "sites.0: "),
    "unknown": ({"targets": " is"}, "targets: "),
    "huge": ({"position": 10**40}, "position: "),
}


@pytest.mark.parametrize(("options", "words"), REFUSED_TRACES.values(), ids=REFUSED_TRACES)
def test_a_trace_that_cannot_be_is_refused_in_words(tiny, options, words):
    for path in ("trace", "trace/estimate"):
        assert words in tiny.refused("POST", f"/api/measure/{path}", {"clean": PROMPT, **options})


def test_a_prompt_that_is_no_text_is_refused(tiny):
    for prompt in (b'"\\ud800"', b'""', b"3", b"null", b'["a"]'):
        answer = tiny.client.post("/api/measure/predict", content=b'{"prompt": %s}' % prompt)
        assert answer.status_code == 422, answer.text
    assert tiny.ok("POST", "/api/measure/predict", {"prompt": "a\0b🧠"})["predictions"]


INDEX = st.integers(-9, 9)


@settings(max_examples=15, deadline=None)
@given(
    st.fixed_dictionaries(
        {"clean": st.sampled_from(["The capital", "a"]), "draws": st.integers(1, 2)},
        optional={
            "corrupt": st.sampled_from(["A capital", "The capital", "b"]),
            "target": st.sampled_from([" is", 5, 383, 384, "nothing of the kind"]),
            "position": INDEX,
            "window": st.integers(1, 5),
            "layers": st.lists(INDEX, max_size=2),
            "positions": st.lists(INDEX, max_size=3),
            "marked": st.lists(INDEX, max_size=2),
            "sites": st.lists(st.sampled_from(["resid", "attn", "mlp"]), min_size=1, max_size=3),
        },
    )
)
def test_any_trace_is_measured_or_refused_as_locally(tiny, body):
    answer = tiny.client.post("/api/measure/trace", json=body, headers=FILE)
    options = {name: value for name, value in body.items() if name != "clean"}
    try:
        local = nmri3d.trace(tiny.copy, body["clean"], **options)
    except nmri3d.errors.InputError as error:
        assert (answer.status_code, answer.json()["detail"]) == (422, str(error))
    else:
        np.testing.assert_array_equal(Heatmap.open(answer.content).values, local.values)


# -- sweeps and edges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"effect": "patch", "corrupt": OTHER, "target": " is"}, {"components": ["blocks.1.mlp", "blocks.0.attn.h1"]}],
)
def test_a_sweep_is_the_local_one(tiny, options):
    local = nmri3d.ablate_all(tiny.copy, PROMPT, **options)
    remote = Sweep.open(
        tiny.client.post("/api/measure/sweep", json={"prompt": PROMPT, **options}, headers=FILE).content
    )
    np.testing.assert_array_equal(remote.values, local.values)
    body = tiny.ok("POST", "/api/measure/sweep", {"prompt": PROMPT, **options})
    same(body["values"], local.values)
    np.testing.assert_array_equal(fetched(tiny, body["values"]), local.values)
    pairs = zip(local.components.ids, local.values.tolist(), strict=True)
    expected = [{"id": name, "value": value} for name, value in pairs if value == value]
    assert body["strongest"] == sorted(expected, key=lambda one: -abs(one["value"]))
    assert (body["clean_metric"], body["effect"], body["units"]) == (local.clean_metric, local.effect, local.units)
    assert body["metadata"]["provenance"]["fingerprint"] == tiny.copy.fingerprint()


def test_a_sweep_that_cannot_be_is_refused_in_words(tiny):
    path, refused = "/api/measure/sweep", tiny.refused
    assert "no component 'blocks.7.mlp'" in refused("POST", path, {"prompt": PROMPT, "components": ["blocks.7.mlp"]})
    assert "not a component id" in refused("POST", path, {"prompt": PROMPT, "components": ["mlp 3"]})
    assert "unembed writes nothing" in refused("POST", path, {"prompt": PROMPT, "components": ["unembed"]})
    assert "corrupt" in refused("POST", path, {"prompt": PROMPT, "effect": "patch"})


def test_how_long_it_takes_is_told_without_doing_it(tiny, monkeypatch):
    assert tiny.ok("POST", "/api/measure/trace/estimate", {"clean": PROMPT, "corrupt": OTHER}).keys() == {"seconds"}
    from nmri3d.perturbation import sweep as module

    seen = []

    def told(*args, confirm, **options):
        seen.append(confirm(12.5))
        raise nmri3d.errors.Cancelled("not begun")

    monkeypatch.setattr(module, "replay_with_estimate", told)
    assert tiny.ok("POST", "/api/measure/sweep/estimate", {"prompt": PROMPT}) == {"seconds": 12.5}
    assert seen == [False]


def test_an_edge_carries_what_it_does_locally(tiny):
    body = {"prompt": PROMPT, "source": "blocks.0.mlp", "target": "blocks.2.attn.h1", "slot": "v", "corrupt": OTHER}
    expected = nmri3d.verify_edge(tiny.copy, PROMPT, "blocks.0.mlp", "blocks.2.attn.head_1", "v", corrupt=OTHER)
    assert tiny.ok("POST", "/api/measure/edge", body)["effect"] == expected
    assert "read before" in tiny.refused("POST", "/api/measure/edge", {**body, "source": "blocks.2.mlp"})
    assert "no edge" in tiny.refused("POST", "/api/measure/edge", {**body, "slot": "mlp"})


# -- as a job, and in a session ---------------------------------------------------------------------------------------------


def test_a_trace_can_be_a_job(tiny):
    body = {"clean": PROMPT, "corrupt": OTHER, "sites": ["attn"]}
    answer = tiny.client.post("/api/measure/trace", json=body, headers={**FILE, "prefer": "respond-async"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    job = answer.json()
    for _ in range(100):
        job = tiny.ok("GET", answer.headers["location"], params={"wait": 1})
        if job["state"] != "running":
            break
    assert job["state"] == "done"
    result = Heatmap.open(tiny.client.get(job["result_url"]).content)
    np.testing.assert_array_equal(result.values, nmri3d.trace(tiny.copy, PROMPT, OTHER, sites=["attn"]).values)


def test_what_is_measured_is_recorded_with_its_result(tiny):
    session = tiny.store.create("measuring")
    recorded = {"Nmri3d-Session": session.id}
    tiny.ok("POST", "/api/measure/trace", {"clean": PROMPT, "corrupt": OTHER, "window": 2}, headers=recorded)
    tiny.ok("POST", "/api/measure/sweep", {"prompt": PROMPT}, headers=recorded)
    tiny.ok("POST", "/api/measure/scan_neurons", {"mode": "T2", "statistic": "max"}, headers=recorded)
    tiny.refused("POST", "/api/measure/sweep", {"prompt": PROMPT, "effect": "patch"}, headers=recorded)
    opened = tiny.store.open(session.id)
    events = {event.kind: event for event in opened.events if event.kind != "model"}
    assert [event.kind for event in opened.events if event.kind != "model"] == ["trace", "sweep", "scan"]
    trace = events["trace"].data
    assert (trace["clean"], trace["corrupt"], trace["options"]["window"]) == (PROMPT, OTHER, 2)
    again = nmri3d.trace(tiny.copy, trace["clean"], trace["corrupt"], **trace["options"])
    np.testing.assert_array_equal(opened.result(events["trace"]).values, again.values)
    sweep = events["sweep"].data
    again = nmri3d.ablate_all(tiny.copy, sweep["prompt"], **sweep["options"])
    np.testing.assert_array_equal(opened.result(events["sweep"]).values, again.values)
    scan = events["scan"].data
    assert (scan["mode"], scan["level"], scan["options"]) == ("T2", "neuron", {"statistic": "max"})
    missing = "/api/measure/sweep", {"prompt": PROMPT}
    assert "session" in tiny.refused("POST", *missing, status=404, headers={"Nmri3d-Session": "nobody"})


# -- looking inside ---------------------------------------------------------------------------------------------------------


def test_predictions_are_the_softmax_of_the_models_own_logits(tiny):
    ids = tiny_tokenizer(add_bos=True)(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = tiny_model("llama")(ids).logits[0, -1].double()
    expected = logits.softmax(-1)
    found = tiny.ok("POST", "/api/measure/predict", {"prompt": PROMPT, "k": 7})["predictions"]
    assert [one["token_id"] for one in found] == expected.topk(7).indices.tolist()
    np.testing.assert_allclose([one["prob"] for one in found], expected.topk(7).values, rtol=1e-4)
    np.testing.assert_allclose([one["logit"] for one in found], logits.topk(7).values, rtol=1e-4)
    assert "from 1 to 384" in tiny.refused("POST", "/api/measure/predict", {"prompt": PROMPT, "k": 385})


def test_neurons_are_the_local_ones(tiny):
    asked = {"prompt": PROMPT, "layer": 1, "position": -3, "k": 4}
    expected = top_neurons(tiny.copy, PROMPT, 1, -3, 4)
    found = tiny.ok("POST", "/api/measure/neurons", asked)["neurons"]
    assert [(one["id"], one["idx"]) for one in found] == [(one.component, one.index) for one in expected]
    np.testing.assert_array_equal([one["activation"] for one in found], [one.activation for one in expected])
    assert "layer" in tiny.refused("POST", "/api/measure/neurons", {**asked, "layer": 3})
    assert "position" in tiny.refused("POST", "/api/measure/neurons", {**asked, "position": 7})
    assert "k must be from 1 to 56" in tiny.refused("POST", "/api/measure/neurons", {**asked, "k": 57})


@pytest.mark.parametrize(
    ("mode", "prompt", "options"),
    [
        ("T1", None, {}),
        ("T2", None, {"statistic": "kurtosis"}),
        ("fMRI", PROMPT, {"layers": [1], "positions": [0, -1]}),
    ],
)
def test_a_scan_of_neurons_is_the_local_one(tiny, mode, prompt, options):
    local = nmri3d.scan_neurons(tiny.copy, mode, prompt, **options)
    asked = {"mode": mode, "prompt": prompt, **options}
    remote = open_scan(tiny.client.post("/api/measure/scan_neurons", json=asked, headers=FILE).content)
    np.testing.assert_array_equal(remote.values, local.values)
    body = tiny.ok("POST", "/api/measure/scan_neurons", asked)
    dims = ["token", "neuron"] if prompt else ["neuron"]
    assert (body["values"]["dims"], body["tokens"]) == (dims, list(local.tokens))
    np.testing.assert_array_equal(fetched(tiny, body["values"]), local.values if prompt else local.values[0])
    assert body["details"].keys() == local.details.keys()
    for name, link in body["details"].items():
        np.testing.assert_array_equal(fetched(tiny, link), local.details[name])


def test_a_scan_of_neurons_that_cannot_be_is_refused_in_words(tiny):
    path = "/api/measure/scan_neurons"
    assert "needs a prompt" in tiny.refused("POST", path, {"mode": "fMRI"})
    assert "takes no prompt" in tiny.refused("POST", path, {"mode": "T1", "prompt": PROMPT})
    assert "no option 'statistic'" in tiny.refused("POST", path, {"mode": "T1", "statistic": "std"})
    assert "mode: " in tiny.refused("POST", path, {"mode": "DTI", "prompt": PROMPT})


def test_attention_is_the_local_one(tiny):
    expected = tiny.copy.attention(tiny.copy.stimulus(PROMPT), 2)
    for layer in (2, -1):
        body = tiny.ok("POST", "/api/measure/attention", {"prompt": PROMPT, "layer": layer})
        np.testing.assert_array_equal(fetched(tiny, body["patterns"]), expected)
        same(body["patterns"], expected)
        assert body["tokens"] == list(tiny.copy.stimulus(PROMPT).labels)
    assert "layer" in tiny.refused("POST", "/api/measure/attention", {"prompt": PROMPT, "layer": 3})


def test_many_numbers_are_had_by_their_link_only(tiny):
    long = "The capital of France is Paris, and the capital of Italy is Rome."
    body = tiny.ok("POST", "/api/measure/attention", {"prompt": long, "layer": 0})
    steps = len(tiny.copy.stimulus(long))
    assert body["patterns"]["shape"] == [4, steps, steps]
    assert 4 * steps**2 > 1000
    assert body["patterns"]["data"] is None
    np.testing.assert_array_equal(fetched(tiny, body["patterns"]), tiny.copy.attention(tiny.copy.stimulus(long), 0))


def test_the_lens_is_the_local_one(tiny):
    local = logit_lens(tiny.copy, PROMPT, k=3)
    body = tiny.ok("POST", "/api/measure/lens", {"prompt": PROMPT, "k": 3})
    for name in ("token_ids", "probabilities", "kl", "entropy"):
        same(body[name], getattr(local, name))
        np.testing.assert_array_equal(fetched(tiny, body[name]), getattr(local, name))
    texts = np.vectorize(lambda token: body["texts"][str(token)])(np.array(body["token_ids"]["data"]))
    np.testing.assert_array_equal(texts, local.texts)
    assert (body["labels"], body["sites"], body["layers"]) == (
        list(local.labels),
        list(local.sites),
        local.layers.tolist(),
    )


def test_an_own_effect_is_the_local_one(tiny):
    asked = {"prompt": PROMPT, "component": "blocks.1.attn.h2"}
    local = own_effect(tiny.copy, PROMPT, "blocks.1.attn.head_2")
    body = tiny.ok("POST", "/api/measure/own_effect", asked)
    assert (body["component"], body["layer"], body["site"]) == ("blocks.1.attn.head_2", 1, "attn")
    for name in ("change", "toward_final", "entropy_change"):
        same(body[name], getattr(local, name))
        np.testing.assert_array_equal(fetched(tiny, body[name]), getattr(local, name))
    assert "no layer" in tiny.refused("POST", "/api/measure/own_effect", {**asked, "component": "embed"})


def test_kinds_of_heads_are_the_local_ones(tiny):
    local = head_kinds(tiny.copy)
    body = tiny.ok("GET", "/api/measure/head_kinds", params={"threshold": 0.04})
    assert [one["id"] for one in body["heads"]] == [local.components.ids[row] for row in local.rows]
    for kind in ("previous", "duplicate", "induction"):
        scores = [one[kind] for one in body["heads"]]
        np.testing.assert_array_equal(np.array(scores, np.float32), getattr(local, kind))
        named = [one["id"] for one in sorted(body["heads"], key=lambda one: -one[kind]) if one[kind] >= 0.04]
        assert body["names"][kind] == named
    assert any(body["names"].values())
    assert "threshold: " in tiny.refused("GET", "/api/measure/head_kinds", params={"threshold": 1.5})


def test_the_template_is_built_when_asked_for(tiny, own_cache):
    assert tiny.ok("GET", "/api/measure/template") == {"ready": False}
    assert tiny.ok("POST", "/api/measure/template") == {"ready": True}
    assert tiny.ok("GET", "/api/measure/template") == {"ready": True}


def test_passages_are_the_local_ones(tiny):
    local = moving_passages(tiny.copy, template_of(tiny.copy), "blocks.1.mlp", k=2)
    found = tiny.ok("POST", "/api/measure/passages", {"component": "blocks.1.mlp", "k": 2})["passages"]
    assert found == [vars(one) for one in local]
    assert tiny.ok("POST", "/api/measure/passages", {"component": "unembed"}) == {"passages": []}
    assert "no component" in tiny.refused("POST", "/api/measure/passages", {"component": "blocks.3.mlp"})


def test_a_kept_trace_answers_at_once(tiny):
    body = {"clean": PROMPT, "corrupt": OTHER, "target": " is"}
    first = tiny.ok("POST", "/api/measure/trace", body)
    started = time.perf_counter()
    second = tiny.ok("POST", "/api/measure/trace", body)
    assert time.perf_counter() - started < 1
    for answer in (first, second):
        answer["metadata"] = answer["metadata"]["provenance"]  # with the time of the one measurement
    assert first == second


def test_without_a_model_the_reason_is_told(tiny):
    tiny.service.unload()  # the last test: no other needs it any more
    for path, body in (("sweep", {"prompt": PROMPT}), ("trace/estimate", {"clean": PROMPT}), ("template", None)):
        told = tiny.refused("POST", f"/api/measure/{path}", body, status=409)
        assert told == "No model is loaded; choose one first."

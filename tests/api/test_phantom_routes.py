"""REST over networks of units: what they are, what they serve, and what they refuse in words."""

from __future__ import annotations

import io

import numpy as np
import pytest
from starlette.testclient import TestClient

import nmri3d
from nmri3d.api import Security, create_app
from nmri3d.models.residual_backend import refusal
from nmri3d.perturbation import Edit
from nmri3d.phantoms.registry import PHANTOMS, shipped_names
from nmri3d.service import Service
from nmri3d.service.refusals import FEATURES, refusals
from nmri3d.service.sessions import SessionStore
from tests.api.tiny_app import ADDRESS, TinyApp
from tests.phantoms.tiny import tiny_phantom

PROMPT, OTHER = "a b c", "a d c"


def app_of(root, **options):
    service, store = Service(loader=lambda name, **_: tiny_phantom(**options)), SessionStore(root / "sessions")
    service.load("phantom:tiny")
    app = create_app(service, security=Security.for_address("127.0.0.1", 8765, token=""), store=store)
    return TinyApp(app, TestClient(app, base_url=ADDRESS), service, store, root, tiny_phantom(**options))


@pytest.fixture(scope="module", params=["logits", "signal"])
def tiny(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NMRI3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        app = app_of(tmp_path_factory.mktemp("app"), signal=request.param == "signal")
        yield app
        app.client.close()
        app.store.close()
        assert app.service.close(), "work was left over"


def array(tiny, link):
    answer = tiny.client.get(link["data_url"], params={"format": "npy"})
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))


def test_the_description_tells_steps_outputs_places_and_what_is_refused(tiny):
    told = tiny.ok("GET", "/api/model/info")
    model = tiny.copy
    assert (told["step_axis"], told["outputs"]) == ("task step", model.outputs)
    assert told["structures"] == {"cortex": 12, "hippocampus": 1, "cerebellum": 2, "left": 1}
    assert told["examples"] == list(model.examples)
    assert told["info"]["completeness"] is None
    assert told["refused"] == {name: refusal(model, name) for name in FEATURES}
    assert all("Tiny" in sentence for sentence in told["refused"].values())
    table = tiny.ok("GET", "/api/model/components")
    assert dict(zip(table["id"], table["structure"], strict=True))["pool"] == "hippocampus"


def test_a_language_model_refuses_nothing_and_says_so(smallest):
    assert refusals(smallest) == {}


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    from tests.models.tiny import tiny_checkpoint_folder

    model = nmri3d.load(tiny_checkpoint_folder("llama", tmp_path_factory.mktemp("llama")))
    yield model
    model.close()


@pytest.mark.parametrize(
    ("path", "body", "feature"),
    [
        ("/api/measure/lens", {"prompt": PROMPT}, "lens"),
        ("/api/measure/attention", {"prompt": PROMPT, "layer": 0}, "attention"),
        ("/api/measure/trace", {"clean": PROMPT, "corrupt": OTHER}, "trace"),
        ("/api/measure/neurons", {"prompt": PROMPT, "layer": 0}, "neurons"),
        ("/api/measure/own_effect", {"prompt": PROMPT, "component": "unit.2.0"}, "own_effect"),
        ("/api/generate", {"prompt": PROMPT, "n_tokens": 2}, "generation"),
        ("/api/scan/circuits", {"prompt": PROMPT, "method": "dla"}, "dla"),
        ("/api/scan/circuits", {"prompt": PROMPT, "edges": "eap"}, "edges"),
        ("/api/scan/activation", {"prompt": PROMPT, "level": "neuron"}, "neurons"),
        ("/api/scan/activation", {"prompt": PROMPT, "top_neurons": 3}, "neurons"),
        (
            "/api/measure/edge",
            {"prompt": PROMPT, "source": "unit.2.0", "target": "readout", "slot": "mlp"},
            "paths",
        ),
    ],
)
def test_what_it_cannot_serve_is_refused_with_the_sentence_that_was_told_before(tiny, path, body, feature):
    assert tiny.refused("POST", path, body) == refusal(tiny.copy, feature)


def test_scans_equal_local_ones(tiny):
    model = tiny.copy
    structure = tiny.ok("POST", "/api/scan/structural", {})
    assert structure["n_params"] == model.info.n_params
    weights = tiny.ok("POST", "/api/scan/weights", {})
    assert np.array_equal(array(tiny, weights["values"]), nmri3d.scan(model, "T2").values[0], equal_nan=True)
    fmri = tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT})
    local = nmri3d.scan(model, "fMRI", PROMPT)
    assert np.array_equal(array(tiny, fmri["values"]), local.values, equal_nan=True)
    assert (fmri["units"], fmri["residual"]) == (local.units, None)
    units = fmri["data"]["unit.2"]
    assert units["type"] == "unit"
    assert units["activations"] == local.values[-1, model.components.rows("unit")].tolist()


def test_a_circuit_has_nodes_and_no_edges(tiny):
    found = tiny.ok("POST", "/api/scan/circuits", {"prompt": PROMPT, "corrupt": OTHER})
    local = nmri3d.scan(tiny.copy, "DTI", PROMPT, corrupt=OTHER)
    assert (found["method"], found["effect"], found["edges"], found["attention_patterns"]) == ("exact", "patch", [], {})
    assert found["foil"] is None if tiny.copy.outputs == "signal" else found["foil"]["id"] != found["target"]["id"]
    scores = {one["id"]: one["score"] for one in found["nodes"]}
    for name, value in zip(local.components.ids, local.values[0].tolist(), strict=True):
        assert (
            scores[name] == pytest.approx(value, abs=1e-6, nan_ok=True) if np.isfinite(value) else scores[name] is None
        )


def test_an_anomaly_scan_has_a_mean_a_step_and_no_lens(tiny):
    found = tiny.ok("POST", "/api/scan/anomaly", {"prompt": PROMPT})
    local = nmri3d.scan(tiny.copy, "FLAIR", PROMPT)
    assert found["data"] == {}
    assert found["final_entropy"] is None
    assert found["summary"] == pytest.approx(local.details["summary"].tolist())
    assert len(found["summary"]) == 3


def test_a_perturbation_compares_answers_or_signals(tiny):
    body = {"prompt": PROMPT, "target_component": "unit.2.3"}
    found = tiny.ok("POST", "/api/perturb/zero", body)
    local = nmri3d.perturb(tiny.copy, PROMPT, Edit("unit.2.3", "zero"))
    assert found["logit_diff"] == pytest.approx(local.logit_diff)
    assert [one["token"] for one in found["before"]] == [one.token for one in local.before]
    if tiny.copy.outputs == "signal":
        assert (found["kl"], {one["prob"] for one in found["after"]}) == (None, {None})
    else:
        assert found["kl"] == pytest.approx(local.kl)
        assert sum(one["prob"] for one in found["before"]) == pytest.approx(1)


def test_a_sweep_and_a_prediction_equal_local_ones(tiny):
    body = {"prompt": PROMPT, "target": tiny.copy.token_text(4), "effect": "zero"}
    found = tiny.ok("POST", "/api/measure/sweep", body)
    local = nmri3d.ablate_all(tiny.copy, PROMPT, target=tiny.copy.token_text(4), effect="zero")
    assert np.allclose(array(tiny, found["values"]), local.values, equal_nan=True)
    assert (found["foil"] is None) == (tiny.copy.outputs == "signal")
    outputs = tiny.copy.run(tiny.copy.stimulus(PROMPT), {}, logits=[-1]).logits[0].numpy()
    told = tiny.ok("POST", "/api/measure/predict", {"prompt": PROMPT})["predictions"]
    assert {one["token_id"]: one["logit"] for one in told} == pytest.approx(dict(enumerate(outputs.tolist())))
    if tiny.copy.outputs == "signal":
        assert [one["token_id"] for one in told] == list(range(5))


def test_a_recorded_session_of_signals_replays_equal(tiny):
    from nmri3d.service.replay import replay

    session = tiny.client.post("/api/sessions", json={"title": "signals"}).json()["id"]
    headers = {"Nmri3d-Session": session}
    tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT}, headers=headers)
    tiny.ok("POST", "/api/perturb/zero", {"prompt": PROMPT, "target_component": "unit.2.3"}, headers=headers)
    tiny.ok("POST", "/api/measure/sweep", {"prompt": PROMPT}, headers=headers)
    replayed = replay(tiny.service, tiny.store.open(session), lambda share, what: None)
    assert [one.state for one in replayed if one.state != "skipped"] == ["equal"] * 3


def test_phantoms_with_weights_are_offered(tiny):
    models = {one["model_id"]: one for one in tiny.ok("GET", "/api/models")["models"]}
    assert [name for name in models if name.startswith("phantom:")] == [f"phantom:{name}" for name in shipped_names()]
    for name in shipped_names():
        told = models[f"phantom:{name}"]
        assert (told["title"], told["note"], told["cached"]) == (PHANTOMS[name].title, PHANTOMS[name].about, True)

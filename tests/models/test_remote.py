"""Models on NDIF, up to the request and back: a fake NDIF takes nnsight's own requests and runs them on a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nmri3d
from nmri3d.errors import (
    Cancelled,
    InputError,
    MachineError,
    ModelAccessError,
    ModelError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from nmri3d.models.backend import Backend
from nmri3d.models.nnsight_passes import import_nnsight
from tests.models.backends import tiny_backend, tiny_checkpoint
from tests.models.fake_hub import FakeHub
from tests.models.fake_ndif import FakeNdif
from tests.models.tiny import LAYERS, PROMPTS, tiny_checkpoint_folder

KEY = "key-of-a-test-account"
PROMPT = PROMPTS[1]


@pytest.fixture(params=["llama"])
def ndif(
    request: pytest.FixtureRequest, hub: FakeHub, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeNdif]:
    """A fake NDIF that serves org/tiny, whose description the fake hub has; no weights are on the hub."""
    import_nnsight()
    from nnsight.modeling.transformers import TransformersModel
    from nnsight.schema.config import CONFIG

    folder = tiny_checkpoint_folder(request.param, tmp_path / "tiny")
    (folder / "model.safetensors").unlink()
    hub.add("org/tiny", folder)
    checkpoint = tiny_checkpoint(request.param)
    served = TransformersModel(checkpoint.hf_model, tokenizer=checkpoint.tokenizer, task="text-generation")
    with FakeNdif(served) as server:
        server.family = request.param
        monkeypatch.setenv("NDIF_API_KEY", KEY)
        monkeypatch.setattr(CONFIG.API, "HOST", server.address)
        monkeypatch.setattr(CONFIG.API, "APIKEY", None)
        yield server


def read_places(request: dict) -> set[tuple[str, str]]:
    return {tuple(place) for place in request["given"]["places"]}


def test_loading_fetches_no_weights_and_asks_ndif_nothing(ndif, hub):
    model = nmri3d.load("org/tiny", backend="nnsight", remote=True)
    assert ndif.requests == []
    assert not any("safetensors" in request for request in hub.requests)
    assert isinstance(model, Backend)
    assert (model.name, model.info.device, model.info.memory_bytes) == ("ndif", "ndif", 0)
    assert all(parameter.is_meta for parameter in model.hf_model.parameters())
    assert np.isnan(model.info.completeness)
    assert any("runs on NDIF" in text and "completeness is checked" in text for text in model.info.warnings)
    local = tiny_backend("llama")
    assert model.components == local.components
    np.testing.assert_array_equal(nmri3d.scan(model, "T1").values, nmri3d.scan(local, "T1").values)
    assert ndif.requests == []


def test_a_request_names_the_model_and_carries_key_tokens_and_places_only(ndif):
    model = nmri3d.load("org/tiny", remote=True)
    stimulus = model.stimulus(PROMPT)
    run = model.run(stimulus, {"blocks.1.hook_resid_pre": lambda x: x, "blocks.2.mlp.hook_post": lambda x: x})
    (request,) = ndif.requests
    assert request["model_key"].startswith("nnsight.modeling.transformers.TransformersModel:")
    assert '"repo_id": "org/tiny"' in request["model_key"]
    assert request["headers"]["ndif-api-key"] == KEY
    assert request["env"] == {"attn_implementation": "eager"}
    np.testing.assert_array_equal(request["arguments"]["input_ids"], stimulus.ids[None])
    assert read_places(request) == {("model.layers.1", "input"), ("model.layers.2.mlp.down_proj", "input")}
    local = tiny_backend("llama").run(stimulus, {"blocks.1.hook_resid_pre": lambda x: x.clone()})
    np.testing.assert_allclose(run.reads["blocks.1.hook_resid_pre"], local.reads["blocks.1.hook_resid_pre"], atol=1e-5)
    assert run.reads["blocks.2.mlp.hook_post"].shape == (len(stimulus), model.info.d_mlp)
    assert KEY not in repr(vars(model)) + repr(vars(model._passes))  # looked up for each request, kept nowhere


@pytest.mark.parametrize("ndif", ["llama", "gpt2", "gpt_neox", "gemma2", "qwen3"], indirect=True)
def test_what_works_remotely_gives_the_same_numbers(ndif):
    model, local = nmri3d.load("org/tiny", remote=True), tiny_backend(ndif.family)
    for options in ({}, {"aggregation": "raw"}, {"level": "neuron"}):
        one, other = (nmri3d.scan(backend, "fMRI", PROMPT, **options) for backend in (local, model))
        np.testing.assert_allclose(other.values, one.values, rtol=1e-4, atol=1e-4)
    assert 0 < model.info.completeness < 1e-5
    one, other = (nmri3d.scan(backend, "FLAIR", PROMPT, template="off") for backend in (local, model))
    np.testing.assert_allclose(other.values, one.values, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        model.attention(model.stimulus(PROMPT), 1), local.attention(local.stimulus(PROMPT), 1), atol=1e-5
    )


@pytest.mark.parametrize("ndif", ["llama", "gpt_neox", "gemma2"], indirect=True)
def test_perturbations_are_put_in_by_value_one_request_a_place(ndif):
    model, local = nmri3d.load("org/tiny", remote=True), tiny_backend(ndif.family)
    edits = [
        nmri3d.Edit("embed", "amplify", factor=1.5, positions=[1]),
        nmri3d.Edit("blocks.1.attn.head_2", "zero"),
        nmri3d.Edit("blocks.1.mlp", "invert"),
        nmri3d.Edit("blocks.2.mlp.neuron_3", "amplify", factor=3.0),
    ]
    before = nmri3d.perturb(model, PROMPT, [])
    n_requests = len(ndif.requests)
    one, other = (nmri3d.perturb(backend, PROMPT, edits) for backend in (local, model))
    assert len(ndif.requests) - n_requests == 1 + len(edits) + 1  # the clean run, a place each, the rest
    assert len(ndif.requests[-1]["given"]["edited"]) == len(edits)
    assert one.kl > 1e-3
    assert other.kl == pytest.approx(one.kl, abs=1e-5)
    np.testing.assert_allclose(other.values_after, one.values_after, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(nmri3d.perturb(model, PROMPT, []).values_after, before.values_after)  # nothing stays


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda model: nmri3d.scan(model, "T2"), "weights.*without remote=True"),
        (lambda model: nmri3d.scan(model, "DTI", PROMPT), "needs a model with 'gradient'"),
        (lambda model: nmri3d.ablate_all(model, PROMPT), "sweeps.*without remote=True"),
        (lambda model: nmri3d.trace(model, PROMPT, PROMPT.replace("Mary", "Paul")), "without remote=True"),
        (lambda model: model.layout_features(), "layout by weights.*without remote=True"),
        (lambda model: model.neuron_features(0), "layout of neurons by weights.*without remote=True"),
        (lambda model: nmri3d.scan_neurons(model, "T2"), "weights.*without remote=True"),
        (lambda model: model.gradients(model.stimulus("a"), lambda x: x), "gradient.*without remote=True"),
    ],
)
def test_what_needs_the_weights_is_refused_in_words(ndif, ask, words):
    model = nmri3d.load("org/tiny", remote=True)
    with pytest.raises(InputError, match=words):
        ask(model)
    assert ndif.requests == []


def test_progress_tells_what_ndif_says_and_can_withdraw_the_request(ndif):
    model, said = nmri3d.load("org/tiny", remote=True), []
    read = {"hook_resid_final": lambda x: x}
    model.run(model.stimulus("a"), read, progress=lambda share, what: said.append(what))
    assert any("NDIF: running on the fake" in text for text in said)

    def withdraw(share, what):
        raise Cancelled("withdrawn")

    with pytest.raises(Cancelled, match="withdrawn"):
        model.run(model.stimulus("a"), read, progress=withdraw)
    assert len(model.run(model.stimulus("a"), read).reads["hook_resid_final"]) == len(model.stimulus("a"))


def test_a_missing_key_is_said_when_loading(ndif, monkeypatch):
    monkeypatch.delenv("NDIF_API_KEY")
    with pytest.raises(ModelAccessError, match=r"get a key at .* NDIF_API_KEY"):
        nmri3d.load("org/tiny", remote=True)


@pytest.mark.parametrize(
    ("refusal", "error", "words"),
    [
        ((401, f"invalid key {KEY}"), ModelAccessError, "refused the key.*NDIF_API_KEY"),
        ((403, "not for you"), ModelAccessError, "not for you"),
        ((503, "model is not deployed"), ModelError, "model is not deployed.*nnsight.status"),
    ],
)
def test_a_refused_request_is_told_in_words_without_the_key(ndif, refusal, error, words):
    model = nmri3d.load("org/tiny", remote=True)
    ndif.refusal = refusal
    with pytest.raises(ModelError, match=words) as raised:
        nmri3d.scan(model, "fMRI", PROMPT)
    assert type(raised.value) is error
    assert KEY not in str(raised.value)
    assert raised.value.__cause__ is None
    ndif.refusal = None
    assert np.isfinite(nmri3d.scan(model, "fMRI", PROMPT).values[:, :-1]).all()  # and it can be asked again


def test_a_job_that_failed_and_a_host_that_is_gone_are_told_in_words(ndif, monkeypatch):
    from nnsight.schema.config import CONFIG

    model = nmri3d.load("org/tiny", remote=True)
    ndif.failure = "CUDA out of memory"
    with pytest.raises(ModelError, match="did not run the request: CUDA out of memory"):
        nmri3d.scan(model, "fMRI", PROMPT)
    monkeypatch.setattr(CONFIG.API, "HOST", "http://127.0.0.1:9")
    with pytest.raises(MachineError, match="cannot be reached"):
        nmri3d.scan(model, "fMRI", PROMPT)


def test_a_model_whose_writes_do_not_add_up_is_refused_at_its_first_scan(ndif):
    served = ndif.served._module.model.layers[1].self_attn.o_proj
    model = nmri3d.load("org/tiny", remote=True)
    handle = served.register_forward_hook(lambda module, args, output: output * 1.5)
    try:
        with pytest.raises(UnsupportedModelError, match="do not add up"):
            nmri3d.scan(model, "fMRI", PROMPT)
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("smollm2-135m", {}, InputError, "models of the Hugging Face hub"),
        ("org/other", {}, ModelNotFoundError, "has no model org/other"),
        ("org/tiny", {"backend": "transformer_lens"}, InputError, "runs through nnsight"),
        ("org/tiny", {"dtype": "float16"}, InputError, "as NDIF keeps it"),
    ],
)
def test_what_cannot_be_loaded_remotely_is_refused(ndif, name, options, error, words):
    with pytest.raises(error, match=words):
        nmri3d.load(name, remote=True, **options)


def test_the_unembedding_is_fetched_once_and_only_for_the_lens(ndif):
    model = nmri3d.load("org/tiny", remote=True)
    nmri3d.scan(model, "fMRI", PROMPT)
    assert [request["given"].get("paths") for request in ndif.requests if "paths" in request["given"]] == [
        [f"model.layers.{layer}.self_attn.o_proj" for layer in range(LAYERS)]
    ]
    for _ in range(2):
        nmri3d.scan(model, "FLAIR", PROMPT, template="off")
    fetched = [request["given"]["paths"] for request in ndif.requests if "paths" in request["given"]]
    assert fetched[1:] == [["model.norm", "lm_head"]]

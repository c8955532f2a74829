"""The nnsight backend against the TransformerLens backend: the same numbers from every scan, on every promised family."""

import dataclasses
import json
import shutil
import subprocess
import sys
import weakref
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

import nmri3d
from nmri3d.errors import Cancelled, InputError, UnsupportedModelError
from nmri3d.models import adapter_facts, preflight
from nmri3d.models.backend import Backend, SiteEdit
from nmri3d.models.loading import Checkpoint, open_checkpoint
from nmri3d.models.nnsight_backend import NnsightBackend
from nmri3d.models.replay import StreamEdit
from nmri3d.models.transformer_lens import TransformerLensBackend
from tests.models.backends import tiny_backend, tiny_checkpoint
from tests.models.test_discovery import small_config
from tests.models.tiny import FAMILIES, LAYERS, PROMPTS, tiny_checkpoint_folder, tiny_tokenizer

families = pytest.mark.parametrize("family", FAMILIES)

CLEAN = "When Mary and John went to the store"
CORRUPT = "When Paul and John went to the store"


@cache
def nnsight_backend(family: str) -> NnsightBackend:
    """A backend that tests share and must not change."""
    return NnsightBackend(tiny_checkpoint(family))


def pair(family):
    return tiny_backend(family), nnsight_backend(family)


def prompts(backend):
    """A clean and a corrupted prompt of equally many tokens."""
    ids = [backend.tokenizer(text)["input_ids"] for text in (CLEAN, CORRUPT)]
    length = min(map(len, ids))
    texts = [backend.tokenizer.decode(part[:length], skip_special_tokens=True) for part in ids]
    assert len({len(backend.stimulus(text)) for text in texts}) == 1
    return texts


def assert_same_scan(one, other, tolerance=1e-4):
    assert one.components == other.components
    scale = max(1.0, float(np.nanmax(np.abs(one.values))) if one.values.size else 1.0)
    np.testing.assert_allclose(other.values, one.values, rtol=tolerance, atol=tolerance * scale)
    assert one.details.keys() == other.details.keys()
    for name, value in one.details.items():
        if np.issubdtype(np.asarray(value).dtype, np.floating):
            np.testing.assert_allclose(other.details[name], value, rtol=tolerance, atol=1e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(other.details[name], value, err_msg=name)


def scores_of(tracts):
    """Score by (source, target, slot)."""
    keys = zip(tracts.source.tolist(), tracts.target.tolist(), tracts.slot.tolist(), strict=True)
    return dict(zip(keys, tracts.score.tolist(), strict=True))


# -- the same numbers --------------------------------------------------------------------------------------------------


@families
def test_every_site_reads_the_same(family):
    lens, ours = pair(family)
    assert lens.site_names == ours.site_names
    stimulus = lens.stimulus(PROMPTS[1])
    reads = dict.fromkeys(lens.site_names, torch.Tensor.clone)
    one, other = (backend.run(stimulus, reads, logits=[-1, 0]) for backend in (lens, ours))
    for name in lens.site_names:
        assert one.reads[name].shape == other.reads[name].shape
        torch.testing.assert_close(other.reads[name], one.reads[name], rtol=1e-5, atol=1e-6, msg=name)
    torch.testing.assert_close(other.logits, one.logits, rtol=1e-5, atol=1e-6)


@families
def test_scans_of_weights_agree(family):
    lens, ours = pair(family)
    for mode in ("T1", "T2"):
        assert_same_scan(nmri3d.scan(lens, mode), nmri3d.scan(ours, mode))
    np.testing.assert_allclose(ours.layout_features(), lens.layout_features(), atol=1e-5)
    assert ours.fingerprint() == lens.fingerprint()


@families
@pytest.mark.parametrize("options", [{"aggregation": "raw"}, {"aggregation": "max"}, {"level": "neuron"}])
def test_fmri_agrees(family, options):
    lens, ours = pair(family)
    assert_same_scan(*(nmri3d.scan(backend, "fMRI", PROMPTS[1], **options) for backend in (lens, ours)))


@families
@pytest.mark.parametrize(
    "options",
    [{"method": "exact"}, {"method": "atp", "edges": "eap-ig", "steps": 2}, {"method": "dla", "edges": "none"}],
)
def test_dti_agrees(family, options):
    lens, ours = pair(family)
    clean, corrupt = prompts(lens)
    one, other = (nmri3d.scan(backend, "DTI", clean, corrupt=corrupt, **options) for backend in (lens, ours))
    assert_same_scan(one, other)
    if one.tracts is not None:
        edges = [scores_of(scan.tracts) for scan in (one, other)]
        largest = max(map(abs, edges[0].values()))
        assert edges[0].keys() == edges[1].keys()
        assert max(abs(score - edges[1][edge]) for edge, score in edges[0].items()) < 1e-4 * max(1.0, largest)


@families
def test_flair_agrees(family):
    lens, ours = pair(family)
    assert_same_scan(*(nmri3d.scan(backend, "FLAIR", PROMPTS[1], template="off") for backend in (lens, ours)))


@families
def test_perturbations_agree(family):
    lens, ours = pair(family)
    edits = [
        nmri3d.Edit("embed", "amplify", factor=1.5, positions=[1]),
        nmri3d.Edit("blocks.0.attn.head_1", "zero"),
        nmri3d.Edit("blocks.1.mlp", "invert"),
        nmri3d.Edit("blocks.1.mlp.neuron_5", "amplify", factor=3.0),
        nmri3d.Edit("blocks.2.hook_resid_pre", "amplify", factor=0.5, positions=[0, -1]),
        nmri3d.Edit("hook_resid_final", "amplify", factor=1.1),
    ]
    one, other = (nmri3d.perturb(backend, CLEAN, edits) for backend in (lens, ours))
    assert one.kl > 1e-3
    assert other.kl == pytest.approx(one.kl, abs=1e-5)
    np.testing.assert_allclose(other.values_after, one.values_after, rtol=1e-4, atol=1e-4)


@families
def test_traces_and_sweeps_agree(family):
    lens, ours = pair(family)
    clean, corrupt = prompts(lens)
    one, other = (nmri3d.trace(backend, clean, corrupt) for backend in (lens, ours))
    np.testing.assert_allclose(other.values, one.values, rtol=1e-4, atol=1e-4)
    one, other = (nmri3d.ablate_all(backend, clean, effect="zero") for backend in (lens, ours))
    np.testing.assert_allclose(other.values, one.values, rtol=1e-4, atol=1e-4)


@families
def test_edits_at_each_site_do_the_same(family):
    lens, ours = pair(family)
    stimulus = lens.stimulus(CLEAN)
    read = {"hook_resid_final": torch.Tensor.clone}
    plain = lens.run(stimulus, read).reads["hook_resid_final"]
    for name in lens.site_names:
        edit = SiteEdit(name, lambda tensor: tensor.roll(1, -1))  # post-norms undo a plain factor
        if name.endswith(("hook_pattern", "post_norm_scale")):
            with pytest.raises(InputError, match="can be read, not edited"):
                ours.run(stimulus, read, edits=[edit])
            continue
        one, other = (b.run(stimulus, read, edits=[edit]).reads["hook_resid_final"] for b in (lens, ours))
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5, msg=name)
        assert not torch.allclose(one, plain, atol=1e-3), name


@families
def test_gradients_recordings_and_attention_agree(family):
    lens, ours = pair(family)
    stimulus = lens.stimulus(CLEAN)
    embedding = lens.record(stimulus).at(0) * 0.9
    for options in ({}, {"embedding": embedding}):
        found = []
        for backend in (lens, ours):
            recording, gradients = backend.gradients(
                stimulus,
                lambda final, backend=backend: backend.token_logits(final[-1], torch.tensor([40]))[0],
                **options,
            )
            parts = [
                *recording.stream,
                *gradients,
                *recording.keys,
                *recording.values,
                *recording.heads,
                *recording.scales,
            ]
            found.append([part for part in parts if part is not None])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ours.attention(stimulus, 1), lens.attention(stimulus, 1), atol=1e-6)


@families
def test_weights_are_those_of_the_bridge(family):
    lens, ours = pair(family)
    bridge = lens.bridge.blocks[1]
    for row in lens.components.rows(layer=1).tolist():
        for name, weight in ours.weights(row).items():
            index, kind = int(lens.components.index[row]), str(lens.components.kind[row])
            if kind == "attn_bias":
                continue
            theirs = getattr(bridge.attn if kind == "head" else bridge.mlp, name).detach()
            if kind == "head":
                theirs = theirs[index * theirs.shape[0] // lens.info.n_heads]
            torch.testing.assert_close(weight, theirs, rtol=0, atol=0, msg=f"{row} {name}")
    live = {parameter.untyped_storage().data_ptr() for parameter in ours.hf_model.parameters()}
    rows = range(len(ours.components))
    assert all(w.untyped_storage().data_ptr() in live for row in rows for w in ours.weights(row).values())  # no copies


# -- the same behavior -------------------------------------------------------------------------------------------------


def test_it_is_the_protocol_and_says_what_it_is():
    backend = nnsight_backend("llama")
    assert isinstance(backend, Backend)
    assert backend.name == "nnsight"
    assert 0 < backend.info.completeness < 1e-5
    assert dataclasses.replace(backend.info, completeness=0) == dataclasses.replace(
        tiny_backend("llama").info, completeness=0
    )


def test_the_traced_model_serves_a_users_own_traces():
    import nnsight

    backend = nnsight_backend("llama")
    ids = torch.from_numpy(backend.stimulus(CLEAN).ids.copy())[None]
    with backend.nnsight.trace(input_ids=ids):
        hidden = nnsight.save(backend.nnsight.model.layers[1].input)
    read = backend.run(backend.stimulus(CLEAN), {"blocks.1.hook_resid_pre": torch.Tensor.clone})
    torch.testing.assert_close(hidden[0], read.reads["blocks.1.hook_resid_pre"], rtol=0, atol=0)


def test_an_unknown_site_is_refused_before_the_pass():
    backend = nnsight_backend("llama")
    with pytest.raises(InputError, match=r"no site 'blocks\.9\.hook_mlp_out'"):
        backend.run(backend.stimulus("a"), {"blocks.9.hook_mlp_out": lambda x: x})


def test_an_edit_that_changes_the_shape_is_refused():
    backend = nnsight_backend("llama")
    with pytest.raises(InputError, match="must keep the shape"):
        backend.run(backend.stimulus("a"), {}, edits=[SiteEdit("blocks.1.hook_mlp_out", lambda x: x[:, :3])])


@pytest.mark.parametrize("error", [RuntimeError("torn"), Cancelled("withdrawn")])
def test_an_error_inside_a_pass_leaves_weights_and_passes_as_they_were(error):
    backend = NnsightBackend(tiny_checkpoint("llama"))
    stimulus, read = backend.stimulus(CLEAN), {"hook_resid_final": torch.Tensor.clone}
    before = backend.run(stimulus, read).reads["hook_resid_final"]

    def tear(tensor):
        raise error

    with pytest.raises(type(error), match=str(error)):
        backend.run(stimulus, read, edits=[SiteEdit("blocks.1.attn.writes", tear)])
    with pytest.raises(type(error)):
        backend.gradients(stimulus, tear)
    assert backend.fingerprint() == backend.info.fingerprint
    assert torch.equal(backend.run(stimulus, read).reads["hook_resid_final"], before)
    recording = backend.record(stimulus)
    edit = StreamEdit(0, 0, torch.zeros_like(recording.at(0)))
    assert torch.allclose(backend.replay(recording, [edit], torch.clone)[0], before[-1], atol=1e-5)


def test_progress_is_reported_for_every_layer_and_cancels_within_one():
    backend, seen = nnsight_backend("gpt2"), []
    backend.run(backend.stimulus("a"), {}, progress=lambda share, what: seen.append((share, what)))
    assert seen == [(layer / LAYERS, f"layer {layer + 1} of {LAYERS}") for layer in range(LAYERS)]


def test_a_reducer_may_use_the_models_own_modules():
    """What a tap computes with a norm of the model is no part of the pass: nobody is served twice."""
    backend = nnsight_backend("gemma2")
    stimulus = backend.stimulus(CLEAN)
    reads = {f"blocks.{layer}.hook_resid_pre": backend.lens for layer in range(LAYERS)}
    run = backend.run(stimulus, {**reads, "hook_resid_final": torch.Tensor.clone}, logits=[-1])
    lens = tiny_backend("gemma2")
    plain = lens.run(
        stimulus, {"blocks.1.hook_resid_pre": lens.lens, "hook_resid_final": torch.Tensor.clone}, logits=[-1]
    )
    for name in plain.reads:
        torch.testing.assert_close(run.reads[name], plain.reads[name])
    torch.testing.assert_close(run.logits, plain.logits)


def test_a_closed_model_is_freed():
    checkpoint = tiny_checkpoint("llama")
    backend = NnsightBackend(checkpoint)
    backend.gradients(backend.stimulus(CLEAN), lambda final: backend.token_logits(final[-1], torch.tensor([4]))[0])
    alive = [weakref.ref(checkpoint.hf_model), weakref.ref(next(checkpoint.hf_model.parameters()))]
    del checkpoint.hf_model
    backend.close()
    assert [reference() for reference in alive] == [None, None]


@pytest.mark.parametrize("model_type", ["gptj", "phi"])
def test_a_norm_that_attention_and_mlp_share_is_replayed(model_type):
    """Both backends: a replay calls the MLP by itself, on the normed residual."""
    torch.manual_seed(0)
    options = {**small_config(model_type), "vocab_size": 384}
    options.pop("model_type")
    config = transformers.AutoConfig.for_model(model_type, **options)
    model = (
        transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().requires_grad_(False)
    )
    checkpoint = SimpleNamespace(**{**vars(tiny_checkpoint("gpt2")), "hf_model": model, "tokenizer": tiny_tokenizer()})
    for backend in (TransformerLensBackend(checkpoint), NnsightBackend(checkpoint)):
        stimulus = backend.stimulus(CLEAN)
        recording = backend.record(stimulus)
        delta = torch.randn(recording.at(0).shape, generator=torch.Generator().manual_seed(1)) * 0.01
        found = backend.replay(recording, [StreamEdit(0, 0, delta)], torch.clone)[0]
        edit = SiteEdit("blocks.0.hook_resid_pre", lambda residual, delta=delta: residual + delta)
        whole = backend.run(stimulus, {"hook_resid_final": torch.clone}, edits=[edit]).reads["hook_resid_final"][-1]
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(whole, recording.at(2 * backend.info.n_layers)[-1], atol=1e-4)


def test_importing_nnsight_adds_no_attribute_to_every_object():
    code = (
        "import nmri3d.models.nnsight_passes as p; p.import_nnsight(); "
        "import nnsight; print(hasattr(object, 'save'), hasattr(3, 'save'), callable(nnsight.save))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "False", "True"]


# -- fallback ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["helium", "persimmon", "gpt_neox_japanese"])
def unknown_folder(request, tmp_path):
    """A checkpoint of an architecture that TransformerLens has no adapter for."""
    torch.manual_seed(0)
    options = {**small_config(request.param), "vocab_size": 384}
    options.pop("model_type")
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(request.param, **options))
    model.save_pretrained(tmp_path / request.param)
    tiny_tokenizer().save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def test_an_architecture_without_adapter_falls_back_to_nnsight_and_says_so(unknown_folder):
    backend = nmri3d.load(unknown_folder)
    assert backend.name == "nnsight"
    assert any("TransformerLens has no adapter" in text and "nnsight runs it" in text for text in backend.info.warnings)
    assert 0 < backend.info.completeness < 1e-4
    ids = torch.from_numpy(backend.stimulus(CLEAN).ids.copy())[None]
    with torch.no_grad():
        states = backend.hf_model(input_ids=ids, output_hidden_states=True).hidden_states
    scan = nmri3d.scan(backend, "fMRI", CLEAN, aggregation="raw")
    total = np.nansum(scan.details["writes"], axis=1)
    read = backend.run(backend.stimulus(CLEAN), {"hook_resid_final": torch.Tensor.clone}).reads["hook_resid_final"]
    np.testing.assert_allclose(total, read, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(states[1][0], backend.record(backend.stimulus(CLEAN)).at(2), rtol=1e-4, atol=1e-6)
    edges = nmri3d.scan(backend, "DTI", CLEAN, method="exact", effect="zero")
    atp = nmri3d.scan(backend, "DTI", CLEAN, method="atp", effect="zero", edges="none")
    assert edges.tracts is not None
    written = np.zeros(len(backend.components))
    np.add.at(written, edges.tracts.source, edges.tracts.score)
    np.testing.assert_allclose(
        written, np.nan_to_num(atp.values[0]), atol=1e-4 * max(1e-3, np.abs(written).max()) + 1e-6
    )
    assert nmri3d.scan(backend, "T2").values.shape == (1, len(backend.components))


def test_a_backend_that_is_asked_for_is_not_replaced(unknown_folder, llama_folder):
    with pytest.raises(UnsupportedModelError, match="backend='nnsight'"):
        nmri3d.load(unknown_folder, backend="transformer_lens")
    assert nmri3d.load(llama_folder, backend="nnsight").name == "nnsight"
    backend = nmri3d.load(llama_folder)
    assert (backend.name, backend.info.warnings) == ("transformer_lens", ())
    with pytest.raises(InputError, match="no backend 'nnterp'; choose one of auto, transformer_lens, nnsight"):
        nmri3d.load(llama_folder, backend="nnterp")


def test_an_adapter_that_is_missing_at_last_falls_back_too(monkeypatch, own_cache):
    """A remembered list may name an architecture whose configuration TransformerLens then refuses."""

    def refuse(hf_model):
        raise UnsupportedModelError("no adapter")

    monkeypatch.setattr(adapter_facts, "adapter_of", refuse)
    checkpoint = Checkpoint(**vars(tiny_checkpoint("qwen3")), device="cpu", dtype="float32")
    backend = open_checkpoint(checkpoint)
    assert backend.name == "nnsight"
    assert_same_scan(nmri3d.scan(tiny_backend("qwen3"), "fMRI", CLEAN), nmri3d.scan(backend, "fMRI", CLEAN))
    with pytest.raises(UnsupportedModelError):
        open_checkpoint(checkpoint, "transformer_lens")


def test_what_neither_backend_knows_is_refused_before_weights_are_read(llama_folder, tmp_path):
    folder = shutil.copytree(llama_folder, tmp_path / "opt")
    config = {**small_config("biogpt"), "architectures": ["BioGptForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=r"BioGptForCausalLM is not supported.*no single attention and MLP"):
        preflight.inspect_folder(folder, trust_remote_code=False)


# -- checks at load ----------------------------------------------------------------------------------------------------


def test_a_model_whose_parts_do_not_add_up_is_refused():
    checkpoint = tiny_checkpoint("llama")
    block = checkpoint.hf_model.model.layers[1]
    forward = block.forward
    block.forward = lambda hidden, *args, **kwargs: forward(hidden, *args, **kwargs) * 1.01
    with pytest.raises(UnsupportedModelError, match="do not add up"):
        NnsightBackend(checkpoint)


def test_values_that_come_from_elsewhere_are_noticed():
    """Keys and values swapped: everything adds up, but weights and edges of V would be those of K."""
    checkpoint = tiny_checkpoint("llama")
    for layer in checkpoint.hf_model.model.layers:
        attention = layer.self_attn
        attention.k_proj, attention.v_proj = attention.v_proj, attention.k_proj
        forward = attention.forward

        def swapped(*args, attention=attention, forward=forward, **kwargs):
            attention.k_proj, attention.v_proj = attention.v_proj, attention.k_proj
            try:
                return forward(*args, **kwargs)
            finally:
                attention.k_proj, attention.v_proj = attention.v_proj, attention.k_proj

        attention.forward = swapped
    TransformerLensBackend(checkpoint)  # completeness alone does not see it
    with pytest.raises(UnsupportedModelError, match="value projection of block 0"):
        NnsightBackend(checkpoint)


def test_an_mlp_that_reads_more_than_its_input_is_noticed():
    checkpoint = tiny_checkpoint("llama")
    mlp = checkpoint.hf_model.model.layers[2].mlp
    calls, forward = [], mlp.forward

    def drifting(x):
        calls.append(x)
        return forward(x * (1 + 0.1 * len(calls)))

    mlp.forward = drifting
    with pytest.raises(UnsupportedModelError, match="MLP of block 2"):
        NnsightBackend(checkpoint)


@pytest.mark.model
def test_the_default_model_measures_the_same():
    ours, lens = nmri3d.load("smollm2-135m", backend="nnsight"), nmri3d.load("smollm2-135m")
    assert ours.info.fingerprint == lens.info.fingerprint
    prompt = "When Mary and John went to the store, John gave a drink to"
    assert_same_scan(*(nmri3d.scan(backend, "fMRI", prompt) for backend in (lens, ours)))
    options = {"target": " Mary", "foil": " John", "method": "atp", "effect": "zero"}
    one, other = (nmri3d.scan(backend, "DTI", prompt, **options) for backend in (lens, ours))
    assert_same_scan(one, other)
    assert abs(one.tracts.score.sum() - other.tracts.score.sum()) < 1e-3


def test_a_folder_loads_through_nnsight(tmp_path):
    backend = nmri3d.load(
        tiny_checkpoint_folder("gemma2", tmp_path / "tiny", dtype="bfloat16"), backend="nnsight", dtype="bfloat16"
    )
    assert backend.info.dtype == "bfloat16"
    assert 0 < backend.info.completeness < 5e-2
    assert np.isfinite(nmri3d.scan(backend, "fMRI", CLEAN).values[:, :-1]).all()

"""The TransformerLens backend against plain Hugging Face hooks, on every promised family.

The independent side finds its modules by the names that Hugging Face gives them, isolates a head by zeroing the others
before the output projection, and knows Gemma-2's post-norm by its formula.
"""

import dataclasses

import numpy as np
import pytest
import torch

from nmri3d.errors import Cancelled, InputError, UnsupportedModelError
from nmri3d.models.backend import Backend
from nmri3d.models.transformer_lens import TransformerLensBackend
from nmri3d.models.writes import REDUCE
from tests.models.backends import tiny_backend, tiny_checkpoint
from tests.models.tiny import FAMILIES, HEADS, LAYERS, PROMPTS, tiny_checkpoint_folder

families = pytest.mark.parametrize("family", FAMILIES)

BLOCKS = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers", "gpt_neox_sequential": "gpt_neox.layers"}
ATTN_OUT = {"gpt2": "attn.c_proj", "gpt_neox": "attention.dense", "gpt_neox_sequential": "attention.dense"}
MLP_OUT = {"gpt2": "mlp.c_proj", "gpt_neox": "mlp.dense_4h_to_h", "gpt_neox_sequential": "mlp.dense_4h_to_h"}


def plain_writes(family: str, prompt: str) -> dict[str, torch.Tensor]:
    """Every component's write [steps, d_model] by id, from Hugging Face modules alone."""
    checkpoint = tiny_checkpoint(family)
    model = checkpoint.hf_model
    ids = torch.tensor([checkpoint.tokenizer(prompt)["input_ids"]])
    blocks = model.get_submodule(BLOCKS.get(family, "model.layers"))
    seen: dict[str, torch.Tensor] = {}
    for layer, block in enumerate(blocks):
        out = block.get_submodule(ATTN_OUT.get(family, "self_attn.o_proj"))
        out.register_forward_pre_hook(lambda m, args, layer=layer: seen.__setitem__(f"z{layer}", args[0][0]))
        out.register_forward_hook(lambda m, args, y, layer=layer: seen.__setitem__(f"a{layer}", y[0]))
        mlp = block.get_submodule(MLP_OUT.get(family, "mlp.down_proj"))
        mlp.register_forward_hook(lambda m, args, y, layer=layer: seen.__setitem__(f"m{layer}", y[0]))
    with torch.no_grad():
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
        writes = {"embed": hidden[0][0]}
        for layer, block in enumerate(blocks):
            out = block.get_submodule(ATTN_OUT.get(family, "self_attn.o_proj"))
            z, bias = seen[f"z{layer}"], getattr(out, "bias", None)
            scale = torch.ones(1)
            if family == "gemma2":
                norm = block.post_attention_layernorm
                scale = (1 + norm.weight) * torch.rsqrt(seen[f"a{layer}"].pow(2).mean(-1, keepdim=True) + norm.eps)
            for head in range(HEADS):
                alone = torch.zeros_like(z).unflatten(-1, (HEADS, -1))
                alone[:, head] = z.unflatten(-1, (HEADS, -1))[:, head]
                whole = torch.nn.functional.linear(alone.flatten(1), weight_of(out))
                writes[f"blocks.{layer}.attn.head_{head}"] = whole * scale
            if bias is not None:
                writes[f"blocks.{layer}.attn.b_O"] = bias.expand(len(z), -1) * scale
            mlp = seen[f"m{layer}"]
            writes[f"blocks.{layer}.mlp"] = block.post_feedforward_layernorm(mlp) if family == "gemma2" else mlp
    return writes


def weight_of(projection: torch.nn.Module) -> torch.Tensor:
    return projection.weight.T if type(projection).__name__ == "Conv1D" else projection.weight


@families
@pytest.mark.parametrize("prompt", PROMPTS)
def test_writes_equal_plain_hooks_on_hugging_face(family, prompt):
    backend = tiny_backend(family)
    stimulus = backend.stimulus(prompt)
    plan = backend.write_plan("whole", frozenset(range(LAYERS)))
    whole = plan.collect(backend.run(stimulus, plan.reads))
    expected = plain_writes(family, prompt)
    assert set(expected) == set(backend.components.ids) - {"unembed"}
    for name, write in expected.items():
        np.testing.assert_allclose(whole[:, backend.components.row(name)], write, rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.isnan(whole[:, backend.components.row("unembed")]).all()


@families
@pytest.mark.parametrize("reduction", REDUCE)
def test_reductions_equal_those_of_the_whole_write(family, reduction):
    backend = tiny_backend(family)
    stimulus = backend.stimulus(PROMPTS[1])
    reduced, whole = (
        plan.collect(backend.run(stimulus, plan.reads))
        for plan in (backend.write_plan(name, frozenset(range(LAYERS))) for name in (reduction, "whole"))
    )
    numpy_reduction = {
        "l2_norm": lambda w: np.sqrt((w.astype(np.float64) ** 2).sum(-1)),
        "max": lambda w: np.abs(w).max(-1),
        "mean": lambda w: np.abs(w).mean(-1),
    }[reduction]
    np.testing.assert_allclose(reduced, numpy_reduction(whole), rtol=1e-4)


@families
def test_writes_add_up_and_the_error_is_reported(family):
    info = tiny_backend(family).info
    assert 0 < info.completeness < 1e-5
    assert info.post_norm == (family == "gemma2")
    assert info.parallel_blocks == (family == "gpt_neox")


@families
def test_a_model_in_a_folder_loads_without_network_and_adds_up(family, tmp_path):
    import nmri3d

    backend = nmri3d.load(tiny_checkpoint_folder(family, tmp_path / family, seed=5))
    assert 0 < backend.info.completeness < 1e-4
    t1 = nmri3d.scan(backend, "T1")
    assert int(t1.values.sum()) == sum({id(p): p.numel() for p in backend.hf_model.parameters()}.values())
    backend.close()


@families
def test_parameters_add_up_to_the_models_own_count(family):
    backend = tiny_backend(family)
    unique = {id(p): p.numel() for p in backend.hf_model.parameters()}
    assert int(backend.components.n_params.sum()) == sum(unique.values()) == backend.info.n_params
    assert (backend.components.n_params[backend.components.rows("head")] > 0).all()


@families
def test_logits_are_those_of_hugging_face(family):
    backend = tiny_backend(family)
    stimulus = backend.stimulus(PROMPTS[1])
    with torch.no_grad():
        expected = tiny_checkpoint(family).hf_model(torch.from_numpy(stimulus.ids)[None]).logits[0]
    np.testing.assert_array_equal(backend.run(stimulus, {}, logits=range(len(stimulus))).logits, expected)
    two = backend.run(stimulus, {}, logits=[-1, 0]).logits
    np.testing.assert_allclose(two, expected[[-1, 0]], rtol=1e-4, atol=1e-5)


@families
def test_the_bridge_shares_the_weights_and_gives_the_same_logits(family):
    backend = tiny_backend(family)
    stimulus = backend.stimulus(PROMPTS[0])
    with torch.no_grad():
        bridged = backend.bridge(torch.from_numpy(stimulus.ids)[None])[0]
    np.testing.assert_allclose(
        bridged, backend.run(stimulus, {}, logits=range(len(stimulus))).logits, rtol=1e-4, atol=1e-4
    )
    ours, theirs = (
        {p.data_ptr(): p.numel() for p in m.parameters()} for m in (backend.hf_model, backend.bridge.original_model)
    )
    copied = sum(n for pointer, n in theirs.items() if pointer not in ours)
    # families that keep Q, K and V (or gate and up) joined get them split; nothing else is copied
    assert copied < 0.5 * sum(ours.values())
    assert {p for p, n in ours.items() if n >= 384 * 32} <= set(theirs)
    assert backend.fingerprint() == backend.info.fingerprint


@families
def test_head_weights_are_the_ones_that_write(family):
    """W_O of a head, as given for weight statistics, must turn its z into its write."""
    backend = tiny_backend(family)
    stimulus = backend.stimulus(PROMPTS[0])
    plan = backend.write_plan("whole", frozenset(range(LAYERS)))
    reads = {**plan.reads, "blocks.1.attn.hook_z": lambda z: z.clone()}
    z = backend.run(stimulus, reads).reads["blocks.1.attn.hook_z"]
    whole = plan.collect(backend.run(stimulus, plan.reads))
    for head in range(HEADS):
        row = backend.components.row(f"blocks.1.attn.head_{head}")
        raw = (z[:, head] @ backend.weights(row)["W_O"]).numpy()
        write = whole[:, row]
        if family == "gemma2":  # the post-norm scales each step and each dimension
            block = backend.hf_model.model.layers[1].post_attention_layernorm
            raw = raw * (1 + block.weight.numpy())
            raw *= np.linalg.norm(write, axis=1, keepdims=True) / np.linalg.norm(raw, axis=1, keepdims=True)
        np.testing.assert_allclose(write, raw, rtol=1e-4, atol=1e-5)


@families
def test_circuit_spectra_equal_the_singular_values_of_the_full_circuits(family):
    backend = tiny_backend(family)
    ov, qk = backend.circuit_spectra(1)
    for head in range(HEADS):
        w = backend.weights(backend.components.row(f"blocks.1.attn.head_{head}"))
        d_head = w["W_O"].shape[0]
        np.testing.assert_allclose(ov[head], torch.linalg.svdvals(w["W_V"] @ w["W_O"])[:d_head], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(qk[head], torch.linalg.svdvals(w["W_Q"] @ w["W_K"].T)[:d_head], rtol=1e-3, atol=1e-5)


@families
def test_shared_kv_heads_are_read_by_the_right_query_heads(family):
    """Zeroing the K/V head that `weights` names must silence exactly the query heads that read it."""
    checkpoint = tiny_checkpoint(family)
    backend = TransformerLensBackend(checkpoint)
    if backend.info.n_kv_heads == backend.info.n_heads or family == "phi3":
        pytest.skip("no shared K/V heads, or Q, K and V in one matrix")
    w_v = backend.weights(backend.components.row("blocks.1.attn.head_1"))["W_V"].clone()
    projection = checkpoint.hf_model.model.layers[1].self_attn.v_proj
    d_head = backend.info.d_head
    groups = [projection.weight[g * d_head : (g + 1) * d_head].T for g in range(backend.info.n_kv_heads)]
    [group] = [g for g, weight in enumerate(groups) if torch.equal(weight, w_v)]
    assert group == 1 // (backend.info.n_heads // backend.info.n_kv_heads)


def test_every_member_of_the_protocol_is_there():
    assert isinstance(tiny_backend("llama"), Backend)


def test_fingerprint_tells_weights_apart_and_is_taken_from_the_live_ones():
    backend = TransformerLensBackend(tiny_checkpoint("llama"))
    assert backend.fingerprint() == backend.info.fingerprint == tiny_backend("llama").info.fingerprint
    assert backend.fingerprint() != TransformerLensBackend(tiny_checkpoint("llama", seed=1)).fingerprint()
    with torch.no_grad():
        backend.hf_model.model.layers[0].mlp.down_proj.weight[0, 0] += 1e-3
    assert backend.fingerprint() != backend.info.fingerprint


def test_a_model_whose_parts_do_not_add_up_is_refused(monkeypatch):
    checkpoint = tiny_checkpoint("llama")
    block = checkpoint.hf_model.model.layers[1]
    forward = block.forward
    block.forward = lambda hidden, *args, **kwargs: forward(hidden, *args, **kwargs) * 1.01
    with pytest.raises(UnsupportedModelError, match="do not add up"):
        TransformerLensBackend(checkpoint)


def test_a_model_with_parts_that_we_do_not_know_is_refused():
    checkpoint = tiny_checkpoint("llama")
    checkpoint.hf_model.adapter = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedModelError, match=r"parameters outside.*adapter\.weight"):
        TransformerLensBackend(checkpoint)


def test_an_architecture_without_an_mlp_in_each_block_is_refused():
    import transformers

    checkpoint = tiny_checkpoint("llama")
    config = transformers.MambaConfig(vocab_size=384, hidden_size=16, num_hidden_layers=1, state_size=4)
    checkpoint.hf_model = transformers.MambaForCausalLM(config).eval()
    with pytest.raises(UnsupportedModelError, match="MambaForCausalLM"):
        TransformerLensBackend(checkpoint)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "prompt is empty"),
        (None, "a prompt is text, got NoneType"),
        (7, "a prompt is text, got int"),
        (b"bytes", "a prompt is text, got bytes"),
        ("word " * 400, "reads at most 128; shorten it"),
        ("half \ud83e", "lone surrogate"),
    ],
)
def test_a_prompt_that_cannot_be_run_is_refused_in_words(prompt, message):
    with pytest.raises(InputError, match=message):
        tiny_backend("llama").stimulus(prompt)


def test_tokens_are_labelled_and_added_ones_are_marked():
    stimulus = tiny_backend("llama").stimulus("Paris 🧠")
    assert stimulus.special.tolist() == [True] + [False] * (len(stimulus) - 1)
    assert all(stimulus.labels)
    assert not any("\ufffd" in label for label in stimulus.labels)
    assert not tiny_backend("gpt2").stimulus("Paris").special.any()


def test_parts_of_a_character_are_labelled_by_their_bytes():
    backend = tiny_backend("gpt2")
    text = "a 漢"  # a character that the tiny tokenizer has no token for
    stimulus = backend.stimulus(text)
    assert len(stimulus) > len(text)
    shown = "".join(stimulus.labels)
    assert shown.encode().decode("unicode_escape").encode("latin-1").decode() == text
    assert stimulus.labels[0] == "a"


def test_an_unknown_site_is_refused_before_the_pass():
    with pytest.raises(InputError, match=r"no site 'blocks\.9\.hook_mlp_out'"):
        tiny_backend("llama").run(tiny_backend("llama").stimulus("a"), {"blocks.9.hook_mlp_out": lambda x: x})


def test_cancelling_takes_effect_within_a_layer_and_leaves_no_hook():
    backend = TransformerLensBackend(tiny_checkpoint("llama"))
    seen = []

    def progress(share, what):
        seen.append(share)
        if len(seen) == 2:
            raise Cancelled

    plan = backend.write_plan("l2_norm", frozenset(range(LAYERS)))
    with pytest.raises(Cancelled):
        backend.run(backend.stimulus("Paris"), plan.reads, progress=progress)
    assert seen == [0, 1 / LAYERS]
    hooks = [module for module in backend.hf_model.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooks == []


def test_progress_is_reported_for_every_layer():
    backend = tiny_backend("gpt2")
    seen = []
    backend.run(backend.stimulus("a"), {}, progress=lambda share, what: seen.append((share, what)))
    assert seen == [(layer / LAYERS, f"layer {layer + 1} of {LAYERS}") for layer in range(LAYERS)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_half_precision_models_add_up_within_their_tolerance(dtype, tolerance):
    checkpoint = tiny_checkpoint("llama")
    checkpoint.hf_model = checkpoint.hf_model.to(dtype)
    backend = TransformerLensBackend(checkpoint)
    assert 1e-6 < backend.info.completeness < tolerance
    plan = backend.write_plan("l2_norm", frozenset(range(LAYERS)))
    values = plan.collect(backend.run(backend.stimulus(PROMPTS[0]), plan.reads))
    assert values.dtype == np.float32
    assert np.isfinite(np.delete(values, backend.components.row("unembed"), axis=1)).all()


def test_info_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_backend("llama").info.n_layers = 3

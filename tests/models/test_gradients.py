"""Gradients along the stream against finite differences; readers against the gradient that they split."""

import pytest
import torch

from nmri3d.models import transformer
from nmri3d.models.replay import StreamEdit
from tests.models.backends import tiny_backend, tiny_checkpoint
from tests.models.tiny import FAMILIES

PROMPT = "The capital of France is"


def metric_of(backend):
    tokens = torch.tensor([40, 50])

    def metric(final):
        target, foil = backend.token_logits(final[-1], tokens)
        return target - foil

    return metric


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_predict_small_edits(family):
    checkpoint = tiny_checkpoint(family)
    checkpoint.hf_model.double()
    backend = transformer_lens_backend(checkpoint)
    metric, stimulus = metric_of(backend), backend.stimulus(PROMPT)
    recording, gradients = backend.gradients(stimulus, metric)
    generator = torch.Generator().manual_seed(0)
    for point, gradient in enumerate(gradients):
        if gradient is None:
            continue
        delta = torch.randn(gradient.shape, generator=generator, dtype=torch.float64) * 1e-3
        moved = backend.replay(
            recording, [StreamEdit(point, 0, delta), StreamEdit(point, 0, -delta)], lambda x: pair(backend, x)
        )
        slope = float(moved[0] - moved[1]) / 2
        # norms and softmax of most families compute in float32 even here
        assert abs(slope - float((gradient * delta).sum())) < 1e-3 * abs(slope) + 4e-6, point


def pair(backend, final):
    logits = backend.token_logits(final, torch.tensor([40, 50]))
    return logits[:, 0] - logits[:, 1]


def transformer_lens_backend(checkpoint):
    from nmri3d.models.transformer_lens import TransformerLensBackend

    return TransformerLensBackend(checkpoint)


@pytest.mark.parametrize("family", FAMILIES)
def test_block_by_block_equals_the_whole_graph(family, monkeypatch):
    backend = tiny_backend(family)
    stimulus, metric = backend.stimulus(PROMPT), metric_of(backend)
    _, whole = backend.gradients(stimulus, metric)
    monkeypatch.setattr(transformer, "GRAPH_BYTES", 0)
    recording, by_block = backend.gradients(stimulus, metric)
    assert not recording.at(0).requires_grad
    for one, other in zip(whole, by_block, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_readers_and_the_direct_way_add_up(family):
    backend = tiny_backend(family)
    recording, gradients = backend.gradients(backend.stimulus(PROMPT), metric_of(backend))
    for layer in range(backend.info.n_layers):
        readers = backend.reader_gradients(recording, gradients, layer)
        n_heads, n_steps = backend.info.n_heads, len(recording)
        assert readers.attention.shape == (3, n_heads, n_steps, backend.info.d_model)
        total = readers.attention.sum((0, 1)) + readers.mlp + gradients[2 * layer + 2]
        assert torch.allclose(total, gradients[2 * layer], rtol=1e-3, atol=1e-5 * float(total.abs().max()))


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "gemma2", "mistral"])
def test_shared_keys_and_values_are_split_by_query_head(family):
    """Against the gradient when only one query head of a group passes any on: the split must give that head's part."""
    backend = tiny_backend(family)
    recording, gradients = backend.gradients(backend.stimulus(PROMPT), metric_of(backend))
    layer, head = 1, 3
    readers = backend.reader_gradients(recording, gradients, layer)
    block = backend._modules.blocks[layer]
    x = recording.at(2 * layer).clone().requires_grad_()

    def only_this_head(module, args):
        heads = args[0].unflatten(-1, (backend.info.n_heads, -1))
        mask = torch.zeros(backend.info.n_heads, 1, dtype=torch.bool)
        mask[head] = True
        return (torch.where(mask, heads, heads.detach()).flatten(-2),)

    handle = block.attn_out.register_forward_pre_hook(only_this_head)
    try:
        write = block.attn(hidden_states=block.norm_before_attn(x[None]), **recording.arguments[layer])[0][0]
    finally:
        handle.remove()
    if block.norm_after_attn is not None:
        write = block.norm_after_attn(write)
    (expected,) = torch.autograd.grad(write, x, gradients[2 * layer + 1])
    found = readers.attention[:, head].sum(0)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_weights_have_no_gradient_afterwards():
    backend = tiny_backend("llama")
    before = backend.fingerprint()
    backend.gradients(backend.stimulus(PROMPT), metric_of(backend))
    assert backend.fingerprint() == before
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in backend.hf_model.parameters())

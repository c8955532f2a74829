"""A replay from the edited point, against whole passes that plain hooks on the Hugging Face modules change."""

import numpy as np
import pytest
import torch

from nmri3d.errors import Cancelled, InputError
from nmri3d.models import replay as replay_module
from nmri3d.models.backend import SiteEdit
from nmri3d.models.replay import StreamEdit
from tests.models.backends import tiny_backend
from tests.models.tiny import FAMILIES, LAYERS

PROMPT = "When Mary and John went to the store"


def read_final(residual):
    return residual.clone()


def recorded(family):
    backend = tiny_backend(family)
    stimulus = backend.stimulus(PROMPT)
    return backend, stimulus, backend.record(stimulus)


def naive(backend, stimulus, point, start, delta, step):
    """A whole pass in which the output of one module is changed: no batch, no cache, no restart."""
    layer, blocks = point // 2, backend._modules.blocks
    handles = []

    def add(tensor):
        changed = tensor.clone()
        changed[0, start : start + len(delta)] += delta
        return changed

    def on_input(module, args, kwargs):
        if args:
            return (add(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": add(kwargs["hidden_states"])}

    if point == 2 * LAYERS:
        handles.append(backend._modules.final_norm.register_forward_pre_hook(on_input, with_kwargs=True))
    elif point % 2 == 0:
        handles.append(blocks[layer].block.register_forward_pre_hook(on_input, with_kwargs=True))
    else:
        module = blocks[layer].norm_after_attn or blocks[layer].attn_out
        handles.append(module.register_forward_hook(lambda m, a, out: add(out)))
    seen = {}
    handles.append(backend._modules.final_norm.register_forward_hook(lambda m, a, out: seen.update(x=a[0])))
    try:
        with torch.no_grad():
            backend.hf_model(input_ids=torch.from_numpy(stimulus.ids)[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen["x"][0, step]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_replay_equals_whole_passes(family, monkeypatch):
    backend, stimulus, recording = recorded(family)
    monkeypatch.setattr(replay_module, "CHUNK_STEPS", 24)  # several chunks even here
    generator = torch.Generator().manual_seed(0)
    points = [point for point, residual in enumerate(recording.stream) if residual is not None]
    edits, n = [], len(stimulus)
    for point in points:
        for start in (0, 3, n - 1):
            length = n - start if point % 3 else 1  # on all later steps, or on one
            delta = torch.randn(length, recording.at(0).shape[1], generator=generator)
            edits.append(StreamEdit(point, start, delta))
    for step in (-1, n - 3):
        found = backend.replay(recording, edits, read_final, step=step)
        expected = torch.stack([naive(backend, stimulus, e.point, e.start, e.delta, step) for e in edits])
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_values_set_on_the_way_equal_edits_of_a_whole_pass(family):
    backend, stimulus, recording = recorded(family)
    value = torch.randn(recording.at(0).shape[1], generator=torch.Generator().manual_seed(1))

    def put(tensor):
        changed = tensor.clone()
        changed[3] = value
        return changed

    for part, site in (("attn", "hook_attn_out"), ("mlp", "hook_mlp_out"), ("resid", "hook_resid_pre")):
        edit = StreamEdit(0, 3, value[None] - recording.at(0)[3:4], {(1, part): (3, value), (2, part): (3, value)})
        found = backend.replay(recording, [edit], read_final)[0]
        sites = ["blocks.0.hook_resid_pre", f"blocks.1.{site}", f"blocks.2.{site}"]
        run = backend.run(stimulus, {"hook_resid_final": read_final}, edits=[SiteEdit(name, put) for name in sites])
        assert torch.allclose(found, run.reads["hook_resid_final"][-1], rtol=1e-5, atol=1e-5)


def test_edits_after_the_step_that_is_read_change_nothing():
    backend, _, recording = recorded("llama")
    edit = StreamEdit(0, 5, torch.ones(1, recording.at(0).shape[1]))
    assert torch.equal(backend.replay(recording, [edit], read_final, step=4)[0], recording.at(2 * LAYERS)[4])


def test_batches_are_bounded_and_change_nothing(monkeypatch):
    backend, stimulus, recording = recorded("qwen3")
    edits = [StreamEdit(0, 0, scale * torch.ones_like(recording.at(0))) for scale in (0.1, 0.2, 0.3, 0.4, 0.5)]
    whole = backend.replay(recording, edits, read_final)
    monkeypatch.setattr(replay_module, "BATCH_BYTES", 2 * len(stimulus) * recording.at(0).shape[1] * 4)
    assert torch.allclose(backend.replay(recording, edits, read_final), whole, atol=1e-5)


def test_a_replay_can_be_withdrawn_and_leaves_the_weights():
    backend, _, recording = recorded("llama")
    before = backend.fingerprint()

    def withdraw(share, what):
        raise Cancelled("withdrawn")

    with pytest.raises(Cancelled):
        backend.replay(recording, [StreamEdit(0, 0, torch.zeros(1, 32))], read_final, progress=withdraw)
    assert backend.fingerprint() == before


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_writes_add_up_and_enter_where_they_join(family):
    backend, _, recording = recorded(family)
    total = sum(backend.writes(recording, row) for row in range(len(backend.components) - 1))
    assert torch.allclose(total, recording.at(2 * LAYERS), rtol=1e-4, atol=1e-4)
    points = [backend.entry_point(row) for row in range(len(backend.components) - 1)]
    assert points == sorted(points)
    with pytest.raises(InputError, match="unembed writes nothing"):
        backend.writes(recording, len(backend.components) - 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_edits_of_writes_change_the_residual_by_the_difference(family):
    """Also where a post-norm would rescale what is left: its scale stays that of the unedited run."""
    backend, stimulus, recording = recorded(family)
    row = int(backend.components.rows("head", 1)[2])

    def silence(writes):
        changed = writes.clone()
        changed[:, 2] = 0
        return changed

    read = {"hook_resid_final": read_final}
    edited = backend.run(stimulus, read, edits=[SiteEdit("blocks.1.attn.writes", silence)]).reads["hook_resid_final"]
    edit = StreamEdit(backend.entry_point(row), 0, -backend.writes(recording, row))
    assert torch.allclose(edited[-1], backend.replay(recording, [edit], read_final)[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(edited[-1], recording.at(2 * LAYERS)[-1], atol=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2"])
def test_every_site_that_can_be_edited_is(family):
    """A silent no-op cannot happen: adding to what passes a site shows in the last residual."""
    backend, stimulus, recording = recorded(family)
    for site in backend.site_names:
        edits = [SiteEdit(site, lambda tensor: tensor + 1)]
        if site.endswith(("hook_pattern", "post_norm_scale")):
            with pytest.raises(InputError, match="can be read, not edited"):
                backend.run(stimulus, {}, edits=edits)
            continue
        run = backend.run(stimulus, {"hook_resid_final": read_final, site: read_final}, edits=edits)
        plain = backend.run(stimulus, {site: read_final})
        assert not torch.allclose(run.reads["hook_resid_final"], recording.at(2 * LAYERS), atol=1e-3), site
        assert torch.allclose(run.reads[site], plain.reads[site] + 1, atol=1e-5), site


def test_an_edit_that_matches_no_site_or_changes_the_shape_is_refused():
    backend, stimulus, _ = recorded("llama")
    before = backend.fingerprint()
    with pytest.raises(InputError, match=r"no site 'blocks\.9\.hook_mlp_out'"):
        backend.run(stimulus, {}, edits=[SiteEdit("blocks.9.hook_mlp_out", lambda tensor: tensor)])
    with pytest.raises(InputError, match="must keep the shape"):
        backend.run(stimulus, {}, edits=[SiteEdit("blocks.1.hook_mlp_out", lambda tensor: tensor[:1])])
    with pytest.raises(ZeroDivisionError):
        backend.run(stimulus, {}, edits=[SiteEdit("blocks.1.hook_mlp_out", lambda tensor: 1 // 0)])
    assert backend.fingerprint() == before
    clean = backend.run(stimulus, {"hook_resid_final": read_final}).reads["hook_resid_final"]
    assert torch.equal(clean, backend.record(stimulus).at(2 * LAYERS))


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_rows_sum_to_one_and_look_back_only(family):
    backend, stimulus, _ = recorded(family)
    pattern = backend.attention(stimulus, 1)
    assert pattern.shape == (backend.info.n_heads, len(stimulus), len(stimulus))
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)
    assert np.all(pattern[:, *np.triu_indices(len(stimulus), 1)] == 0)

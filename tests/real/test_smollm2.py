"""The real default model: what it answers, and our numbers against plain Hugging Face hooks on a second copy of it."""

import numpy as np
import pytest
import torch

import nmri3d

pytestmark = pytest.mark.model

PROMPT = "When Mary and John went to the store, John gave a drink to"


@pytest.fixture(scope="module")
def second_copy(smollm2):
    """Another instance of the same weights, loaded by transformers alone."""
    from transformers import AutoModelForCausalLM

    from nmri3d.models.embedded import locate_embedded

    folder = locate_embedded(lambda share, what: None).folder
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def plain_norms(model, ids: np.ndarray) -> dict[str, np.ndarray]:
    """L2 norm of every component's write, by id, from hooks on the Llama modules and the definition."""
    seen = {}
    handles = []
    for layer, block in enumerate(model.model.layers):
        keep_z = lambda m, args, layer=layer: seen.__setitem__(("z", layer), args[0][0])  # noqa: E731
        keep_mlp = lambda m, args, out, layer=layer: seen.__setitem__(("mlp", layer), out[0])  # noqa: E731
        handles += [block.self_attn.o_proj.register_forward_pre_hook(keep_z), block.mlp.register_forward_hook(keep_mlp)]
    with torch.no_grad():
        model(input_ids=torch.from_numpy(ids)[None], use_cache=False)
        for handle in handles:
            handle.remove()
        norms = {"embed": model.model.embed_tokens(torch.from_numpy(ids)).norm(dim=-1)}
        for layer, block in enumerate(model.model.layers):
            norms[f"blocks.{layer}.mlp"] = seen["mlp", layer].norm(dim=-1)
            for head in range(9):
                columns = slice(64 * head, 64 * head + 64)
                write = seen["z", layer][:, columns] @ block.self_attn.o_proj.weight[:, columns].T
                norms[f"blocks.{layer}.attn.head_{head}"] = write.norm(dim=-1)
    return {name: norm.numpy() for name, norm in norms.items()}


def test_it_is_a_real_model(smollm2):
    for prompt, answer in (("The capital of France is", " Paris"), (PROMPT, " Mary")):
        logits = smollm2.run(smollm2.stimulus(prompt), {}, logits=[-1]).logits[0]
        assert smollm2.token_text(int(logits.argmax())) == answer
        assert float(logits.softmax(-1).max()) > 0.7


def test_fmri_equals_plain_hugging_face_hooks(smollm2, second_copy):
    fmri = nmri3d.scan(smollm2, "fMRI", PROMPT)
    expected = plain_norms(second_copy, smollm2.stimulus(PROMPT).ids)
    assert len(expected) == 1 + 30 * 10
    for name, norm in expected.items():
        np.testing.assert_allclose(fmri.values[:, fmri.components.row(name)], norm, rtol=1e-4, err_msg=name)


def test_t1_is_the_exact_parameter_count(smollm2, second_copy):
    t1 = nmri3d.scan(smollm2, "T1")
    assert int(t1.values.sum()) == sum(p.numel() for p in second_copy.parameters()) == 134_515_008


def test_the_components_add_up_to_the_residual_stream(smollm2):
    assert 0 < smollm2.info.completeness < 1e-5


def test_logits_equal_those_of_the_second_copy(smollm2, second_copy):
    stimulus = smollm2.stimulus(PROMPT)
    with torch.no_grad():
        expected = second_copy(input_ids=torch.from_numpy(stimulus.ids)[None], use_cache=False).logits[0]
    np.testing.assert_array_equal(smollm2.run(stimulus, {}, logits=range(len(stimulus))).logits, expected)


def test_scans_do_not_touch_the_weights(smollm2):
    nmri3d.scan(smollm2, "fMRI", PROMPT)
    nmri3d.scan(smollm2, "T2")
    assert smollm2.bridge is not None
    assert smollm2.fingerprint() == smollm2.info.fingerprint

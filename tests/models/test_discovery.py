"""Parts that are found by watching a pass, against those that TransformerLens names, and on architectures it does not know."""

import pytest
import torch
import transformers

from nmri3d.errors import UnsupportedModelError
from nmri3d.models import adapter_facts, discovery
from nmri3d.models.sites import module_map
from tests.models.tiny import FAMILIES, tiny_model

SMALL = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "rotary_dim": 4,
}


def small_config(model_type: str) -> dict:
    known = transformers.AutoConfig.for_model(model_type)
    options = {name: value for name, value in SMALL.items() if hasattr(known, name)}
    return transformers.AutoConfig.for_model(model_type, **options).to_dict()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_found_are_those_that_transformer_lens_names(family):
    model = tiny_model(family)
    model.set_attn_implementation("eager")
    paths = adapter_facts.module_paths(model)
    found = discovery.module_paths(model)
    assert {role: paths.get(role) for role in found} == found
    named, discovered = module_map(model, paths), module_map(model, found)
    assert named == discovered  # the same modules in every role, and none in a role more
    assert discovered.has_post_norm == (family == "gemma2")
    assert discovered.parallel == (family == "gpt_neox")
    assert (discovered.pos_embed is not None) == (family == "gpt2")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_weights_shows_the_same_parts(family):
    model = tiny_model(family)
    bare = discovery.skeleton(model.config.to_dict())
    assert all(parameter.is_meta for parameter in bare.parameters())
    assert discovery.module_paths(bare) == discovery.module_paths(model)


def test_watching_leaves_no_hook_and_draws_no_numbers():
    model = tiny_model("gpt2")
    state = torch.get_rng_state()
    discovery.module_paths(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert not [part for part in model.modules() if part._forward_hooks or part._forward_pre_hooks]


@pytest.mark.parametrize("model_type", ["gptj", "phi", "cohere2"])
def test_a_norm_that_attention_and_mlp_share_is_found_for_both(model_type):
    """TransformerLens names it for attention only."""
    model = discovery.skeleton(small_config(model_type))
    found = discovery.module_paths(model)
    assert found["parallel"] == "yes"
    assert found["blocks.ln1"] == found["blocks.ln2"]
    (named, *_) = module_map(model, adapter_facts.module_paths(model)).blocks
    assert named.norm_before_mlp is named.norm_before_attn


@pytest.mark.parametrize("model_type", ["helium", "ministral", "persimmon", "gpt_neox_japanese"])
def test_architectures_that_transformer_lens_does_not_know_are_mapped(model_type):
    config = small_config(model_type)
    bare = discovery.skeleton(config)
    assert type(bare).__name__ not in adapter_facts.supported_architectures()
    discovery.check_skeleton(config)
    modules = module_map(bare, discovery.module_paths(bare))
    assert len(modules.blocks) == 2
    for block in modules.blocks:
        assert block.norm_before_attn is not None
        assert block.norm_before_mlp not in (None, block.norm_before_attn)
    assert modules.final_norm is not None


def test_norms_are_told_apart_by_what_they_read_not_by_their_names():
    """OLMo-2 norms only what sub-layers write, under a name that in Llama means the norm before the MLP."""
    bare = discovery.skeleton(small_config("olmo2"))
    (block, *_) = module_map(bare, discovery.module_paths(bare)).blocks
    assert block.norm_before_attn is None
    assert block.norm_before_mlp is None
    assert block.norm_after_attn is bare.model.layers[0].post_attention_layernorm
    assert block.norm_after_mlp is bare.model.layers[0].post_feedforward_layernorm


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("mamba", "list of blocks"),
        ("biogpt", "single attention and MLP"),  # its MLP is no module of its own
        ("mixtral", "single attention and MLP"),
        ("ctrl", "query, key and value"),
    ],
)
def test_what_has_not_the_parts_is_refused_in_words(model_type, words):
    with pytest.raises(UnsupportedModelError, match=words):
        discovery.check_skeleton(small_config(model_type))


def test_a_configuration_that_builds_no_model_is_refused():
    with pytest.raises(UnsupportedModelError, match="cannot be built"):
        discovery.check_skeleton({"model_type": "llama", "num_attention_heads": 4, "hidden_size": "wide"})

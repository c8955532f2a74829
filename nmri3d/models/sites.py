"""Where to hook: the canonical names of a Hugging Face model's sites, and the modules that they stand for.

TransformerLens' architecture adapter tells, for each family, which Hugging Face module is `blocks.3.attn.o` and so on.
The hooks are then put on the plain Hugging Face modules: numbers are Hugging Face's own, and a pass costs no more than
its hooks. `TransformerBridge` itself replaces modules and slows the forward pass, so it is built beside the model.

A network of attention alone says so (`attention_only` among its paths); its blocks have no MLP and no sites of one.

Left out: mixtures of experts, state-space blocks and encoder-decoders, which have no `attn.o` and `mlp.out` in each
block; they are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from nmri3d.errors import UnsupportedModelError

REQUIRED = ("embed", "blocks", "blocks.attn", "blocks.attn.o", "ln_final", "unembed")
"""Parts without which a model cannot be scanned."""

REQUIRED_OF_MLP = ("blocks.mlp", "blocks.mlp.out")
"""The same of a model that has not said that it is of attention alone."""


@dataclass(frozen=True)
class Site:
    """A module and what of it is read.

    reads      its first input, its output, its attention pattern, the scale that it applied (post-norms), the writes of
               the heads that it projects, or the residual after it has been added
    n_heads    heads that an input divides into; 0 where it does not
    layer      block number, -1 outside of the blocks
    post_norm  norm after an attention whose writes are read
    block      block of an attention after which the residual is read
    """

    module: nn.Module
    reads: Literal["input", "writes", "output", "post_norm_scale", "pattern", "residual_after"]
    n_heads: int = 0
    layer: int = -1
    post_norm: nn.Module | None = None
    block: nn.Module | None = None


@dataclass(frozen=True)
class Block:
    """Modules of one transformer block; None where the architecture has none."""

    block: nn.Module
    norm_before_attn: nn.Module | None
    attn: nn.Module
    attn_out: nn.Module
    norm_after_attn: nn.Module | None
    norm_before_mlp: nn.Module | None
    mlp: nn.Module | None
    mlp_out: nn.Module | None
    norm_after_mlp: nn.Module | None


@dataclass(frozen=True)
class ModuleMap:
    """The modules of a decoder-only transformer by role."""

    embed: nn.Module
    pos_embed: nn.Module | None
    blocks: tuple[Block, ...]
    final_norm: nn.Module
    unembed: nn.Module
    parallel: bool

    @property
    def has_post_norm(self) -> bool:
        return any(block.norm_after_attn is not None or block.norm_after_mlp is not None for block in self.blocks)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """In float32, unless it is wider already: what sums and differences are taken in."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def weight_of(module: nn.Module) -> torch.Tensor:
    """The live weight of a module, detached."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


def bias_of(module: nn.Module) -> torch.Tensor | None:
    """The live bias of a module, detached; None where it has none."""
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, torch.Tensor) else None


def module_map(hf_model: nn.Module, paths: Mapping[str, str]) -> ModuleMap:
    """Find the parts of a Hugging Face model by the paths of `nmri3d.models.adapter_facts.module_paths`.

    Raises UnsupportedModelError, naming what is missing, for an architecture without these parts in every block.
    """
    architecture = type(hf_model).__name__
    attention_only = paths.get("attention_only") == "yes"
    missing = [role for role in (*REQUIRED, *(() if attention_only else REQUIRED_OF_MLP)) if role not in paths]
    if missing:
        raise UnsupportedModelError(
            f"{architecture} has no {', '.join(missing)}; nmri3d scans decoder-only transformers with attention and an "
            "MLP in every block (GPT-2, Pythia, Llama, Qwen, Gemma, Mistral, Phi and their kin)"
        )

    def find(root: nn.Module, role: str) -> nn.Module:
        try:
            return root.get_submodule(paths[role])
        except AttributeError:
            raise UnsupportedModelError(
                f"{architecture} has no module {paths[role]!r}, which should be its {role}; nmri3d scans decoder-only "
                "transformers with attention and an MLP in every block"
            ) from None

    def optional(root: nn.Module, role: str) -> nn.Module | None:
        return find(root, role) if role in paths else None

    # attention and MLP of a parallel block may share one norm, and then only attention's is named (GPT-J, Phi, Cohere)
    before_mlp = "blocks.ln1" if paths["parallel"] == "yes" and "blocks.ln2" not in paths else "blocks.ln2"
    blocks = []
    for block in find(hf_model, "blocks").children():
        attn, mlp = find(block, "blocks.attn"), None if attention_only else find(block, "blocks.mlp")
        blocks.append(
            Block(
                block=block,
                norm_before_attn=optional(block, "blocks.ln1"),
                attn=attn,
                attn_out=find(attn, "blocks.attn.o"),
                norm_after_attn=optional(block, "blocks.ln1_post"),
                norm_before_mlp=None if mlp is None else optional(block, before_mlp),
                mlp=mlp,
                mlp_out=None if mlp is None else find(mlp, "blocks.mlp.out"),
                norm_after_mlp=None if mlp is None else optional(block, "blocks.ln2_post"),
            )
        )
    return ModuleMap(
        embed=find(hf_model, "embed"),
        pos_embed=optional(hf_model, "pos_embed"),
        blocks=tuple(blocks),
        final_norm=find(hf_model, "ln_final"),
        unembed=find(hf_model, "unembed"),
        parallel=paths["parallel"] == "yes",
    )


def sites(modules: ModuleMap, n_heads: int) -> dict[str, Site]:
    """Every readable site by its canonical name (see `nmri3d.models.backend`)."""
    found = {
        "hook_embed": Site(modules.blocks[0].block, "input"),
        "hook_resid_final": Site(modules.final_norm, "input"),
    }
    for layer, block in enumerate(modules.blocks):
        name, norm = f"blocks.{layer}", block.norm_after_attn
        found[f"{name}.hook_resid_pre"] = Site(block.block, "input", layer=layer)
        found[f"{name}.attn.hook_pattern"] = Site(block.attn, "pattern", layer=layer)
        found[f"{name}.attn.hook_z"] = Site(block.attn_out, "input", n_heads, layer)
        found[f"{name}.attn.writes"] = Site(block.attn_out, "writes", layer=layer, post_norm=norm)
        found[f"{name}.hook_attn_out"] = Site(norm or block.attn_out, "output", layer=layer)
        if block.mlp_out is not None:
            found[f"{name}.mlp.hook_post"] = Site(block.mlp_out, "input", layer=layer)
            found[f"{name}.hook_mlp_out"] = Site(block.norm_after_mlp or block.mlp_out, "output", layer=layer)
        if not modules.parallel:
            found[f"{name}.hook_resid_mid"] = Site(
                norm or block.attn_out, "residual_after", layer=layer, block=block.block
            )
        if norm is not None:
            found[f"{name}.attn.post_norm_scale"] = Site(norm, "post_norm_scale", layer=layer)
    return found

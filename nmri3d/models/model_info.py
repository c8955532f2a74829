"""The facts of a loaded transformer, as its architecture and its weights give them.

Left out: finding the modules (`adapter_facts`, `discovery`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nmri3d.components import ComponentTable
from nmri3d.models.backend import ModelInfo
from nmri3d.models.projections import by_input
from nmri3d.models.sites import ModuleMap

if TYPE_CHECKING:
    from nmri3d.models.loading import Checkpoint


def model_info(
    checkpoint: Checkpoint, modules: ModuleMap, neurons: ComponentTable, *, completeness: float, fingerprint: str
) -> ModelInfo:
    """Sizes, dtype, device and origin. completeness: worst relative error of the sum of all writes."""
    hf_model = checkpoint.hf_model
    config = hf_model.config.get_text_config()
    parameters = list(hf_model.parameters())
    return ModelInfo(
        model_id=checkpoint.model_id,
        title=checkpoint.title,
        architecture=type(hf_model).__name__,
        n_layers=len(modules.blocks),
        n_heads=int(config.num_attention_heads),
        n_kv_heads=getattr(config, "num_key_value_heads", None) or int(config.num_attention_heads),
        d_model=config.hidden_size,
        d_head=by_input(modules.blocks[0].attn_out).shape[0] // int(config.num_attention_heads),
        d_mlp=int((neurons.layer == 0).sum()),
        d_vocab=config.vocab_size,
        n_context=int(config.max_position_embeddings),
        n_params=sum(parameter.numel() for parameter in parameters),
        dtype=str(hf_model.dtype).removeprefix("torch."),
        device=str(hf_model.device),
        memory_bytes=sum(p.numel() * p.element_size() for p in parameters if not p.is_meta),
        completeness=completeness,
        source=checkpoint.source,
        fingerprint=fingerprint,
        parallel_blocks=modules.parallel,
        post_norm=modules.has_post_norm,
        tied_unembedding=modules.embed.weight is modules.unembed.weight,
        warnings=checkpoint.warnings,
    )

"""The TransformerLens backend: Hugging Face's own forward pass under TransformerLens' canonical names.

TransformerLens' architecture adapter says which module is which site. `backend.bridge` is a `TransformerBridge` over a
structural copy that shares every weight, for a user's own TransformerLens analyses, and for the weights of families whose
projections `nmri3d.models.projections` does not know. Its passes equal ours, since the weights are the same tensors.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nmri3d.errors import UnsupportedModelError
from nmri3d.models.adapter_facts import adapter_of, module_paths
from nmri3d.models.backend import Progress, no_progress
from nmri3d.models.passes import HookedPasses
from nmri3d.models.transformer import Transformer
from nmri3d.models.weights import AttentionWeights, bridge_attention_weights, bridge_mlp_weights

if TYPE_CHECKING:
    import torch

    from nmri3d.models.loading import Checkpoint


class TransformerLensBackend(Transformer):
    """A language model that TransformerLens has an adapter for."""

    name = "transformer_lens"

    def __init__(self, checkpoint: Checkpoint, *, progress: Progress = no_progress) -> None:
        """As `Transformer`; raises UnsupportedModelError also where TransformerLens has no adapter."""
        super().__init__(checkpoint, module_paths(checkpoint.hf_model), HookedPasses(), progress=progress)

    @cached_property
    def bridge(self) -> Any:
        """TransformerLens' own `TransformerBridge` over the same weights (built at first use).

        Made without its boot function, which would look for another tokenizer on the hub; ours is taken as it is.
        """
        from transformer_lens.model_bridge import TransformerBridge
        from transformer_lens.model_bridge.sources._bridge_builder import detect_tokenizer_bos_eos

        shared = {id(tensor): tensor for tensor in (*self.hf_model.parameters(), *self.hf_model.buffers())}
        twin = copy.deepcopy(self.hf_model, shared)
        adapter = adapter_of(twin)
        adapter.cfg.device = self.info.device
        adapter.cfg.tokenizer_prepends_bos, adapter.cfg.tokenizer_appends_eos = detect_tokenizer_bos_eos(self.tokenizer)
        adapter.prepare_model(twin)
        return TransformerBridge(twin, adapter, self.tokenizer)

    def _attention_weights(self, layer: int) -> AttentionWeights:
        try:
            return super()._attention_weights(layer)
        except UnsupportedModelError:
            return bridge_attention_weights(self.bridge, layer)

    def _mlp_weights(self, layer: int) -> dict[str, torch.Tensor]:
        try:
            return super()._mlp_weights(layer)
        except UnsupportedModelError:
            return bridge_mlp_weights(self.bridge, layer)

    def close(self) -> None:
        """Drop the model and its bridge."""
        self.__dict__.pop("bridge", None)
        super().close()

"""The TransformerLens backend: Hugging Face's own forward pass under TransformerLens' canonical names.

TransformerLens' architecture adapter says which module is which site. `backend.bridge` is a `TransformerBridge` over a
structural copy that shares every weight, for a user's own TransformerLens analyses and for per-head weights in one shape
for all families. Its passes equal ours, since the weights are the same tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from nmri3d.models.adapter_facts import adapter_of, module_paths
from nmri3d.models.transformer import Transformer
from nmri3d.models.weights import attention_weights, circuit_spectra, component_weights, layout_features


class TransformerLensBackend(Transformer):
    """A language model that TransformerLens has an adapter for."""

    name = "transformer_lens"

    def module_paths(self) -> Mapping[str, str]:
        """Where the parts lie, as TransformerLens' adapter says."""
        return module_paths(self.hf_model)

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

    def weights(self, row: int) -> dict[str, torch.Tensor]:
        """Weight matrices of a component row, by name; views of the live weights, not to be written to."""
        return component_weights(self.bridge, self._modules, self.components, row)

    def circuit_spectra(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Singular values of every head's OV and QK circuit, each [heads, d_head]."""
        return circuit_spectra(attention_weights(self.bridge, layer))

    def layout_features(self) -> np.ndarray:
        """float32 [components, features]; see `nmri3d.models.weights.layout_features`."""
        return layout_features(self.bridge, self.components, self.info.d_model)

    def close(self) -> None:
        """Drop the model and its bridge."""
        self.__dict__.pop("bridge", None)
        super().close()

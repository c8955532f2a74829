"""The induction network as a backend: the one of language models, since it has the same residual stream.

Convention. `Transformer` runs what is called as Hugging Face's models are; two small modules call the network so. They hold
no weights of their own, so figures, hooks and the fingerprint are the network's.

Left out: anything that scans do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from nmri3d.models import devices
from nmri3d.models.backend import Progress, Stimulus, no_progress
from nmri3d.models.loading import Checkpoint
from nmri3d.models.passes import HookedPasses
from nmri3d.models.transformer import Transformer
from nmri3d.phantoms.induction.model import Induction
from nmri3d.phantoms.induction.vocabulary import Tokenizer

PATHS = {
    "embed": "network.embed",
    "pos_embed": "network.pos_embed",
    "blocks": "network.blocks",
    "blocks.ln1": "ln1",
    "blocks.attn": "attn",
    "blocks.attn.o": "o_proj",
    "ln_final": "network.ln_final",
    "unembed": "network.unembed",
    "parallel": "no",
    "attention_only": "yes",
}
"""Where its parts lie, by TransformerLens' names for them."""


class InductionBackend(Transformer):
    """The induction network under scans; see `nmri3d.models.backend.Backend` for what each member means."""

    name = "phantom"
    test_prompt = Induction.identity.examples[0]
    examples = Induction.identity.examples

    def __init__(self, checkpoint: Checkpoint, *, progress: Progress = no_progress) -> None:
        """As `Transformer`; `checkpoint.hf_model` is a `CalledAsHuggingFace`."""
        self.network: Induction = checkpoint.hf_model.network
        super().__init__(checkpoint, PATHS, HookedPasses(), progress=progress)
        self.info = replace(self.info, architecture=type(self.network).__name__)

    def stimulus(self, text: str) -> Stimulus:
        """Read words; see `Induction.stimulus`."""
        return self.network.stimulus(text)

    def reference(self) -> Sequence[str]:
        """Texts of the task; see `Induction.reference`."""
        return self.network.reference()

    def close(self) -> None:
        """Drop the network."""
        super().close()
        del self.network


class CalledAsHuggingFace(nn.Module):
    """The network, called as Hugging Face's causal language models are."""

    def __init__(self, network: Induction) -> None:
        super().__init__()
        self.network = network
        sizes = network.config
        self.config = SimpleNamespace(
            num_attention_heads=sizes.n_heads,
            hidden_size=sizes.d_model,
            vocab_size=len(network.output_names),
            max_position_embeddings=sizes.n_context,
        )
        self.config.get_text_config = lambda: self.config

    def forward(self, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: torch.Tensor) -> SimpleNamespace:
        """`logits` [batch, asked steps, vocabulary]; there is no cache."""
        return SimpleNamespace(logits=self.network.unembed(self.base_model(input_ids, use_cache)[:, logits_to_keep]))

    @property
    def base_model(self) -> _Body:
        """What runs up to the final norm."""
        return _Body(self.network)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tokens."""
        return self.network.embed

    @property
    def dtype(self) -> torch.dtype:
        """Of all weights."""
        return self.network.embed.weight.dtype

    @property
    def device(self) -> torch.device:
        """Of all weights."""
        return self.network.embed.weight.device


class _Body(nn.Module):
    """The network up to its final norm, [batch, steps, d_model]."""

    def __init__(self, network: Induction) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> torch.Tensor:
        return self.network.normed_stream(input_ids)


def open_backend(
    network: Induction,
    *,
    model_id: str = "phantom:induction",
    source: str = "shipped with nmri3d",
    device: str = "auto",
    progress: Progress = no_progress,
) -> InductionBackend:
    """The backend of an induction network, trained or not; the network is moved to the device and frozen."""
    place = devices.choose(device)
    model: Any = CalledAsHuggingFace(network.to(place).eval().requires_grad_(False))
    title = network.identity.title
    checkpoint = Checkpoint(model, Tokenizer(), model_id, title, source, (), place, "float32")
    return InductionBackend(checkpoint, progress=progress)
